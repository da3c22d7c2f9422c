package csr

import (
	"crypto/x509/pkix"
	"encoding/asn1"

	"coldseal/protocol/x690"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// maxExtensions bounds the comparison of every extension with every other. Requests ask for five.
const maxExtensions = 32

// Contents of attribute OIDs.
const (
	oidExtensionRequest = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x0e" // 1.2.840.113549.1.9.14, RFC 2985 section 5.4.2

	// Known and left alone: they ask nothing of us. A challenge password is a secret between a holder and an enrolment
	// protocol we don't speak; openssl's stock configuration offers both of the first two.
	oidChallengePassword = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x07"     // 1.2.840.113549.1.9.7
	oidUnstructuredName  = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x02"     // 1.2.840.113549.1.9.2
	oidWindowsVersion    = "\x2b\x06\x01\x04\x01\x82\x37\x0d\x02\x03" // 1.3.6.1.4.1.311.13.2.3, written by every certreq
	oidWindowsClient     = "\x2b\x06\x01\x04\x01\x82\x37\x15\x14"     // 1.3.6.1.4.1.311.21.20
	oidWindowsProvider   = "\x2b\x06\x01\x04\x01\x82\x37\x0d\x02\x02" // 1.3.6.1.4.1.311.13.2.2
)

// parseAttributes reads the contents of the attributes field: a SET OF, so sorted, each attribute once with one value.
func (r *Request) parseAttributes(set cryptobyte.String) *Error {
	var previous cryptobyte.String
	var seen []string
	for !set.Empty() {
		var element, attribute, oid, values, value cryptobyte.String
		var t tag.Tag
		if !set.ReadASN1Element(&element, tag.SEQUENCE) || string(previous) >= string(element) {
			return refuse(Form, "attributes not a sorted set")
		}
		previous = element
		if !element.ReadASN1(&attribute, tag.SEQUENCE) || !attribute.ReadASN1(&oid, tag.OBJECT_IDENTIFIER) ||
			!attribute.ReadASN1(&values, tag.SET) || !attribute.Empty() ||
			!values.ReadAnyASN1Element(&value, &t) || !values.Empty() {
			return refuse(Form, "attribute is not a type with a set of one value")
		}
		// Only the six known ones get this far without an error, so seen stays short.
		for _, s := range seen {
			if s == string(oid) {
				return refuse(Form, "attribute %s given twice", x690.OID(oid))
			}
		}
		seen = append(seen, string(oid))
		switch string(oid) {
		case oidExtensionRequest:
			if err := r.parseExtensions(value); err != nil {
				return err
			}
		case oidChallengePassword, oidUnstructuredName, oidWindowsVersion, oidWindowsClient, oidWindowsProvider:
		default:
			return refuse(Form, "attribute %s is not one we know", x690.OID(oid))
		}
	}
	return nil
}

// parseExtensions reads Extensions (RFC 5280 section 4.1): each once, a DEFAULT never written out, each value DER.
func (r *Request) parseExtensions(element cryptobyte.String) *Error {
	list, ok := x690.One(element, tag.SEQUENCE)
	if !ok || list.Empty() {
		return refuse(Form, "extension request without extensions")
	}
	for !list.Empty() {
		var extension, value cryptobyte.String
		var id asn1.ObjectIdentifier
		var critical bool
		if !list.ReadASN1(&extension, tag.SEQUENCE) || !extension.ReadASN1ObjectIdentifier(&id) {
			return refuse(Form, "extension without a type")
		}
		if extension.PeekASN1Tag(tag.BOOLEAN) && (!extension.ReadASN1Boolean(&critical) || !critical) {
			return refuse(Form, "extension %s has critical FALSE written out", id)
		}
		if !extension.ReadASN1(&value, tag.OCTET_STRING) || !extension.Empty() {
			return refuse(Form, "extension %s has no single value", id)
		}
		rest := value
		if !x690.WellFormed(value) || !rest.ReadAnyASN1(new(cryptobyte.String), new(tag.Tag)) || !rest.Empty() {
			return refuse(Form, "value of extension %s is not one DER value", id)
		}
		if len(r.Extensions) == maxExtensions {
			return refuse(Form, "more than %d extensions", maxExtensions)
		}
		for _, other := range r.Extensions {
			if other.Id.Equal(id) {
				return refuse(Form, "extension %s given twice", id)
			}
		}
		r.Extensions = append(r.Extensions, pkix.Extension{Id: id, Critical: critical, Value: value})
		if id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
			if err := r.Names.parse(value); err != nil {
				return err
			}
		}
	}
	return nil
}
