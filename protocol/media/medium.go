// Package media is how files get on and off removable media: their names, the encryption around them, a spool to read
// them from, and writing that is durable or says why not. media.md is its specification.
//
// A medium is a stick, a disc, or a folder standing for one; it is mounted by others. Whatever is on it is hostile until
// a signature says otherwise: links are never followed, only regular files are opened, everything is capped.
//
// It is the only part of protocol that touches a disk. It does not look into the files (see bundle.md), authenticates
// nobody, mounts nothing, and holds no key: whoever decrypts provides a Key that may live in another process or device.
package media

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Medium is one mounted medium, held open. Not safe for concurrent use.
type Medium struct {
	path  string
	root  *os.Root
	swept map[string]bool // folders in which leftovers were removed
	kept  map[string]bool // folders that are there to stay
}

// OpenMedium opens the folder at path, which may itself be reached by links: the operator chose it.
func OpenMedium(path string) (*Medium, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, mediumError("open", path, err)
	}
	if !info.IsDir() {
		return nil, &Error{Op: "open", Path: path, Kind: ErrNotRegular, Err: fmt.Errorf("mode %v, want a folder", info.Mode())}
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, mediumError("open", path, err)
	}
	return &Medium{path: path, root: root, swept: map[string]bool{}, kept: map[string]bool{}}, nil
}

// Close lets the medium be unmounted.
func (m *Medium) Close() error { return m.root.Close() }

// List returns the names of the regular files in folder dir (slash-separated, relative to the medium), sorted bytewise,
// without leftovers of interrupted writes. A folder that is not there is empty, unless the medium is gone. More than
// MaxDirEntries entries of any sort are refused with ErrTooLarge.
func (m *Medium) List(dir string) ([]string, error) {
	return m.list(dir, func(e fs.DirEntry) bool { return e.Type().IsRegular() && !strings.HasSuffix(e.Name(), partSuffix) })
}

func (m *Medium) list(dir string, wanted func(fs.DirEntry) bool) ([]string, error) {
	folder, err := m.folder(dir, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, m.present("list", dir)
	}
	if err != nil {
		return nil, mediumFailure("list", dir, err)
	}
	defer folder.Close()
	entries, err := entries(folder)
	if err != nil {
		return nil, mediumFailure("list", dir, err)
	}
	if len(entries) > MaxDirEntries {
		return nil, &Error{Op: "list", Path: dir, Kind: ErrTooLarge, Err: fmt.Errorf("more than %d entries", MaxDirEntries)}
	}
	var names []string
	for _, e := range entries {
		if wanted(e) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// Folders returns the names of the plain folders in folder dir, as List does those of files.
func (m *Medium) Folders(dir string) ([]string, error) {
	return m.list(dir, func(e fs.DirEntry) bool { return e.IsDir() })
}

// ReadFile returns the content of a small file, at most limit bytes. Kinds as for Spool.Take.
func (m *Medium) ReadFile(name string, limit int64) ([]byte, error) {
	f, size, err := m.open(name, limit)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, size+1))
	if err != nil {
		return nil, mediumError("read", name, err)
	}
	if int64(len(data)) != size {
		return nil, &Error{Op: "read", Path: name, Kind: ErrTorn, Err: fmt.Errorf("%d bytes announced, at least %d read", size, len(data))}
	}
	return data, nil
}

// open returns a regular file of at most limit bytes and the size it announces.
func (m *Medium) open(name string, limit int64) (*os.File, int64, error) {
	dir, base, err := split(name)
	if err != nil {
		return nil, 0, mediumFailure("read", name, err)
	}
	folder, err := m.folder(dir, false)
	if err != nil {
		return nil, 0, mediumFailure("read", name, err)
	}
	defer folder.Close()
	f, size, err := openRegular(folder, base)
	if err != nil {
		return nil, 0, mediumFailure("read", name, err)
	}
	if size > limit {
		too := &Error{Op: "read", Path: name, Kind: ErrTooLarge, Err: fmt.Errorf("%d bytes, at most %d", size, limit)}
		return nil, 0, errors.Join(too, f.Close())
	}
	return f, size, nil
}

// folder walks down to dir one step at a time, because os.Root would follow links that stay inside. With create,
// missing folders are made, durably. The caller closes the result.
func (m *Medium) folder(dir string, create bool) (*os.Root, error) {
	if !fs.ValidPath(dir) {
		return nil, &Error{Op: "open", Path: dir, Kind: ErrName}
	}
	at, err := m.root.OpenRoot(".")
	if err != nil || dir == "." {
		return at, err
	}
	for step := range strings.SplitSeq(dir, "/") {
		next, err := descend(at, step, create && !m.kept[dir])
		if closeErr := at.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return nil, err
		}
		at = next
	}
	if create {
		m.kept[dir] = true
	}
	return at, nil
}

// descend goes one step down. To create is to make the step durable, too: who made it may have ended before that.
func descend(at *os.Root, step string, create bool) (*os.Root, error) {
	before, err := at.Lstat(step)
	if create && errors.Is(err, fs.ErrNotExist) {
		if err = at.Mkdir(step, 0o755); err == nil {
			before, err = at.Lstat(step)
		}
	}
	if create && err == nil {
		err = syncFolder(at)
	}
	if err != nil {
		return nil, err
	}
	if !before.IsDir() {
		return nil, &Error{Op: "open", Path: step, Kind: ErrNotRegular, Err: fmt.Errorf("mode %v, want a folder", before.Mode())}
	}
	next, err := at.OpenRoot(step)
	if err != nil {
		return nil, err
	}
	after, err := next.Stat(".")
	if err == nil && !os.SameFile(before, after) {
		err = &Error{Op: "open", Path: step, Kind: ErrNotRegular, Err: errors.New("exchanged while it was opened")}
	}
	if err != nil {
		return nil, errors.Join(err, next.Close())
	}
	return next, nil
}

// openRegular looks before it opens: opening a device or a FIFO may already do something, or wait for ever.
func openRegular(folder *os.Root, base string) (*os.File, int64, error) {
	before, err := folder.Lstat(base)
	if err != nil {
		return nil, 0, err
	}
	if !before.Mode().IsRegular() {
		return nil, 0, &Error{Op: "open", Path: base, Kind: ErrNotRegular, Err: fmt.Errorf("mode %v", before.Mode())}
	}
	f, err := folder.OpenFile(base, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	after, err := f.Stat()
	if err == nil && !os.SameFile(before, after) {
		err = &Error{Op: "open", Path: base, Kind: ErrNotRegular, Err: errors.New("exchanged while it was opened")}
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, after.Size(), nil
}

// entries reads at most MaxDirEntries+1 entries.
func entries(folder *os.Root) ([]fs.DirEntry, error) {
	d, err := folder.Open(".")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	found, err := d.ReadDir(MaxDirEntries + 1)
	if err == io.EOF {
		err = nil
	}
	return found, err
}

// present tells whether the medium opened is still the one at its path: an unmounted one can be held open and answers
// as if nothing had happened.
func (m *Medium) present(op, name string) error {
	held, err := m.root.Stat(".")
	if err == nil {
		var there fs.FileInfo
		if there, err = os.Stat(m.path); err == nil && !os.SameFile(held, there) {
			err = fmt.Errorf("something else is at %s now", m.path)
		}
	}
	if err != nil {
		return &Error{Op: op, Path: name, Kind: ErrGone, Err: bare(err)}
	}
	return nil
}

// mediumFailure is mediumError for a cause that may already have its kind.
func mediumFailure(op, name string, err error) error {
	var known *Error
	if errors.As(err, &known) {
		return &Error{Op: op, Path: name, Kind: known.Kind, Err: known.Err}
	}
	return mediumError(op, name, err)
}
