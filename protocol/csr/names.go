package csr

import (
	"net/netip"

	"coldseal/protocol/x690"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// Names are the GeneralNames of a subjectAltName (RFC 5280 section 4.2.1.6), each kind in the order asked for. DNS,
// Email and URI are visible ASCII without spaces; whether they are good names is the profile's question.
type Names struct {
	DNS   []string
	Email []string
	IP    []netip.Addr
	URI   []string
	Other [][]byte // whole GeneralName elements, DER: otherName, x400Address, directoryName, ediPartyName, registeredID
}

// IsZero reports whether no names were asked for.
func (n Names) IsZero() bool {
	return len(n.DNS)+len(n.Email)+len(n.IP)+len(n.URI)+len(n.Other) == 0
}

// constructed is the bit of a tag that says so.
const constructed = 0x20

func (n *Names) parse(element cryptobyte.String) *Error {
	list, ok := x690.One(element, tag.SEQUENCE)
	if !ok || list.Empty() {
		return refuse(Form, "subjectAltName without names")
	}
	for !list.Empty() {
		whole, rest := list, list
		var value cryptobyte.String
		var t tag.Tag
		if !rest.ReadAnyASN1(&value, &t) {
			return refuse(Form, "subjectAltName not a list")
		}
		whole, list = whole[:len(whole)-len(rest)], rest
		switch t ^ tag.Tag(0).ContextSpecific() {
		case 1: // rfc822Name
			if !visible(value) {
				return refuse(Form, "e-mail name empty or not visible ASCII")
			}
			n.Email = append(n.Email, string(value))
		case 2: // dNSName
			if !visible(value) {
				return refuse(Form, "DNS name empty or not visible ASCII")
			}
			n.DNS = append(n.DNS, string(value))
		case 6: // uniformResourceIdentifier
			if !visible(value) {
				return refuse(Form, "URI empty or not visible ASCII")
			}
			n.URI = append(n.URI, string(value))
		case 7: // iPAddress
			address, ok := netip.AddrFromSlice(value)
			if !ok {
				return refuse(Form, "subjectAltName with an IP address of %d bytes", len(value))
			}
			n.IP = append(n.IP, address)
		case 8, 0 | constructed, 3 | constructed, 4 | constructed, 5 | constructed:
			n.Other = append(n.Other, whole)
		default:
			return refuse(Form, "subjectAltName with a name of unknown tag %d", t)
		}
	}
	return nil
}

func visible(value []byte) bool {
	for _, c := range value {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return len(value) > 0
}
