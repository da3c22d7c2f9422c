// Package x690 reads DER (X.690) strictly, for the parsers of certificates, CRLs and certificate requests: whatever has
// another encoding is refused, so that what was parsed is what was hashed.
//
// It is what those parsers share and no more; it knows no certificate. It is pure.
package x690

import (
	"crypto"
	_ "crypto/sha256" // what Digest is asked for
	_ "crypto/sha512"
	"crypto/x509"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// MaxNesting bounds the recursion into constructed values. A certificate with a directoryName in an extension is ten
// deep.
const MaxNesting = 16

// WellFormed reports whether s is a run of DER values, all the way down: shortest definite lengths (cryptobyte reads no
// others), one-octet tags, no constructed strings, booleans 00 or ff, shortest integers and OID arcs. With it, a parser
// that reads every field, and refuses defaults that are written out, has read the only encoding of what it returns.
func WellFormed(s cryptobyte.String) bool { return wellFormed(s, 0) }

func wellFormed(s cryptobyte.String, depth int) bool {
	if depth > MaxNesting {
		return false
	}
	for !s.Empty() {
		var body cryptobyte.String
		var t tag.Tag
		if !s.ReadAnyASN1(&body, &t) {
			return false
		}
		const classes, constructed = 0xc0, 0x20
		isConstructed := t&constructed != 0
		if isConstructed && !wellFormed(body, depth+1) {
			return false
		}
		if t&classes != 0 {
			continue
		}
		isCollection := t|constructed == tag.SEQUENCE || t|constructed == tag.SET
		if isConstructed != isCollection || !PrimitiveWellFormed(t, body) {
			return false
		}
	}
	return true
}

// PrimitiveWellFormed reports whether body is the contents of a primitive value of tag t in DER.
func PrimitiveWellFormed(t tag.Tag, body []byte) bool {
	switch t {
	case 0: // end of contents, of the indefinite form
		return false
	case tag.BOOLEAN:
		return len(body) == 1 && (body[0] == 0 || body[0] == 0xff)
	case tag.INTEGER, tag.ENUM:
		return Shortest(body)
	case tag.NULL:
		return len(body) == 0
	case tag.OBJECT_IDENTIFIER:
		start := true
		for _, b := range body {
			if start && b == 0x80 {
				return false
			}
			start = b < 0x80
		}
		return start && len(body) > 0
	}
	return true
}

// Shortest tells whether these are the contents of an INTEGER in DER.
func Shortest(body []byte) bool {
	if len(body) > 1 && (body[0] == 0 && body[1] < 0x80 || body[0] == 0xff && body[1] >= 0x80) {
		return false
	}
	return len(body) > 0
}

// One reads s as exactly one element of tag t and returns its contents.
func One(s cryptobyte.String, t tag.Tag) (cryptobyte.String, bool) {
	var body cryptobyte.String
	ok := s.ReadASN1(&body, t) && s.Empty()
	return body, ok
}

// OID gives the contents of an OBJECT IDENTIFIER in dotted form, for words.
func OID(contents []byte) string {
	var oid x509.OID
	if err := oid.UnmarshalBinary(contents); err != nil || len(contents) > 40 {
		return "too long to show"
	}
	return oid.String()
}

// Digest hashes a message with SHA-256, SHA-384 or SHA-512; to ask for another one is a mistake of the caller.
func Digest(hash crypto.Hash, message []byte) []byte {
	h := hash.New()
	h.Write(message)
	return h.Sum(nil)
}
