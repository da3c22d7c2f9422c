package media

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func filling(content []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		for rest := content; len(rest) > 0; {
			n, err := w.Write(rest[:min(len(rest), 10_000)])
			if err != nil {
				return err
			}
			rest = rest[n:]
		}
		return nil
	}
}

func holds(t *testing.T, dir, name string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s holds %d bytes, %v, want %d others", name, len(got), err, len(want))
	}
	parts, err := filepath.Glob(filepath.Join(dir, filepath.Dir(name), "*"+partSuffix))
	if err != nil || len(parts) != 0 {
		t.Errorf("left over: %v, %v", parts, err)
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	m := openMedium(t, dir)
	a, b := pattern(300_000), append(pattern(300_000), 1)
	for _, c := range []struct {
		name    string
		content []byte
		opts    WriteOptions
		want    error
		after   []byte
	}{
		{"new", a, WriteOptions{}, nil, a},
		{"the same again", a, WriteOptions{}, nil, a},
		{"longer", b, WriteOptions{}, ErrExists, a},
		{"shorter", a[:100], WriteOptions{}, ErrExists, a},
		{"empty", nil, WriteOptions{}, ErrExists, a},
		{"replacing", b, WriteOptions{Replace: true}, nil, b},
		{"replacing with the beginning", a, WriteOptions{Replace: true}, nil, a},
		{"replacing with nothing", nil, WriteOptions{Replace: true}, nil, nil},
	} {
		if err := m.Write("x/y/file", c.opts, filling(c.content)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		holds(t, dir, "x/y/file", c.after)
	}
	if err := m.Write("private", WriteOptions{Private: true}, filling(a)); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "private")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := WriteFile(filepath.Join(dir, "alone"), WriteOptions{}, filling(a)); err != nil {
		t.Error(err)
	}
	holds(t, dir, "alone", a)
	if err := WriteFile(filepath.Join(dir, "none", "alone"), WriteOptions{}, filling(a)); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrGone) {
		t.Errorf("into a folder that is not there: %v", err)
	}
	for range 2 {
		if err := MakeFolder(filepath.Join(dir, "some", "where")); err != nil {
			t.Error(err)
		}
	}
	if err := MakeFolder(filepath.Join(dir, "alone", "below")); !errors.Is(err, ErrNotRegular) {
		t.Errorf("a folder below a file: %v", err)
	}
}

func TestSameFileIsNotWritten(t *testing.T) {
	dir := t.TempDir()
	m := openMedium(t, dir)
	if err := m.Write("file", WriteOptions{}, filling(pattern(100))); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(filepath.Join(dir, "file"))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Write("file", WriteOptions{Replace: true}, filling(pattern(100))); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(filepath.Join(dir, "file")); err != nil || !os.SameFile(before, after) {
		t.Errorf("written again: %v", err)
	}
}

func TestWriteFillFails(t *testing.T) {
	dir := t.TempDir()
	m := openMedium(t, dir)
	// Even one that looks like a medium's: it is another disk's.
	own := &os.PathError{Op: "read", Path: "elsewhere", Err: unix.ENOSPC}
	for _, there := range []bool{false, true} {
		if there {
			put(t, dir, "file", string(pattern(100_000)))
		}
		err := m.Write("file", WriteOptions{Replace: true}, func(w io.Writer) error {
			if _, err := w.Write(pattern(100_000)); err != nil {
				return err
			}
			return own
		})
		if !errors.Is(err, own) || errors.Is(err, ErrFull) {
			t.Errorf("there before: %v: %v", there, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "file"+partSuffix)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("part file left: %v", err)
		}
	}
	holds(t, dir, "file", pattern(100_000))
}

func TestLeftoversAreRemoved(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "x/file"+partSuffix, "torn")
	put(t, dir, "x/earlier"+partSuffix, "torn")
	put(t, dir, "x/file.part", "another program's")
	if err := openMedium(t, dir).Write("x/file", WriteOptions{}, filling(pattern(10))); err != nil {
		t.Fatal(err)
	}
	holds(t, dir, "x/file", pattern(10))
	holds(t, dir, "x/file.part", []byte("another program's"))
}

// TestTorn changes the part file behind the writer's back, as a failing stick would.
func TestTorn(t *testing.T) {
	dir := t.TempDir()
	m := openMedium(t, dir)
	part := filepath.Join(dir, "file"+partSuffix)
	for name, damage := range map[string]func() error{
		"truncated": func() error { return os.Truncate(part, 1000) },
		"changed": func() error {
			f, err := os.OpenFile(part, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte("?"), 1000)
			return errors.Join(err, f.Close())
		},
		"longer": func() error {
			f, err := os.OpenFile(part, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte("?"), 1<<20)
			return errors.Join(err, f.Close())
		},
	} {
		err := m.Write("file", WriteOptions{}, func(w io.Writer) error {
			// What the buffer holds back is written after the damage.
			if _, err := w.Write(pattern(2 * bufferSize)); err != nil {
				return err
			}
			return damage()
		})
		if !errors.Is(err, ErrTorn) {
			t.Errorf("%s: %v, want %v", name, err, ErrTorn)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("%s: left over: %v, %v", name, left, err)
		}
	}
}

// TestSwapped exchanges the folder that stands for the medium while a file is written to it.
func TestSwapped(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "stick")
	for _, exchange := range []bool{false, true} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		m := openMedium(t, dir)
		err := m.Write("file", WriteOptions{}, func(w io.Writer) error {
			if err := os.Rename(dir, fmt.Sprint(dir, exchange)); err != nil {
				return err
			}
			if exchange {
				if err := os.Mkdir(dir, 0o755); err != nil {
					return err
				}
			}
			return filling(pattern(100))(w)
		})
		if !errors.Is(err, ErrGone) {
			t.Errorf("exchanged: %v: %v, want %v", exchange, err, ErrGone)
		}
	}
	if err := openMedium(t, dir).Write("file", WriteOptions{}, filling(pattern(100))); err != nil {
		t.Errorf("the same again: %v", err)
	}
	holds(t, dir, "file", pattern(100))
}

func TestVanished(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "stick")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	m := openMedium(t, dir)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := m.Write("x/file", WriteOptions{}, filling(pattern(100))); !errors.Is(err, ErrGone) {
		t.Errorf("%v, want %v", err, ErrGone)
	}
}

func TestKindsAndHints(t *testing.T) {
	for number, want := range map[syscall.Errno]error{
		unix.ENOSPC: ErrFull, unix.EDQUOT: ErrFull, unix.EROFS: ErrReadOnly, unix.EACCES: ErrReadOnly, unix.EIO: ErrGone,
		unix.ENODEV: ErrGone, unix.ENOENT: ErrGone, unix.EFBIG: ErrTooLarge, unix.ELOOP: ErrNotRegular,
		unix.EEXIST: ErrExists, unix.EUCLEAN: ErrTorn, unix.EINVAL: nil,
	} {
		err := mediumError("write", "x", &os.PathError{Op: "write", Path: "y", Err: number})
		var e *Error
		if !errors.As(err, &e) || e.Kind != want || !errors.Is(err, number) {
			t.Errorf("%v: %v", number, err)
		}
	}
	for number, want := range map[syscall.Errno]error{
		unix.ENOSPC: ErrSpace, unix.EDQUOT: ErrSpace, unix.EFBIG: ErrSpace, unix.EIO: ErrDisk, unix.EROFS: ErrDisk, unix.ENODEV: ErrDisk,
		unix.ENOENT: nil, unix.EACCES: nil, unix.EISDIR: ErrNotRegular,
	} {
		if err := diskError("spool", "x", number); !errors.Is(err, number) || err.(*Error).Kind != want {
			t.Errorf("on our own disk, %v: %v", number, err)
		}
	}
	for _, kind := range []error{
		ErrFull, ErrReadOnly, ErrGone, ErrTorn, ErrTooLarge, ErrNotRegular, ErrExists, ErrName, ErrSpace, ErrDisk,
		ErrSealed, ErrReceiver, ErrKey,
	} {
		if (&Error{Kind: kind}).Hint() == "" {
			t.Errorf("no hint for %v", kind)
		}
	}
	e := &Error{Op: "write", Path: "x/y", Kind: ErrFull, Err: unix.ENOSPC}
	if got := e.Error(); got != "write x/y: the medium is full: no space left on device" || (&Error{}).Hint() != "" {
		t.Error(got)
	}
}

const insideVariable = "COLDSEAL_MEDIA_TEST_MOUNT"

// TestMain runs this binary a second time with mounts of its own for TestMounted.
func TestMain(m *testing.M) {
	if dir := os.Getenv(insideVariable); dir != "" {
		if err := mounted(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestMounted tries a real small file system: full, read-only, pulled out. It needs no rights where user namespaces are
// allowed, and root elsewhere.
func TestMounted(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), insideVariable+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("with a file system of 1 MiB of its own (needs root or user namespaces): %v\n%s", err, out)
	}
}

func mounted(dir string) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	m, err := OpenMedium(dir)
	if err != nil {
		return err
	}
	expect := func(what string, err, want error) error {
		if !errors.Is(err, want) {
			return fmt.Errorf("%s: %v, want %v", what, err, want)
		}
		return nil
	}
	big, small := filling(pattern(2<<20)), filling(pattern(100))
	empty := func() error {
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			return fmt.Errorf("left on the full medium: %v, %v", left, err)
		}
		return nil
	}
	spool, err := NewSpool(dir, 0)
	if err != nil {
		return err
	}
	_, spoolErr := spool.Write(4<<20, big)
	reserved, err := NewSpool(dir, 1020<<10)
	if err != nil {
		return err
	}
	_, reserveErr := reserved.Write(4<<20, filling(pattern(200<<10)))

	steps := []error{
		expect("spool beyond the disk", spoolErr, ErrSpace),
		expect("spool into the reserve", reserveErr, ErrSpace),
		expect("full", m.Write("big", WriteOptions{}, big), ErrFull),
		empty(),
		expect("our own disk, full", WriteFile(filepath.Join(dir, "big"), WriteOptions{}, big), ErrSpace),
		expect("something small", m.Write("small", WriteOptions{}, small), nil),
		unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=4m"),
		expect("the same with more room", m.Write("big", WriteOptions{}, big), nil),
		unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, "size=4m"),
		expect("the same file, read-only", m.Write("big", WriteOptions{}, big), nil),
		expect("our own disk, read-only", WriteFile(filepath.Join(dir, "small"), WriteOptions{Replace: true}, filling(pattern(101))), ErrDisk),
		expect("another file, read-only", m.Write("small", WriteOptions{Replace: true}, filling(pattern(101))), ErrReadOnly),
		expect("a new folder, read-only", m.Write("x/small", WriteOptions{}, small), ErrReadOnly),
		unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=4m"),
		expect("the same, writable again", m.Write("x/small", WriteOptions{}, small), nil),
		unix.Unmount(dir, unix.MNT_DETACH),
		expect("pulled out", m.Write("x/other", WriteOptions{}, small), ErrGone),
		m.Close(),
	}
	return errors.Join(steps...)
}
