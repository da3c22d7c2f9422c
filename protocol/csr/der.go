package csr

import (
	"unicode/utf8"

	"coldseal/protocol/x690"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// checkSubject walks a Name (RFC 5280 section 4.1.2.4). It keeps nothing: names in certificates come from the approved
// request, the CSR's is only shown.
func checkSubject(element cryptobyte.String) *Error {
	name, ok := x690.One(element, tag.SEQUENCE)
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
	attribute, ok := x690.One(element, tag.SEQUENCE)
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
