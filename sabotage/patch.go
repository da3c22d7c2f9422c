package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// patch is one way to break the product.
type patch struct {
	name string // of the file, without .patch
	file string // absolute
	why  string
	pkg  string // path of a package in the tree, such as ./appliance
	test string // of that package; a subtest after a slash, as it is written in the source
}

// top is the test function.
func (p patch) top() string {
	name, _, _ := strings.Cut(p.test, "/")
	return name
}

// load reads the patches in a folder, in the order of their names: those asked for, or all.
func load(dir string, names []string) ([]patch, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.patch"))
	if err != nil {
		return nil, err
	}
	var patches []patch
	for _, file := range files {
		p, err := read(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if len(names) == 0 || slices.Contains(names, p.name) {
			patches = append(patches, p)
		}
	}
	if len(patches) == 0 || len(names) != 0 && len(patches) != len(names) {
		return nil, fmt.Errorf("%d patches in %s, %d asked for", len(patches), dir, len(names))
	}
	return patches, nil
}

func read(file string) (p patch, err error) {
	p.name = strings.TrimSuffix(filepath.Base(file), ".patch")
	if p.file, err = filepath.Abs(file); err != nil {
		return p, err
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return p, err
	}
	lines := strings.SplitN(string(data), "\n", 3)
	var test string
	var isWhy, isTest, isName bool
	if len(lines) == 3 {
		p.why, isWhy = strings.CutPrefix(lines[0], "why: ")
		test, isTest = strings.CutPrefix(lines[1], "test: ")
		p.pkg, p.test, isName = strings.Cut(test, " ")
	}
	if !isWhy || !isTest || !isName || !strings.HasPrefix(p.test, "Test") || !strings.HasPrefix(p.pkg, ".") {
		return p, fmt.Errorf("the first two lines are not why: REASON and test: ./PACKAGE TestName")
	}
	return p, nil
}
