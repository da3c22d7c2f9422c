package auditlog

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"testing"

	"coldseal/protocol/cose"
)

// vectorProof is the file in testdata/log.json, with what it is verified by.
func vectorProof(t testing.TB) (data []byte, origin string, logKey ed25519.PublicKey) {
	v := makeVector(t)
	unhex := func(text string) []byte {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	return unhex(v.File), Origin([32]byte(unhex(v.Genesis))), unhex(v.LogKey)
}

func TestInclusionProof(t *testing.T) {
	data, origin, logKey := vectorProof(t)
	p, err := OpenInclusionProof(data, origin, logKey)
	if err != nil || p.Index != 5 || p.Leaf.Kind != Issued || p.Checkpoint.Size != 17 {
		t.Fatalf("%+v, %v", p, err)
	}
	change := func(f func(*InclusionProof)) []byte {
		var p InclusionProof
		if err := cose.Unmarshal(data, &p); err != nil {
			t.Fatal(err)
		}
		f(&p)
		out, err := p.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for _, test := range []struct {
		name string
		data []byte
		kind error // nil: any
	}{
		{"another index", change(func(p *InclusionProof) { p.Index = 4 }), ErrProof},
		{"an index beyond the log", change(func(p *InclusionProof) { p.Index = 17 }), ErrProof},
		{"an index beyond all logs", change(func(p *InclusionProof) { p.Index = 1 << 63 }), ErrProof},
		{"another leaf", change(func(p *InclusionProof) { p.Leaf[5] ^= 1 }), ErrProof},
		{"another hash", change(func(p *InclusionProof) { p.Proof[0][0] ^= 1 }), ErrProof},
		{"a hash more", change(func(p *InclusionProof) { p.Proof = append(p.Proof, make([]byte, 32)) }), ErrProof},
		{"a hash less", change(func(p *InclusionProof) { p.Proof = p.Proof[1:] }), ErrProof},
		{"another checkpoint", change(func(p *InclusionProof) { p.Checkpoint[30] ^= 1 }), ErrCheckpoint},
		{"no checkpoint", change(func(p *InclusionProof) { p.Checkpoint = nil }), ErrCheckpoint},
		{"a byte after it", append(bytes.Clone(data), 0), nil},
		{"too large", make([]byte, MaxInclusionProof+1), nil},
		{"empty", nil, nil},
	} {
		p, err := OpenInclusionProof(test.data, origin, logKey)
		if err == nil || test.kind != nil && !errors.Is(err, test.kind) || p.Leaf.Kind != 0 {
			t.Errorf("%s: %+v, %v", test.name, p, err)
		}
	}
	if _, err := OpenInclusionProof(data, Origin([32]byte{1}), logKey); !errors.Is(err, ErrCheckpoint) {
		t.Errorf("another log: %v", err)
	}
	if _, err := (InclusionProof{Leaf: make([]byte, MaxInclusionProof)}).Encode(); err == nil {
		t.Error("a file that nobody would read was made")
	}
}

func FuzzInclusionProof(f *testing.F) {
	data, origin, logKey := vectorProof(f)
	f.Add(data)
	f.Fuzz(func(t *testing.T, changed []byte) {
		var p InclusionProof
		if cose.Unmarshal(changed, &p) == nil && len(changed) <= MaxInclusionProof {
			if again, err := p.Encode(); err != nil || !bytes.Equal(again, changed) {
				t.Errorf("decoded %x, encoded again %x, %v", changed, again, err)
			}
		}
		if p, err := OpenInclusionProof(changed, origin, logKey); err == nil && (p.Index != 5 || p.Leaf.Kind != Issued) {
			t.Errorf("another leaf was proved: %+v", p)
		}
	})
}
