package main

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"coldseal/cmd/internal/cli"
	"coldseal/cmd/internal/person"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/keyfile"
	"coldseal/protocol/media"
)

// verdictOf runs a verify command with --json and gives its exit code and the codes of its reasons.
func (s *site) verdictOf(line string, more ...string) (code int, reasons string, out string) {
	s.t.Helper()
	code, stdout, stderr := s.run(line+" --json", more...)
	if code == cli.ExitUsage {
		return code, "", stderr
	}
	var v struct {
		Accept  bool
		Reasons []struct{ Code, Words string }
	}
	s.json(stdout, &v)
	var codes []string
	for _, r := range v.Reasons {
		codes = append(codes, r.Code)
		if r.Words == "" {
			s.t.Errorf("%s: %s has no words", line, r.Code)
		}
	}
	if v.Accept != (code == 0) || v.Accept != (len(codes) == 0) {
		s.t.Errorf("%s: exit %d, %s", line, code, stdout)
	}
	return code, strings.Join(codes, " "), stdout
}

// decided is a command line with the codes of the reasons it has to give; none is accept, "usage" is exit 64.
type decided struct{ line, reasons string }

func (s *site) decide(tests []decided) {
	s.t.Helper()
	for _, test := range tests {
		code, reasons, out := s.verdictOf(test.line)
		want := map[bool]int{true: 0, false: 1}[test.reasons == ""]
		if test.reasons == "usage" {
			want, reasons = cli.ExitUsage, "usage"
		}
		if code != want || reasons != test.reasons {
			s.t.Errorf("%s: exit %d, reasons %q, want %q\n%s", test.line, code, reasons, test.reasons, out)
		}
	}
}

// pki is a root and a certificate below it, valid now.
type pki struct {
	key, leafKey crypto.Signer
	root, leaf   *x509.Certificate
}

func (s *site) newPKI() *pki {
	p := &pki{key: ecKey(s.t, 20), leafKey: ecKey(s.t, 21)}
	now := time.Now().Truncate(time.Second)
	parse := must[*x509.Certificate](s.t)
	make := func(c, parent *x509.Certificate, key crypto.Signer) *x509.Certificate {
		c.NotBefore, c.NotAfter = now.Add(-time.Hour), now.Add(24*time.Hour)
		if parent == nil {
			parent = c
		}
		return parse(x509.ParseCertificate(must[[]byte](s.t)(x509.CreateCertificate(rand.Reader, c, parent, key.Public(), p.key))))
	}
	p.root = make(&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Root"}, SubjectKeyId: []byte{1}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}, nil, p.key)
	p.leaf = make(&x509.Certificate{SerialNumber: big.NewInt(0x4f0018), Subject: pkix.Name{CommonName: "058091-PC-0001"}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, p.root, p.leafKey)
	return p
}

func (s *site) crl(p *pki, serials ...int64) []byte {
	now := time.Now().Truncate(time.Second)
	var entries []x509.RevocationListEntry
	for _, n := range serials {
		entries = append(entries, x509.RevocationListEntry{SerialNumber: big.NewInt(n), RevocationTime: now, ReasonCode: 1})
	}
	return must[[]byte](s.t)(x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(7), ThisUpdate: now.Add(-time.Second),
		NextUpdate: now.Add(time.Hour), RevokedCertificateEntries: entries}, p.root, p.key))
}

func pemOf(kind string, ders ...[]byte) []byte {
	var out []byte
	for _, der := range ders {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	return out
}

func TestVerifyCertificates(t *testing.T) {
	s := newSite(t)
	p := s.newPKI()
	s.write("root.pem", append([]byte("Certificate of the root\n"), pemOf("CERTIFICATE", p.root.Raw)...))
	s.write("root.der", p.root.Raw)
	s.write("leaf.pem", pemOf("CERTIFICATE", p.leaf.Raw))
	s.write("leaf.der", p.leaf.Raw)
	s.write("both.pem", pemOf("CERTIFICATE", p.leaf.Raw, p.root.Raw))
	s.write("cut.pem", pemOf("CERTIFICATE", p.leaf.Raw)[:300])
	s.write("good.crl", s.crl(p, 99))
	s.write("bad.crl", pemOf("X509 CRL", s.crl(p, 0x4f0018)))
	s.write("request.csr", must[[]byte](t)(person.MakeCSR(ecKey(t, 30), "Test")))
	s.write("request.pem", pemOf("CERTIFICATE REQUEST", s.read("request.csr")))
	flipped := bytes.Clone(s.read("request.csr"))
	flipped[len(flipped)-1] ^= 1
	s.write("flipped.csr", flipped)
	for name, status := range map[string]int{"good.ocsp": ocsp.Good, "revoked.ocsp": ocsp.Revoked} {
		s.write(name, must[[]byte](t)(ocsp.CreateResponse(p.root, p.root, ocsp.Response{Status: status, SerialNumber: p.leaf.SerialNumber,
			ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour), RevokedAt: time.Now().Add(-time.Minute)}, p.key)))
	}
	later := " --time " + time.Now().Add(48*time.Hour).UTC().Format(time.RFC3339)
	s.decide([]decided{
		{"verify chain --trust @root.pem @leaf.pem", ""},
		{"verify chain --trust @root.der @leaf.der", ""},
		{"verify chain --trust @root.pem --untrusted @both.pem @leaf.pem", ""},
		{"verify chain --trust @root.pem --crl @good.crl @leaf.pem", ""},
		{"verify chain --trust @root.pem --crl @bad.crl @leaf.pem", "revoked"},
		{"verify chain --trust @root.pem --purpose clientAuth @leaf.pem", ""},
		{"verify chain --trust @root.pem --purpose 1.3.6.1.5.5.7.3.2 @leaf.pem", ""},
		{"verify chain --trust @root.pem --purpose serverAuth @leaf.pem", "purpose"},
		{"verify chain --trust @root.pem --purpose nonsense @leaf.pem", "purpose"},
		{"verify chain --trust @root.pem @leaf.pem" + later, "expired expired"},
		{"verify chain --trust @leaf.pem @root.pem", "no-path"},
		{"verify chain --trust @root.pem @both.pem", "input"},
		{"verify chain --trust @root.pem @cut.pem", "input"},
		{"verify chain --trust @root.pem @bad.crl", "input"},
		{"verify chain --trust @root.pem @good.crl", "form"},
		{"verify chain --trust @root.pem @absent", "input"},
		{"verify chain --trust @absent @leaf.pem", "input"},
		{"verify chain @leaf.pem", "usage"},
		{"verify chain --trust @root.pem", "usage"},
		{"verify chain --trust @root.pem --time yesterday @leaf.pem", "usage"},
		{"verify chain --trust - -", "usage"},
		{"verify crl --issuer @root.pem @good.crl", ""},
		{"verify crl --issuer @root.pem @bad.crl", ""},
		{"verify crl --issuer @leaf.pem @good.crl", "not-ca"},
		{"verify crl --issuer @root.pem @good.crl" + later, "expired"},
		{"verify crl @good.crl", "usage"},
		{"verify ocsp --issuer @root.pem @good.ocsp", ""},
		{"verify ocsp --issuer @root.pem @revoked.ocsp", ""},
		{"verify ocsp --issuer @root.pem @good.crl", "ocsp-form"},
		{"verify csr @request.csr", ""},
		{"verify csr @request.pem", ""},
		{"verify csr @flipped.csr", "possession"},
		{"verify csr @leaf.der", "form"},
		{"verify csr @absent", "input"},
		{"verify nothing @leaf.pem", "usage"},
		{"verify", "usage"},
	})
	if code, stdout, stderr := s.run("verify chain --trust @root.pem @leaf.pem"); code != 0 || !strings.HasPrefix(stdout, "accept\n") || !strings.Contains(stdout, "4f0018") || stderr != "" {
		t.Errorf("exit %d, %s%s", code, stdout, stderr)
	}
	if code, stdout, stderr := s.run("verify chain --trust @root.pem --crl @bad.crl @leaf.pem"); code != 1 || !strings.HasPrefix(stdout, "reject\nrevoked: the leaf (serial 4f0018): revoked on ") || stderr != "" {
		t.Errorf("exit %d, %s%s", code, stdout, stderr)
	}
	var out, words bytes.Buffer
	if code := cli.Run(rootCommand(), []string{"verify", "crl", "--issuer", s.path("root.pem"), "-"}, bytes.NewReader(s.read("bad.crl")), &out, &words); code != 0 ||
		!strings.Contains(out.String(), "entries        1\n") {
		t.Errorf("from standard input: exit %d, %s%s", code, &out, &words)
	}
}

func TestVerifyApproval(t *testing.T) {
	s := newSite(t)
	s.write("request", s.issue("it-workstation", "it/058091", "058091-PC-0001", ecKey(t, 30), nil))
	s.ok("approve --key @OFFICER1.key $KNOWN --request @request --statement fingerprint --yes --expires 3d --out @approval")
	outsider := ecKey(t, 40)
	s.write("outsider.key", must[[]byte](t)(keyfile.Encode(outsider, nil)))
	s.ok("approve --key @outsider.key $KNOWN --request @request --statement fingerprint --yes --out @foreign")
	s.write("pub", must[[]byte](t)(keyfile.EncodePublic(s.officers[0].Public())))
	s.write("other.pub", must[[]byte](t)(keyfile.EncodePublic(s.officers[1].Public())))
	flipped := s.read("approval")
	flipped[len(flipped)-1] ^= 1
	s.write("flipped", flipped)
	later := " --time " + time.Now().Add(4*24*time.Hour).UTC().Format(time.RFC3339)
	s.decide([]decided{
		{"verify approval --key @pub @approval", ""},
		{"verify approval $KNOWN @approval", ""},
		{"verify approval --key @other.pub @approval", "approval-invalid"},
		{"verify approval --key @pub @flipped", "approval-invalid"},
		{"verify approval $KNOWN @flipped", "approval-invalid"},
		{"verify approval $KNOWN @foreign", "approver-unknown"},
		{"verify approval --key @pub @approval" + later, "approval-expired"},
		{"verify approval --key @request @approval", "input"},
		{"verify approval $KNOWN @request", "malformed"},
		{"verify approval --key @pub @request", "approval-invalid"},
		{"verify approval --introduction @introduction --digest " + strings.Repeat("1", 64) + " @approval", "introduction"},
		{"verify approval --introduction @introduction @approval", "usage"},
		{"verify approval --key @pub $KNOWN @approval", "usage"},
		{"verify approval @approval", "usage"},
	})
	s.roster.Officers[0].Suspended = true
	s.state.Roster = must[[]byte](t)(encodeRoster(s))
	s.introduce()
	s.decide([]decided{{"verify approval $KNOWN @approval", "approver-suspended"}})
}

// bundleOf makes a bundle of the agent whose record is in the file "enrolment".
func (s *site) bundleOf(change func(h *protocol.BundleHeader, groups *[]protocol.Group), requests ...[]byte) []byte {
	s.t.Helper()
	seal := ecKey(s.t, 50)
	s.write("enrolment", marshal(s.t, protocol.Party{Version: 1, Name: "desk", Role: protocol.RoleAgent, Seal: spkiOf(s.t, seal), Receiver: spkiOf(s.t, ecKey(s.t, 51)),
		Bodies: []string{"it"}, BundlesPerDay: 1, ItemsPerDay: 1}))
	g := protocol.Group{Section: protocol.SectionRequests}
	for _, r := range requests {
		g.Items = append(g.Items, marshal(s.t, protocol.Item{Request: r}))
	}
	groups := []protocol.Group{g}
	now := time.Now().Unix()
	h := protocol.BundleHeader{Version: 1, From: "desk", To: s.digest, Sequence: 7, Created: now, Expires: now + 3600, Items: uint64(len(g.Items))}
	if change != nil {
		change(&h, &groups)
	}
	var rest, whole bytes.Buffer
	for _, g := range groups {
		if err := protocol.WriteGroup(&rest, g); err != nil {
			s.t.Fatal(err)
		}
	}
	h.Rest = sha256.Sum256(rest.Bytes())
	if err := protocol.WriteHeader(&whole, h, seal); err != nil {
		s.t.Fatal(err)
	}
	return append(whole.Bytes(), rest.Bytes()...)
}

func TestVerifyBundle(t *testing.T) {
	s := newSite(t)
	a := s.issue("it-workstation", "it/058091", "058091-PC-0001", ecKey(t, 30), nil)
	b := s.issue("it-workstation", "it/058091", "058091-PC-0002", ecKey(t, 31), nil)
	foreign := s.issue("it-workstation", "it/058091", "058091-PC-0003", ecKey(t, 31), func(r *protocol.Request, _ *protocol.Issuance) { r.Appliance = protocol.Digest{1} })
	noCSR := s.issue("it-workstation", "it/058091", "058091-PC-0003", ecKey(t, 31), func(_ *protocol.Request, c *protocol.Issuance) { c.CSR = nil })
	good := s.bundleOf(nil, a, b)
	s.write("good", good)
	s.write("cut", good[:len(good)-1])
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	s.write("flipped", flipped)
	s.write("foreign", s.bundleOf(nil, a, foreign))
	s.write("empty-content", s.bundleOf(nil, noCSR))
	s.write("section", s.bundleOf(func(_ *protocol.BundleHeader, g *[]protocol.Group) { (*g)[0].Section = protocol.SectionTakeAway }, a))
	s.write("approvals", s.bundleOf(func(_ *protocol.BundleHeader, g *[]protocol.Group) { (*g)[0].Approvals = [][]byte{{1}} }, a))
	s.write("item", s.bundleOf(func(_ *protocol.BundleHeader, g *[]protocol.Group) { (*g)[0].Items[0] = []byte{0xa0} }, a))
	s.write("count", s.bundleOf(func(h *protocol.BundleHeader, _ *[]protocol.Group) { h.Items = 3 }, a))
	s.write("old", s.bundleOf(func(h *protocol.BundleHeader, _ *[]protocol.Group) { h.Created, h.Expires = 1, 2 }, a))
	s.write("elsewhere", s.bundleOf(func(h *protocol.BundleHeader, _ *[]protocol.Group) { h.To = protocol.Digest{1} }, a))
	s.write("receiver.key", must[[]byte](t)(keyfile.Encode(ecKey(t, 60), nil)))
	s.write("other.key", must[[]byte](t)(keyfile.Encode(ecKey(t, 61), nil)))
	s.write("sealed", s.sealed(60, good))
	s.write("torn", s.read("sealed")[:400])
	s.write("party", marshal(t, protocol.Party{Version: 1, Name: "desk", Role: protocol.RoleAgent, Seal: spkiOf(t, ecKey(t, 70)), Receiver: spkiOf(t, ecKey(t, 51)),
		Bodies: []string{"it"}, BundlesPerDay: 1, ItemsPerDay: 1}))
	const of = "verify bundle --enrolment @enrolment --digest $DIGEST "
	s.decide([]decided{
		{of + "@good", ""},
		{of + "--key @receiver.key @sealed", ""},
		{of + "--key @other.key @sealed", "input"},
		{of + "--key @receiver.key @torn", "bad-seal"},
		{of + "@sealed", "usage"},
		{of + "@cut", "bad-seal"},
		{of + "@flipped", "bad-seal"},
		{of + "@foreign", "wrong-appliance"},
		{of + "@empty-content", "malformed"},
		{of + "@section", "malformed"},
		{of + "@approvals", "malformed"},
		{of + "@item", "malformed"},
		{of + "@count", "malformed"},
		{of + "@old", "bundle-expired"},
		{of + "@elsewhere", "wrong-appliance"},
		{of + "@introduction", "malformed"},
		{of + "@absent", "input"},
		{"verify bundle --enrolment @party --digest $DIGEST @good", "unknown-sender"},
		{"verify bundle --enrolment @good --digest $DIGEST @good", "input"},
		{"verify bundle --digest $DIGEST @good", "usage"},
		{"verify bundle --enrolment @enrolment @good", "usage"},
	})
	stdout, _ := s.ok(of + "@good")
	for _, want := range []string{"sequence       7", "items          2", "2 × issue it-workstation for it/058091"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is not in\n%s", want, stdout)
		}
	}
	left := must[[]os.DirEntry](t)(os.ReadDir(os.TempDir()))
	for _, e := range left {
		if strings.HasPrefix(e.Name(), "coldseal-verify-") {
			t.Errorf("%s was left behind", e.Name())
		}
	}
}

// sealed encrypts to the receiver with key n.
func (s *site) sealed(n byte, data []byte) []byte {
	s.t.Helper()
	receiver, err := ecKey(s.t, n).PublicKey.ECDH()
	if err != nil {
		s.t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := media.Encrypt(&out, receiver)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		s.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		s.t.Fatal(err)
	}
	return out.Bytes()
}

func TestVerifyLog(t *testing.T) {
	s := newSite(t)
	l := newTestLog(s)
	l.add(auditlog.Leaf{Kind: auditlog.Genesis, Body: [32]byte{1}})
	l.add(auditlog.Leaf{Kind: auditlog.Step, Number: 1})
	note := l.checkpoint(s.log)
	s.write("checkpoint", note)
	s.write("flipped", bytes.Replace(note, []byte("\n2\n"), []byte("\n3\n"), 1))
	proof := auditlog.InclusionProof{Index: 1, Leaf: l.leaves[1], Proof: must[[][]byte](t)(auditlog.ProveInclusion(2, 1, l.hashes)), Checkpoint: note, Genesis: s.genesis}
	s.write("proof", must[[]byte](t)(proof.Encode()))
	proof.Index = 0
	s.write("wrong", must[[]byte](t)(proof.Encode()))
	s.decide([]decided{
		{"verify checkpoint $KNOWN @checkpoint", ""},
		{"verify checkpoint $KNOWN @flipped", "checkpoint"},
		{"verify checkpoint $KNOWN @proof", "input"},
		{"verify checkpoint --introduction @introduction --digest " + strings.Repeat("1", 64) + " @checkpoint", "introduction"},
		{"verify checkpoint @checkpoint", "usage"},
		{"verify proof --digest $DIGEST @proof", ""},
		{"verify proof --digest $DIGEST @wrong", "proof"},
		{"verify proof --digest $DIGEST @checkpoint", "form"},
		{"verify proof --digest " + strings.Repeat("1", 64) + " @proof", "form"},
		{"verify proof @proof", "usage"},
	})
	if stdout, _ := s.ok("verify proof --digest $DIGEST @proof"); !strings.Contains(stdout, "kind           step\n") {
		t.Error(stdout)
	}
}
