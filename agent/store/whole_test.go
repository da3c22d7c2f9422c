package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestCutStore opens a store that is cut after every 512 bytes. All are refused, none ends the program, and no new one is
// made in its place.
func TestCutStore(t *testing.T) {
	s, err := Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	update(t, s, func(tx *Tx) error { return tx.PutMeta(Meta{Schema: Schema}) })
	var used int64
	if err := s.View(func(tx *Tx) error {
		used = tx.tx.Size() // the file may have room behind it
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	path := s.db.Path()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data = data[:used]
	cut := t.TempDir()
	for size := 0; size < len(data); size += 512 {
		if err := os.WriteFile(filepath.Join(cut, fileName), data[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(cut)
		if err == nil {
			t.Fatalf("a store cut after %d of %d bytes opens: %v", size, len(data), s.Close())
		}
		if errors.Is(err, os.ErrNotExist) {
			t.Errorf("cut after %d of %d bytes: %v", size, len(data), err)
		}
		if s, err = Create(cut); err == nil {
			t.Errorf("made anew after it was cut after %d of %d bytes: %v", size, len(data), s.Close())
		}
	}
}

// TestCreateAgain makes a store where half of one was left, and opens it where there is one.
func TestCreateAgain(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, fileName+".new"), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s, err := Create(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.new")); err != nil || len(left) != 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}
