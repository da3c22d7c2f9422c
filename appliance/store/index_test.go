package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"coldseal/protocol"
	"coldseal/protocol/cose"
)

func newStore(t testing.TB) (*Store, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Update(func(tx *Tx) error { return tx.PutMeta(Meta{Schema: Schema}) }); err != nil {
		t.Fatal(err)
	}
	return s, dir
}

// digest is the n-th of the keys that a test uses. All begin with one of three pairs of bytes, so that they crowd in
// few parts.
func digest(n int) protocol.Digest {
	d := protocol.Digest(sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n))))
	copy(d[:2], [][]byte{{0, 0}, {0x7f, 0xff}, {0xff, 0xff}}[n%3])
	return d
}

// TestIndexAgainstMap writes, overwrites and looks up at random, in transactions of all sizes, and compares with a map.
func TestIndexAgainstMap(t *testing.T) {
	s, dir := newStore(t)
	random := rand.New(rand.NewPCG(1, 2))
	known := map[protocol.Digest]uint64{}
	compare := func(tx *Tx, look int) error {
		for range look {
			key := digest(random.IntN(4000))
			index, found := tx.Done(key)
			if want, is := known[key]; found != is || index != want {
				return fmt.Errorf("key %s: %d, %v, want %d, %v", key, index, found, want, is)
			}
		}
		return nil
	}
	for round := range 300 {
		written := map[protocol.Digest]uint64{}
		err := s.Update(func(tx *Tx) error {
			if err := compare(tx, 20); err != nil {
				return err
			}
			for range random.IntN(2) * random.IntN(60) {
				key, value := digest(random.IntN(4000)), random.Uint64()
				written[key] = value
				if err := tx.PutDone(key, value); err != nil {
					return err
				}
				if index, found := tx.Done(key); !found || index != value {
					return fmt.Errorf("key %s just written: %d, %v", key, index, found)
				}
			}
			if round%7 == 0 {
				return errRollBack
			}
			return nil
		})
		if round%7 == 0 {
			if err != errRollBack {
				t.Fatal(err)
			}
		} else if err != nil {
			t.Fatalf("round %d: %v", round, err)
		} else {
			for key, value := range written {
				known[key] = value
			}
		}
		if round%50 == 49 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if s, err = Open(dir); err != nil {
				t.Fatal(err)
			}
		}
		err = s.View(func(tx *Tx) error {
			if n := tx.CountDone(); n != uint64(len(known)) {
				return fmt.Errorf("%d keys, want %d", n, len(known))
			}
			if n := len(tx.runs(indexDone)); n >= parts {
				return fmt.Errorf("%d runs are left", n)
			}
			return compare(tx, 100)
		})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
	if len(known) < 1000 {
		t.Errorf("only %d keys were written", len(known))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

var errRollBack = fmt.Errorf("roll back")

func TestIndexes(t *testing.T) {
	s, _ := newStore(t)
	issuer, serial := digest(1), bytes.Repeat([]byte{7}, serialSize)
	name, other := NameKey("a"), NameKey("b")
	err := s.Update(func(tx *Tx) error {
		if err := tx.PutCertificate(issuer, serial, Certificate{Subject: "x", Name: name}); err != nil {
			return err
		}
		if err := tx.PutName(name, issuer, serial); err != nil {
			return err
		}
		if err := tx.PutKeyUse(digest(2), KeyUse{Name: name}); err != nil {
			return err
		}
		return tx.PutKeyUse(digest(3), KeyUse{Name: name, Compromised: true})
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.View(func(tx *Tx) error {
		if h, err := tx.Holders(name); err != nil || len(h) != 1 || !bytes.Equal(h[0].Serial, serial) || h[0].Subject != "x" {
			t.Errorf("holders %+v, %v", h, err)
		}
		if h, err := tx.Holders(other); err != nil || len(h) != 0 {
			t.Errorf("holders of a free name: %+v, %v", h, err)
		}
		for n, want := range map[int]bool{2: false, 3: true} {
			if u, found := tx.KeyUse(digest(n)); !found || !bytes.Equal(u.Name, name) || u.Compromised != want {
				t.Errorf("key %d: %+v, %v", n, u, found)
			}
		}
		if u, found := tx.KeyUse(digest(4)); found {
			t.Errorf("an unknown key is known: %+v", u)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Update(func(tx *Tx) error { return tx.PutName(name, issuer, serial[1:]) }); err == nil {
		t.Error("a serial that is too short was written")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkDone is one transaction of a full batch in an index of 200,000.
func BenchmarkDone(b *testing.B) {
	s, _ := newStore(b)
	var n uint64
	add := func() {
		err := s.Update(func(tx *Tx) error {
			for range protocol.MaxGroupItems {
				n++
				id := protocol.DigestOf(binary.BigEndian.AppendUint64(nil, n))
				if _, found := tx.Done(id); found {
					return fmt.Errorf("%d is done", n)
				}
				if err := tx.PutDone(id, n); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	for n < 200000 {
		add()
	}
	for b.Loop() {
		add()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*protocol.MaxGroupItems), "ns/item")
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

// TestIntents are replaced as a whole.
func TestIntents(t *testing.T) {
	s, _ := newStore(t)
	for _, intents := range [][]Intent{{{Issuer: digest(1), Serial: []byte{1}, TBS: digest(2), Profile: "p", NotAfter: 3}, {Issuer: digest(4)}}, nil} {
		err := s.Update(func(tx *Tx) error { return tx.PutIntents(intents) })
		if err == nil {
			err = s.View(func(tx *Tx) error {
				got, err := tx.Intents()
				if err != nil {
					return err
				}
				want, err := cose.Marshal(intents)
				if err != nil {
					return err
				}
				if again, err := cose.Marshal(got); err != nil || !bytes.Equal(again, want) {
					t.Errorf("read back %+v, want %+v", got, intents)
				}
				return nil
			})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
