package cose

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"strings"
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
	return map[string]crypto.Signer{"P-256": p256, "P-384": p384, "Ed25519": ed, "RSA-2048": rsaKey(t, 2048)}
}

func rsaKey(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
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
			if again, err := Sign(signer, "coldseal/test/v1", []byte("payload")); err != nil || bytes.Equal(message, again) == (key.Algorithm() == PS256) {
				t.Errorf("the same input signed twice differs, or does not with a random salt (err %v)", err)
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
	bits := func(n uint) *big.Int { return new(big.Int).SetBit(big.NewInt(1), int(n-1), 1) }
	for want, public := range map[string]crypto.PublicKey{
		"P-521 is not one of": p521.Public(),
		"string is not one":   "no key",
		"of 1024 bits":        &rsa.PublicKey{N: bits(1024), E: 65537},
		"of 2047 bits":        &rsa.PublicKey{N: bits(2047), E: 65537},
		"of 2056 bits":        &rsa.PublicKey{N: bits(2056), E: 65537},
		"of 8192 bits":        &rsa.PublicKey{N: bits(8192), E: 65537},
		"the exponent 3,":     &rsa.PublicKey{N: bits(2048), E: 3},
		"the exponent 65539,": &rsa.PublicKey{N: bits(2048), E: 65539},
	} {
		if _, err := NewKey(public); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	for _, n := range []uint{2048, 3072, 4096} {
		if key, err := NewKey(&rsa.PublicKey{N: bits(n), E: 65537}); err != nil || key.Algorithm() != PS256 {
			t.Errorf("RSA of %d bits: %v", n, err)
		}
	}
}

// TestVerifyRefusesOtherRSA has the right key sign in each way that is not PS256, and verifiers that are less strict accept
// each of them.
func TestVerifyRefusesOtherRSA(t *testing.T) {
	private := rsaKey(t, 2048)
	key, err := NewKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	protected, err := Marshal(protectedHeader{PS256, key.id[:]})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := Marshal(toBeSigned{Context: "Signature1", Protected: protected, External: []byte("c"), Payload: []byte("p")})
	if err != nil {
		t.Fatal(err)
	}
	short, long := sha256.Sum256(signed), sha512.Sum384(signed)
	salt := func(n int, h crypto.Hash) *rsa.PSSOptions { return &rsa.PSSOptions{SaltLength: n, Hash: h} }
	by := func(digest []byte, opts crypto.SignerOpts) []byte {
		t.Helper()
		signature, err := private.Sign(rand.Reader, digest, opts)
		if err != nil {
			t.Fatal(err)
		}
		return signature
	}
	good := by(short[:], salt(32, crypto.SHA256))
	for name, c := range map[string]struct {
		signature []byte
		good      bool
	}{
		"PS256":             {good, true},
		"a salt of 20":      {by(short[:], salt(20, crypto.SHA256)), false},
		"a salt of 33":      {by(short[:], salt(33, crypto.SHA256)), false},
		"the longest salt":  {by(short[:], salt(rsa.PSSSaltLengthAuto, crypto.SHA256)), false},
		"SHA-384":           {by(long[:], salt(48, crypto.SHA384)), false},
		"PKCS #1 v1.5":      {by(short[:], crypto.SHA256), false},
		"a byte before":     {append([]byte{0}, good...), false},
		"a byte after":      {append(bytes.Clone(good), 0), false},
		"plus the modulus":  {new(big.Int).Add(new(big.Int).SetBytes(good), private.N).Bytes(), false},
		"minus the modulus": {new(big.Int).Sub(private.N, new(big.Int).SetBytes(good)).FillBytes(make([]byte, 256)), false},
		"nothing":           {nil, false},
	} {
		body, err := Marshal(sign1{Protected: protected, Payload: []byte("p"), Signature: c.signature})
		if err != nil {
			t.Fatal(err)
		}
		payload, err := Verify(append([]byte{tagSign1}, body...), "c", key)
		if c.good && (err != nil || string(payload) != "p") || !c.good && !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %q, %v", name, payload, err)
		}
	}
}

// TestSignRefusesWhatDevicesReturn: a card's answer is of the right form before anybody verifies it.
func TestSignRefusesWhatDevicesReturn(t *testing.T) {
	p256, bits := keys(t)["P-256"], rsaKey(t, 2048)
	der := func(r, s *big.Int) []byte {
		out, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	one, order := big.NewInt(1), elliptic.P256().Params().N
	for name, s := range map[string]broken{
		"no DER":      {p256.Public(), []byte{1}},
		"trailing":    {p256.Public(), append(der(one, one), 0)},
		"r zero":      {p256.Public(), der(new(big.Int), one)},
		"s too large": {p256.Public(), der(one, order)},
		"RSA, short":  {bits.Public(), make([]byte, 255)},
		"RSA, long":   {bits.Public(), make([]byte, 257)},
	} {
		if _, err := Sign(s, "c", []byte("p")); err == nil || !strings.Contains(err.Error(), "signer returned") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// broken signs with the same bytes each time.
type broken struct {
	public    crypto.PublicKey
	signature []byte
}

func (b broken) Public() crypto.PublicKey { return b.public }

func (b broken) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return b.signature, nil }

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
	var enrolled []Key
	for _, signer := range keys(f) {
		key, err := NewKey(signer.Public())
		if err != nil {
			f.Fatal(err)
		}
		message, err := Sign(signer, "c", []byte("p"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(message)
		enrolled = append(enrolled, key)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, key := range enrolled {
			if payload, err := Verify(data, "c", key); err == nil && string(payload) != "p" {
				t.Fatalf("forged %x", payload)
			}
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
