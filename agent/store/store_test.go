package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
)

func opened(t *testing.T) (*Store, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	update(t, s, func(tx *Tx) error { return tx.PutMeta(Meta{Schema: Schema}) })
	return s, dir
}

func update(t *testing.T, s *Store, f func(tx *Tx) error) {
	t.Helper()
	if err := s.Update(f); err != nil {
		t.Fatal(err)
	}
}

func TestOpen(t *testing.T) {
	if _, err := Open(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
	half := t.TempDir()
	s, err := Create(half) // init was interrupted before it was finished
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(half); !errors.Is(err, ErrBusy) {
		t.Errorf("while another has it open: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(half); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("unfinished: %v", err)
	}
	s, dir := opened(t)
	update(t, s, func(tx *Tx) error { return tx.PutMeta(Meta{Schema: Schema + 1}) })
	other := filepath.Join(t.TempDir(), fileName)
	data, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Dir(other)); err == nil || !strings.Contains(err.Error(), "layout 2") {
		t.Errorf("another layout: %v", err)
	}
}

// stage stages leaves 0 … n-1 from the known size on, in chunks.
func stage(t *testing.T, s *Store, from, n, chunk int, mark byte) {
	t.Helper()
	update(t, s, func(tx *Tx) error {
		edge, err := auditlog.ReadRange(int64(from), tx)
		if err != nil {
			return err
		}
		a := auditlog.NewAppender(edge)
		for first := from; first < n; first += chunk {
			var leaves, hashes bytes.Buffer
			var firstHash int64 = -1
			for i := first; i < min(first+chunk, n); i++ {
				leaf := []byte{mark, byte(i), byte(i >> 8)}
				at, stored := a.Append(leaf)
				if firstHash < 0 {
					firstHash = at
				}
				for _, h := range stored {
					hashes.Write(h[:])
				}
				if err := protocol.WriteString(&leaves, leaf); err != nil {
					return err
				}
			}
			if err := errors.Join(tx.StageLeaves(uint64(first), leaves.Bytes()), tx.StageHashes(uint64(firstHash), hashes.Bytes())); err != nil {
				return err
			}
		}
		return nil
	})
}

// TestLog has one import interrupted and another, with other leaves, succeed: what the first staged never shows.
func TestLog(t *testing.T) {
	s, _ := opened(t)
	size := func(n uint64) {
		update(t, s, func(tx *Tx) error {
			m, err := tx.Meta()
			m.Size = n
			return errors.Join(err, tx.PutMeta(m))
		})
	}
	clear := func(limit int) {
		for done := false; !done; {
			update(t, s, func(tx *Tx) (err error) {
				done, err = tx.ClearStaged(limit)
				return err
			})
		}
	}
	stage(t, s, 0, 70, 32, 'a')
	size(70)
	stage(t, s, 70, 300, 32, 'x') // interrupted
	clear(2)
	stage(t, s, 70, 150, 20, 'b')
	size(150)
	stage(t, s, 150, 200, 7, 'y') // interrupted
	clear(100)
	err := s.View(func(tx *Tx) error {
		var want auditlog.Range
		for i := range 150 {
			mark := byte('a')
			if i >= 70 {
				mark = 'b'
			}
			leaf := []byte{mark, byte(i), byte(i >> 8)}
			if got, err := tx.Leaf(uint64(i)); err != nil || !bytes.Equal(got, leaf) {
				t.Errorf("leaf %d is %x, %v", i, got, err)
			}
			if edge, err := auditlog.ReadRange(int64(i), tx); err != nil || edge.Root() != want.Root() {
				t.Errorf("tree of %d: %v", i, err)
			}
			want.Append(auditlog.LeafHash(leaf))
		}
		if _, err := tx.Leaf(150); err == nil {
			t.Error("a leaf that was cleared is there")
		}
		if _, err := tx.ReadHashes([]int64{tlog.StoredHashCount(150)}); err == nil {
			t.Error("a hash that was cleared is there")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestResults(t *testing.T) {
	s, _ := opened(t)
	results := []struct {
		number uint64
		result Result
	}{
		{1, Result{Outcome: protocol.OutcomeIssued, Serial: []byte{1, 2}, Answer: []byte("one")}},
		{7, Result{Outcome: protocol.OutcomeRefused, Open: true, Answer: []byte("seven")}},
		{0, Result{Outcome: protocol.OutcomeWithdrawn, Answer: []byte("of no request")}},
	}
	update(t, s, func(tx *Tx) error {
		for i, r := range results {
			if err := tx.PutResult(3, r.number, uint64(i), r.result); err != nil {
				return err
			}
		}
		return tx.PutResult(4, 1, 0, Result{Outcome: protocol.OutcomeHeld})
	})
	err := s.View(func(tx *Tx) error {
		i := 0
		err := tx.EachResult(3, func(n uint64, r Result) error {
			want := results[i]
			if n != want.number || r.Outcome != want.result.Outcome || r.Open != want.result.Open || !bytes.Equal(r.Serial, want.result.Serial) || !bytes.Equal(r.Answer, want.result.Answer) || n == 0 && r.Place != 2 {
				t.Errorf("result %d is of %d: %+v, want %+v", i, n, r, want)
			}
			i++
			return nil
		})
		if i != len(results) {
			t.Errorf("%d results", i)
		}
		if _, found := tx.Result(3, 2); found {
			t.Error("a result that was never written")
		}
		if r, found := tx.Unasked(3, 2); !found || string(r.Answer) != "of no request" {
			t.Errorf("of no request: %+v", r)
		}
		if _, found := tx.Unasked(3, 0); found {
			t.Error("the result of a request is one of none")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAsked(t *testing.T) {
	s, _ := opened(t)
	want := Asked{
		Serial: []byte{9, 8}, Issuer: protocol.Digest{1}, Key: protocol.Digest{2}, Names: protocol.Digest{3}, Scope: protocol.Digest{4},
		NotBefore: -5, NotAfter: 6, Term: 7,
	}
	r := Request{ID: protocol.Digest{5}, Kind: protocol.KindHold, Profile: "p", Body: "b", Subject: strings.Repeat("σ", 128)}
	update(t, s, func(tx *Tx) error {
		m, err := tx.Meta()
		if err != nil {
			return err
		}
		_, err = tx.AddRequest(&m, r, want, []byte("item"), protocol.Digest{6})
		return errors.Join(err, tx.PutMeta(m))
	})
	err := s.View(func(tx *Tx) error {
		got, err := tx.Asked(1)
		if err != nil {
			return err
		}
		if got.ID != r.ID || got.Kind != r.Kind || got.Profile != "p" || got.Body != "b" || got.Subject != r.Subject || !bytes.Equal(got.Serial, want.Serial) ||
			got.Issuer != want.Issuer || got.Key != want.Key || got.Names != want.Names || got.Scope != want.Scope || got.NotBefore != -5 || got.NotAfter != 6 || got.Term != 7 {
			t.Errorf("read %+v", got)
		}
		if _, err := tx.Asked(2); err == nil {
			t.Error("what was never asked")
		}
		if about := tx.About(want.Issuer, want.Serial); len(about) != 1 || about[0] != 1 {
			t.Errorf("requests about the certificate: %v", about)
		}
		if about := tx.About(want.Issuer, []byte{9}); len(about) != 0 {
			t.Errorf("requests about another certificate: %v", about)
		}
		if n := tx.RequestNumber(r.ID); n != 1 || tx.Wish(protocol.Digest{6}) != 1 || tx.Wish(protocol.Digest{7}) != 0 {
			t.Errorf("number %d", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
