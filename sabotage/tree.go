package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sync/errgroup"
)

// tree is a copy of the files that git knows or would take, at dir.
type tree string

func newTree(dir string) (tree, error) {
	files, err := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		return "", fmt.Errorf("list files: %w", err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(files), "\x00"), "\x00") {
		if err := copyFile(name, filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) { // it was deleted
			return "", fmt.Errorf("copy tree: %w", err)
		}
	}
	return tree(dir), nil
}

func copyFile(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// command runs in the copy. Paths are trimmed, so that all copies share the build cache; no git above the copy is found,
// for `git apply` leaves out files that are not below its own folder; what tests draw is the same each time.
func (t tree) command(dir string, words ...string) *exec.Cmd {
	c := exec.Command(words[0], words[1:]...)
	c.Dir = filepath.Join(string(t), dir)
	c.Env = append(os.Environ(), "GOFLAGS=-trimpath", "GIT_CEILING_DIRECTORIES="+filepath.Dir(string(t)), "FIRE_SEED=1")
	return c
}

// build makes the test program of a package.
func (t tree) build(pkg string) (program string, err error) {
	program = filepath.Join(string(t), strings.NewReplacer(".", "", "/", "_").Replace(pkg)+".test")
	if out, err := t.command(".", "go", "test", "-c", "-vet=off", "-o", program, pkg).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build tests of %s: %w\n%s", pkg, err, out)
	}
	return program, nil
}

// test runs the test of a patch and gives what was printed.
func (t tree) test(program string, p patch) (string, error) {
	parts := strings.Split(p.test, "/")
	for i := range parts {
		parts[i] = "^" + regexp.QuoteMeta(goName(parts[i])) + "$"
	}
	out, err := t.command(p.pkg, program, "-test.v", "-test.timeout=4m", "-test.run="+strings.Join(parts, "/")).CombinedOutput()
	return string(out), err
}

// green asks that each test which a patch names is there, and passes while nothing is broken, run as it will be then.
func (t tree) green(lanes int, patches []patch) error {
	programs, asked := map[string]string{}, map[string]bool{}
	var g errgroup.Group
	g.SetLimit(lanes)
	for _, p := range patches {
		if asked[p.pkg+" "+p.test] {
			continue
		}
		asked[p.pkg+" "+p.test] = true
		if programs[p.pkg] == "" {
			var err error
			if programs[p.pkg], err = t.build(p.pkg); err != nil {
				return err
			}
		}
		program := programs[p.pkg]
		g.Go(func() error {
			out, err := t.test(program, p)
			if err != nil {
				return fmt.Errorf("%s %s is red while nothing is broken: %w\n%s", p.pkg, p.test, err, tail(out))
			}
			if !strings.Contains(out, "--- PASS: "+goName(p.test)+" ") {
				return fmt.Errorf("patch %s: %s has no test %s", p.name, p.pkg, p.test)
			}
			return nil
		})
	}
	return g.Wait()
}

// sabotage applies a patch, runs its test and takes the patch back.
func (t tree) sabotage(p patch) (verdict, detail string) {
	if out, err := t.command(".", "git", "apply", p.file).CombinedOutput(); err != nil {
		return "UNAPPLIED", string(out)
	}
	defer func() {
		if out, err := t.command(".", "git", "apply", "--reverse", p.file).CombinedOutput(); err != nil {
			verdict, detail = "STUCK", string(out)
		}
	}()
	program, err := t.build(p.pkg)
	if err != nil {
		return "UNBUILT", err.Error()
	}
	out, err := t.test(program, p)
	switch {
	case err == nil:
		return "SURVIVED", tail(out)
	case strings.Contains(out, "panic: test timed out"):
		return "HUNG", tail(out)
	case !strings.Contains(out, "--- FAIL: "+p.top()+" "):
		return "BROKEN", tail(out)
	}
	return "red", ""
}

// goName is a test's name as the testing package prints it.
func goName(name string) string { return strings.ReplaceAll(name, " ", "_") }

// tail is the end of what was printed, where the reason stands.
func tail(out string) string {
	lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-30):], "\n")
}
