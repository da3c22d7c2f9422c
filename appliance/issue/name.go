package issue

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"

	"coldseal/protocol/policy"
)

// valueError is a value that a certificate cannot carry. Values come from requests, so it is a refusal, not a fault.
// Whether values are right is for protocol/policy, which evaluates them; here is only what their encoding can hold.
type valueError struct{ field, reason string }

func (e *valueError) Error() string { return e.field + " " + e.reason }

// attribute is how one type of the subject is encoded.
type attribute struct {
	oid string // contents
	tag tag.Tag
}

// attributeType finds a type by the short name that policies use (RFC 5280 appendix A.1, X.520).
func attributeType(name string) (attribute, bool) {
	switch name {
	case "CN":
		return attribute{"\x55\x04\x03", tag.UTF8String}, true
	case "SN":
		return attribute{"\x55\x04\x04", tag.UTF8String}, true
	case "serialNumber":
		return attribute{"\x55\x04\x05", tag.PrintableString}, true
	case "C":
		return attribute{"\x55\x04\x06", tag.PrintableString}, true
	case "L":
		return attribute{"\x55\x04\x07", tag.UTF8String}, true
	case "ST":
		return attribute{"\x55\x04\x08", tag.UTF8String}, true
	case "O":
		return attribute{"\x55\x04\x0a", tag.UTF8String}, true
	case "OU":
		return attribute{"\x55\x04\x0b", tag.UTF8String}, true
	case "title":
		return attribute{"\x55\x04\x0c", tag.UTF8String}, true
	case "GN":
		return attribute{"\x55\x04\x2a", tag.UTF8String}, true
	case "organizationIdentifier": // ETSI EN 319 412-1 section 5.1.4
		return attribute{"\x55\x04\x61", tag.UTF8String}, true
	case "E": // RFC 2985 section 5.2.1
		return attribute{"\x2a\x86\x48\x86\xf7\x0d\x01\x09\x01", tag.IA5String}, true
	}
	return attribute{}, false
}

// encodeName makes a Name of one attribute in each RDN (RFC 5280 section 4.1.2.6).
func encodeName(subject []policy.Attribute) ([]byte, error) {
	return fragment(func(b *cryptobyte.Builder) { addName(b, subject) })
}

func addName(b *cryptobyte.Builder, subject []policy.Attribute) {
	b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		for i := range subject {
			a, known := attributeType(subject[i].Type)
			if !known {
				b.SetError(fmt.Errorf("subject: no attribute type %q", subject[i].Type))
				return
			}
			b.AddASN1(tag.SET, func(b *cryptobyte.Builder) {
				b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
					addRaw(b, tag.OBJECT_IDENTIFIER, a.oid)
					addString(b, a.tag, a.tag, subject[i].Type, subject[i].Value)
				})
			})
		}
	})
}

// Tags of GeneralName (RFC 5280 section 4.2.1.6).
const (
	tagOtherName = tag.Tag(0xa0)
	tagMail      = tag.Tag(0x81)
	tagDNS       = tag.Tag(0x82)
	tagURI       = tag.Tag(0x86)
	tagIP        = tag.Tag(0x87)
)

// oidUPN is Microsoft's user principal name, 1.3.6.1.4.1.311.20.2.3: log-on with a card looks for it.
const oidUPN = "\x2b\x06\x01\x04\x01\x82\x37\x14\x02\x03"

// addAltNames adds GeneralNames in the order given.
func addAltNames(b *cryptobyte.Builder, names []policy.AltName) {
	b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		for _, n := range names {
			addAltName(b, n)
		}
	})
}

func addAltName(b *cryptobyte.Builder, n policy.AltName) {
	switch n.Type {
	case "dns":
		addString(b, tagDNS, tag.IA5String, n.Type, n.Value)
	case "email":
		addString(b, tagMail, tag.IA5String, n.Type, n.Value)
	case "uri":
		addString(b, tagURI, tag.IA5String, n.Type, n.Value)
	case "ip":
		address, err := netip.ParseAddr(n.Value)
		if err != nil || address.Zone() != "" || address.Is4In6() {
			b.SetError(&valueError{n.Type, "is not an IPv4 or IPv6 address"})
			return
		}
		addRaw(b, tagIP, string(address.AsSlice()))
	case "upn":
		b.AddASN1(tagOtherName, func(b *cryptobyte.Builder) {
			addRaw(b, tag.OBJECT_IDENTIFIER, oidUPN)
			b.AddASN1(tag.Tag(0xa0), func(b *cryptobyte.Builder) { addString(b, tag.UTF8String, tag.UTF8String, n.Type, n.Value) })
		})
	default:
		b.SetError(fmt.Errorf("subjectAltName: no type %q", n.Type))
	}
}

// addString adds a string of the type, under its own tag or an implicit one.
func addString(b *cryptobyte.Builder, t, kind tag.Tag, field, value string) {
	if value == "" || !fits(kind, value) {
		b.SetError(&valueError{field, "is empty or has a character that its encoding has not"})
		return
	}
	addRaw(b, t, value)
}

func addRaw(b *cryptobyte.Builder, t tag.Tag, contents string) {
	b.AddASN1(t, func(b *cryptobyte.Builder) { b.AddBytes([]byte(contents)) })
}

// fits tells whether the string type has all characters of the value; NUL, which cuts names in some software, fits none.
func fits(kind tag.Tag, value string) bool {
	if strings.IndexByte(value, 0) >= 0 {
		return false
	}
	if kind == tag.UTF8String {
		return utf8.ValidString(value)
	}
	for _, c := range []byte(value) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if c >= 0x80 || kind == tag.PrintableString && !letter && strings.IndexByte(" '()+,-./:=?", c) < 0 { // X.680 section 41.4
			return false
		}
	}
	return true
}
