package media

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func openMedium(t *testing.T, dir string) *Medium {
	t.Helper()
	m, err := OpenMedium(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func put(t *testing.T, dir, name, content string) {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// hostile fills a folder with everything that is not a regular file in a plain folder.
func hostile(t *testing.T) (dir string, names []string) {
	t.Helper()
	dir = t.TempDir()
	put(t, dir, "real/file", "inside")
	outside := t.TempDir()
	put(t, outside, "file", "outside")
	for _, step := range []error{
		os.Symlink(filepath.Join(outside, "file"), filepath.Join(dir, "link-out")),
		os.Symlink("real/file", filepath.Join(dir, "link-in")),
		os.Symlink(outside, filepath.Join(dir, "dir-out")),
		os.Symlink("real", filepath.Join(dir, "dir-in")),
		os.Symlink("loop", filepath.Join(dir, "loop")),
		os.Symlink("/dev/zero", filepath.Join(dir, "link-device")),
		unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600),
		os.Mkdir(filepath.Join(dir, "folder"), 0o755),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	socket, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := socket.Close(); err != nil {
			t.Error(err)
		}
	})
	return dir, []string{"link-out", "link-in", "dir-out/file", "dir-in/file", "loop", "link-device", "fifo", "folder", "socket", "real/file/file"}
}

func TestOnlyRegularFiles(t *testing.T) {
	dir, names := hostile(t)
	m := openMedium(t, dir)
	spool := newSpool(t, 0)
	hello := func(w io.Writer) error { _, err := io.WriteString(w, "hello"); return err }
	for _, name := range names {
		if _, err := spool.Take(m, name, 100); !errors.Is(err, ErrNotRegular) {
			t.Errorf("take %s: %v", name, err)
		}
		if _, err := m.ReadFile(name, 100); !errors.Is(err, ErrNotRegular) {
			t.Errorf("read %s: %v", name, err)
		}
		if err := m.Write(name, WriteOptions{Replace: true}, hello); !errors.Is(err, ErrNotRegular) {
			t.Errorf("write %s: %v", name, err)
		}
	}
	for _, name := range []string{"dir-in", "dir-out", "fifo", "real/file"} {
		if _, err := m.List(name); !errors.Is(err, ErrNotRegular) {
			t.Errorf("list %s: %v", name, err)
		}
	}
	if names, err := m.List("."); err != nil || len(names) != 0 {
		t.Errorf("list of the top: %v, %v", names, err)
	}
	for _, name := range []string{"", ".", "..", "/etc/passwd", "../x", "a/../b", "a//b", "a/", "x" + partSuffix} {
		if _, err := m.ReadFile(name, 100); !errors.Is(err, ErrName) {
			t.Errorf("read %q: %v", name, err)
		}
		if err := m.Write(name, WriteOptions{}, hello); !errors.Is(err, ErrName) {
			t.Errorf("write %q: %v", name, err)
		}
	}
	if _, err := OpenMedium("/dev/zero"); !errors.Is(err, ErrNotRegular) {
		t.Errorf("a device opened as a medium: %v", err)
	}
}

func TestList(t *testing.T) {
	dir := t.TempDir()
	m := openMedium(t, dir)
	for _, name := range []string{"b", "a", "Z", "c" + partSuffix} {
		put(t, dir, filepath.Join("x", name), "")
	}
	if names, err := m.List("x"); err != nil || !slices.Equal(names, []string{"Z", "a", "b"}) {
		t.Errorf("%v, %v", names, err)
	}
	if names, err := m.List("y/z"); err != nil || names != nil {
		t.Errorf("a folder that is not there: %v, %v", names, err)
	}
	for i := range MaxDirEntries - 4 {
		put(t, dir, fmt.Sprintf("x/%05d", i), "")
	}
	if names, err := m.List("x"); err != nil || len(names) != MaxDirEntries-1 {
		t.Errorf("%d names, %v", len(names), err)
	}
	put(t, dir, "x/one-more", "")
	if _, err := m.List("x"); !errors.Is(err, ErrTooLarge) {
		t.Errorf("more than %d entries: %v", MaxDirEntries, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if names, err := m.List("x"); !errors.Is(err, ErrGone) {
		t.Errorf("medium removed: %v, %v", names, err)
	}
	if _, err := OpenMedium(dir); !errors.Is(err, ErrGone) {
		t.Errorf("opening what is not there: %v", err)
	}
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	m := openMedium(t, dir)
	put(t, dir, "a/b", "12345")
	if b, err := m.ReadFile("a/b", 5); err != nil || string(b) != "12345" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := m.ReadFile("a/b", 4); !errors.Is(err, ErrTooLarge) {
		t.Errorf("over the cap: %v", err)
	}
	if _, err := m.ReadFile("a/c", 4); !errors.Is(err, ErrGone) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("not there: %v", err)
	}
}

// TestOtherLengthThanAnnounced uses files that really do that: those of /proc say they are empty.
func TestOtherLengthThanAnnounced(t *testing.T) {
	m := openMedium(t, "/proc/self")
	if f, err := newSpool(t, 0).Take(m, "status", 1<<20); !errors.Is(err, ErrTorn) {
		t.Errorf("take: %v, %v, want %v", f, err, ErrTorn)
	}
	if b, err := m.ReadFile("status", 1<<20); !errors.Is(err, ErrTorn) {
		t.Errorf("read: %d bytes, %v, want %v", len(b), err, ErrTorn)
	}
}

func newSpool(t *testing.T, reserve int64) *Spool {
	t.Helper()
	s, err := NewSpool(filepath.Join(t.TempDir(), "spool"), reserve)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func spooled(t *testing.T, s *Spool, data []byte) *File {
	t.Helper()
	f, err := s.Write(int64(len(data)), func(w io.Writer) error { _, err := w.Write(data); return err })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func TestTake(t *testing.T) {
	dir := t.TempDir()
	m := openMedium(t, dir)
	content := pattern(3 << 20)
	put(t, dir, "x/file", string(content))
	spool := newSpool(t, 0)
	f, err := spool.Take(m, "x/file", int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(spool.dir); err != nil || len(left) != 0 {
		t.Errorf("names in the spool: %v, %v", left, err)
	}
	if info, err := f.f.Stat(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("spool file has mode %v, %v", info.Mode(), err)
	}
	put(t, dir, "x/file", "a stick may answer differently the second time")
	at := make([]byte, 100)
	if n, err := f.ReadAt(at, 1<<20); err != nil || !bytes.Equal(at[:n], content[1<<20:][:100]) {
		t.Errorf("read at 1 MiB: %v", err)
	}
	for range 2 {
		if b, err := io.ReadAll(f.Reader()); err != nil || !bytes.Equal(b, content) || f.Size() != int64(len(b)) {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := spool.Take(m, "x/file", 10); !errors.Is(err, ErrTooLarge) {
		t.Errorf("over the cap: %v", err)
	}
	if _, err := spool.Take(m, "x/none", 10); !errors.Is(err, ErrGone) {
		t.Errorf("not there: %v", err)
	}
	if err := os.RemoveAll(spool.dir); err != nil {
		t.Fatal(err)
	}
	if _, err := spool.Take(m, "x/file", 100); err == nil || errors.Is(err, ErrGone) {
		t.Errorf("spool folder removed: %v, must not be blamed on the medium", err)
	}
}

func TestSpoolLimits(t *testing.T) {
	spool := newSpool(t, 0)
	endless := func(w io.Writer) error {
		for {
			if _, err := w.Write(make([]byte, 1000)); err != nil {
				return fmt.Errorf("covered up: %v", err)
			}
		}
	}
	if _, err := spool.Write(10_500, endless); !errors.Is(err, ErrTooLarge) {
		t.Errorf("over the cap: %v", err)
	}
	own := errors.New("own")
	if _, err := spool.Write(10, func(io.Writer) error { return own }); err != own {
		t.Errorf("fill's own error: %v", err)
	}
	greedy := newSpool(t, 1<<62)
	if _, err := greedy.Write(10_000, endless); !errors.Is(err, ErrSpace) {
		t.Errorf("reserve: %v", err)
	}
	dir := t.TempDir()
	put(t, dir, "file", "x")
	if _, err := greedy.Take(openMedium(t, dir), "file", 1); !errors.Is(err, ErrSpace) {
		t.Errorf("reserve at take: %v", err)
	}
	k := newKey(t)
	file := spooled(t, spool, sealed(t, k.PublicKey(), nil))
	if _, err := greedy.Decrypt(t.Context(), file, software(t, k)); !errors.Is(err, ErrSpace) {
		t.Errorf("reserve at decryption: %v", err)
	}
}

func TestSpoolLeftovers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "[spool]")
	put(t, dir, "spool-123", "left by a crash")
	put(t, dir, "other", "not ours")
	if _, err := NewSpool(dir, 0); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != "other" {
		t.Errorf("%v, %v", left, err)
	}
}
