package issue

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"coldseal/protocol"
	"coldseal/protocol/policy"
)

var update = flag.Bool("update", false, "write testdata anew")

func golden(t *testing.T, name string, der []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, der, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(der, want) {
		t.Errorf("%s changed: now\n%x", name, der)
	}
}

// TestGolden keeps every certificate and CRL as it is, byte for byte.
func TestGolden(t *testing.T) {
	keys := testKeys(t)
	for _, kind := range caTypes {
		h := newHierarchy(t, keys, kind)
		golden(t, "root-"+kind+".cer", h.rootDER)
		golden(t, "issuing-"+kind+".cer", h.issuingDER)
	}
	h := newHierarchy(t, keys, "P-256")
	for i, s := range samples() {
		golden(t, s.profile.Name+".cer", h.issue(t, h.issuing, h.signer, &s.profile, s.of(spkiOf(t, keys["subject-P-256"]), byte(i))))
	}
	golden(t, "issuing-P-256.crl", h.crl(t, "issuing", now, crlSample()))
}

// TestContents reads the certificates back by a parser that isn't ours.
func TestContents(t *testing.T) {
	keys := testKeys(t)
	h := newHierarchy(t, keys, "P-384")
	parsed := map[string]*x509.Certificate{}
	for i, s := range samples() {
		c, err := x509.ParseCertificate(h.issue(t, h.issuing, h.signer, &s.profile, s.of(spkiOf(t, keys["subject-RSA-3072"]), byte(i))))
		if err != nil {
			t.Fatal(err)
		}
		parsed[s.profile.Name] = c
		if c.NotBefore.Unix() != at(s.from) || c.NotAfter.Unix() != at(s.to) {
			t.Errorf("%s: from %s to %s", s.profile.Name, c.NotBefore, c.NotAfter)
		}
		if c.BasicConstraintsValid || c.IsCA || !bytes.Equal(c.AuthorityKeyId, h.issuing.SubjectKeyID) || len(c.SubjectKeyId) != 20 || !bytes.Equal(c.RawIssuer, h.issuing.SubjectRaw) {
			t.Errorf("%s: CA %v, issuer or key identifiers are wrong", s.profile.Name, c.IsCA)
		}
		scope, found, err := protocol.ScopeOf(c)
		if err != nil || found != (s.profile.Use == policy.UseApprover) || !reflect.DeepEqual(scope, s.scope) {
			t.Errorf("%s: scope %v, %v, %v", s.profile.Name, scope, found, err)
		}
	}
	servant := parsed["gr-servant"]
	for _, der := range []string{"13024752", "130f54494e454c2d303030313233343534", "1623672e7061", "0c10" + hex.EncodeToString([]byte("Γεώργιος"))} {
		if !strings.Contains(hex.EncodeToString(servant.RawSubject), der) {
			t.Errorf("gr-servant: the subject has no value %s: %x", der, servant.RawSubject)
		}
	}
	for i, n := range servant.Subject.Names {
		if want := samples()[2].subject[i].Value; n.Value != want {
			t.Errorf("gr-servant: attribute %d is %v, want %s", i, n.Value, want)
		}
	}
	if servant.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment || len(servant.PolicyIdentifiers)+len(servant.Policies) < 2 {
		t.Errorf("gr-servant: usage %x, policies %v", servant.KeyUsage, servant.Policies)
	}
	if len(servant.UnknownExtKeyUsage) != 1 || !reflect.DeepEqual(servant.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageEmailProtection}) {
		t.Errorf("gr-servant: purposes %v and %v", servant.ExtKeyUsage, servant.UnknownExtKeyUsage)
	}
	server := parsed["it-server"]
	if !reflect.DeepEqual(server.DNSNames, []string{"anpr.comune.example", "*.comune.example"}) || len(server.IPAddresses) != 2 ||
		server.IPAddresses[0].String() != "192.0.2.7" || server.IPAddresses[1].String() != "2001:db8::7" || len(server.URIs) != 1 || server.URIs[0].String() != "urn:example:058091" {
		t.Errorf("it-server: %v %v %v", server.DNSNames, server.IPAddresses, server.URIs)
	}
	if !reflect.DeepEqual(server.CRLDistributionPoints, []string{"http://pki.example/issuing.crl"}) ||
		!reflect.DeepEqual(server.IssuingCertificateURL, []string{"http://pki.example/issuing.cer"}) || !reflect.DeepEqual(server.OCSPServer, []string{ocspURL}) {
		t.Errorf("it-server: %v %v %v", server.CRLDistributionPoints, server.IssuingCertificateURL, server.OCSPServer)
	}
	if ocsp := parsed["ocsp"]; !hasExtension(ocsp, "1.3.6.1.5.5.7.48.1.5", "0500", false) || len(ocsp.CRLDistributionPoints) != 0 {
		t.Error("ocsp: no id-pkix-ocsp-nocheck, or a CRL distribution point")
	}
	bare := parsed["vn-server"]
	if !hasExtension(bare, "2.5.29.17", "3014821264696368767563"+"6f6e672e6578616d706c65", true) || len(bare.Subject.Names) != 0 {
		t.Errorf("vn-server: without a subject its names are not critical: %v", bare.Extensions)
	}
	if parsed["ua-person"].KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment {
		t.Errorf("ua-person: an RSA key has usage %x", parsed["ua-person"].KeyUsage)
	}
	root, err := x509.ParseCertificate(h.rootDER)
	if err != nil {
		t.Fatal(err)
	}
	issuing, err := x509.ParseCertificate(h.issuingDER)
	if err != nil {
		t.Fatal(err)
	}
	if !root.IsCA || root.MaxPathLen != -1 || !bytes.Equal(root.SubjectKeyId, root.AuthorityKeyId) || root.CheckSignatureFrom(root) != nil {
		t.Errorf("root: CA %v, path length %d", root.IsCA, root.MaxPathLen)
	}
	if !issuing.IsCA || !issuing.MaxPathLenZero || issuing.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign || issuing.CheckSignatureFrom(root) != nil {
		t.Errorf("issuing: CA %v, path length %d, usage %x", issuing.IsCA, issuing.MaxPathLen, issuing.KeyUsage)
	}
	if h.root.PathLen != -1 || h.issuing.PathLen != 0 {
		t.Errorf("path lengths %d and %d read back", h.root.PathLen, h.issuing.PathLen)
	}
}

func hasExtension(c *x509.Certificate, oid, value string, critical bool) bool {
	for _, e := range c.Extensions {
		if e.Id.String() == oid {
			return hex.EncodeToString(e.Value) == value && e.Critical == critical
		}
	}
	return false
}

// TestOIDs encodes arcs of any size, which encoding/asn1 does not.
func TestOIDs(t *testing.T) {
	for text, want := range map[string]string{
		protocol.ScopeOID:         "883701",
		"1.3.6.1.5.5.7.48.1.5":    hex.EncodeToString([]byte(oidOCSPNoCheck)),
		"1.3.6.1.4.1.311.20.2.3":  hex.EncodeToString([]byte(oidUPN)),
		"2.25.340282366920938463": "6984dcbba0a89d9ba75f",
	} {
		if got, err := dottedOID(text); err != nil || hex.EncodeToString([]byte(got)) != want {
			t.Errorf("%s: %x, %v", text, got, err)
		}
	}
	for name, dotted := range map[string]string{"serverAuth": "1.3.6.1.5.5.7.3.1", "clientAuth": "1.3.6.1.5.5.7.3.2", "codeSigning": "1.3.6.1.5.5.7.3.3",
		"emailProtection": "1.3.6.1.5.5.7.3.4", "timeStamping": "1.3.6.1.5.5.7.3.8", "OCSPSigning": "1.3.6.1.5.5.7.3.9",
		"documentSigning": "1.3.6.1.5.5.7.3.36", "smartcardLogon": "1.3.6.1.4.1.311.20.2.2"} {
		a, err := extUsageOID(name)
		if err != nil {
			t.Error(err)
		}
		if b, err := extUsageOID(dotted); err != nil || a != b {
			t.Errorf("%s is %x, %s is %x", name, a, dotted, b)
		}
	}
	for _, bad := range []string{"", "1", "3.1", "1.40", "1..2", "1.x"} {
		if got, err := dottedOID(bad); err == nil {
			t.Errorf("%q: %x", bad, got)
		}
	}
}

// TestUsageByKey leaves out what a kind of key cannot do (RFC 3279, RFC 8813, RFC 8410).
func TestUsageByKey(t *testing.T) {
	keys := testKeys(t)
	h := newHierarchy(t, keys, "P-256")
	p := samples()[3].profile
	for kind, want := range map[string]string{"P-256": "03020388", "P-384": "03020388", "Ed25519": "03020780", "RSA-2048": "030205a0"} {
		s := sample{profile: p, subject: attributes("CN", "x"), from: "2026-03-01T00:00:00Z", to: "2026-04-01T00:00:00Z"}
		c, err := x509.ParseCertificate(h.issue(t, h.issuing, h.signer, &p, s.of(spkiOf(t, keys["subject-"+kind]), 1)))
		if err != nil {
			t.Fatal(err)
		}
		if !hasExtension(c, "2.5.29.15", want, true) {
			t.Errorf("%s: usage %x, want %s", kind, c.KeyUsage, want)
		}
	}
	p.KeyUsage = []string{"decipherOnly", "keyAgreement"}
	shape, err := NewShape(h.issuing, &p, 1)
	if err != nil {
		t.Fatal(err)
	}
	c := Certificate{Serial: []byte{1}, Subject: attributes("CN", "x"), SPKI: spkiOf(t, keys["subject-RSA-2048"]), NotBefore: now, NotAfter: now}
	if _, refusal, err := shape.TBS(c); err != nil || refusal == nil || refusal.Code != protocol.CodeKeyType || refusal.Params["allowed"] != "EC" {
		t.Errorf("a key without usage: %v, %v", refusal, err)
	}
	c.SPKI = spkiOf(t, keys["subject-P-256"])
	tbs, refusal, err := shape.TBS(c)
	if err != nil || refusal != nil || !bytes.Contains(tbs, []byte{0x03, 0x03, 0x07, 0x08, 0x80}) {
		t.Errorf("usage of nine bits: %x, %v, %v", tbs, refusal, err)
	}
}
