package policy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"testing"

	"encoding/asn1"
)

// TestNamesOf reads back what a certificate was given, and refuses names that no profile asks for.
func TestNamesOf(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	name := func(oid asn1.ObjectIdentifier, value any) pkix.AttributeTypeAndValue {
		return pkix.AttributeTypeAndValue{Type: oid, Value: value}
	}
	upn := []byte("\x30\x1b\xa0\x19\x06\x0a\x2b\x06\x01\x04\x01\x82\x37\x14\x02\x03\xa0\x0b\x0c\x09a@example")
	san := asn1.ObjectIdentifier{2, 5, 29, 17}
	for _, test := range []struct {
		name     string
		template x509.Certificate
		want     string
	}{
		{"subject", x509.Certificate{Subject: pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{
			name(asn1.ObjectIdentifier{2, 5, 4, 6}, "GR"), name(asn1.ObjectIdentifier{2, 5, 4, 4}, "Ωραία"), name(asn1.ObjectIdentifier{2, 5, 4, 97}, "VATGR-1"),
			name(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, "a@b.example"), name(asn1.ObjectIdentifier{2, 5, 4, 17}, "10431")}}},
			"[{{} C GR} {{} SN Ωραία} {{} organizationIdentifier VATGR-1} {{} E a@b.example} {{} 2.5.4.17 10431}] []"},
		{"names", x509.Certificate{Subject: pkix.Name{CommonName: "x"}, DNSNames: []string{"b.example", "a.example"}, EmailAddresses: []string{"a@b.example"},
			IPAddresses: []net.IP{{192, 0, 2, 1}}, URIs: []*url.URL{{Scheme: "urn", Opaque: "x"}}},
			"[{{} CN x}] [{{} dns b.example false} {{} dns a.example false} {{} email a@b.example false} {{} ip 192.0.2.1 false} {{} uri urn:x false}]"},
		{"upn", x509.Certificate{Subject: pkix.Name{CommonName: "x"}, ExtraExtensions: []pkix.Extension{{Id: san, Value: upn}}}, "[{{} CN x}] [{{} upn a@example false}]"},
		{"registered id", x509.Certificate{ExtraExtensions: []pkix.Extension{{Id: san, Value: []byte{0x30, 0x03, 0x88, 0x01, 0x2a}}}}, ""},
		{"other name", x509.Certificate{ExtraExtensions: []pkix.Extension{{Id: san, Value: []byte("\x30\x0a\xa0\x08\x06\x01\x2a\xa0\x03\x0c\x01a")}}}, ""},
	} {
		test.template.SerialNumber = big.NewInt(1)
		der, err := x509.CreateCertificate(rand.Reader, &test.template, &test.template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		names, ok := NamesOf(c)
		if got := fmt.Sprint(names.Subject, names.Alt); ok != (test.want != "") || ok && got != test.want {
			t.Errorf("%s: %s, %v", test.name, got, ok)
		}
	}
}

func FuzzAltNames(f *testing.F) {
	f.Add([]byte{0x30, 0x03, 0x82, 0x01, 'a'})
	f.Add([]byte{0x30, 0x00})
	f.Fuzz(func(t *testing.T, data []byte) {
		altNames(data)
	})
}
