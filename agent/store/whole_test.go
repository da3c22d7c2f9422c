package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestCutStore opens a store that is cut after every 512 bytes. All are refused, none ends the program; in the place of
// one that never held anything a new one can be made.
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
	begun := firstPages * os.Getpagesize()
	if len(data) <= begun {
		t.Fatalf("the store has %d bytes only", len(data))
	}
	cut := t.TempDir()
	for size := 0; size < len(data); size += 512 {
		if err := os.WriteFile(filepath.Join(cut, fileName), data[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(cut)
		if err == nil {
			t.Fatalf("a store cut after %d of %d bytes opens: %v", size, len(data), s.Close())
		}
		if errors.Is(err, os.ErrNotExist) != (size <= begun) {
			t.Errorf("cut after %d of %d bytes: %v", size, len(data), err)
		}
		s, err = Create(cut)
		if (err == nil) != (size <= begun) {
			t.Errorf("made anew after it was cut after %d of %d bytes: %v", size, len(data), err)
		}
		if err == nil {
			err = s.Close()
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}
