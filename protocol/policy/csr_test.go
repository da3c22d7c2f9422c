package policy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"

	"coldseal/protocol"
)

func TestExtras(t *testing.T) {
	c, err := Compile(libraryPolicy(t))
	if err != nil {
		t.Fatal(err)
	}
	strict, _ := c.Profile("gr-public-servant") // digitalSignature and nonRepudiation, an e-mail address
	drops, _ := c.Profile("it-server")
	names := Names{Alt: []AltName{{Type: "email", Value: "a@b.example"}}}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	usage := func(value ...byte) []pkix.Extension {
		return []pkix.Extension{{Id: oidKeyUsage, Critical: true, Value: value}}
	}
	for name, c := range map[string]struct {
		csr     x509.CertificateRequest
		refused bool
	}{
		"nothing":              {x509.CertificateRequest{}, false},
		"its own address":      {x509.CertificateRequest{EmailAddresses: []string{"a@b.example"}}, false},
		"another address":      {x509.CertificateRequest{EmailAddresses: []string{"x@b.example"}}, true},
		"a host":               {x509.CertificateRequest{DNSNames: []string{"b.example"}}, true},
		"signatures":           {x509.CertificateRequest{ExtraExtensions: usage(3, 2, 7, 0x80)}, false},
		"both its usages":      {x509.CertificateRequest{ExtraExtensions: usage(3, 2, 6, 0xc0)}, false},
		"encipherment":         {x509.CertificateRequest{ExtraExtensions: usage(3, 2, 5, 0x20)}, true},
		"signing certificates": {x509.CertificateRequest{ExtraExtensions: usage(3, 2, 2, 0x84)}, true},
		"usage that is none":   {x509.CertificateRequest{ExtraExtensions: usage(5, 0)}, true},
		"not to be a CA":       {x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: oidBasicConstraints, Value: []byte{0x30, 0}}}}, false},
		"to be a CA":           {x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: oidBasicConstraints, Value: []byte{0x30, 3, 1, 1, 0xff}}}}, true},
		"something unknown":    {x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 999, 7}, Value: []byte{5, 0}}}}, true},
	} {
		der, err := x509.CreateCertificateRequest(rand.Reader, &c.csr, key)
		if err != nil {
			t.Fatal(err)
		}
		r, refusal := strict.CheckCSR(der)
		if refusal != nil {
			t.Fatalf("%s: %s", name, refusal.Words())
		}
		refusal = strict.Extras(r, names)
		if (refusal != nil) != c.refused || refusal != nil && refusal.Code != protocol.CodeCSRExtra {
			t.Errorf("%s: %v", name, refusal)
		}
		if refusal := drops.Extras(r, names); refusal != nil {
			t.Errorf("%s: a profile that drops extras refuses: %s", name, refusal.Words())
		}
	}
}

func TestCheckCSRRefuses(t *testing.T) {
	c, err := Compile(libraryPolicy(t))
	if err != nil {
		t.Fatal(err)
	}
	p, _ := c.Profile("approver") // no RSA
	for _, test := range []struct {
		curve elliptic.Curve
		want  protocol.Code
	}{{elliptic.P256(), ""}, {elliptic.P521(), protocol.CodeKeyType}} {
		key, err := ecdsa.GenerateKey(test.curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			t.Fatal(err)
		}
		if _, refusal := p.CheckCSR(der); (refusal == nil) != (test.want == "") || refusal != nil && refusal.Code != test.want {
			t.Errorf("%s: %v", test.curve.Params().Name, refusal)
		}
		if _, refusal := p.CheckCSR(append(der, 0)); refusal == nil || refusal.Code != protocol.CodeBadCSR && test.want == "" {
			t.Errorf("%s with a byte behind it: %v", test.curve.Params().Name, refusal)
		}
	}
}

func TestAllowsOrigin(t *testing.T) {
	c, err := Compile(libraryPolicy(t))
	if err != nil {
		t.Fatal(err)
	}
	machine, _ := c.Profile("it-workstation")
	person, _ := c.Profile("gr-public-servant")
	for _, test := range []struct {
		profile *CompiledProfile
		origin  protocol.Origin
		kind    protocol.Kind
		allowed bool
	}{
		{machine, protocol.OriginAgent, protocol.KindIssue, true},
		{machine, protocol.OriginCurrent, protocol.KindRenew, true},
		{machine, protocol.OriginCurrent, protocol.KindIssue, false},
		{machine, protocol.OriginAttested, protocol.KindIssue, false},
		{person, protocol.OriginHolder, protocol.KindIssue, true},
		{person, protocol.OriginAgent, protocol.KindIssue, false},
	} {
		if refusal := test.profile.AllowsOrigin(test.origin, test.kind); (refusal == nil) != test.allowed {
			t.Errorf("%s, %s, %s: %v", test.profile.Name, test.origin, test.kind, refusal)
		}
	}
}
