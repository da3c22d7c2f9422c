package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestCutLedger opens a ledger that is cut after every 512 bytes. All are refused, none ends the program, and none is
// taken for one that genesis did not finish.
func TestCutLedger(t *testing.T) {
	s, dir := newStore(t)
	var used int64
	if err := s.View(func(tx *Tx) error {
		used = tx.tx.Size() // the file may have room behind it
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	data = data[:used]
	cut := t.TempDir()
	for size := 0; size < len(data); size += 512 {
		if err := os.WriteFile(filepath.Join(cut, FileName), data[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(cut)
		if err == nil {
			t.Fatalf("a ledger cut after %d of %d bytes opens: %v", size, len(data), s.Close())
		}
		if errors.Is(err, ErrUnfinished) {
			t.Errorf("cut after %d of %d bytes: %v", size, len(data), err)
		}
	}
}

// TestCreateAgain makes a ledger where half of one was left.
func TestCreateAgain(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, FileName+".new"), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); !errors.Is(err, ErrUnfinished) {
		t.Errorf("a ledger in which nothing was written: %v", err)
	}
	if _, err := Create(dir); !errors.Is(err, ErrExists) {
		t.Errorf("a second one: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.new")); err != nil || len(left) != 0 {
		t.Errorf("left are %v, %v", left, err)
	}
	// One that nobody relies on stays until there is another.
	full := filepath.Join(dir, FileName+".new")
	if err := os.MkdirAll(filepath.Join(full, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Recreate(dir); err == nil {
		t.Error("another was made, and there is no room for it")
	}
	if _, err := Open(dir); !errors.Is(err, ErrUnfinished) {
		t.Errorf("the first one: %v", err)
	}
	if err := os.RemoveAll(full); err != nil {
		t.Fatal(err)
	}
	if s, err = Recreate(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
