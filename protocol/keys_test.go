package protocol_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"io"
	"math/big"
	"testing"

	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// The primes of the vectors' RSA key.
const (
	testP = "ed3cacf2184eef7d07dc4a99be5de2c9028c74f3ee739bbc2baf9f62895e2f01aa78b7aaba0149465f59ff545a9823c4e6ce770b11d9d2aeff3adec803f29704" +
		"219de39865064d2cc63d5ef6c9ddb53131c16e9687a8d7cc3aedd6ba4d682b2209ddd06bf696a4e9e4dcbf11f05813c3f6ddbfec7578cbf42a72e092c3b64d03"
	testQ = "c91d1df8400f6ce2e431f8ff9cce190eb023009ca8023ab8549416088d00b3615d6df5a5d7575e65dd50b1f324471494489519366d714b949b695eb09905c2db" +
		"389c12979ab83112270524efc73d3564409f6fc0430d77960b321291a18681389670c128fbdb93556e89baba8f234b3ae4eb3c281eb554955e002aa82cb0af09"
)

// saltless is an RSA key whose salts are zeros, so that a vector is the same each time.
type saltless struct{ *rsa.PrivateKey }

func (k saltless) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.PrivateKey.Sign(zeros{}, digest, opts)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func rsaKey(t testing.TB) crypto.Signer {
	t.Helper()
	p, okP := new(big.Int).SetString(testP, 16)
	q, okQ := new(big.Int).SetString(testQ, 16)
	if !okP || !okQ {
		t.Fatal("the primes are no numbers")
	}
	one := big.NewInt(1)
	e, phi := big.NewInt(65537), new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	key := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: 65537}, D: new(big.Int).ModInverse(e, phi), Primes: []*big.Int{p, q}}
	if err := key.Validate(); err != nil {
		t.Fatal(err)
	}
	key.Precompute()
	return saltless{key}
}

// The keys of the vectors. A P-256 or P-384 private key is the SHA-256 or SHA-384 of "coldseal test key " and its name,
// an Ed25519 seed the SHA-256.
var testKeys = []struct{ name, algorithm string }{
	{"log", "Ed25519"}, {"seal", "P-256"}, {"receiver", "P-256"}, {"ca", "Ed25519"},
	{"agent-seal", "P-256"}, {"agent-receiver", "P-256"}, {"station", "P-256"},
	{"approver-p256", "P-256"}, {"approver-p384", "P-384"}, {"approver-ed25519", "Ed25519"}, {"approver-rsa", "RSA"},
	{"machine", "Ed25519"}, {"person", "P-256"}, {"new-ca", "Ed25519"}, {"stranger", "P-256"},
	{"new-log", "Ed25519"}, {"new-seal", "P-384"}, {"new-receiver", "P-256"},
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
		case "RSA":
			key = rsaKey(t)
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

// firstKeys are the appliance's own keys of the genesis vector.
func firstKeys(t testing.TB) *protocol.Keys {
	t.Helper()
	data := load(t, "genesis")
	g, err := protocol.ParseGenesis(data, protocol.DigestOf(data))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := g.Keys(protocol.DigestOf(data))
	if err != nil {
		t.Fatal(err)
	}
	return keys
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

// numberedKey is the SubjectPublicKeyInfo of the n-th of many Ed25519 keys.
func numberedKey(t testing.TB, n int) []byte {
	t.Helper()
	seed := sha256.Sum256([]byte{byte(n), byte(n >> 8)})
	key, err := cose.NewKey(ed25519.NewKeyFromSeed(seed[:]).Public())
	if err != nil {
		t.Fatal(err)
	}
	return key.SPKI()
}
