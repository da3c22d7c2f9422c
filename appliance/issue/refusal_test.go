package issue

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"coldseal/protocol"
	"coldseal/protocol/policy"
)

// TestValuesRefused: what a request brings about is refused, it is no fault.
func TestValuesRefused(t *testing.T) {
	keys := testKeys(t)
	h := newHierarchy(t, keys, "P-256")
	var many []protocol.Scope
	for i := range 400 {
		many = append(many, protocol.Scope{Profile: "it-workstation", Body: fmt.Sprintf("it/%06d", i)})
	}
	for name, c := range map[string]struct {
		sample int
		change func(*Certificate)
		code   protocol.Code
		field  string
	}{
		"empty value":         {0, func(c *Certificate) { c.Subject = attributes("CN", "") }, protocol.CodeSubjectMismatch, "CN"},
		"not UTF-8":           {0, func(c *Certificate) { c.Subject = attributes("CN", "\xff") }, protocol.CodeSubjectMismatch, "CN"},
		"NUL":                 {0, func(c *Certificate) { c.Subject = attributes("O", "a\x00b") }, protocol.CodeSubjectMismatch, "O"},
		"Greek serial number": {0, func(c *Certificate) { c.Subject = attributes("serialNumber", "ΑΦΜ") }, protocol.CodeSubjectMismatch, "serialNumber"},
		"underscore in it":    {0, func(c *Certificate) { c.Subject = attributes("serialNumber", "a_b") }, protocol.CodeSubjectMismatch, "serialNumber"},
		"Greek mail":          {0, func(c *Certificate) { c.Subject = attributes("E", "γ@a.example") }, protocol.CodeSubjectMismatch, "E"},
		"Greek DNS name":      {1, func(c *Certificate) { c.AltNames = altNames("dns", "δήμος.example") }, protocol.CodeSubjectMismatch, "dns"},
		"Greek URI":           {1, func(c *Certificate) { c.AltNames = altNames("uri", "http://δήμος.example") }, protocol.CodeSubjectMismatch, "uri"},
		"Greek e-mail":        {1, func(c *Certificate) { c.AltNames = altNames("email", "γ@a.example") }, protocol.CodeSubjectMismatch, "email"},
		"UPN not UTF-8":       {1, func(c *Certificate) { c.AltNames = altNames("upn", "\xff@a") }, protocol.CodeSubjectMismatch, "upn"},
		"empty DNS name":      {1, func(c *Certificate) { c.AltNames = altNames("dns", "") }, protocol.CodeSubjectMismatch, "dns"},
		"not an address":      {1, func(c *Certificate) { c.AltNames = altNames("ip", "192.0.2.256") }, protocol.CodeSubjectMismatch, "ip"},
		"address with a zone": {1, func(c *Certificate) { c.AltNames = altNames("ip", "fe80::1%eth0") }, protocol.CodeSubjectMismatch, "ip"},
		"address in another":  {1, func(c *Certificate) { c.AltNames = altNames("ip", "::ffff:192.0.2.1") }, protocol.CodeSubjectMismatch, "ip"},
		"nobody":              {0, func(c *Certificate) { c.Subject = nil }, protocol.CodeSubjectMismatch, "subject"},
		"no scope":            {4, func(c *Certificate) { c.Scope = protocol.ApproverScope{Person: "it:A"} }, protocol.CodeSubjectMismatch, "scopes"},
		"no person":           {4, func(c *Certificate) { c.Scope.Person = "" }, protocol.CodeSubjectMismatch, "scopes"},
		"too many scopes":     {4, func(c *Certificate) { c.Scope.Scopes = many }, protocol.CodeSubjectMismatch, "scopes"},
		"too large":           {1, func(c *Certificate) { c.AltNames = altNames("uri", "urn:"+strings.Repeat("a", MaxCertificate)) }, protocol.CodeTooLarge, ""},
	} {
		s := samples()[c.sample]
		shape, err := NewShape(h.issuing, &s.profile, 1)
		if err != nil {
			t.Fatal(err)
		}
		certificate := s.of(spkiOf(t, keys["subject-P-256"]), 1)
		c.change(&certificate)
		tbs, refusal, err := shape.TBS(certificate)
		if err != nil || tbs != nil || refusal == nil || refusal.Code != c.code || refusal.Params["field"] != c.field {
			t.Errorf("%s: refusal %v, error %v", name, refusal, err)
		}
	}
}

// TestFaults: what only we can bring about is an error.
func TestFaults(t *testing.T) {
	keys := testKeys(t)
	h := newHierarchy(t, keys, "P-256")
	for name, change := range map[string]func(*Certificate){
		"no serial":            func(c *Certificate) { c.Serial = nil },
		"serial of zero":       func(c *Certificate) { c.Serial = []byte{0} },
		"negative serial":      func(c *Certificate) { c.Serial = []byte{0x80} },
		"leading zero":         func(c *Certificate) { c.Serial = []byte{0, 0x80} },
		"serial of 21":         func(c *Certificate) { c.Serial = bytes.Repeat([]byte{1}, 21) },
		"no key":               func(c *Certificate) { c.SPKI = nil },
		"key with bytes after": func(c *Certificate) { c.SPKI = append(bytes.Clone(c.SPKI), 0) },
		"key of no algorithm": func(c *Certificate) {
			c.SPKI = bytes.Replace(c.SPKI, []byte(oidEC), []byte("\x2a\x86\x48\xce\x3d\x02\x02"), 1)
		},
		"key of the CA":          func(c *Certificate) { c.SPKI = h.issuing.spki },
		"ends before it begins":  func(c *Certificate) { c.NotAfter = c.NotBefore - 1 },
		"begins before the CA":   func(c *Certificate) { c.NotBefore = h.issuing.NotBefore - 1 },
		"ends after the CA":      func(c *Certificate) { c.NotAfter = h.issuing.NotAfter + 1 },
		"before 1970":            func(c *Certificate) { c.NotBefore = -1 },
		"after 9999":             func(c *Certificate) { c.NotAfter = maxTime + 1 },
		"attribute of no type":   func(c *Certificate) { c.Subject = attributes("DC", "example") },
		"name of no type":        func(c *Certificate) { c.AltNames = altNames("x400", "a") },
		"scope of a workstation": func(c *Certificate) { c.Scope = samples()[4].scope },
	} {
		s := samples()[0]
		shape, err := NewShape(h.issuing, &s.profile, 1)
		if err != nil {
			t.Fatal(err)
		}
		c := s.of(spkiOf(t, keys["subject-P-256"]), 1)
		change(&c)
		if tbs, refusal, err := shape.TBS(c); err == nil || tbs != nil || refusal != nil {
			t.Errorf("%s: %x, refusal %v", name, tbs, refusal)
		}
	}
}

func TestShapeFaults(t *testing.T) {
	keys := testKeys(t)
	h := newHierarchy(t, keys, "P-256")
	self, err := NewSelf("root", spkiOf(t, keys["root-P-256"]), attributes("CN", "Root"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		ca     *CA
		base   policy.Profile
		change func(*policy.Profile)
		shards uint64
	}{
		"no shard":               {h.issuing, samples()[0].profile, func(*policy.Profile) {}, 0},
		"too many shards":        {h.issuing, samples()[0].profile, func(p *policy.Profile) { p.CRLURL = "http://a/{shard}" }, MaxShards + 1},
		"shard not in the URL":   {h.issuing, samples()[0].profile, func(*policy.Profile) {}, 2},
		"leaf signed by itself":  {self, samples()[0].profile, func(*policy.Profile) {}, 1},
		"root signed by another": {h.root, rootProfile, func(*policy.Profile) {}, 1},
		"CA below its limit":     {h.issuing, issuingProfile, func(*policy.Profile) {}, 1},
		"CA without usage":       {h.root, issuingProfile, func(p *policy.Profile) { p.KeyUsage = []string{"keyCertSign"} }, 1},
		"leaf that signs":        {h.issuing, samples()[0].profile, func(p *policy.Profile) { p.KeyUsage = []string{"keyCertSign"} }, 1},
		"leaf that signs CRLs":   {h.issuing, samples()[0].profile, func(p *policy.Profile) { p.KeyUsage = []string{"cRLSign"} }, 1},
		"usage":                  {h.issuing, samples()[0].profile, func(p *policy.Profile) { p.KeyUsage = []string{"signing"} }, 1},
		"purpose":                {h.issuing, samples()[0].profile, func(p *policy.Profile) { p.ExtUsage = []string{"everything"} }, 1},
		"policy":                 {h.issuing, samples()[0].profile, func(p *policy.Profile) { p.Policies = []string{"2.x"} }, 1},
		"attribute":              {h.issuing, samples()[0].profile, func(p *policy.Profile) { p.Subject = attributes("DC", "x") }, 1},
		"URL":                    {h.issuing, samples()[0].profile, func(p *policy.Profile) { p.OCSPURL = "http://δ" }, 1},
	} {
		p := c.base
		c.change(&p)
		if _, err := NewShape(c.ca, &p, c.shards); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	limited := *h.root
	limited.PathLen = 1
	for pathLen, fine := range map[int64]bool{0: false, 1: true, 2: false} {
		p := issuingProfile
		p.PathLen = pathLen
		if _, err := NewShape(&limited, &p, 1); (err == nil) != fine {
			t.Errorf("path length %d under one of 1: %v", pathLen-1, err)
		}
	}
	shape, err := NewShape(self, &rootProfile, 1)
	if err != nil {
		t.Fatal(err)
	}
	good := Certificate{Serial: []byte{1}, Subject: attributes("CN", "Root"), SPKI: spkiOf(t, keys["root-P-256"]), NotBefore: now, NotAfter: now}
	if _, _, err := shape.TBS(good); err != nil {
		t.Error(err)
	}
	other := good
	other.SPKI = spkiOf(t, keys["ca-P-256"])
	if _, _, err := shape.TBS(other); err == nil {
		t.Error("a root with another key was made")
	}
	other = good
	other.Subject = attributes("CN", "Another")
	if _, _, err := shape.TBS(other); err == nil {
		t.Error("a root with another name was made")
	}
}

func TestCARefusals(t *testing.T) {
	keys := testKeys(t)
	h := newHierarchy(t, keys, "P-256")
	s := samples()[0]
	leaf := h.issue(t, h.issuing, h.signer, &s.profile, s.of(spkiOf(t, keys["subject-P-256"]), 1))
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	make509 := func(change func(*x509.Certificate)) []byte {
		c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(now, 0), NotAfter: time.Unix(now+day, 0), IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, RawSubject: h.root.SubjectRaw, SubjectKeyId: []byte{1}}
		change(c)
		der, err := x509.CreateCertificate(rand.Reader, c, c, h.rootSigner.Public(), h.rootSigner)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	for name, der := range map[string][]byte{
		"nothing":    nil,
		"cut":        h.rootDER[:100],
		"trailing":   append(bytes.Clone(h.rootDER), 0),
		"leaf":       leaf,
		"no CRLs":    make509(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign }),
		"no subject": make509(func(c *x509.Certificate) { c.RawSubject = []byte{0x30, 0} }),
		"not a CA":   make509(func(c *x509.Certificate) { c.IsCA = false; c.SubjectKeyId = []byte{1} }),
	} {
		if _, err := NewCA("ca", der); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := NewCA("No Name", h.rootDER); err == nil {
		t.Error("a label that is no name was accepted")
	}
	if ca, err := NewCA("ca", make509(func(*x509.Certificate) {})); err != nil || ca.Scheme != schemeECDSASHA256 {
		t.Errorf("a CA certificate of another's making: %v", err)
	}
	subject := attributes("CN", "Root")
	for name, spki := range map[string][]byte{"nothing": nil, "P-224": spkiOf(t, p224), "RSA-2048": spkiOf(t, keys["subject-RSA-2048"])} {
		if _, err := NewSelf("root", spki, subject); err == nil {
			t.Errorf("%s: accepted as the key of a CA", name)
		}
	}
	if _, err := NewSelf("root", h.root.spki, nil); err == nil {
		t.Error("a root without a name was accepted")
	}
	if _, err := NewSelf("root", h.root.spki, attributes("C", "ΕΛ")); err == nil {
		t.Error("a root with a name that cannot be encoded was accepted")
	}
	for _, kind := range caTypes {
		h := newHierarchy(t, keys, kind)
		tbs := []byte("message")
		signature := []byte("no signature")
		if h.root.Verify(tbs, signature) == nil {
			t.Errorf("%s: anything verifies", kind)
		}
		if r, ok := h.root.Public.(*rsa.PublicKey); ok && h.root.SignatureLen != r.Size() {
			t.Errorf("%s: SignatureLen %d", kind, h.root.SignatureLen)
		}
	}
}
