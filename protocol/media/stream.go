package media

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// Decrypt reads files of a medium, one after the other and once, as one encrypted file, and has use take its plaintext as it
// comes. It is for what is too large to be copied first: whatever use makes of the plaintext counts only if Decrypt returns
// nil, for only then the last byte was authenticated. A use that leaves some of it unread is not told so. Errors: those of use,
// as they are; ErrSealed and ErrReceiver for the bytes, ErrKey for this machine, and the kinds of Medium.ReadFile.
func (m *Medium) Decrypt(ctx context.Context, names []string, limit int64, key Key, use func(io.Reader) error) error {
	files := &sequence{medium: m, names: names, limit: limit}
	err := decryptTo(ctx, files, key, use)
	return errors.Join(err, files.close())
}

func decryptTo(ctx context.Context, files *sequence, key Key, use func(io.Reader) error) error {
	plaintext, err := decrypt(ctx, files, key)
	if err == nil {
		seen := &source{r: plaintext}
		if err = use(seen); err != nil && seen.err != nil {
			err = seen.err // whatever use made of it
		}
		if err == nil {
			_, err = io.Copy(io.Discard, plaintext)
		}
	}
	if files.err != nil {
		return files.err // of the medium, whatever became of it
	}
	return err
}

// sequence reads files of a medium as one.
type sequence struct {
	medium *Medium
	names  []string
	limit  int64 // of each
	file   *os.File
	left   int64 // of the file
	err    error
}

func (s *sequence) Read(p []byte) (int, error) {
	for s.err == nil {
		if s.file == nil {
			if len(s.names) == 0 {
				return 0, io.EOF
			}
			if s.file, s.left, s.err = s.medium.open(s.names[0], s.limit); s.err != nil {
				break
			}
			s.err = forget(s.file)
			continue
		}
		n, err := s.file.Read(p[:min(int64(len(p)), s.left)])
		s.left -= int64(n)
		switch {
		case err != nil && err != io.EOF:
			s.err = mediumError("read", s.names[0], err)
		case s.left == 0:
			s.err = s.close()
			s.names = s.names[1:]
		case err == io.EOF:
			s.err = &Error{Op: "read", Path: s.names[0], Kind: ErrTorn, Err: fmt.Errorf("%d bytes fewer than announced", s.left)}
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, s.err
}

func (s *sequence) close() error {
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file = nil
	return err
}
