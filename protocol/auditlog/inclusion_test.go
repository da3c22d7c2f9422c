package auditlog

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"testing"

	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// makeInclusion proves the second leaf of a log of three, with its body, as a file.
func makeInclusion(t testing.TB) (file []byte, typed protocol.Digest) {
	check := func(data []byte, err error) []byte {
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	logKey := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	receiver, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{8}, 32))
	if err != nil {
		t.Fatal(err)
	}
	spki := func(public crypto.PublicKey) []byte { return check(x509.MarshalPKIXPublicKey(public)) }
	seal := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, ed25519.SeedSize))
	genesis := check(cose.Marshal(protocol.Genesis{
		Version: protocol.Version, Name: "test", Created: 1_800_000_000, Log: spki(logKey.Public()), Seal: spki(seal.Public()),
		Receiver: spki(receiver.Public()), Roster: []byte("roster"), Policy: []byte("policy"),
	}))
	typed = protocol.DigestOf(genesis)
	salt, body := [saltSize]byte(bytes.Repeat([]byte{1}, saltSize)), []byte("bundle record")
	var hashes stored
	var second []byte
	appender := NewAppender(Range{})
	for i, l := range []Leaf{{Kind: Genesis, Body: BodyDigest(salt, genesis)}, {Kind: Bundle, Number: 1, Body: BodyDigest(salt, body)}, {Kind: Step, Number: 1}} {
		l.Time = 1_800_000_000
		data := check(l.Encode())
		_, more := appender.Append(data)
		hashes = append(hashes, more...)
		if i == 1 {
			second = data
		}
	}
	edge, err := ReadRange(3, hashes)
	if err != nil {
		t.Fatal(err)
	}
	proof, err := ProveInclusion(3, 1, hashes)
	if err != nil {
		t.Fatal(err)
	}
	note := check(SignCheckpoint(CheckpointText(Origin(typed), 3, edge.Root()), Origin(typed), logKey))
	return check(InclusionProof{Index: 1, Leaf: second, Proof: proof, Checkpoint: note, Genesis: genesis, Salted: append(salt[:], body...)}.Encode()), typed
}

// makeFile is makeInclusion for testdata/log.json.
func makeFile(t testing.TB) vectorFile {
	file, typed := makeInclusion(t)
	return vectorFile{Genesis: typed.String(), File: hex.EncodeToString(file)}
}

func TestInclusionProof(t *testing.T) {
	data, typed := makeInclusion(t)
	p, err := OpenInclusionProof(data, typed)
	if err != nil || p.Index != 1 || p.Leaf.Kind != Bundle || p.Checkpoint.Size != 3 || string(p.Body) != "bundle record" {
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
	if p, err := OpenInclusionProof(change(func(p *InclusionProof) { p.Salted = nil }), typed); err != nil || p.Body != nil {
		t.Errorf("without the body: %+v, %v", p, err)
	}
	for _, test := range []struct {
		name string
		data []byte
		kind error // nil: any
	}{
		{"another index", change(func(p *InclusionProof) { p.Index = 0 }), ErrProof},
		{"an index beyond the log", change(func(p *InclusionProof) { p.Index = 3 }), ErrProof},
		{"an index beyond all logs", change(func(p *InclusionProof) { p.Index = 1 << 63 }), ErrProof},
		{"another leaf", change(func(p *InclusionProof) { p.Leaf[5] ^= 1 }), ErrProof},
		{"another hash", change(func(p *InclusionProof) { p.Proof[0][0] ^= 1 }), ErrProof},
		{"a hash more", change(func(p *InclusionProof) { p.Proof = append(p.Proof, make([]byte, 32)) }), ErrProof},
		{"a hash less", change(func(p *InclusionProof) { p.Proof = p.Proof[1:] }), ErrProof},
		{"another checkpoint", change(func(p *InclusionProof) { p.Checkpoint[30] ^= 1 }), ErrCheckpoint},
		{"no checkpoint", change(func(p *InclusionProof) { p.Checkpoint = nil }), ErrCheckpoint},
		{"another genesis", change(func(p *InclusionProof) { p.Genesis[0] ^= 1 }), nil},
		{"another body", change(func(p *InclusionProof) { p.Salted[16] ^= 1 }), ErrProof},
		{"another salt", change(func(p *InclusionProof) { p.Salted[0] ^= 1 }), ErrProof},
		{"half a salt", change(func(p *InclusionProof) { p.Salted = p.Salted[:8] }), ErrProof},
		{"a byte after it", append(bytes.Clone(data), 0), nil},
		{"too large", make([]byte, MaxInclusionProof+1), nil},
		{"empty", nil, nil},
	} {
		p, err := OpenInclusionProof(test.data, typed)
		if err == nil || test.kind != nil && !errors.Is(err, test.kind) || p.Leaf.Kind != 0 || p.Body != nil {
			t.Errorf("%s: %+v, %v", test.name, p, err)
		}
	}
	if _, err := OpenInclusionProof(data, protocol.Digest{1}); err == nil {
		t.Error("accepted under another digest")
	}
	if _, err := (InclusionProof{Salted: make([]byte, MaxInclusionProof)}).Encode(); err == nil {
		t.Error("a file that nobody would read was made")
	}
}

func FuzzInclusionProof(f *testing.F) {
	data, typed := makeInclusion(f)
	f.Add(data)
	f.Fuzz(func(t *testing.T, changed []byte) {
		var p InclusionProof
		if len(changed) <= MaxInclusionProof && cose.Unmarshal(changed, &p) == nil {
			if again, err := p.Encode(); err != nil || !bytes.Equal(again, changed) {
				t.Errorf("decoded %x, encoded again %x, %v", changed, again, err)
			}
		}
		if p, err := OpenInclusionProof(changed, typed); err == nil && (p.Index != 1 || p.Leaf.Kind != Bundle) {
			t.Errorf("another leaf was proved: %+v", p)
		}
	})
}
