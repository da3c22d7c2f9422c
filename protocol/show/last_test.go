package show

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/policy"
)

// proofOf is the inclusion proof of a certificate, in a log of three entries, and the genesis digest to type for it.
func proofOf(t testing.TB, template *x509.Certificate, change func(*auditlog.Leaf, *protocol.Result)) ([]byte, protocol.Digest) {
	t.Helper()
	ca, holder, log := ecKey(t, 20), ecKey(t, 21), edKey(9)
	template.SerialNumber, template.NotAfter = big.NewInt(0x4f17), time.Date(2028, 1, 1, 0, 0, 0, 0, time.UTC)
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, &x509.Certificate{SerialNumber: big.NewInt(1)}, holder.Public(), ca))
	issuer := protocol.DigestOf(spki(t, ca))
	result := protocol.Result{ID: digest(7), Outcome: protocol.OutcomeIssued, Issuer: issuer, Serial: []byte{0x4f, 0x17}, Certificate: der}
	leaf := auditlog.Leaf{Kind: auditlog.Issued, Time: 1790000000, Issuer: issuer[:], Serial: []byte{0x4f, 0x17}, Status: auditlog.Active, Profile: "it-workstation"}
	if change != nil {
		change(&leaf, &result)
	}
	body := marshal(t, result)
	if leaf.Body == [32]byte{} && leaf.Kind != auditlog.Step {
		leaf.Body = auditlog.BodyDigest([16]byte{5}, body)
	}
	genesis := marshal(t, protocol.Genesis{Version: 1, Name: "vault", Nonce: [16]byte{7}, Created: 1780000000, Log: spki(t, log), Receiver: spki(t, ecKey(t, 7)),
		Seal: spki(t, ecKey(t, 8)), Roster: []byte{1}, Policy: []byte{1}})
	typed := protocol.DigestOf(genesis)
	p := auditlog.InclusionProof{Index: 1, Genesis: genesis, Salted: append(append([]byte{5}, make([]byte, 15)...), body...)}
	var hashes []tlog.Hash
	store := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, i := range indexes {
			out = append(out, hashes[i])
		}
		return out, nil
	})
	appender := auditlog.NewAppender(auditlog.Range{})
	for i, l := range []auditlog.Leaf{{Kind: auditlog.Genesis, Time: 1780000000, Body: [32]byte{1}}, leaf, {Kind: auditlog.Step, Time: 1790000000, Number: 1}} {
		raw := must[[]byte](t)(l.Encode())
		if i == 1 {
			p.Leaf = raw
		}
		_, more := appender.Append(raw)
		hashes = append(hashes, more...)
	}
	p.Proof = must[[][]byte](t)(auditlog.ProveInclusion(3, 1, store))
	edge := must[auditlog.Range](t)(auditlog.ReadRange(3, store))
	origin := auditlog.Origin(typed)
	p.Checkpoint = must[[]byte](t)(auditlog.SignCheckpoint(auditlog.CheckpointText(origin, 3, edge.Root()), origin, log))
	return must[[]byte](t)(p.Encode()), typed
}

func workstation(number string) *x509.Certificate {
	name := func(oid int, value string) pkix.AttributeTypeAndValue {
		return pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, oid}, Value: value}
	}
	return &x509.Certificate{Subject: pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{
		name(6, "IT"), name(10, "Anagrafe Nazionale della Popolazione Residente"), name(11, "058091"), name(3, "058091-PC-"+number)}}}
}

func compiled(t testing.TB) *policy.CompiledProfile {
	t.Helper()
	c := must[*policy.Compiled](t)(policy.Compile(must[*policy.Policy](t)(policy.Decode(policyRaw(t)))))
	p, found := c.Profile("it-workstation")
	if !found {
		t.Fatal("no profile")
	}
	return p
}

// renewal asks for another certificate of the CA that proofOf has.
func renewal(t testing.TB, change func(*protocol.Request, *protocol.Issuance)) protocol.Request {
	t.Helper()
	r := request(protocol.KindIssue)
	r.Issuer, r.ProfileDigest = protocol.DigestOf(spki(t, ecKey(t, 20))), digest(4)
	c := protocol.Issuance{CSR: readCSR(t, "openssl-p256-san"), Fields: map[string]string{"number": "0020"}, Origin: protocol.OriginHolder}
	if change != nil {
		change(&r, &c)
	}
	r.Content = marshal(t, c)
	return must[protocol.Request](t)(parsed(marshal(t, r)))
}

func parsed(raw []byte) (protocol.Request, error) {
	r, refusal := protocol.ParseRequest(raw)
	return r, refused(refusal)
}

func TestLast(t *testing.T) {
	profile := compiled(t)
	var all strings.Builder
	for _, test := range []struct {
		name    string
		old     *x509.Certificate
		request protocol.Request
		profile *policy.CompiledProfile
		differs bool
	}{
		{"nothing", workstation("0020"), renewal(t, nil), profile, false},
		{"another name", workstation("0019"), renewal(t, nil), profile, true},
		{"a name less", func() *x509.Certificate { c := workstation("0020"); c.DNSNames = []string{"gone.example"}; return c }(), renewal(t, nil), profile, true},
		{"order", func() *x509.Certificate {
			c := workstation("0020")
			n := c.Subject.ExtraNames
			n[0], n[1] = n[1], n[0]
			return c
		}(), renewal(t, nil), profile, true},
		{"another CA and scopes", workstation("0020"), renewal(t, func(r *protocol.Request, c *protocol.Issuance) {
			r.Issuer = digest(2)
			c.Scopes = []protocol.Scope{{Profile: "it-workstation", Body: "it/058091"}}
		}), profile, true},
		{"no profile", workstation("0020"), renewal(t, nil), nil, true},
		{"refused fields", workstation("0020"), renewal(t, func(_ *protocol.Request, c *protocol.Issuance) { c.Fields = nil }), profile, true},
		{"refused CSR", workstation("0020"), renewal(t, func(_ *protocol.Request, c *protocol.Issuance) { c.CSR = readCSR(t, "forge-p256-otherkey") }), profile, false},
		{"another type of key", workstation("0020"), renewal(t, func(_ *protocol.Request, c *protocol.Issuance) { c.CSR = readCSR(t, "openssl-p384-ukrainian") }), profile, false},
	} {
		proof, typed := proofOf(t, test.old, nil)
		l := must[*Last](t)(OpenLast(proof, typed))
		rows, differs := l.Beside(&test.request, test.profile)
		if differs != test.differs {
			t.Errorf("%s: differs is %v", test.name, differs)
		}
		all.WriteString("-- " + test.name + "\n" + rows.String())
	}
	hold := request(protocol.KindHold)
	hold.Issuer, hold.Content = protocol.DigestOf(spki(t, ecKey(t, 20))), marshal(t, protocol.Revocation{Serial: []byte{0x4f, 0x17}})
	proof, typed := proofOf(t, workstation("0020"), nil)
	l := must[*Last](t)(OpenLast(proof, typed))
	rows, _ := l.Beside(&hold, profile)
	golden(t, "last", all.String()+"-- hold\n"+rows.String())
}

func TestLastIsTheOneNamed(t *testing.T) {
	proof, typed := proofOf(t, workstation("0020"), nil)
	l := must[*Last](t)(OpenLast(proof, typed))
	ca := protocol.DigestOf(spki(t, ecKey(t, 20)))
	about := func(kind protocol.Kind, issuer protocol.Digest, content any) *protocol.Request {
		r := request(kind)
		r.Issuer, r.Content = issuer, marshal(t, content)
		return &r
	}
	for name, test := range map[string]struct {
		r  *protocol.Request
		ok bool
	}{
		"hold":          {about(protocol.KindHold, ca, protocol.Revocation{Serial: []byte{0x4f, 0x17}}), true},
		"release":       {about(protocol.KindRelease, ca, protocol.Release{Serial: []byte{0x4f, 0x17}, Hold: 3}), true},
		"other serial":  {about(protocol.KindHold, ca, protocol.Revocation{Serial: []byte{0x4f, 0x18}}), false},
		"other issuer":  {about(protocol.KindRevoke, digest(2), protocol.Revocation{Serial: []byte{0x4f, 0x17}, Reason: protocol.ReasonSuperseded}), false},
		"other release": {about(protocol.KindRelease, ca, protocol.Release{Serial: []byte{0x4f}, Hold: 3}), false},
	} {
		if err := l.Of(test.r); (err == nil) != test.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := renewal(t, nil)
	if err := l.Of(&r); err != nil {
		t.Errorf("a request that names none: %v", err)
	}
}

func TestOpenLastRefuses(t *testing.T) {
	good, typed := proofOf(t, workstation("0020"), nil)
	must[*Last](t)(OpenLast(good, typed))
	for i := 0; i < len(good); i += 7 {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if _, err := OpenLast(bad, typed); err == nil {
			t.Fatalf("byte %d flipped, and it opens", i)
		}
	}
	if _, err := OpenLast(good, digest(1)); err == nil {
		t.Error("another appliance's proof opens")
	}
	for name, change := range map[string]func(*auditlog.Leaf, *protocol.Result){
		"no certificate": func(_ *auditlog.Leaf, r *protocol.Result) { r.Certificate = []byte{1} },
		"another kind": func(l *auditlog.Leaf, _ *protocol.Result) {
			*l = auditlog.Leaf{Kind: auditlog.Changed, Time: l.Time, Issuer: l.Issuer, Serial: l.Serial, Status: auditlog.Held}
		},
		"another body": func(l *auditlog.Leaf, _ *protocol.Result) { l.Body = [32]byte{1} },
	} {
		proof, typed := proofOf(t, workstation("0020"), change)
		if _, err := OpenLast(proof, typed); err == nil {
			t.Errorf("%s: it opens", name)
		}
	}
}

// TestExceptionsFirst has one of many requests whose subject was called otherwise before: it comes first, whole.
func TestExceptionsFirst(t *testing.T) {
	profile := compiled(t)
	var raws [][]byte
	var before []*Last
	for i := range 12 {
		number := fmt.Sprintf("%04d", i+1)
		r := renewal(t, func(r *protocol.Request, c *protocol.Issuance) {
			r.Subject = "058091-PC-" + number
			c.Fields = map[string]string{"number": number}
			c.CSR = must[[]byte](t)(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, ecKey(t, byte(50+i))))
		})
		raws = append(raws, marshal(t, r))
		if i == 8 {
			number = "4711"
		}
		proof, typed := proofOf(t, workstation(number), nil)
		before = append(before, must[*Last](t)(OpenLast(proof, typed)))
	}
	last := func(i int) (*Last, *policy.CompiledProfile) { return before[i], profile }
	s := must[Sheet](t)(Requests(raws, last, false)).String()
	first, others, found := strings.Cut(s, "others")
	if !found || strings.Count(first, "subject no more: CN=058091-PC-4711") != 1 || strings.Count(first, "last certificate") != 1 || strings.Count(others, "058091-PC-") != 11 {
		t.Errorf("exceptions do not come first:\n%s", s)
	}
	if s := must[Sheet](t)(Requests(raws, last, true)).String(); strings.Count(s, "last certificate") != 12 {
		t.Errorf("in full:\n%s", s)
	}
}

// FuzzOpenLast takes data as a proof: what is opened is the certificate that was proved.
func FuzzOpenLast(f *testing.F) {
	proof, typed := proofOf(f, workstation("0001"), nil)
	good := must[*Last](f)(OpenLast(proof, typed))
	f.Add(proof)
	f.Fuzz(func(t *testing.T, data []byte) {
		if l, err := OpenLast(data, typed); err == nil && !l.Certificate.Equal(good.Certificate) {
			t.Errorf("another certificate was proved: %x", l.Certificate.Raw)
		}
	})
}
