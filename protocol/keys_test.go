package protocol_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"testing"

	"coldseal/protocol/cose"
)

// The keys of the vectors. A P-256 or P-384 private key is the SHA-256 or SHA-384 of "coldseal test key " and its name,
// an Ed25519 seed the SHA-256.
var testKeys = []struct{ name, algorithm string }{
	{"log", "Ed25519"}, {"seal", "P-256"}, {"receiver", "P-256"}, {"ca", "Ed25519"},
	{"agent-seal", "P-256"}, {"agent-receiver", "P-256"}, {"station", "P-256"},
	{"approver-p256", "P-256"}, {"approver-p384", "P-384"}, {"approver-ed25519", "Ed25519"},
	{"machine", "Ed25519"}, {"person", "P-256"}, {"new-ca", "Ed25519"}, {"stranger", "P-256"},
}

func testKey(t testing.TB, name string) crypto.Signer {
	t.Helper()
	text := []byte("coldseal test key " + name)
	short, long := sha256.Sum256(text), sha512.Sum384(text)
	for _, k := range testKeys {
		if k.name != name {
			continue
		}
		var key crypto.Signer
		var err error
		switch k.algorithm {
		case "Ed25519":
			key = ed25519.NewKeyFromSeed(short[:])
		case "P-256":
			key, err = ecdsa.ParseRawPrivateKey(elliptic.P256(), short[:])
		case "P-384":
			key, err = ecdsa.ParseRawPrivateKey(elliptic.P384(), long[:])
		}
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	t.Fatalf("no key %q", name)
	return nil
}

func publicKey(t testing.TB, name string) cose.Key {
	t.Helper()
	key, err := cose.NewKey(testKey(t, name).Public())
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func spki(t testing.TB, name string) []byte { return publicKey(t, name).SPKI() }

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	data, err := cose.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func sign(t testing.TB, key, context string, payload []byte) []byte {
	t.Helper()
	message, err := cose.Sign(testKey(t, key), context, payload)
	if err != nil {
		t.Fatal(err)
	}
	return message
}
