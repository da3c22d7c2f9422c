package issue

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"os"
	"strings"
	"testing"
	"time"

	"coldseal/protocol"
	"coldseal/protocol/policy"
)

// at reads a time of the tests as unix seconds.
func at(text string) int64 {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return t.Unix()
}

var now = at("2026-03-01T09:30:00Z")

// testKeys are the keys in testdata by name.
func testKeys(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	data, err := os.ReadFile("testdata/keys.pem")
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]crypto.Signer{}
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			return keys
		}
		before := strings.Fields(string(data[:strings.Index(string(data), "-----BEGIN")]))
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		keys[strings.TrimSuffix(before[len(before)-1], ":")] = key.(crypto.Signer)
		data = rest
	}
}

func spkiOf(t testing.TB, signer crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// sign is deterministic for all types of key.
func sign(t testing.TB, ca *CA, signer crypto.Signer, tbs []byte) []byte {
	t.Helper()
	var opts crypto.SignerOpts = crypto.Hash(0)
	switch ca.Scheme {
	case schemeECDSASHA256, schemePKCS1SHA256:
		opts = crypto.SHA256
	case schemeECDSASHA384:
		opts = crypto.SHA384
	}
	signature, err := signer.Sign(nil, ca.Input(tbs), opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.Verify(tbs, signature); err != nil {
		t.Fatal(err)
	}
	if len(signature) > ca.SignatureLen {
		t.Errorf("%s: signature of %d octets, SignatureLen is %d", ca.Scheme, len(signature), ca.SignatureLen)
	}
	der, err := ca.Assemble(tbs, signature)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func attributes(pairs ...string) []policy.Attribute {
	var list []policy.Attribute
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, policy.Attribute{Type: pairs[i], Value: pairs[i+1]})
	}
	return list
}

func altNames(pairs ...string) []policy.AltName {
	var list []policy.AltName
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, policy.AltName{Type: pairs[i], Value: pairs[i+1]})
	}
	return list
}

// sample is a profile with a certificate of it.
type sample struct {
	profile policy.Profile
	subject []policy.Attribute
	names   []policy.AltName
	scope   protocol.ApproverScope
	from    string
	to      string
}

const (
	crlURL    = "http://pki.example/{ca}.crl"
	issuerURL = "http://pki.example/{ca}.cer"
	ocspURL   = "http://ocsp.example/"
)

// samples are profiles like those of the library, and one of each thing they do not have.
func samples() []sample {
	leaf := func(name string, use policy.Use, usage []string, purposes ...string) policy.Profile {
		return policy.Profile{Name: name, Use: use, Days: 730, MaxDays: 730, KeyUsage: usage, ExtUsage: purposes,
			CRLURL: crlURL, IssuerURL: issuerURL, OCSPURL: ocspURL}
	}
	withPolicies := func(p policy.Profile, oids ...string) policy.Profile {
		p.Policies = oids
		return p
	}
	signs := []string{"digitalSignature"}
	serves := []string{"digitalSignature", "keyEncipherment"} // NSS wants the second of RSA keys
	return []sample{
		{
			profile: leaf("it-workstation", policy.UseMachine, signs, "clientAuth"),
			subject: attributes("C", "IT", "O", "Comune di Pomezia", "OU", "058091", "CN", "058091-PC-0020"),
			from:    "2026-03-01T09:30:00Z", to: "2028-02-28T09:29:59Z",
		},
		{
			profile: leaf("it-server", policy.UseMachine, serves, "clientAuth", "serverAuth"),
			subject: attributes("C", "IT", "O", "Comune di Pomezia", "CN", "058091-CO-9999"),
			names:   altNames("dns", "anpr.comune.example", "dns", "*.comune.example", "ip", "192.0.2.7", "ip", "2001:db8::7", "uri", "urn:example:058091"),
			from:    "2026-03-01T09:30:00Z", to: "2027-02-28T09:29:59Z",
		},
		{
			profile: withPolicies(leaf("gr-servant", policy.UsePerson, []string{"digitalSignature", "nonRepudiation"}, "1.3.6.1.4.1.311.10.3.12", "clientAuth", "emailProtection"),
				"2.999.2.1", "2.999.2.2"),
			subject: attributes("C", "GR", "O", "Δήμος Αθηναίων", "organizationIdentifier", "VATEL-090024798", "SN", "Παπαδόπουλος", "GN", "Γεώργιος",
				"title", "Διαχειριστής", "serialNumber", "TINEL-000123454", "CN", "Γεώργιος Παπαδόπουλος", "E", "g.papadopoulos@cityofathens.example"),
			names: altNames("email", "g.papadopoulos@cityofathens.example"),
			from:  "2026-03-03T00:00:00Z", to: "2028-03-01T23:59:59Z",
		},
		{
			profile: leaf("ua-person", policy.UsePerson, []string{"digitalSignature", "keyAgreement", "keyEncipherment"}, "clientAuth", "smartcardLogon"),
			subject: attributes("C", "UA", "ST", "Київська область", "L", "Київ", "SN", "Шевченко", "GN", "Тарас Григорович", "CN", "Тарас Шевченко"),
			names:   altNames("upn", "3045212648@dp.example", "email", "taras@dp.example"),
			from:    "2049-12-31T23:59:59Z", to: "2051-12-31T23:59:58Z",
		},
		{
			profile: leaf("approver", policy.UseApprover, signs, "2.999.3.1"),
			subject: attributes("C", "IT", "CN", "Bruno Sampaolo", "serialNumber", "IT:SMPBRN79S03F205N"),
			scope: protocol.ApproverScope{Person: "it:SMPBRN79S03F205N", Scopes: []protocol.Scope{
				{Profile: "it-server", Body: "it/058091"}, {Profile: "it-workstation", Body: "it/058091"}}},
			from: "2026-03-01T09:30:00Z", to: "2028-02-28T09:29:59Z",
		},
		{
			profile: leaf("station", policy.UseStation, signs, "2.999.3.2"),
			subject: attributes("C", "IT", "O", "Prefettura di Roma", "CN", "station-1"),
			from:    "2026-03-01T09:30:00Z", to: "2027-02-28T09:29:59Z",
		},
		{
			profile: policy.Profile{Name: "ocsp", Use: policy.UseOCSP, Days: 90, MaxDays: 90, KeyUsage: signs, ExtUsage: []string{"OCSPSigning"}},
			subject: attributes("CN", "OCSP responder 1"),
			from:    "2026-03-01T09:30:00Z", to: "2026-05-30T09:29:59Z",
		},
		{
			profile: leaf("vn-server", policy.UseMachine, serves, "serverAuth"),
			names:   altNames("dns", "dichvucong.example"),
			from:    "2026-03-01T09:30:00Z", to: "2027-02-28T09:29:59Z",
		},
	}
}

// hierarchy is a root and an issuing CA with keys of one type.
type hierarchy struct {
	root, issuing       *CA
	rootDER, issuingDER []byte
	signer              crypto.Signer // of the issuing CA
	rootSigner          crypto.Signer
}

var caTypes = []string{"P-256", "P-384", "RSA-3072", "Ed25519"}

var (
	rootProfile = policy.Profile{Name: "root", Use: policy.UseRoot, Days: 365 * 30, MaxDays: 365 * 30,
		KeyUsage: []string{"cRLSign", "keyCertSign"}}
	issuingProfile = policy.Profile{Name: "issuing", Use: policy.UseIssuing, Days: 365 * 28, MaxDays: 365 * 28,
		KeyUsage: []string{"cRLSign", "keyCertSign"}, PathLen: 1, CRLURL: crlURL, IssuerURL: issuerURL}
)

func newHierarchy(t testing.TB, keys map[string]crypto.Signer, kind string) hierarchy {
	t.Helper()
	h := hierarchy{signer: keys["ca-"+kind], rootSigner: keys["root-"+kind]}
	subject := attributes("C", "IT", "O", "Coldseal", "CN", "Root "+kind)
	self, err := NewSelf("root", spkiOf(t, h.rootSigner), subject)
	if err != nil {
		t.Fatal(err)
	}
	h.rootDER = h.issue(t, self, h.rootSigner, &rootProfile, Certificate{Serial: []byte{1, 2, 3, 4, 5, 6, 7, 8, 9}, Subject: subject, SPKI: spkiOf(t, h.rootSigner),
		NotBefore: at("2025-01-01T00:00:00Z"), NotAfter: at("2055-01-01T00:00:00Z") - 1})
	if h.root, err = NewCA("root", h.rootDER); err != nil {
		t.Fatal(err)
	}
	h.issuingDER = h.issue(t, h.root, h.rootSigner, &issuingProfile, Certificate{Serial: []byte{1, 2, 3, 4, 5, 6, 7, 8, 10},
		Subject: attributes("C", "IT", "O", "Coldseal", "CN", "Issuing "+kind), SPKI: spkiOf(t, h.signer),
		NotBefore: at("2025-01-02T00:00:00Z"), NotAfter: at("2053-01-01T00:00:00Z") - 1})
	if h.issuing, err = NewCA("issuing", h.issuingDER); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *hierarchy) issue(t testing.TB, ca *CA, signer crypto.Signer, p *policy.Profile, c Certificate) []byte {
	t.Helper()
	shape, err := NewShape(ca, p, 1)
	if err != nil {
		t.Fatal(err)
	}
	tbs, refusal, err := shape.TBS(c)
	if err != nil || refusal != nil {
		t.Fatalf("%s: %v %v", p.Name, refusal, err)
	}
	return sign(t, ca, signer, tbs)
}

// of makes the sample's certificate for a key; the serial tells samples and keys apart.
func (s *sample) of(spki []byte, number byte) Certificate {
	return Certificate{Serial: []byte{0x5e, 1, 2, 3, 4, 5, 6, 7, 8, number}, Subject: s.subject, AltNames: s.names, SPKI: spki,
		NotBefore: at(s.from), NotAfter: at(s.to), Scope: s.scope}
}
