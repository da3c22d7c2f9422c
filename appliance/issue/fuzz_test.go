package issue

import (
	"crypto/x509"
	"testing"
)

// FuzzTBS: whatever the values and the key, they are refused or read back as they were given.
func FuzzTBS(f *testing.F) {
	h := newHierarchy(f, testKeys(f), "Ed25519")
	good := spkiOf(f, testKeys(f)["subject-P-256"])
	s := samples()[0]
	shape, err := NewShape(h.issuing, &s.profile, 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("Δήμος", "VATEL-1", "a@a.example", "a@a", "192.0.2.1", good, []byte{1}, int64(0), int64(1))
	f.Add("\xff", "_", "\x00", "", "::ffff:1.2.3.4", []byte{0x30}, []byte{0x80}, int64(-1), int64(1)<<62)
	f.Fuzz(func(t *testing.T, o, serialNumber, mail, upn, ip string, spki, serial []byte, after, term int64) {
		c := Certificate{Serial: serial, SPKI: spki, NotBefore: h.issuing.NotBefore + after, NotAfter: h.issuing.NotBefore + after + term,
			Subject: attributes("O", o, "serialNumber", serialNumber, "E", mail), AltNames: altNames("email", mail, "upn", upn, "ip", ip)}
		tbs, refusal, err := shape.TBS(c)
		if refusal != nil || err != nil {
			if tbs != nil || refusal != nil && err != nil {
				t.Fatal("refused, and yet an answer or a fault")
			}
			return
		}
		certificate, err := x509.ParseCertificate(sign(t, h.issuing, h.signer, tbs))
		if err != nil {
			if _, keyErr := x509.ParsePKIXPublicKey(spki); keyErr != nil {
				return // that the key is good is protocol/csr's to know
			}
			t.Fatal(err)
		}
		for i, n := range certificate.Subject.Names {
			if n.Value != c.Subject[i].Value {
				t.Errorf("%q came back as %q", c.Subject[i].Value, n.Value)
			}
		}
		if certificate.NotBefore.Unix() != c.NotBefore || certificate.NotAfter.Unix() != c.NotAfter || certificate.EmailAddresses[0] != mail {
			t.Errorf("came back as %s to %s, %v", certificate.NotBefore, certificate.NotAfter, certificate.EmailAddresses)
		}
	})
}
