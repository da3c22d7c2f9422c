package appliance_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"coldseal/appliance"
	"coldseal/appliance/lint"
	"coldseal/appliance/signer"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/policy"
)

// bin is where TestMain puts the real workers.
var bin string

func TestMain(m *testing.M) {
	if file := os.Getenv(childVariable); file != "" {
		if err := child(file); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	dir, err := os.MkdirTemp("", "coldseal-")
	if err != nil {
		panic(err)
	}
	bin = dir
	for _, name := range []string{"coldseal-signer", "coldseal-lint"} {
		out, err := exec.Command("go", "build", "-o", filepath.Join(dir, name), "coldseal/cmd/"+name).CombinedOutput()
		if err != nil {
			panic(fmt.Sprintf("build %s: %v\n%s", name, err, out))
		}
	}
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		panic(err)
	}
	os.Exit(code)
}

const (
	unit = "it/058091"
	day  = 24 * time.Hour
)

// world is an appliance with its officers, and an agent that trusts and is trusted with nothing.
type world struct {
	t        testing.TB
	dir      string
	now      time.Time
	config   appliance.Config
	engine   *appliance.Engine
	officers []*person
	agent    *ecdsa.PrivateKey
	receiver *ecdsa.PrivateKey
	sequence uint64
	known    struct {
		size uint64
		root protocol.Digest
	}
	acknowledged []uint64
	policy       *policy.Policy
	patience     time.Duration           // with workers; zero is the usual one
	secret       string                  // file that opens the keys
	leaves       map[uint64][]byte       // all that responses brought
	roots        map[int64]auditlog.Hash // of the trees that responses brought
}

// person is somebody with an approval key.
type person struct {
	id     string
	key    *ecdsa.PrivateKey
	serial []byte // of an approver's certificate
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newKeys(t testing.TB, n int) []*ecdsa.PrivateKey {
	t.Helper()
	keys := make([]*ecdsa.PrivateKey, n)
	for i := range keys {
		keys[i] = newKey(t)
	}
	return keys
}

func spki(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// base is the policy of the tests: the whole library.
func base(t testing.TB) *policy.Policy {
	t.Helper()
	files := must[[]policy.File](t)(policy.Files(policy.Library()))
	files = append(files, policy.File{Name: "base.yaml", Data: []byte("policy: test\nclock_ahead: 400 days\n")})
	return must[*policy.Policy](t)(policy.Load(files...))
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldAt(t, time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC))
}

// newWorldAt is a world that begins at a time: judges without a clock of their own need the real one.
func newWorldAt(t testing.TB, now time.Time) *world {
	t.Helper()
	return newWorldUnder(t, now, base(t))
}

// newWorldUnder is a world with a policy of its own.
func newWorldUnder(t testing.TB, now time.Time, p *policy.Policy) *world {
	t.Helper()
	w := &world{t: t, dir: filepath.Join(t.TempDir(), "state"), now: now, policy: p}
	w.leaves, w.roots = map[uint64][]byte{}, map[int64]auditlog.Hash{0: auditlog.EmptyCheckpoint("").Root}
	roster := &policy.Roster{Version: 1}
	for i := range 3 {
		p := &person{id: fmt.Sprintf("it:OFFICER%d", i+1), key: newKey(t)}
		w.officers = append(w.officers, p)
		roster.Officers = append(roster.Officers, policy.Officer{
			Person: p.id, Name: p.id, Keys: [][]byte{spki(t, p.key)}, Roles: []string{"security-officer"},
			Scopes: []protocol.Scope{{Profile: protocol.Any, Body: protocol.Any}},
		})
	}
	for k := protocol.KindCreateKey; k <= protocol.KindCRL; k++ {
		roster.Orders = append(roster.Orders, policy.OrderRule{Kind: k, Persons: 2, Role: "security-officer"})
	}
	if err := os.MkdirAll(w.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	w.secret = filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(w.secret, bytes.Repeat([]byte{7}, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	w.config = w.configuration()
	w.start()
	if _, err := appliance.Genesis(w.config, "test", roster, w.policy); err != nil {
		t.Fatal(err)
	}
	w.open()
	t.Cleanup(w.stop)
	return w
}

func (w *world) configuration() appliance.Config {
	return appliance.Config{Dir: w.dir, Now: func() time.Time { return w.now }, Rand: rand.Reader, Built: w.now.Add(-30 * day)}
}

// start starts the workers.
func (w *world) start() {
	w.t.Helper()
	if err := w.workers(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) workers() (err error) {
	ctx := context.Background()
	args := []string{"--backend", "softkey", "--dir", filepath.Join(w.dir, "keys"), "--secret-file", w.secret}
	if w.config.Signer, err = signer.Start(ctx, filepath.Join(bin, "coldseal-signer"), args, signer.Options{Timeout: w.patience}); err != nil {
		return err
	}
	if w.config.Lint, err = lint.Start(ctx, filepath.Join(bin, "coldseal-lint")); err != nil {
		return err
	}
	if w.patience != 0 {
		w.config.Lint.Deadline = w.patience
	}
	return nil
}

func (w *world) open() {
	w.t.Helper()
	w.engine = must[*appliance.Engine](w.t)(appliance.Open(w.config))
}

func (w *world) stop() {
	if err := errors.Join(w.engine.Close(), w.config.Lint.Close(), w.config.Signer.Close()); err != nil {
		w.t.Error(err)
	}
}

// reopen starts the engine anew, which replays its log.
func (w *world) reopen() {
	w.t.Helper()
	if err := w.engine.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.open()
}

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

// process has the engine process a bundle.
func (w *world) process(bundle []byte) appliance.Outcome {
	w.t.Helper()
	out, err := w.engine.Process(spool{bytes.NewReader(bundle)}, func(protocol.Digest, []byte) error { return nil })
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// response opens the stored response to a bundle and verifies all of it.
func (w *world) response(sequence uint64) (protocol.ResponseHeader, map[protocol.Digest]protocol.Result, [][]byte) {
	w.t.Helper()
	r := w.read(w.responsePath(sequence))
	results := map[protocol.Digest]protocol.Result{}
	for _, a := range r.answers {
		results[a.result.ID] = a.result
	}
	return r.header, results, r.crls
}

// send seals, processes and opens the response.
func (w *world) send(groups ...protocol.Group) map[protocol.Digest]protocol.Result {
	w.t.Helper()
	if out := w.process(w.seal(groups...)); out.Refusal != nil {
		w.t.Fatalf("bundle refused: %s", out.Refusal.Words())
	}
	_, results, _ := w.response(w.sequence)
	return results
}
