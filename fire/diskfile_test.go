package fire

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// How a disk is made of files, and files of an image.

// put makes files of an image.
func (m image) put(top *node, dir string) error {
	return m.walk(top, dir, func(path string, n *node) error {
		if n.mode.IsDir() {
			return os.Mkdir(path, n.mode.Perm())
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, n.mode.Perm())
		if err != nil {
			return err
		}
		c := m.look(n)
		err = f.Truncate(c.size)
		for p, page := range c.pages {
			if rest := c.size - p*pageSize; err == nil && rest > 0 {
				_, err = f.WriteAt(page[:min(pageSize, rest)], p*pageSize)
			}
		}
		return errors.Join(err, f.Close())
	})
}

// key tells files of this machine apart.
type key struct{ device, inode uint64 }

func keyOf(info fs.FileInfo) key {
	s := info.Sys().(*syscall.Stat_t)
	return key{s.Dev, s.Ino}
}

// scan reads a folder, with all below it if only is nil, else with those names of it.
func scan(dir string, only []string, known map[key]*node) (*node, error) {
	info, err := os.Lstat(dir)
	if err != nil {
		return nil, err
	}
	n := &node{mode: info.Mode(), first: content{size: info.Size()}}
	known[keyOf(info)] = n
	switch {
	case info.Mode().IsRegular():
		n.first.pages, err = readPages(dir)
		return n, err
	case !info.IsDir():
		return nil, fmt.Errorf("%s is no file", dir)
	}
	n.first.size, n.first.names = 0, map[string]*node{}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if only != nil && !slices.Contains(only, e.Name()) {
			continue
		}
		below, err := scan(filepath.Join(dir, e.Name()), nil, known)
		if err != nil {
			return nil, err
		}
		n.first.names[e.Name()] = below
	}
	return n, err
}

// readPages reads what is not in holes.
func readPages(name string) (map[int64][]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	pages := map[int64][]byte{}
	for at := int64(0); ; {
		if at, err = f.Seek(at, unix.SEEK_DATA); errors.Is(err, unix.ENXIO) {
			return pages, nil // there is no more
		}
		at -= at % pageSize
		page := make([]byte, pageSize)
		if err == nil {
			_, err = f.ReadAt(page, at)
		}
		if err != nil && err != io.EOF {
			return nil, err
		}
		if !blank(page) {
			pages[at/pageSize] = page
		}
		at += pageSize
	}
}
