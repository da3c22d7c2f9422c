package issue

import (
	"crypto/sha256"
	"errors"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// Contents of public key OIDs: RFC 3279 section 2.3.1, RFC 5480 section 2.1, RFC 8410 section 3.
const (
	oidRSA     = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01"
	oidEC      = "\x2a\x86\x48\xce\x3d\x02\x01"
	oidEd25519 = "\x2b\x65\x70"
)

// keyKind decides which usages a key can have.
type keyKind int

const (
	keyRSA keyKind = iota
	keyEC
	keyEd25519
	keyKinds // how many
)

// key is what a certificate says of its own key besides the key itself.
type key struct {
	kind keyKind
	id   [20]byte // subject key identifier
}

// parseKey reads a SubjectPublicKeyInfo as far as a certificate needs it; that the key is good is protocol/csr's to know.
//
// The identifier is that of RFC 7093 section 2 method 1, the leftmost 160 bits of the SHA-256 of the key's bits: as long
// as the SHA-1 that RFC 5280 section 4.2.1.2 suggests, so that every validator takes it, and what Go makes too. Nobody
// computes an identifier to compare it, but a fresh use of SHA-1 would have to be explained to each auditor.
func parseKey(spki []byte) (key, error) {
	var info, algorithm, oid cryptobyte.String
	var bits []byte
	s := cryptobyte.String(spki)
	if !s.ReadASN1(&info, tag.SEQUENCE) || !s.Empty() || !info.ReadASN1(&algorithm, tag.SEQUENCE) ||
		!algorithm.ReadASN1(&oid, tag.OBJECT_IDENTIFIER) || !info.ReadASN1BitStringAsBytes(&bits) || !info.Empty() {
		return key{}, errors.New("not one SubjectPublicKeyInfo")
	}
	var k key
	switch string(oid) {
	case oidRSA:
		k.kind = keyRSA
	case oidEC:
		k.kind = keyEC
	case oidEd25519:
		k.kind = keyEd25519
	default:
		return key{}, errors.New("the SubjectPublicKeyInfo is of no known algorithm")
	}
	digest := sha256.Sum256(bits)
	copy(k.id[:], digest[:])
	return k, nil
}
