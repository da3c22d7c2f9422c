//go:build cgo

package hsm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"testing"
	"unicode/utf8"

	"coldseal/appliance/signer"
)

func TestPoints(t *testing.T) {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	bare, err := p256.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := asn1.Marshal(bare)
	if err != nil {
		t.Fatal(err)
	}
	edwards, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		params, point []byte
		want          crypto.PublicKey
	}{
		"wrapped":         {paramsP256, wrapped, &p256.PublicKey},
		"bare":            {paramsP256, bare, &p256.PublicKey},
		"Ed25519":         {oidEd25519, append([]byte{4, 32}, edwards...), edwards},
		"Ed25519, bare":   {paramsEd25519, edwards, edwards},
		"wrong curve":     {paramsP384, wrapped, nil},
		"secp521r1":       {[]byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23}, wrapped, nil},
		"cut":             {paramsP256, wrapped[:len(wrapped)-1], nil},
		"and a byte":      {paramsP256, append(bytes.Clone(wrapped), 0), nil},
		"off the curve":   {paramsP256, append(bytes.Clone(bare[:64]), bare[64]^1), nil},
		"compressed":      {paramsP256, elliptic.MarshalCompressed(elliptic.P256(), p256.X, p256.Y), nil},
		"the identity":    {paramsP256, []byte{0}, nil},
		"nothing":         {paramsP256, nil, nil},
		"no curve at all": {nil, wrapped, nil},
	} {
		got, err := ecKey(c.params, c.point)
		if (err == nil) != (c.want != nil) || c.want != nil && !got.(interface{ Equal(crypto.PublicKey) bool }).Equal(c.want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestMark(t *testing.T) {
	for id, want := range map[string]signer.Purpose{
		"coldseal:ca:0123456789abcdef": signer.CA, "coldseal:receiver:0123456789abcdef": signer.Receiver,
		"coldseal:ca:0123": "", "coldseal:ca": "", "coldseal:": "", "": "", "\x01": "", "foreign:ca:0123456789abcdef": "",
	} {
		if got := purposeOf([]byte(id)); got != want {
			t.Errorf("%q is for %q, want %q", id, got, want)
		}
	}
}

func FuzzPoint(f *testing.F) {
	f.Add(paramsP256, append([]byte{4, 65, 4}, make([]byte, 64)...))
	f.Add(paramsEd25519, make([]byte, 32))
	f.Fuzz(func(t *testing.T, params, point []byte) {
		if public, err := ecKey(params, point); err == nil {
			if _, err := x509.MarshalPKIXPublicKey(public); err != nil {
				t.Fatal(err)
			}
		}
		if der, err := ecdsaDER(point); err == nil && len(der) < 8 {
			t.Fatalf("%x", der)
		}
		if text := readable(point, 20); !utf8.ValidString(text) {
			t.Fatalf("%q", text)
		}
	})
}
