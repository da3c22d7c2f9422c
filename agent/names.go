package agent

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"hash"
	"net/netip"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"

	"coldseal/protocol"
	"coldseal/protocol/policy"
)

// Names are compared by a digest over their types and values, so that what was asked stays known when the policy has
// changed, and an import needs no templates. String types are left out: they are the appliance's choice.

type namesHash struct{ h hash.Hash }

func newNamesHash() namesHash { return namesHash{sha256.New()} }

func (n namesHash) add(kind, value string) {
	var length [4]byte
	for _, text := range [...]string{kind, value} {
		binary.BigEndian.PutUint32(length[:], uint32(len(text)))
		n.h.Write(length[:])
		n.h.Write([]byte(text))
	}
}

func (n namesHash) sum() protocol.Digest { return protocol.Digest(n.h.Sum(nil)) }

func namesDigest(names policy.Names) protocol.Digest {
	n := newNamesHash()
	for _, a := range names.Subject {
		n.add(a.Type, a.Value)
	}
	for _, a := range names.Alt {
		n.add("alt "+a.Type, a.Value)
	}
	return n.sum()
}

// attributeName is the inverse of how policies name attribute types.
func attributeName(oid asn1.ObjectIdentifier) string {
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

// certificateNames is namesDigest of what a certificate says. A name that no policy could have asked for makes it differ
// from whatever was asked.
func certificateNames(cert *x509.Certificate) protocol.Digest {
	n := newNamesHash()
	for _, a := range cert.Subject.Names {
		value, ok := a.Value.(string)
		if !ok {
			return protocol.Digest{}
		}
		n.add(attributeName(a.Type), value)
	}
	for i := range cert.Extensions {
		e := &cert.Extensions[i]
		if len(e.Id) == 4 && e.Id[3] == 17 && e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
			if !addAltNames(n, e.Value) {
				return protocol.Digest{}
			}
		}
	}
	return n.sum()
}

// addAltNames reads GeneralNames (RFC 5280 section 4.2.1.6) in their order, which x509.Certificate does not keep.
func addAltNames(n namesHash, der []byte) bool {
	input := cryptobyte.String(der)
	var list cryptobyte.String
	if !input.ReadASN1(&list, tag.SEQUENCE) || !input.Empty() {
		return false
	}
	for !list.Empty() {
		var value cryptobyte.String
		var t tag.Tag
		if !list.ReadAnyASN1(&value, &t) {
			return false
		}
		switch t {
		case tag.Tag(0).ContextSpecific().Constructed():
			upn, ok := readUPN(value)
			if !ok {
				return false
			}
			n.add("alt upn", upn)
		case tag.Tag(1).ContextSpecific():
			n.add("alt email", string(value))
		case tag.Tag(2).ContextSpecific():
			n.add("alt dns", string(value))
		case tag.Tag(6).ContextSpecific():
			n.add("alt uri", string(value))
		case tag.Tag(7).ContextSpecific():
			ip, ok := netip.AddrFromSlice(value)
			if !ok {
				return false
			}
			n.add("alt ip", ip.String())
		default:
			return false
		}
	}
	return true
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
