package media

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// partSuffix marks a file that is being written. Nobody else uses it, so whatever has it may be removed.
const partSuffix = ".coldseal-part"

const bufferSize = 64 << 10

// WriteOptions says what Write may do beyond the safest.
type WriteOptions struct {
	Replace bool // a different file of the same name is replaced, not refused
	Private bool // mode 0600, not 0644
}

// Contents fills a file with the same bytes each time it is called.
func Contents(data []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}
}

// WriteFile is Medium.Write for a single file outside a medium, on this machine's own disk: its errors blame the disk
// (ErrSpace, ErrDisk) where those of Medium.Write blame the medium. For many files in one folder, open it as a Medium.
func WriteFile(name string, opts WriteOptions, fill func(io.Writer) error) error {
	m, err := OpenMedium(filepath.Dir(name))
	if err == nil {
		err = m.Write(filepath.Base(name), opts, fill)
		err = errors.Join(err, m.Close())
	}
	if known := new(Error); errors.As(err, &known) {
		own := &Error{Op: known.Op, Path: name, Kind: known.Kind, Err: known.Err}
		if known.Err != nil && mediumKind(known.Err) == known.Kind {
			own.Kind = diskKind(known.Err)
		}
		return own
	}
	return err
}

// MakeFolder makes a folder on this machine's own disk, mode 0700, and missing ones above it. When it returns nil, the
// folder is there to stay, with the names of all that is in it: making a folder is not durable by itself. Nothing is made
// in a folder that is not there to stay, for nobody would find out later.
func MakeFolder(name string) error {
	above := filepath.Dir(name)
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
		if err := MakeFolder(above); err != nil {
			return err
		}
		if err := os.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return diskError("make folder", name, err)
		}
	}
	for _, folder := range []string{name, above} {
		d, err := os.Open(folder)
		if folder == above && errors.Is(err, fs.ErrPermission) {
			continue // one that others made for us
		}
		if err == nil {
			err = errors.Join(syncFile(d), d.Close())
		}
		if err != nil {
			return diskError("sync folder", folder, err)
		}
	}
	return nil
}

// Write makes name (slash-separated, relative to the medium, missing folders are made) hold exactly what fill writes.
// When it returns nil, the bytes were written, read back and compared, and the medium told to keep them. Otherwise the
// name holds what it held before or all of the new, never a part, and the same call later finishes. If the file already
// holds these bytes nothing is written, so that even a read-only medium will do.
//
// fill must write the same each time: it is called once more if a file of that name exists, to compare. It must hand
// on the writer's errors. Its own come back wrapped; the others are *Error of kind ErrFull, ErrReadOnly, ErrGone, ErrTorn,
// ErrTooLarge, ErrNotRegular, ErrName, or ErrExists.
func (m *Medium) Write(name string, opts WriteOptions, fill func(io.Writer) error) error {
	dir, base, err := split(name)
	if err != nil {
		return mediumFailure("write", name, err)
	}
	folder, err := m.folder(dir, true)
	if err != nil {
		return mediumFailure("write", name, err)
	}
	defer folder.Close()
	fail := func(err error) error {
		var own fillError
		if errors.As(err, &own) {
			return fmt.Errorf("content of %s: %w", name, own.error)
		}
		return mediumFailure("write", name, err)
	}
	there, same, err := compare(folder, base, fill)
	if err != nil {
		return fail(err)
	}
	if there && !same && !opts.Replace {
		return &Error{Op: "write", Path: name, Kind: ErrExists}
	}
	if !same {
		if err := m.sweep(folder, dir); err != nil {
			return fail(err)
		}
		if err := write(folder, base, opts, fill); err != nil {
			return fail(err)
		}
	}
	return m.present("write", name)
}

// fillError marks what the caller's function is to blame for, so that it is not taken for a failing medium.
type fillError struct{ error }

// write goes the long way: part file, fsync, read back, rename, fsync of the folder.
func write(folder *os.Root, base string, opts WriteOptions, fill func(io.Writer) error) error {
	part := base + partSuffix
	mode := fs.FileMode(0o644)
	if opts.Private {
		mode = 0o600
	}
	f, err := folder.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	size, digest, err := pour(f, fill)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = readBack(folder, part, size, digest)
	}
	if err == nil {
		err = folder.Rename(part, base)
	}
	if err == nil {
		return syncFolder(folder)
	}
	// What cannot be removed now is removed by sweep the next time; the first failure is the one to tell.
	if removeErr := folder.Remove(part); removeErr != nil && mediumKind(removeErr) == nil {
		err = errors.Join(err, removeErr)
	}
	return err
}

// pour writes and syncs f, and returns what must be read back from it.
func pour(f *os.File, fill func(io.Writer) error) (int64, []byte, error) {
	sink := &sink{w: f, digest: sha256.New()}
	buffer := bufio.NewWriterSize(sink, bufferSize)
	err := fill(buffer)
	if err == nil {
		err = buffer.Flush()
	} else {
		err = fillError{err}
	}
	if sink.err != nil {
		err = sink.err // whatever fill made of it
	}
	if err == nil {
		err = f.Sync()
	}
	return sink.size, sink.digest.Sum(nil), err
}

type sink struct {
	w      io.Writer
	digest hash.Hash
	size   int64
	err    error
}

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.digest.Write(p[:n])
	s.size += int64(n)
	if err != nil {
		s.err = err
	}
	return n, err
}

func readBack(folder *os.Root, base string, size int64, digest []byte) error {
	f, _, err := openRegular(folder, base)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := forget(f); err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	if err != nil {
		return err
	}
	if n != size || !bytes.Equal(sum.Sum(nil), digest) {
		return &Error{Kind: ErrTorn, Err: fmt.Errorf("%d bytes written, %d read back, SHA-256 differs", size, n)}
	}
	return nil
}

// forget asks the kernel to read from the medium, not from its memory of what was written there.
func forget(f *os.File) error {
	err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil // advice only: not every file system takes it
	}
	return err
}

// compare tells whether base exists and holds what fill writes. If so it is synced again: the run that wrote it may have
// ended before it did that.
func compare(folder *os.Root, base string, fill func(io.Writer) error) (there, same bool, err error) {
	f, _, err := openRegular(folder, base)
	if errors.Is(err, fs.ErrNotExist) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	defer f.Close()
	if err := syncFile(f); err != nil {
		return true, false, err
	}
	if err := forget(f); err != nil {
		return true, false, err
	}
	c := &comparer{r: bufio.NewReaderSize(f, bufferSize)}
	err = fill(c)
	if c.err == nil && err != nil {
		return true, false, fillError{err}
	}
	if c.err == nil {
		c.end()
	}
	if c.err == errDiffers {
		return true, false, nil
	}
	if c.err != nil {
		return true, false, c.err
	}
	return true, true, syncFolder(folder)
}

var errDiffers = errors.New("differs from the file that is there")

type comparer struct {
	r   *bufio.Reader
	err error
}

func (c *comparer) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0 && c.err == nil; {
		have, err := c.r.Peek(min(len(rest), bufferSize))
		switch {
		case err == io.EOF || err == nil && !bytes.Equal(have, rest[:len(have)]):
			c.err = errDiffers
		case err != nil:
			c.err = err
		default:
			rest = rest[len(have):]
			_, c.err = c.r.Discard(len(have))
		}
	}
	if c.err != nil {
		return 0, c.err
	}
	return len(p), nil
}

func (c *comparer) end() {
	if _, err := c.r.ReadByte(); err == nil {
		c.err = errDiffers
	} else if err != io.EOF {
		c.err = err
	}
}

// sweep removes what interrupted writes left in a folder, whatever name they were for; once for each Medium, because a
// folder may have many files to come.
func (m *Medium) sweep(folder *os.Root, dir string) error {
	if m.swept[dir] {
		return nil
	}
	found, err := entries(folder)
	if err != nil {
		return err
	}
	for _, e := range found {
		if strings.HasSuffix(e.Name(), partSuffix) && e.Type().IsRegular() {
			if err := folder.Remove(e.Name()); err != nil {
				return err
			}
		}
	}
	m.swept[dir] = true
	return nil
}

func syncFolder(folder *os.Root) error {
	d, err := folder.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(syncFile(d), d.Close())
}

// syncFile makes f durable. A file system that has nothing to write (ISO 9660, mounted read-only) says so with EINVAL or
// EROFS; one that could not write would have failed earlier.
func syncFile(f *os.File) error {
	err := f.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EROFS) {
		return nil
	}
	return err
}

// split refuses what would not stay below the medium or would look like a part file.
func split(name string) (dir, base string, err error) {
	if !fs.ValidPath(name) || name == "." || strings.HasSuffix(name, partSuffix) {
		return "", "", &Error{Kind: ErrName}
	}
	dir, base = path.Split(name)
	return path.Clean(dir), base, nil
}
