package appliance_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"coldseal/protocol"
	"coldseal/protocol/cose"
)

func (w *world) request(kind protocol.Kind, content any) protocol.Request {
	w.t.Helper()
	r := protocol.Request{
		Version: protocol.Version, Appliance: w.engine.Appliance(), Kind: kind, Created: w.now.Unix(), Expires: w.now.Add(30 * day).Unix(),
		Content: must[[]byte](w.t)(cose.Marshal(content)),
	}
	if _, err := rand.Read(r.Nonce[:]); err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) encode(r protocol.Request) []byte {
	w.t.Helper()
	return must[[]byte](w.t)(cose.Marshal(r))
}

// approve makes one approval of all the requests.
func (w *world) approve(p *person, challenge []byte, statements []protocol.Statement, requests ...[]byte) []byte {
	w.t.Helper()
	a := protocol.Approval{Version: 1, Appliance: w.engine.Appliance(), Created: w.now.Unix(), Expires: w.now.Add(14 * day).Unix(), Challenge: challenge}
	var parsed []protocol.Request
	for _, raw := range requests {
		r, refusal := protocol.ParseRequest(raw)
		if refusal != nil {
			w.t.Fatal(refusal.Words())
		}
		parsed = append(parsed, r)
		a.Entries = append(a.Entries, protocol.ApprovalEntry{ID: protocol.ID(raw), Statements: statements})
	}
	slices.SortFunc(a.Entries, func(x, y protocol.ApprovalEntry) int { return bytes.Compare(x.ID[:], y.ID[:]) })
	a.Manifest = protocol.ManifestOf(parsed)
	return must[[]byte](w.t)(cose.Sign(p.key, protocol.ContextApproval, must[[]byte](w.t)(a.Encode())))
}

// order has the first two officers order something at the console.
func (w *world) order(r protocol.Request) protocol.Result {
	w.t.Helper()
	raw := w.encode(r)
	challenge := must[[]byte](w.t)(w.engine.Challenge())
	result, err := w.engine.Order(raw, [][]byte{w.approve(w.officers[0], challenge, nil, raw), w.approve(w.officers[1], challenge, nil, raw)})
	if err != nil {
		w.t.Fatal(err)
	}
	return result
}

func (w *world) mustOrder(r protocol.Request) protocol.Result {
	w.t.Helper()
	result := w.order(r)
	if result.Refusal != nil {
		w.t.Fatalf("order %s: %s (%s)", r.Kind, result.Refusal.Words(), result.Refusal.Code)
	}
	return result
}

func (w *world) digestOf(profile string) protocol.Digest {
	w.t.Helper()
	p, found := w.policy.Profile(profile)
	if !found {
		w.t.Fatalf("no profile %s", profile)
	}
	return must[protocol.Digest](w.t)(p.Digest())
}

// cas makes root and issuing CA.
func (w *world) cas() (root, issuing protocol.Digest) {
	w.t.Helper()
	for _, label := range []string{"root", "issuing"} {
		made := w.mustOrder(w.request(protocol.KindCreateKey, protocol.CreateKey{Label: label, Algorithm: "P-256"}))
		id := protocol.DigestOf(made.Key)
		profile := "root"
		if label == "root" {
			root = id
		} else {
			issuing, profile = id, "issuing-ca"
		}
		r := w.request(protocol.KindSignCA, protocol.SignCA{Key: id, Fields: w.caFields(profile)})
		r.Issuer, r.Profile, r.ProfileDigest = root, profile, w.digestOf(profile)
		w.mustOrder(r)
	}
	return root, issuing
}

// caFields gives the fields that the library's CA profiles ask for.
func (w *world) caFields(profile string) map[string]string {
	p, _ := w.policy.Profile(profile)
	fields := map[string]string{}
	for _, f := range p.Fields {
		if !f.Optional {
			fields[f.Name] = map[string]string{"name": "Test " + profile, "country": "IT", "organization": "Test"}[f.Name]
		}
	}
	return fields
}

// enrol enrols the agent.
func (w *world) enrol() {
	w.t.Helper()
	w.agent, w.receiver = newKey(w.t), newKey(w.t)
	record := must[[]byte](w.t)(cose.Marshal(protocol.Party{
		Version: 1, Name: "desk", Role: protocol.RoleAgent, Seal: spki(w.t, w.agent), Receiver: spki(w.t, w.receiver),
		Bodies: []string{"gr", "it"}, BundlesPerDay: 1000, ItemsPerDay: 1000000,
	}))
	w.mustOrder(w.request(protocol.KindAgent, protocol.Enrolment{Party: record}))
}

func csrFor(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	return must[[]byte](t)(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "x"}}, key))
}

func (w *world) issue(issuing protocol.Digest, profile, body, subject string, c protocol.Issuance) protocol.Request {
	w.t.Helper()
	r := w.request(protocol.KindIssue, c)
	r.Issuer, r.Profile, r.ProfileDigest, r.Body, r.Subject = issuing, profile, w.digestOf(profile), body, subject
	return r
}

func (w *world) workstation(issuing protocol.Digest, body, number string, key crypto.Signer) protocol.Request {
	w.t.Helper()
	return w.issue(issuing, "it-workstation", body, filepath.Base(body)+"-PC-"+number, protocol.Issuance{
		CSR: csrFor(w.t, key), Fields: map[string]string{"number": number}, Origin: protocol.OriginHolder,
	})
}

// both are the statements of an approver who met the holder.
var both = []protocol.Statement{protocol.StatementPresence, protocol.StatementFingerprint}

// fingerprint is stated about keys that a machine's administrator made.
var fingerprint = []protocol.Statement{protocol.StatementFingerprint}

// approver gives somebody an approver certificate in a bundle of its own.
func (w *world) approver(issuing protocol.Digest, id string, scopes ...protocol.Scope) *person {
	w.t.Helper()
	return w.approverFrom(issuing, id, time.Time{}, scopes...)
}

// approverFrom is approver with a certificate that begins at a time; zero is now.
func (w *world) approverFrom(issuing protocol.Digest, id string, from time.Time, scopes ...protocol.Scope) *person {
	w.t.Helper()
	p := &person{id: id, key: newKey(w.t)}
	c := protocol.Issuance{CSR: csrFor(w.t, p.key), Fields: w.approverFields(), Origin: protocol.OriginHolder, Scopes: scopes}
	if !from.IsZero() {
		c.NotBefore = from.Unix()
	}
	raw := w.encode(w.issue(issuing, "approver", scopes[0].Body, id, c))
	answers := w.send(group(raw, w.approve(w.officers[0], nil, both, raw), w.approve(w.officers[1], nil, both, raw)))
	a := answers[protocol.ID(raw)]
	if a.Outcome != protocol.OutcomeIssued {
		w.t.Fatalf("approver %s: %s", id, a.Refusal.Words())
	}
	p.serial = a.Serial
	return p
}

func (w *world) approverFields() map[string]string {
	p, _ := w.policy.Profile("approver")
	fields := map[string]string{}
	for _, f := range p.Fields {
		if !f.Optional {
			fields[f.Name] = map[string]string{"name": "Rossi Carla", "surname": "Rossi", "given-name": "Carla", "country": "IT"}[f.Name]
		}
	}
	return fields
}

// group is one request with its approvals.
func group(raw []byte, approvals ...[]byte) protocol.Group {
	r, refusal := protocol.ParseRequest(raw)
	section := protocol.SectionRequests
	if refusal == nil {
		section = protocol.SectionOf(r.Kind)
	}
	item, err := cose.Marshal(protocol.Item{Request: raw})
	if err != nil {
		panic(err)
	}
	return protocol.Group{Section: section, Approvals: approvals, Items: [][]byte{item}}
}

// spool is a bundle or response in memory.
type spool struct{ *bytes.Reader }

func (s spool) Size() int64 { return s.Reader.Size() }

// seal makes a bundle of the groups under the agent's next number.
func (w *world) seal(groups ...protocol.Group) []byte {
	w.t.Helper()
	w.sequence++
	return w.sealAs(w.sequence, groups...)
}

func (w *world) sealAs(sequence uint64, groups ...protocol.Group) []byte {
	w.t.Helper()
	return w.sealBy(w.agent, func(h *protocol.BundleHeader) { h.Sequence = sequence }, groups...)
}

// sealBy makes a bundle that is what change makes of it, sealed by any key.
func (w *world) sealBy(key crypto.Signer, change func(*protocol.BundleHeader), groups ...protocol.Group) []byte {
	w.t.Helper()
	var rest, out bytes.Buffer
	var items uint64
	for _, g := range groups {
		if err := protocol.WriteGroup(&rest, g); err != nil {
			w.t.Fatal(err)
		}
		items += uint64(len(g.Items))
	}
	h := protocol.BundleHeader{
		Version: 1, From: "desk", To: w.engine.Appliance(), Sequence: w.sequence, Created: w.now.Unix(), Expires: w.now.Add(30 * day).Unix(),
		Items: items, Rest: sha256.Sum256(rest.Bytes()), KnownSize: w.known.size, KnownRoot: w.known.root, Acknowledged: w.acknowledged,
	}
	change(&h)
	if err := protocol.WriteHeader(&out, h, key); err != nil {
		w.t.Fatal(err)
	}
	out.Write(rest.Bytes())
	return out.Bytes()
}
