package main

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
)

// logger writes a log as an appliance would: each method is one thing that happened.
type logger struct {
	*site
	now     int64
	counter uint64
	edge    auditlog.Range
	leaves  [][]byte
	bodies  [][]byte // salted
	ca      crypto.Signer
	serial  byte
	made    [][]byte // requests of the story, in the order of their serials
}

const (
	began     = 1800000000
	yearOfLog = 86400 * 365 // term of its certificates
)

func newLog(s *site) *logger {
	l := &logger{site: s, now: began, ca: ecKey(s.t, 20)}
	l.leaf(auditlog.Leaf{Kind: auditlog.Genesis}, s.genesis)
	l.step()
	return l
}

func (l *logger) leaf(leaf auditlog.Leaf, body []byte) {
	l.t.Helper()
	l.now++
	leaf.Time = l.now
	var salted []byte
	if leaf.Kind != auditlog.Step {
		salt := [16]byte{byte(len(l.leaves)), 1}
		leaf.Body = auditlog.BodyDigest(salt, body)
		salted = append(salt[:], body...)
	}
	raw := must[[]byte](l.t)(leaf.Encode())
	l.leaves, l.bodies = append(l.leaves, raw), append(l.bodies, salted)
}

func (l *logger) step() {
	l.counter++
	l.leaf(auditlog.Leaf{Kind: auditlog.Step, Number: l.counter}, nil)
}

// order carries out an order that the first officers approve.
func (l *logger) order(kind protocol.Kind, content any, change func(*protocol.Request), result protocol.Result) {
	l.t.Helper()
	r := protocol.Request{Version: 1, Appliance: l.digest, Kind: kind, Nonce: [16]byte{byte(len(l.leaves))}, Created: l.now, Expires: l.now + 3600, Content: marshal(l.t, content)}
	if change != nil {
		change(&r)
	}
	raw := marshal(l.t, r)
	challenge := bytes.Repeat([]byte{5}, 16)
	var approvals [][]byte
	for _, key := range l.officers[:2] {
		approvals = append(approvals, l.approve(key, nil, challenge, raw))
	}
	result.ID = protocol.ID(raw)
	if result.Outcome == 0 {
		result.Outcome = protocol.OutcomeDone
	}
	l.leaf(auditlog.Leaf{Kind: auditlog.Order}, marshal(l.t, auditlog.OrderBody{Request: raw, Approvals: approvals, Challenge: challenge, Result: marshal(l.t, result)}))
	l.step()
}

func (l *logger) approve(key crypto.Signer, statements []protocol.Statement, challenge []byte, raws ...[]byte) []byte {
	l.t.Helper()
	a := protocol.Approval{Version: 1, Appliance: l.digest, Created: l.now, Expires: l.now + 3600, Challenge: challenge}
	var parsed []protocol.Request
	for _, raw := range raws {
		r, refusal := protocol.ParseRequest(raw)
		if refusal != nil {
			l.t.Fatal(refusal.Words())
		}
		parsed = append(parsed, r)
		a.Entries = append(a.Entries, protocol.ApprovalEntry{ID: protocol.ID(raw), Statements: statements})
	}
	slices.SortFunc(a.Entries, func(x, y protocol.ApprovalEntry) int { return bytes.Compare(x.ID[:], y.ID[:]) })
	a.Manifest = protocol.ManifestOf(parsed)
	return must[[]byte](l.t)(cose.Sign(key, protocol.ContextApproval, must[[]byte](l.t)(a.Encode())))
}

// certificate is what the CA signs for a request; scopes make an approver of its holder.
func (l *logger) certificate(raw []byte, key crypto.Signer, scope *protocol.ApproverScope) *x509.Certificate {
	l.t.Helper()
	l.serial++
	template := &x509.Certificate{SerialNumber: big.NewInt(int64(0x4f00) + int64(l.serial)), Subject: pkix.Name{CommonName: "x"},
		NotBefore: time.Unix(l.now, 0), NotAfter: time.Unix(l.now+yearOfLog, 0)}
	if scope != nil {
		template.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 999, 1}, Value: must[[]byte](l.t)(scope.Encode())}}
	}
	parent := &x509.Certificate{Subject: pkix.Name{CommonName: "Issuing"}, PublicKey: l.ca.Public()}
	der := must[[]byte](l.t)(x509.CreateCertificate(nil, template, parent, key.Public(), l.ca))
	return must[*x509.Certificate](l.t)(x509.ParseCertificate(der))
}

func (l *logger) caID() protocol.Digest { return protocol.DigestOf(spkiOf(l.t, l.ca)) }

// batch announces certificates for requests under approvals, and issues those that are not nil; nil ones are burned.
func (l *logger) batch(profile string, approvals [][]byte, raws [][]byte, certs []*x509.Certificate, burn bool) {
	l.t.Helper()
	var intents []auditlog.Intent
	for i, raw := range raws {
		intents = append(intents, auditlog.Intent{Item: l.item(raw), Issuer: l.caID(), Serial: certs[i].SerialNumber.Bytes(), TBS: protocol.DigestOf(certs[i].RawTBSCertificate)})
	}
	l.announce(approvals, intents...)
	l.step()
	for i, raw := range raws {
		if burn {
			id := l.caID()
			l.leaf(auditlog.Leaf{Kind: auditlog.Burned, Issuer: id[:], Serial: certs[i].SerialNumber.Bytes(), Status: auditlog.Revoked, Profile: profile}, []byte("intent"))
			continue
		}
		l.issued(profile, raw, certs[i])
	}
	l.step()
}

func (l *logger) item(raw []byte) []byte { return marshal(l.t, protocol.Item{Request: raw}) }

func (l *logger) announce(approvals [][]byte, intents ...auditlog.Intent) {
	l.t.Helper()
	body := auditlog.IntentsBody{Intents: intents, Approvals: approvals}
	l.leaf(auditlog.Leaf{Kind: auditlog.Intents, Number: uint64(len(intents))}, marshal(l.t, body))
}

// about makes a request about the certificate that was made for another one.
func (l *logger) about(kind protocol.Kind, made []byte, content any) []byte {
	l.t.Helper()
	m, refusal := protocol.ParseRequest(made)
	if refusal != nil {
		l.t.Fatal(refusal.Words())
	}
	return marshal(l.t, protocol.Request{Version: 1, Appliance: l.digest, Kind: kind, Issuer: m.Issuer, Profile: m.Profile, Body: m.Body, Subject: m.Subject,
		Nonce: [16]byte{byte(len(l.leaves)), 1}, Created: l.now, Expires: l.now + 3600, Content: marshal(l.t, content)})
}

// announceChange announces a request about a certificate, or with no serial a withdrawal.
func (l *logger) announceChange(item, serial []byte, approvals ...[]byte) {
	l.t.Helper()
	in := auditlog.Intent{Item: item, Serial: serial}
	if serial != nil {
		in.Issuer = l.caID()
	}
	l.announce(approvals, in)
}

// change records that a request about a certificate was carried out.
func (l *logger) change(raw, serial []byte, status auditlog.Status) {
	l.t.Helper()
	id := l.caID()
	outcome := map[auditlog.Status]protocol.Outcome{auditlog.Active: protocol.OutcomeReleased, auditlog.Held: protocol.OutcomeHeld, auditlog.Revoked: protocol.OutcomeRevoked}[status]
	result := protocol.Result{ID: protocol.ID(raw), Outcome: outcome, Issuer: id, Serial: serial}
	if status != auditlog.Active {
		result.Receipt = must[[]byte](l.t)(cose.Sign(l.seal, protocol.ContextReceipt, []byte("receipt")))
	}
	l.leaf(auditlog.Leaf{Kind: auditlog.Changed, Issuer: id[:], Serial: serial, Status: status}, marshal(l.t, result))
	l.step()
}

func (l *logger) issued(profile string, raw []byte, c *x509.Certificate) {
	l.t.Helper()
	id := l.caID()
	l.leaf(auditlog.Leaf{Kind: auditlog.Issued, Issuer: id[:], Serial: c.SerialNumber.Bytes(), Status: auditlog.Active, Profile: profile},
		marshal(l.t, protocol.Result{ID: protocol.ID(raw), Outcome: protocol.OutcomeIssued, Issuer: id, Serial: c.SerialNumber.Bytes(), Certificate: c.Raw}))
}

// export writes the file that coldseal-appliance log export would.
func (l *logger) export(name string) {
	l.t.Helper()
	l.exportUnder(name, l.note())
}

func (l *logger) exportUnder(name string, note []byte) {
	l.t.Helper()
	l.write(name, l.exported(note))
}

// note is the checkpoint over all leaves, signed.
func (l *logger) note() []byte {
	l.t.Helper()
	l.edge = auditlog.Range{}
	for _, raw := range l.leaves {
		l.edge.Append(auditlog.LeafHash(raw))
	}
	origin := auditlog.Origin(l.digest)
	return must[[]byte](l.t)(auditlog.SignCheckpoint(auditlog.CheckpointText(origin, l.edge.Size(), l.edge.Root()), origin, l.log))
}

// checkpoint writes the checkpoint over the first leaves there are.
func (l *logger) checkpoint(name string, leaves int) {
	l.t.Helper()
	var edge auditlog.Range
	for _, raw := range l.leaves[:leaves] {
		edge.Append(auditlog.LeafHash(raw))
	}
	origin := auditlog.Origin(l.digest)
	l.write(name, must[[]byte](l.t)(auditlog.SignCheckpoint(auditlog.CheckpointText(origin, edge.Size(), edge.Root()), origin, l.log)))
}

func (l *logger) exported(note []byte) []byte {
	l.t.Helper()
	var b bytes.Buffer
	parts := [][]byte{note}
	for i := range l.leaves {
		parts = append(parts, l.leaves[i], l.bodies[i])
	}
	for _, p := range parts {
		if err := protocol.WriteString(&b, p); err != nil {
			l.t.Fatal(err)
		}
	}
	return b.Bytes()
}

// story is the whole life: a CA key, an approver, workstations.
//
// Its certificates have the serials 4f01 (the approver), 4f02 to 4f04, and 4f05, which is burned.
func story(t testing.TB) *logger {
	l := newLog(newSite(t))
	l.order(protocol.KindCreateKey, protocol.CreateKey{Label: "issuing", Algorithm: "P-256"}, nil, protocol.Result{Key: spkiOf(t, l.ca)})
	at := func(r *protocol.Request, _ *protocol.Issuance) { r.Created, r.Expires = l.now, l.now+3600 }
	alp := ecKey(t, 30)
	scope := protocol.ApproverScope{Person: "it:FTTCRL84C52H501V", Scopes: []protocol.Scope{{Profile: "it-workstation", Body: "it/058091"}}}
	raw := l.issue("approver", "it/058091", scope.Person, alp, func(r *protocol.Request, c *protocol.Issuance) {
		at(r, c)
		c.Fields, c.Scopes = map[string]string{"name": "Carla Fittizia"}, scope.Scopes
	})
	states := []protocol.Statement{protocol.StatementPresence, protocol.StatementFingerprint}
	l.batch("approver", [][]byte{l.approve(l.officers[0], states, nil, raw), l.approve(l.officers[1], states, nil, raw)}, [][]byte{raw},
		[]*x509.Certificate{l.certificate(raw, alp, &scope)}, false)
	var raws [][]byte
	var certs []*x509.Certificate
	for i := range 3 {
		key := ecKey(t, byte(40+i))
		raws = append(raws, l.issue("it-workstation", "it/058091", "058091-PC-000"+string(rune('0'+i)), key, at))
		certs = append(certs, l.certificate(raws[i], key, nil))
	}
	fingerprint := states[1:]
	l.batch("it-workstation", [][]byte{l.approve(alp, fingerprint, nil, raws...)}, raws, certs, false)
	burnt := l.issue("it-workstation", "it/058091", "058091-PC-0009", ecKey(t, 49), at)
	l.batch("it-workstation", [][]byte{l.approve(alp, fingerprint, nil, burnt)}, [][]byte{burnt}, []*x509.Certificate{l.certificate(burnt, ecKey(t, 49), nil)}, true)
	l.made = append(append([][]byte{raw}, raws...), burnt)
	return l
}

func TestLog(t *testing.T) {
	l := story(t)
	l.export("log")
	stdout, _ := l.ok("log verify --log @log --digest $DIGEST")
	for _, want := range []string{"verified       true", "issued       4", "burned       1", "order        1", "label      issuing"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is missing in\n%s", want, stdout)
		}
	}
	var j struct {
		Entries  int64  `json:"entries"`
		Root     string `json:"root"`
		Erased   uint64 `json:"bodies_erased"`
		Verified bool   `json:"verified"`
	}
	asJSON, _ := l.ok("log verify --json --log @log --digest $DIGEST")
	root := protocol.Digest(l.edge.Root())
	if l.json(asJSON, &j); j.Entries != l.edge.Size() || j.Root != root.String() || !j.Verified || j.Erased != 0 {
		t.Errorf("verify printed %s", asJSON)
	}
	for index := range l.leaves {
		l.ok("log prove --log @log --digest $DIGEST --body --out @proof"+fmt.Sprint(index)+" --index", fmt.Sprint(index))
		p, err := auditlog.OpenInclusionProof(l.read("proof"+fmt.Sprint(index)), l.digest)
		if err != nil || p.Index != int64(index) || !bytes.Equal(must[[]byte](t)(p.Leaf.Encode()), l.leaves[index]) || !bytes.Equal(p.Body, l.bodies[index][min(16, len(l.bodies[index])):]) {
			t.Errorf("proof of %d: %+v, %v", index, p, err)
		}
	}
	l.ok("log prove --log @log --digest $DIGEST --index 6 --out @proof")
	if p, err := auditlog.OpenInclusionProof(l.read("proof"), l.digest); err != nil || p.Body != nil {
		t.Errorf("a proof without a body: %+v, %v", p, err)
	}
	if stdout, _ := l.ok("inspect @proof"); !strings.Contains(stdout, "type           proof") || !strings.Contains(stdout, "NOT VERIFIED") || !strings.Contains(stdout, "issued") {
		t.Errorf("inspect shows a proof as\n%s", stdout)
	}
	if stdout, _ := l.ok("inspect @log"); !strings.Contains(stdout, "type           log") || strings.Contains(stdout, "file ") {
		t.Errorf("inspect shows a log as\n%s", stdout)
	}
	l.fails([]failure{
		{"log prove --log @log --digest $DIGEST --index 999 --out @x", 3, "entries"},
		{"log prove --log @log --digest $DIGEST --out @x", 64, "--index"},
		{"log verify --log @log", 64, "--digest"},
		{"log verify --digest $DIGEST", 64, "--log"},
		{"log verify --log @absent --digest $DIGEST", 3, "absent"},
		{"log verify --log @log --digest " + root.String(), 7, "type the digest from the minutes again"},
		{"log verify --log @main.yaml --digest $DIGEST", 7, "does not verify"},
	})
}

// A log goes on from each checkpoint that somebody kept of it, and from no other.
func TestLogContinues(t *testing.T) {
	l := story(t)
	n := len(l.leaves)
	l.checkpoint("kept", 4)
	l.checkpoint("whole", n)
	l.export("log")
	l.ok("log verify --log @log --digest $DIGEST --since @kept --since @whole")
	l.step()
	l.checkpoint("later", n+1)
	l.leaves, l.bodies = l.leaves[:n], l.bodies[:n]
	other := slices.Clone(l.leaves)
	other[2], other[3] = other[3], other[2]
	kept := l.leaves
	l.leaves = other
	l.checkpoint("fork", 4)
	l.leaves = kept
	l.write("garbage", []byte("coldseal\n4\n"))
	l.fails([]failure{
		{"log verify --log @log --digest $DIGEST --since @later", 7, "it was cut short, or a copy was put back"},
		{"log verify --log @log --digest $DIGEST --since @kept --since @fork", 7, "the first 4 entries are not those of the older checkpoint"},
		{"log verify --log @log --digest $DIGEST --since @garbage", 7, "older checkpoint"},
		{"log audit --log @log --digest $DIGEST --since @fork", 7, "the log was written anew"},
		{"log verify --log @log --digest $DIGEST --since @absent", 3, "absent"},
	})
}

func TestAudit(t *testing.T) {
	l := story(t)
	l.export("log")
	asJSON, _ := l.ok("log audit --json --log @log --digest $DIGEST")
	var j struct {
		Found    int `json:"found"`
		Profiles []struct {
			Profile  string `json:"profile"`
			Issued   uint64 `json:"issued"`
			Approved uint64 `json:"approved"`
		} `json:"profiles"`
		Burned []struct {
			Serial string `json:"serial"`
		} `json:"burned"`
		Approvers  int      `json:"approvers"`
		Findings   []string `json:"findings"`
		Unfinished []string `json:"unfinished"`
	}
	l.json(asJSON, &j)
	if j.Found != 0 || len(j.Findings) != 0 || len(j.Unfinished) != 0 || j.Approvers != 1 || len(j.Burned) != 1 || j.Burned[0].Serial != "4f05" ||
		len(j.Profiles) != 2 || j.Profiles[1].Profile != "it-workstation" || j.Profiles[1].Issued != 3 || j.Profiles[1].Approved != 4 {
		t.Errorf("audit printed %s", asJSON)
	}
	if stdout, _ := l.ok("log audit --log @log --digest $DIGEST"); !strings.Contains(stdout, "found          0") {
		t.Errorf("audit printed %s", stdout)
	}
}

// TestAuditFinds writes logs whose appliance misbehaved, under checkpoints that it signed.
func TestAuditFinds(t *testing.T) {
	key := ecKey(t, 60)
	at := func(l *logger) func(*protocol.Request, *protocol.Issuance) {
		return func(r *protocol.Request, _ *protocol.Issuance) { r.Created, r.Expires = l.now, l.now+3600 }
	}
	fingerprint := []protocol.Statement{protocol.StatementFingerprint}
	workstation := func(l *logger, body string) []byte {
		return l.issue("it-workstation", body, body[3:]+"-PC-0777", key, at(l))
	}
	for name, test := range map[string]struct {
		happens func(l *logger)
		words   string
	}{
		"nobody approved": {func(l *logger) {
			raw := workstation(l, "it/058091")
			l.batch("it-workstation", nil, [][]byte{raw}, []*x509.Certificate{l.certificate(raw, key, nil)}, false)
		}, "0 of 1 persons approved"},
		"out of scope": {func(l *logger) {
			raw := workstation(l, "it/999999")
			l.batch("it-workstation", [][]byte{l.approve(ecKey(t, 30), fingerprint, nil, raw)}, [][]byte{raw}, []*x509.Certificate{l.certificate(raw, key, nil)}, false)
		}, "may not approve it-workstation for it/999999"},
		"unknown approver": {func(l *logger) {
			raw := workstation(l, "it/058091")
			l.batch("it-workstation", [][]byte{l.approve(ecKey(t, 66), fingerprint, nil, raw)}, [][]byte{raw}, []*x509.Certificate{l.certificate(raw, key, nil)}, false)
		}, "0 of 1 persons approved"},
		"revoked approver": {func(l *logger) {
			approver, serial := l.made[0], []byte{0x4f, 1}
			revoke := l.about(protocol.KindRevoke, approver, protocol.Revocation{Serial: serial})
			l.announceChange(l.item(revoke), serial, l.approve(l.officers[0], nil, nil, revoke))
			l.change(revoke, serial, auditlog.Revoked)
			raw := workstation(l, "it/058091")
			l.batch("it-workstation", [][]byte{l.approve(ecKey(t, 30), fingerprint, nil, raw)}, [][]byte{raw}, []*x509.Certificate{l.certificate(raw, key, nil)}, false)
		}, "it:FTTCRL84C52H501V is revoked"},
		"expired approval": {func(l *logger) {
			raw := l.issue("it-workstation", "it/058091", "058091-PC-0777", key, func(r *protocol.Request, _ *protocol.Issuance) {
				r.Created, r.Expires = l.now, l.now+86400
			})
			approval := l.approve(ecKey(t, 30), fingerprint, nil, raw)
			l.now += 7200
			l.batch("it-workstation", [][]byte{approval}, [][]byte{raw}, []*x509.Certificate{l.certificate(raw, key, nil)}, false)
		}, "could be used until"},
		"forged approval": {func(l *logger) {
			raw := workstation(l, "it/058091")
			approval := l.approve(ecKey(t, 30), fingerprint, nil, raw)
			l.batch("it-workstation", [][]byte{flip(approval, len(approval)-1)}, [][]byte{raw}, []*x509.Certificate{l.certificate(raw, key, nil)}, false)
		}, "0 of 1 persons approved"},
		"statement missing": {func(l *logger) {
			raw := workstation(l, "it/058091")
			l.batch("it-workstation", [][]byte{l.approve(ecKey(t, 30), nil, nil, raw)}, [][]byte{raw}, []*x509.Certificate{l.certificate(raw, key, nil)}, false)
		}, "did not state: fingerprint"},
		"another profile": {func(l *logger) {
			raw := l.issue("it-workstation", "it/058091", "058091-PC-0777", key, func(r *protocol.Request, c *protocol.Issuance) {
				at(l)(r, c)
				r.ProfileDigest[0] ^= 1
			})
			l.batch("it-workstation", [][]byte{l.approve(ecKey(t, 30), fingerprint, nil, raw)}, [][]byte{raw}, []*x509.Certificate{l.certificate(raw, key, nil)}, false)
		}, "has changed since"},
		"without an intent": {func(l *logger) {
			raw := workstation(l, "it/058091")
			l.issued("it-workstation", raw, l.certificate(raw, key, nil))
			l.step()
		}, "without an intent"},
		"not what was announced": {func(l *logger) {
			raw := workstation(l, "it/058091")
			announced := l.certificate(raw, key, nil)
			l.serial--
			other := l.certificate(raw, ecKey(t, 61), nil)
			l.announce([][]byte{l.approve(ecKey(t, 30), fingerprint, nil, raw)},
				auditlog.Intent{Item: l.item(raw), Issuer: l.caID(), Serial: announced.SerialNumber.Bytes(), TBS: protocol.DigestOf(announced.RawTBSCertificate)})
			l.step()
			l.issued("it-workstation", raw, other)
			l.step()
		}, "is not what entry"},
		"signed by another key": {func(l *logger) {
			raw := workstation(l, "it/058091")
			ca := l.ca
			l.ca = ecKey(t, 77)
			c := l.certificate(raw, key, nil)
			l.ca = ca
			l.batch("it-workstation", [][]byte{l.approve(ecKey(t, 30), fingerprint, nil, raw)}, [][]byte{raw}, []*x509.Certificate{c}, false)
		}, "is not signed by the key"},
		"more than it has": {func(l *logger) {
			scopes := []protocol.Scope{{Profile: "approver", Body: "it/058091"}}
			raw := l.issue("approver", "it/058091", "it:SMPBRN79S03F205N", key, func(r *protocol.Request, c *protocol.Issuance) {
				at(l)(r, c)
				c.Fields, c.Scopes = map[string]string{"name": "B S"}, scopes
			})
			states := []protocol.Statement{protocol.StatementPresence, protocol.StatementFingerprint}
			approvals := [][]byte{l.approve(l.officers[0], states, nil, raw), l.approve(l.officers[0], states, nil, raw)}
			l.batch("approver", approvals, [][]byte{raw}, []*x509.Certificate{l.certificate(raw, key, nil)}, false)
		}, "approved more than once"},
		"a compromised key is certified": {func(l *logger) {
			raw := l.about(protocol.KindRevoke, l.made[1], protocol.Revocation{Serial: []byte{0x4f, 2}, Reason: protocol.ReasonKeyCompromise})
			l.announceChange(l.item(raw), []byte{0x4f, 2}, l.approve(ecKey(t, 30), nil, nil, raw))
			l.step()
			l.change(raw, []byte{0x4f, 2}, auditlog.Revoked)
			again := l.issue("it-workstation", "it/058091", "058091-PC-0000", ecKey(t, 40), at(l))
			l.batch("it-workstation", [][]byte{l.approve(ecKey(t, 30), fingerprint, nil, again)}, [][]byte{again}, []*x509.Certificate{l.certificate(again, ecKey(t, 40), nil)}, false)
		}, "was reported compromised before"},
		"a compromised key approves": {func(l *logger) {
			scope := protocol.ApproverScope{Person: "it:FTTCRL84C52H501V", Scopes: []protocol.Scope{{Profile: "it-workstation", Body: "it/058091"}}}
			second := l.issue("approver", "it/058091", scope.Person, ecKey(t, 30), func(r *protocol.Request, c *protocol.Issuance) {
				at(l)(r, c)
				c.Fields, c.Scopes = map[string]string{"name": "Carla Fittizia"}, scope.Scopes
			})
			states := []protocol.Statement{protocol.StatementPresence, protocol.StatementFingerprint}
			l.batch("approver", [][]byte{l.approve(l.officers[0], states, nil, second), l.approve(l.officers[1], states, nil, second)}, [][]byte{second},
				[]*x509.Certificate{l.certificate(second, ecKey(t, 30), &scope)}, false)
			raw := l.about(protocol.KindRevoke, l.made[0], protocol.Revocation{Serial: []byte{0x4f, 1}, Reason: protocol.ReasonKeyCompromise})
			l.announceChange(l.item(raw), []byte{0x4f, 1}, l.approve(l.officers[0], nil, nil, raw))
			l.step()
			l.change(raw, []byte{0x4f, 1}, auditlog.Revoked)
			pc := workstation(l, "it/058091")
			l.batch("it-workstation", [][]byte{l.approve(ecKey(t, 30), fingerprint, nil, pc)}, [][]byte{pc}, []*x509.Certificate{l.certificate(pc, key, nil)}, false)
		}, "is keyCompromise"},
		"a CRL without an intent": {func(l *logger) {
			id := l.caID()
			l.leaf(auditlog.Leaf{Kind: auditlog.CRL, Issuer: id[:], Number: 3}, []byte("crl"))
			l.step()
		}, "was not announced"},
		"CRL numbers fall": {func(l *logger) {
			id := l.caID()
			l.announce(nil, auditlog.Intent{Issuer: id, TBS: id}, auditlog.Intent{Issuer: id, TBS: id})
			l.leaf(auditlog.Leaf{Kind: auditlog.CRL, Issuer: id[:], Number: 3}, []byte("crl"))
			l.leaf(auditlog.Leaf{Kind: auditlog.CRL, Issuer: id[:], Number: 3}, []byte("crl"))
			l.step()
		}, "comes after CRL 3"},
	} {
		t.Run(name, func(t *testing.T) {
			l := story(t)
			test.happens(l)
			l.export("log")
			code, stdout, stderr := l.run("log audit --log @log --digest $DIGEST")
			if code != 7 || !strings.Contains(stdout, test.words) || !strings.Contains(stderr, "1 findings") {
				t.Errorf("exit %d, %q is missing in\n%s%s", code, test.words, stdout, stderr)
			}
			l.ok("log verify --log @log --digest $DIGEST") // the log itself is in order
		})
	}
}

// TestLogRefuses tampers with a log in every way that its reader has to notice.
func TestLogRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		tamper func(l *logger)
		resign bool // by the appliance itself: a checkpoint over what it tampered with
		words  string
	}{
		"body altered":   {func(l *logger) { l.bodies[6] = flip(l.bodies[6], 30) }, false, "the body is not the one"},
		"leaf altered":   {func(l *logger) { l.leaves[1] = flip(l.leaves[1], 5) }, false, "entries are not those"},
		"leaf taken out": {func(l *logger) { l.leaves, l.bodies = slices.Delete(l.leaves, 4, 5), slices.Delete(l.bodies, 4, 5) }, false, "its checkpoint is over"},
		"leaves exchanged": {func(l *logger) {
			l.leaves[8], l.leaves[9] = l.leaves[9], l.leaves[8]
			l.bodies[8], l.bodies[9] = l.bodies[9], l.bodies[8]
		}, false, "entries are not those"},
		"end cut off":            {func(l *logger) { l.leaves, l.bodies = l.leaves[:6], l.bodies[:6] }, false, "its checkpoint is over"},
		"body of a step":         {func(l *logger) { l.bodies[1] = make([]byte, 20) }, false, "a step has no body"},
		"body shorter than salt": {func(l *logger) { l.bodies[2] = []byte{1} }, false, "salted body"},
		"genesis twice":          {func(l *logger) { l.leaves = append(l.leaves, l.leaves[0]); l.bodies = append(l.bodies, l.bodies[0]) }, true, "has no place here"},
		"no genesis":             {func(l *logger) { l.leaves, l.bodies = l.leaves[1:], l.bodies[1:] }, true, "has no place here"},
		"counter repeated":       {func(l *logger) { l.counter--; l.step() }, true, "the counter goes from"},
		"no step at the end":     {func(l *logger) { l.leaf(auditlog.Leaf{Kind: auditlog.Refused}, []byte("result")) }, true, "not a step"},
		"order not approved": {func(l *logger) {
			officers := l.officers
			l.officers = []crypto.Signer{officers[0], officers[0]}
			l.order(protocol.KindCreateKey, protocol.CreateKey{Label: "second", Algorithm: "P-256"}, nil, protocol.Result{Key: spkiOf(l.t, ecKey(l.t, 90))})
			l.officers = officers
		}, true, "does not stand"},
		"order twice": {func(l *logger) {
			l.order(protocol.KindCreateKey, protocol.CreateKey{Label: "issuing", Algorithm: "P-256"}, nil, protocol.Result{Key: spkiOf(l.t, ecKey(l.t, 90))})
		}, true, "there is a key issuing already"},
		"order erased":   {func(l *logger) { l.bodies[2] = nil }, false, "can't be decided again"},
		"genesis erased": {func(l *logger) { l.bodies[0] = nil }, false, "--genesis"},
	} {
		t.Run(name, func(t *testing.T) {
			l := story(t)
			l.export("log")
			file := l.read("log")
			if test.resign {
				test.tamper(l)
				l.export("log")
			} else {
				first := must[[]byte](t)(protocol.ReadString(bufio.NewReader(bytes.NewReader(file)), auditlog.MaxCheckpoint))
				test.tamper(l)
				l.exportUnder("log", first)
			}
			code, stdout, stderr := l.run("log verify --log @log --digest $DIGEST")
			if code != 7 || !strings.Contains(stderr, test.words) || stdout != "" {
				t.Errorf("exit %d, %q is missing in\n%s%s", code, test.words, stdout, stderr)
			}
		})
	}
}

func TestLogErased(t *testing.T) {
	l := story(t)
	l.export("log")
	for i := range l.bodies {
		leaf := must[auditlog.Leaf](t)(auditlog.ParseLeaf(l.leaves[i]))
		if leaf.Kind != auditlog.Order {
			l.bodies[i] = nil
		}
	}
	l.export("log")
	l.write("genesis", l.genesis)
	l.ok("log verify --log @log --digest $DIGEST --genesis @genesis")
	l.ok("log verify --log @log --digest $DIGEST --introduction @introduction")
	stdout, _ := l.ok("log audit --log @log --digest $DIGEST --genesis @genesis")
	if !strings.Contains(stdout, "intents erased 3") || !strings.Contains(stdout, "erased     3") {
		t.Errorf("audit of what was erased:\n%s", stdout)
	}
}

func TestLogDamage(t *testing.T) {
	l := story(t)
	l.export("log")
	file := l.read("log")
	for i := 0; i < len(file); i += 97 {
		l.write("log", flip(file, i))
		if code, stdout, _ := l.run("log verify --log @log --digest $DIGEST"); code != 7 || stdout != "" {
			t.Errorf("byte %d flipped: exit %d, %s", i, code, stdout)
		}
		l.write("log", file[:i])
		if code, stdout, _ := l.run("log verify --log @log --digest $DIGEST"); code != 7 || stdout != "" {
			t.Errorf("cut at %d: exit %d, %s", i, code, stdout)
		}
	}
}
