package csr

import (
	"encoding/asn1"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// maxDepth bounds the recursion into constructed values. A request with a directoryName in its subjectAltName is
// ten deep.
const maxDepth = 16

const (
	classMask   = 0xc0
	constructed = 0x20
)

// wellFormed reports whether s is a run of DER values, all the way down: definite shortest lengths (cryptobyte reads no
// others), one-byte tags, no constructed strings, booleans 00 or ff, shortest integers and OID arcs. With it, a parser
// that reads every field has read the only encoding of what it returns.
func wellFormed(s cryptobyte.String, depth int) bool {
	if depth > maxDepth {
		return false
	}
	for !s.Empty() {
		var body cryptobyte.String
		var t tag.Tag
		if !s.ReadAnyASN1(&body, &t) {
			return false
		}
		isConstructed := t&constructed != 0
		if isConstructed && !wellFormed(body, depth+1) {
			return false
		}
		if t&classMask != 0 {
			continue
		}
		isCollection := t|constructed == tag.SEQUENCE || t|constructed == tag.SET
		if isConstructed != isCollection || !primitiveWellFormed(t, body) {
			return false
		}
	}
	return true
}

func primitiveWellFormed(t tag.Tag, body []byte) bool {
	switch t {
	case 0: // end of contents, of the indefinite form
		return false
	case tag.BOOLEAN:
		return len(body) == 1 && (body[0] == 0 || body[0] == 0xff)
	case tag.INTEGER, tag.ENUM:
		if len(body) > 1 && (body[0] == 0 && body[1] < 0x80 || body[0] == 0xff && body[1] >= 0x80) {
			return false
		}
		return len(body) > 0
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

// one reads s as exactly one element of tag t and returns its contents.
func one(s cryptobyte.String, t tag.Tag) (cryptobyte.String, bool) {
	var body cryptobyte.String
	ok := s.ReadASN1(&body, t) && s.Empty()
	return body, ok
}

// oidText gives the contents of an OBJECT IDENTIFIER in dotted form for a message.
func oidText(contents []byte) string {
	element := append([]byte{byte(tag.OBJECT_IDENTIFIER), byte(len(contents))}, contents...)
	var id asn1.ObjectIdentifier
	s := cryptobyte.String(element)
	if len(contents) >= 0x80 || !s.ReadASN1ObjectIdentifier(&id) {
		return "with arcs too long to show"
	}
	return id.String()
}

// checkSubject walks a Name (RFC 5280 section 4.1.2.4). It keeps nothing: names in certificates come from the approved
// request, the CSR's is only shown.
func checkSubject(element cryptobyte.String) *Error {
	name, ok := one(element, tag.SEQUENCE)
	for ok && !name.Empty() {
		var rdn, previous, attribute cryptobyte.String
		if !name.ReadASN1(&rdn, tag.SET) || rdn.Empty() {
			return refuse(Form, "empty relative distinguished name in the subject")
		}
		for ; !rdn.Empty(); previous = attribute {
			if !rdn.ReadASN1Element(&attribute, tag.SEQUENCE) || string(previous) >= string(attribute) {
				return refuse(Form, "relative distinguished name in the subject not sorted")
			}
			if err := checkSubjectAttribute(attribute); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkSubjectAttribute(element cryptobyte.String) *Error {
	var value cryptobyte.String
	var t tag.Tag
	attribute, ok := one(element, tag.SEQUENCE)
	if !ok || !attribute.SkipASN1(tag.OBJECT_IDENTIFIER) || !attribute.ReadAnyASN1(&value, &t) || !attribute.Empty() {
		return refuse(Form, "subject attribute is not a type with one value")
	}
	if !validString(t, value) {
		return refuse(Form, "subject attribute value of tag %d is not a string we accept", t)
	}
	return nil
}

// tagBMPString is UCS-2, which RFC 5280 allows in old names and Windows still writes for names that aren't Latin.
const tagBMPString = tag.Tag(30)

// validString accepts the string types of RFC 5280's DirectoryString that are still in use, plus IA5String for e-mail
// addresses and domain components, each only with the characters its type has.
func validString(t tag.Tag, value []byte) bool {
	switch t {
	case tag.UTF8String:
		return utf8.Valid(value)
	case tag.PrintableString:
		for _, c := range value {
			if !printable(c) {
				return false
			}
		}
		return true
	case tag.IA5String:
		for _, c := range value {
			if c >= 0x80 {
				return false
			}
		}
		return true
	case tagBMPString:
		for i := 0; i+1 < len(value); i += 2 {
			if value[i] >= 0xd8 && value[i] < 0xe0 { // surrogates have no place in UCS-2
				return false
			}
		}
		return len(value)%2 == 0
	}
	return false
}

func printable(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c >= '\'' && c <= ')', c >= '+' && c <= '/':
		return true
	}
	return c == ' ' || c == ':' || c == '=' || c == '?'
}
