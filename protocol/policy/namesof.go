package policy

import (
	"crypto/x509"
	"encoding/asn1"
	"net/netip"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// NamesOf reads what a certificate says of its holder: what CompiledProfile.Names gave when it was made, the uniqueness
// key apart, which no certificate holds. It is false for one with a name that no profile could have asked for.
func NamesOf(c *x509.Certificate) (Names, bool) {
	n := Names{Subject: make([]Attribute, 0, len(c.Subject.Names))}
	for _, a := range c.Subject.Names {
		value, ok := a.Value.(string)
		if !ok {
			return Names{}, false
		}
		n.Subject = append(n.Subject, Attribute{Type: attributeType(a.Type), Value: value})
	}
	for i := range c.Extensions {
		e := &c.Extensions[i]
		if len(e.Id) == 4 && e.Id[3] == 17 && e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
			var ok bool
			if n.Alt, ok = altNames(e.Value); !ok {
				return Names{}, false
			}
		}
	}
	return n, true
}

// attributeType is how profiles name a type of attributes; one that they don't name is its object identifier.
func attributeType(oid asn1.ObjectIdentifier) string {
	if len(oid) == 4 && oid[0] == 2 && oid[1] == 5 && oid[2] == 4 {
		switch oid[3] {
		case 3:
			return "CN"
		case 4:
			return "SN"
		case 5:
			return "serialNumber"
		case 6:
			return "C"
		case 7:
			return "L"
		case 8:
			return "ST"
		case 10:
			return "O"
		case 11:
			return "OU"
		case 12:
			return "title"
		case 42:
			return "GN"
		case 97:
			return "organizationIdentifier"
		}
	}
	if oid.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}) {
		return "E"
	}
	return oid.String()
}

// altNames reads GeneralNames (RFC 5280 section 4.2.1.6) in their order, which x509.Certificate does not keep.
func altNames(der []byte) (names []AltName, ok bool) {
	input := cryptobyte.String(der)
	var list cryptobyte.String
	if !input.ReadASN1(&list, tag.SEQUENCE) || !input.Empty() {
		return nil, false
	}
	for !list.Empty() {
		var value cryptobyte.String
		var t tag.Tag
		if !list.ReadAnyASN1(&value, &t) {
			return nil, false
		}
		name := AltName{Value: string(value)}
		switch t {
		case tag.Tag(0).ContextSpecific().Constructed():
			name.Type = "upn"
			if name.Value, ok = readUPN(value); !ok {
				return nil, false
			}
		case tag.Tag(1).ContextSpecific():
			name.Type = "email"
		case tag.Tag(2).ContextSpecific():
			name.Type = "dns"
		case tag.Tag(6).ContextSpecific():
			name.Type = "uri"
		case tag.Tag(7).ContextSpecific():
			ip, isIP := netip.AddrFromSlice(value)
			if !isIP {
				return nil, false
			}
			name.Type, name.Value = "ip", ip.String()
		default:
			return nil, false
		}
		names = append(names, name)
	}
	return names, true
}

// readUPN reads an otherName that is a user principal name, 1.3.6.1.4.1.311.20.2.3.
func readUPN(other cryptobyte.String) (string, bool) {
	var oid asn1.ObjectIdentifier
	var inner, value cryptobyte.String
	ok := other.ReadASN1ObjectIdentifier(&oid) && oid.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}) &&
		other.ReadASN1(&inner, tag.Tag(0).ContextSpecific().Constructed()) && other.Empty() &&
		inner.ReadASN1(&value, tag.UTF8String) && inner.Empty()
	return string(value), ok
}
