package media

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	spoolPrefix = "spool-"

	// checkEvery is how much may be written between two looks at the free space.
	checkEvery = 1 << 20
)

// Spool is a private folder on this machine's disk for files that are taken from a medium once and read from then on
// from here. Its files have no name, so that nothing is left of them once they are closed or the process ended. What is
// decrypted lies there in clear while in use: the folder belongs on an encrypted disk.
type Spool struct {
	dir     string
	reserve int64
}

// NewSpool makes the folder if need be (mode 0700) and removes what a crash left in it. reserve is the number of bytes
// of the disk that stay free whatever comes; a second Spool of the same folder may have another reserve.
func NewSpool(dir string, reserve int64) (*Spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, diskError("spool", dir, err)
	}
	found, err := os.ReadDir(dir)
	if err != nil {
		return nil, diskError("spool", dir, err)
	}
	for _, e := range found {
		if !strings.HasPrefix(e.Name(), spoolPrefix) {
			continue
		}
		// Another process's files in use have no name any more; should it be just making one, either may remove it.
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, diskError("spool", dir, err)
		}
	}
	return &Spool{dir: dir, reserve: reserve}, nil
}

// Write spools what fill writes, at most limit bytes. Errors: those of fill, as they are; ErrTooLarge; ErrSpace.
func (s *Spool) Write(limit int64, fill func(io.Writer) error) (*File, error) {
	f, err := os.CreateTemp(s.dir, spoolPrefix) // mode 0600
	if err != nil {
		return nil, diskError("spool", s.dir, err)
	}
	if err := os.Remove(f.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(diskError("spool", s.dir, err), f.Close())
	}
	w := &spoolWriter{spool: s, f: f, limit: limit}
	err = fill(w)
	if w.err != nil {
		err = w.err // whatever fill made of it
	}
	if err == nil {
		return &File{f: f, size: w.size}, nil
	}
	if closeErr := f.Close(); closeErr != nil {
		err = errors.Join(err, closeErr)
	}
	return nil, err
}

// Take copies a file of a medium, of at most limit bytes, into the spool. Errors are of the kinds of Medium.Open and
// Write, or ErrTorn if the file did not have the length it announced.
func (s *Spool) Take(m *Medium, name string, limit int64) (*File, error) {
	f, size, err := m.open(name, limit)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := s.room(size); err != nil {
		return nil, err
	}
	return s.Write(limit, func(w io.Writer) error {
		n, err := io.Copy(w, f)
		if err != nil {
			return mediumError("read", name, err)
		}
		if n != size {
			return &Error{Op: "read", Path: name, Kind: ErrTorn, Err: fmt.Errorf("%d bytes announced, %d read", size, n)}
		}
		return nil
	})
}

// Decrypt spools the plaintext of sealed. It returns only after the last byte was authenticated, so that nobody can use
// part of a truncated file. Errors: ErrSealed and ErrReceiver for the bytes, ErrKey and ErrSpace for this machine.
func (s *Spool) Decrypt(ctx context.Context, sealed *File, key Key) (*File, error) {
	plaintext, err := decrypt(ctx, sealed.Reader(), key)
	if err != nil {
		return nil, err
	}
	if err := s.room(sealed.Size()); err != nil {
		return nil, err
	}
	return s.Write(sealed.Size(), func(w io.Writer) error {
		_, err := io.Copy(w, plaintext)
		return err
	})
}

// TakeHead is Take and Decrypt in one pass, for a disk without room for the file twice: what comes from the medium is
// decrypted as it is read, and at most keep bytes from the beginning of the plaintext are kept; size is how many there are
// in all. Like Decrypt it returns only after the last byte was authenticated. Errors are those of both.
func (s *Spool) TakeHead(ctx context.Context, m *Medium, name string, limit, keep int64, key Key) (head *File, size int64, err error) {
	f, announced, err := m.open(name, limit)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	plaintext, err := decrypt(ctx, io.LimitReader(mediumReader{f, name}, announced), key)
	if err != nil {
		return nil, 0, err
	}
	head, err = s.Write(keep, func(w io.Writer) error {
		kept, err := io.Copy(w, io.LimitReader(plaintext, keep))
		if err != nil {
			return err
		}
		dropped, err := io.Copy(io.Discard, plaintext)
		size = kept + dropped
		return err
	})
	return head, size, err
}

// mediumReader tells a medium that fails from what is wrong with its bytes.
type mediumReader struct {
	f    *os.File
	name string
}

func (r mediumReader) Read(p []byte) (int, error) {
	n, err := r.f.Read(p)
	if err != nil && err != io.EOF {
		err = mediumError("read", r.name, err)
	}
	return n, err
}

// room refuses if n more bytes would touch the reserve.
func (s *Spool) room(n int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return diskError("spool", s.dir, err)
	}
	if free := int64(st.Bavail) * int64(st.Bsize); free-n < s.reserve {
		return &Error{Op: "spool", Path: s.dir, Kind: ErrSpace, Err: fmt.Errorf("%d bytes wanted, %d free, %d kept in reserve", n, free, s.reserve)}
	}
	return nil
}

type spoolWriter struct {
	spool   *Spool
	f       *os.File
	size    int64
	limit   int64
	checked int64 // room was looked for up to here
	err     error
}

func (w *spoolWriter) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if int64(len(p)) > w.limit-w.size {
		w.err = &Error{Op: "spool", Kind: ErrTooLarge, Err: fmt.Errorf("more than %d bytes", w.limit)}
		return 0, w.err
	}
	if w.size+int64(len(p)) > w.checked {
		if w.err = w.spool.room(int64(len(p))); w.err != nil {
			return 0, w.err
		}
		w.checked = w.size + int64(len(p)) + checkEvery
	}
	n, err := w.f.Write(p)
	w.size += int64(n)
	if err != nil {
		w.err = diskError("spool", w.spool.dir, err)
	}
	return n, w.err
}

// File is a spooled file: complete, of known size, the same at every reading. Safe for concurrent use.
type File struct {
	f    *os.File
	size int64
}

// ReadAt reads as io.ReaderAt says.
func (f *File) ReadAt(p []byte, offset int64) (int, error) { return f.f.ReadAt(p, offset) }

// Size is the length in bytes.
func (f *File) Size() int64 { return f.size }

// Reader reads the whole file from its beginning, independently of other readers.
func (f *File) Reader() *io.SectionReader { return io.NewSectionReader(f.f, 0, f.size) }

// Close gives the room back.
func (f *File) Close() error { return f.f.Close() }
