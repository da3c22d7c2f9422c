package media

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestRemove(t *testing.T) {
	path := t.TempDir()
	m, err := OpenMedium(path)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, name := range []string{"a/kept", "a/gone"} {
		if err := m.Write(name, WriteOptions{}, func(w io.Writer) error { _, err := w.Write([]byte(name)); return err }); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // what is not there is no error
		if err := m.Remove("a/gone"); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Remove("b/never"); err != nil {
		t.Fatal(err)
	}
	if files, err := m.List("a"); err != nil || len(files) != 1 || files[0] != "kept" {
		t.Fatalf("left is %q, %v", files, err)
	}

	outside := filepath.Join(t.TempDir(), "outside")
	if err := errors.Join(os.WriteFile(outside, nil, 0o644), os.Symlink(outside, filepath.Join(path, "a/link"))); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{"a/link": ErrNotRegular, "a": ErrNotRegular, "../x": ErrName, "/x": ErrName, ".": ErrName} {
		if err := m.Remove(name); !errors.Is(err, want) {
			t.Errorf("remove %s: %v, want %v", name, err, want)
		}
	}
	if _, err := os.Stat(outside); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := m.Remove("a/kept"); !errors.Is(err, ErrGone) {
		t.Errorf("remove from a medium that is gone: %v", err)
	}
}
