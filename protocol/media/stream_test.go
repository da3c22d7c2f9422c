package media

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// parted writes an encrypted file to a medium in parts of 40 KiB and returns their names.
func parted(t *testing.T, dir string, data []byte) (names []string) {
	t.Helper()
	const size = 40 << 10
	for i := 0; len(data) > 0; i++ {
		name := PartName(i + 1)
		n := min(size, len(data))
		if err := os.WriteFile(filepath.Join(dir, name), data[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		names, data = append(names, name), data[n:]
	}
	return names
}

func TestDecryptParts(t *testing.T) {
	plain := bytes.Repeat([]byte("a ledger of many parts "), 10_000)
	private := newKey(t)
	good := sealed(t, private.PublicKey(), plain)
	broken := errors.New("no room")
	for name, c := range map[string]struct {
		spoil func(dir string, names []string) []string
		key   Key
		limit int64
		use   func(io.Reader) error
		want  error
	}{
		"good":                 {},
		"read in part only":    {use: func(r io.Reader) error { _, err := io.CopyN(io.Discard, r, 10); return err }},
		"another key":          {key: software(t, newKey(t)), want: ErrReceiver},
		"the last part is off": {spoil: func(_ string, n []string) []string { return n[:len(n)-1] }, want: ErrSealed},
		"the last part is off and nobody reads so far": {spoil: func(_ string, n []string) []string { return n[:len(n)-1] },
			use: func(r io.Reader) error { _, err := io.CopyN(io.Discard, r, 10); return err }, want: ErrSealed},
		"the last byte is off": {spoil: func(dir string, n []string) []string {
			shorten(t, filepath.Join(dir, n[len(n)-1]))
			return n
		}, want: ErrSealed},
		"two parts swapped":   {spoil: func(_ string, n []string) []string { n[1], n[2] = n[2], n[1]; return n }, want: ErrSealed},
		"a part is gone":      {spoil: func(_ string, n []string) []string { n[2] = "part-9999"; return n }, want: ErrGone},
		"a part is too large": {limit: 1000, want: ErrTooLarge},
		"a part is a link": {spoil: func(dir string, n []string) []string {
			if err := errors.Join(os.Rename(filepath.Join(dir, n[1]), filepath.Join(dir, "x")), os.Symlink("x", filepath.Join(dir, n[1]))); err != nil {
				t.Fatal(err)
			}
			return n
		}, want: ErrNotRegular},
		"no parts":         {spoil: func(string, []string) []string { return nil }, want: ErrSealed},
		"use has no room":  {use: func(r io.Reader) error { return broken }, want: broken},
		"use hides a tear": {spoil: func(_ string, n []string) []string { return n[:2] }, use: hiding(broken), want: ErrSealed},
	} {
		dir := t.TempDir()
		names := parted(t, dir, good)
		if c.spoil != nil {
			names = c.spoil(dir, names)
		}
		if c.limit == 0 {
			c.limit = MaxPartBytes
		}
		if c.key == nil {
			c.key = software(t, private)
		}
		var got bytes.Buffer
		whole := c.use == nil
		if whole {
			c.use = func(r io.Reader) error { _, err := io.Copy(&got, r); return err }
		}
		m := openMedium(t, dir)
		if err := m.Decrypt(context.Background(), names, c.limit, c.key, c.use); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if c.want == nil && whole && !bytes.Equal(got.Bytes(), plain) {
			t.Errorf("%s: %d other bytes", name, got.Len())
		}
	}
}

// hiding reads all and says another reason why it failed.
func hiding(reason error) func(io.Reader) error {
	return func(r io.Reader) error {
		if _, err := io.Copy(io.Discard, r); err != nil {
			return reason
		}
		return nil
	}
}

func shorten(t *testing.T, file string) {
	t.Helper()
	info, err := os.Stat(file)
	if err == nil {
		err = os.Truncate(file, info.Size()-1)
	}
	if err != nil {
		t.Fatal(err)
	}
}
