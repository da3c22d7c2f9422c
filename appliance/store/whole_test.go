package store

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestCutLedger opens a ledger that is cut after every 512 bytes. All are refused, none ends the program; those that
// never held anything are said to be unfinished.
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
	data, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	data = data[:used]
	begun := firstPages * os.Getpagesize()
	if len(data) <= begun {
		t.Fatalf("the ledger has %d bytes only", len(data))
	}
	cut := t.TempDir()
	for size := 0; size < len(data); size += 512 {
		if err := os.WriteFile(filepath.Join(cut, fileName), data[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(cut)
		if err == nil {
			t.Fatalf("a ledger cut after %d of %d bytes opens: %v", size, len(data), s.Close())
		}
		if errors.Is(err, ErrUnfinished) != (size <= begun) {
			t.Errorf("cut after %d of %d bytes: %v", size, len(data), err)
		}
	}
}
