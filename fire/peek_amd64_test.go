package fire

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// What a journal has to know of the programs that make the calls: their descriptors and their memory.

// file gives what is open as a descriptor; nil if that is none of the journal's.
func (j *journal) file(tid int, fd int32) (*node, string) {
	name := fmt.Sprintf("/proc/%d/fd/%d", tid, fd)
	info, err := os.Stat(name)
	if err != nil {
		return nil, ""
	}
	path, err := os.Readlink(name)
	if err != nil {
		return nil, ""
	}
	return j.seen[keyOf(info)], strings.TrimPrefix(path, j.dir+"/")
}

// place finds the folder of a path; none if it is none of the journal's.
func (j *journal) place(tid int, fd int32, address uint64) (place, string, error) {
	path, err := peekString(tid, address)
	if err != nil {
		return place{}, "", err
	}
	if !filepath.IsAbs(path) {
		from := fmt.Sprintf("/proc/%d/cwd", tid)
		if fd != unix.AT_FDCWD {
			from = fmt.Sprintf("/proc/%d/fd/%d", tid, fd)
		}
		if from, err = os.Readlink(from); err != nil {
			return place{}, "", nil // it fails anyway
		}
		path = filepath.Join(from, path)
	}
	below, inside := strings.CutPrefix(filepath.Clean(path), j.dir+"/")
	if first, _, _ := strings.Cut(below, "/"); !inside || !slices.Contains(j.on, first) {
		return place{}, "", nil
	}
	folder := j.now.find(j.top, filepath.Dir(below))
	if folder == nil {
		return place{}, "", nil // it fails
	}
	return place{folder, filepath.Base(below)}, below, nil
}

// peek reads what a program has in its memory.
func peek(tid int, address uint64, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	local := []unix.Iovec{{Base: &data[0], Len: uint64(len(data))}}
	n, err := unix.ProcessVMReadv(tid, local, []unix.RemoteIovec{{Base: uintptr(address), Len: len(data)}}, 0)
	if err == nil && n < len(data) {
		err = errors.New("not all of it is there")
	}
	if err != nil {
		return fmt.Errorf("read memory of %d: %w", tid, err)
	}
	return nil
}

// peekString reads up to a byte of zero, page by page, for the page behind may not be there.
func peekString(tid int, address uint64) (string, error) {
	var text []byte
	for len(text) < unix.PathMax {
		part := make([]byte, pageSize-address%pageSize)
		if err := peek(tid, address, part); err != nil {
			return "", err
		}
		if end := bytes.IndexByte(part, 0); end >= 0 {
			return string(append(text, part[:end]...)), nil
		}
		text, address = append(text, part...), address+uint64(len(part))
	}
	return "", errors.New("a path without end")
}
