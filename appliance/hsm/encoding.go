//go:build cgo

package hsm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"unicode"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"coldseal/appliance/signer"
)

// What tokens say of public keys, and how they want to be asked. No token is needed here.

// CKA_EC_PARAMS of the curves: the DER of their object identifiers (RFC 5480 section 2.1.1.1; RFC 8410 section 3), and
// the name that PKCS#11 before 3.0 has for Ed25519, a PrintableString, which SoftHSM takes alone.
var (
	paramsP256    = []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}
	paramsP384    = []byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22}
	paramsEd25519 = append([]byte{0x13, 0x0c}, "edwards25519"...)
	oidEd25519    = []byte{0x06, 0x03, 0x2b, 0x65, 0x70}
)

// ecKey makes a public key of CKA_EC_PARAMS and CKA_EC_POINT. The point is in an OCTET STRING, as the standard says, or
// bare, as some tokens have it.
func ecKey(params, point []byte) (crypto.PublicKey, error) {
	var curve elliptic.Curve
	size := 0
	switch {
	case bytes.Equal(params, paramsP256):
		curve, size = elliptic.P256(), 65
	case bytes.Equal(params, paramsP384):
		curve, size = elliptic.P384(), 97
	case bytes.Equal(params, paramsEd25519), bytes.Equal(params, oidEd25519):
		size = ed25519.PublicKeySize
	default:
		return nil, fmt.Errorf("curve %x is none of ours", params[:min(len(params), 32)])
	}
	bare := point
	if len(point) != size {
		wrapped := cryptobyte.String(point)
		var inner cryptobyte.String
		if !wrapped.ReadASN1(&inner, cbasn1.OCTET_STRING) || !wrapped.Empty() || len(inner) != size {
			return nil, fmt.Errorf("a point of %d bytes", len(point))
		}
		bare = inner
	}
	if curve == nil {
		return ed25519.PublicKey(bytes.Clone(bare)), nil
	}
	return ecdsa.ParseUncompressedPublicKey(curve, bare)
}

// rsaKey makes a public key of CKA_MODULUS and CKA_PUBLIC_EXPONENT.
func rsaKey(modulus, exponent []byte) (crypto.PublicKey, error) {
	e := new(big.Int).SetBytes(exponent)
	if e.BitLen() > 31 || e.Sign() == 0 {
		return nil, errors.New("an exponent of more than 31 bits, or none")
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: int(e.Int64())}, nil
}

// ecdsaDER makes of r‖s, as tokens give it, the ASN.1 of X.509 (RFC 3279 section 2.2.3).
func ecdsaDER(signature []byte) ([]byte, error) {
	if len(signature) == 0 || len(signature)%2 != 0 {
		return nil, fmt.Errorf("an ECDSA signature of %d bytes", len(signature))
	}
	half := len(signature) / 2
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:])})
}

// digestInfo is what PKCS #1 version 1.5 signs (RFC 8017 section 9.2, note 1).
func digestInfo(hash crypto.Hash, digest []byte) ([]byte, error) {
	algorithm := map[crypto.Hash]byte{crypto.SHA256: 1, crypto.SHA384: 2, crypto.SHA512: 3}[hash]
	if algorithm == 0 || len(digest) != hash.Size() {
		return nil, fmt.Errorf("no DigestInfo of hash %d over %d bytes", hash, len(digest))
	}
	n := byte(len(digest))
	return append([]byte{0x30, 17 + n, 0x30, 13, 0x06, 9, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, algorithm, 0x05, 0, 0x04, n}, digest...), nil
}

// mark begins the CKA_ID of our keys: mark, purpose, colon, eight random bytes in hexadecimal.
const mark = "coldseal:"

// purposeOf reads the purpose of a key from its CKA_ID; empty if it is not one of ours.
func purposeOf(id []byte) signer.Purpose {
	rest, ours := strings.CutPrefix(string(id), mark)
	purpose, random, found := strings.Cut(rest, ":")
	if !ours || !found || len(random) != 16 {
		return ""
	}
	return signer.Purpose(purpose)
}

// readable is text of a token that may be shown: the first limit bytes, what can't be printed replaced.
func readable(text []byte, limit int) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(string(text[:min(len(text), limit)]), "?"))
}
