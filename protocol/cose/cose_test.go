package cose

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"math/big"
	"testing"

	gocose "github.com/veraison/go-cose"
)

func keys(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{"P-256": p256, "P-384": p384, "Ed25519": ed}
}

func TestSignThenVerify(t *testing.T) {
	for name, signer := range keys(t) {
		t.Run(name, func(t *testing.T) {
			key, err := NewKey(signer.Public())
			if err != nil {
				t.Fatal(err)
			}
			message, err := Sign(signer, "coldseal/test/v1", []byte("payload"))
			if err != nil {
				t.Fatal(err)
			}
			if again, err := Sign(signer, "coldseal/test/v1", []byte("payload")); err != nil || !bytes.Equal(message, again) {
				t.Errorf("the same input signed twice differs (err %v)", err)
			}
			if id, err := KeyID(message); err != nil || id != key.ID() {
				t.Errorf("KeyID = %x, %v", id, err)
			}
			payload, err := Verify(message, "coldseal/test/v1", key)
			if err != nil || string(payload) != "payload" {
				t.Fatalf("Verify = %q, %v", payload, err)
			}
			if _, err := Verify(message, "coldseal/other/v1", key); !errors.Is(err, ErrSignature) {
				t.Errorf("another context verifies: %v", err)
			}
			for i := range message {
				flipped := bytes.Clone(message)
				flipped[i] ^= 1
				if _, err := Verify(flipped, "coldseal/test/v1", key); err == nil {
					t.Fatalf("byte %d flipped still verifies", i)
				}
			}
		})
	}
}

// TestGoCoseAgrees has a library that isn't ours verify what we sign, and us verify what it signs.
func TestGoCoseAgrees(t *testing.T) {
	for name, signer := range keys(t) {
		t.Run(name, func(t *testing.T) {
			key, err := NewKey(signer.Public())
			if err != nil {
				t.Fatal(err)
			}
			message, err := Sign(signer, "coldseal/test/v1", []byte("payload"))
			if err != nil {
				t.Fatal(err)
			}
			verifier, err := gocose.NewVerifier(gocose.Algorithm(key.Algorithm()), signer.Public())
			if err != nil {
				t.Fatal(err)
			}
			var theirs gocose.Sign1Message
			if err := theirs.UnmarshalCBOR(message); err != nil {
				t.Fatal(err)
			}
			if err := theirs.Verify([]byte("coldseal/test/v1"), verifier); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestVerifyRefusesHighS(t *testing.T) {
	signer := keys(t)["P-256"].(*ecdsa.PrivateKey)
	key, err := NewKey(signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	message, err := Sign(signer, "c", []byte("p"))
	if err != nil {
		t.Fatal(err)
	}
	s := new(big.Int).SetBytes(message[len(message)-32:])
	s.Sub(elliptic.P256().Params().N, s).FillBytes(message[len(message)-32:])
	if _, err := Verify(message, "c", key); !errors.Is(err, ErrSignature) {
		t.Fatalf("high S accepted: %v", err)
	}
}

// The algorithm is the key's. A message that names another one is refused, though the key did sign it in that way.
func TestAlgorithmIsTheKeys(t *testing.T) {
	signer := keys(t)["P-256"]
	key, err := NewKey(signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	claimed := key
	claimed.algorithm = ES384
	protected, err := Marshal(protectedHeader{claimed.algorithm, key.id[:]})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := Marshal(toBeSigned{Context: "Signature1", Protected: protected, External: []byte("c"), Payload: []byte("p")})
	if err != nil {
		t.Fatal(err)
	}
	signature, err := claimed.sign(signer, signed)
	if err != nil {
		t.Fatal(err)
	}
	body, err := Marshal(sign1{Protected: protected, Payload: []byte("p"), Signature: signature})
	if err != nil {
		t.Fatal(err)
	}
	message := append([]byte{tagSign1}, body...)
	if payload, err := Verify(message, "c", claimed); err != nil || string(payload) != "p" {
		t.Fatalf("the message is no good one: %v", err)
	}
	if _, err := Verify(message, "c", key); !errors.Is(err, ErrSignature) {
		t.Errorf("another algorithm accepted: %v", err)
	}
}

func TestNewKeyRefuses(t *testing.T) {
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, public := range []crypto.PublicKey{p521.Public(), weak.Public(), "no key"} {
		if _, err := NewKey(public); err == nil {
			t.Errorf("%T accepted", public)
		}
	}
}

type sample struct {
	Number uint64            `cbor:"1,keyasint"`
	Text   string            `cbor:"2,keyasint,omitempty"`
	Bytes  []byte            `cbor:"3,keyasint,omitempty"`
	Map    map[string]string `cbor:"4,keyasint,omitempty"`
	Digest [4]byte           `cbor:"5,keyasint,omitzero"`
}

func TestUnmarshalRefuses(t *testing.T) {
	good := []byte{0xa2, 0x01, 0x05, 0x02, 0x61, 'a'}
	if err := Unmarshal(good, &sample{}); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"empty":             {},
		"trailing byte":     append(bytes.Clone(good), 0),
		"unsorted":          {0xa2, 0x02, 0x61, 'a', 0x01, 0x05},
		"duplicate":         {0xa2, 0x01, 0x05, 0x01, 0x05},
		"unknown field":     {0xa2, 0x01, 0x05, 0x18, 0x63, 0x00},
		"non-shortest":      {0xa1, 0x01, 0x18, 0x05},
		"non-shortest key":  {0xa1, 0x18, 0x01, 0x05},
		"indefinite map":    {0xbf, 0x01, 0x05, 0xff},
		"indefinite bytes":  {0xa2, 0x01, 0x05, 0x03, 0x5f, 0x41, 0x00, 0xff},
		"null":              {0xa1, 0x01, 0xf6},
		"null message":      {0xf6},
		"null bytes":        {0xa2, 0x01, 0x05, 0x03, 0xf6},
		"undefined":         {0xa1, 0x01, 0xf7},
		"explicit zero":     {0xa2, 0x01, 0x05, 0x02, 0x60},
		"explicit digest":   {0xa2, 0x01, 0x05, 0x05, 0x44, 0, 0, 0, 0},
		"short digest":      {0xa2, 0x01, 0x05, 0x05, 0x42, 1, 2},
		"long digest":       {0xa2, 0x01, 0x05, 0x05, 0x45, 1, 2, 3, 4, 5},
		"float":             {0xa1, 0x01, 0xf9, 0x45, 0x00},
		"tag":               {0xc0, 0xa1, 0x01, 0x05},
		"bad utf-8":         {0xa2, 0x01, 0x05, 0x02, 0x61, 0xff},
		"unsorted inner":    {0xa2, 0x01, 0x05, 0x04, 0xa2, 0x61, 'b', 0x60, 0x61, 'a', 0x60},
		"missing field":     {0xa0},
		"array for map":     {0x81, 0x05},
		"length past end":   {0xa2, 0x01, 0x05, 0x03, 0x5a, 0xff, 0xff, 0xff, 0xff},
		"deeply nested":     bytes.Repeat([]byte{0x81}, 1000),
		"text for bytes":    {0xa2, 0x01, 0x05, 0x03, 0x61, 'a'},
		"negative for uint": {0xa1, 0x01, 0x20},
	} {
		if err := Unmarshal(data, &sample{}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte{0xa2, 0x01, 0x05, 0x02, 0x61, 'a'})
	f.Fuzz(func(t *testing.T, data []byte) {
		var v sample
		if Unmarshal(data, &v) != nil {
			return
		}
		again, err := Marshal(v)
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("accepted %x, encodes as %x (%v)", data, again, err)
		}
	})
}

func FuzzVerify(f *testing.F) {
	signer := keys(f)["P-256"]
	key, err := NewKey(signer.Public())
	if err != nil {
		f.Fatal(err)
	}
	message, err := Sign(signer, "c", []byte("p"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(message)
	f.Fuzz(func(t *testing.T, data []byte) {
		if payload, err := Verify(data, "c", key); err == nil && string(payload) != "p" {
			t.Fatalf("forged %x", payload)
		}
	})
}

// FuzzParseKey: one key has one encoding.
func FuzzParseKey(f *testing.F) {
	for _, signer := range keys(f) {
		if key, err := NewKey(signer.Public()); err == nil {
			f.Add(key.SPKI())
		}
	}
	f.Fuzz(func(t *testing.T, spki []byte) {
		key, err := ParseKey(spki)
		if err != nil {
			return
		}
		if again, err := NewKey(key.Public()); err != nil || !bytes.Equal(again.SPKI(), spki) || again.ID() != key.ID() {
			t.Errorf("accepted %x, encodes as %x, %v", spki, again.SPKI(), err)
		}
	})
}

// FuzzKeyID: who a message says that it is by is who it is verified for.
func FuzzKeyID(f *testing.F) {
	for _, signer := range keys(f) {
		if message, err := Sign(signer, "c", []byte("p")); err == nil {
			f.Add(message)
		}
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		id, err := KeyID(message)
		if err == nil && !bytes.Contains(message, id[:]) {
			t.Errorf("%x is not in the message", id)
		}
	})
}
