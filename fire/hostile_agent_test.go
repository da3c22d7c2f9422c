package fire

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"coldseal/agent"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/keyfile"
	"coldseal/protocol/media"
	"coldseal/protocol/policy"
)

// hostile is an agent that somebody took over: it has the keys of the enrolled agent, makes bundles as it likes, and
// tells, sends and keeps back what it likes. People still hold their own keys; what they approve is passed to it.
//
// What it must not bring about is asked of the appliance's log, never of what the agent is told.
type hostile struct {
	*world
	t       *testing.T
	id      protocol.Digest
	name    string
	seal    crypto.Signer
	keys    *protocol.Keys // of the appliance
	policy  *policy.Policy
	issuing protocol.Digest // id of the issuing CA's key
	number  uint64          // of the last bundle
}

const (
	unit        = "it/058091"
	workstation = "it-workstation"
)

// takeOver copies a world in which all is well and takes its agent over.
func takeOver(t *testing.T) *hostile {
	t.Helper()
	return possess(t, begun(t).copy(t), "agent", 3)
}

// possess takes over the agent whose state lies in a folder, and which has sent so many bundles.
func possess(t *testing.T, w *world, folder string, sent uint64) *hostile {
	t.Helper()
	h := &hostile{world: w, t: t, name: "desk", number: sent}
	data := h.read(folder, "seal.key")
	var err error
	if h.seal, err = agent.ParseKey(data); err != nil {
		t.Fatal(err)
	}
	h.learn()
	return h
}

// learn reads what the appliance says of itself.
func (h *hostile) learn() {
	h.t.Helper()
	h.introduce(h.t)
	var err error
	if h.id, err = protocol.ParseDigest(h.digest); err != nil {
		h.t.Fatal(err)
	}
	in, err := protocol.OpenIntroduction(h.read("introduction"), h.id)
	if err != nil {
		h.t.Fatal(err)
	}
	h.keys = in.Keys
	state := in.State
	if h.policy, err = policy.Decode(state.Policy); err != nil {
		h.t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(state.CAs[slices.Index(state.Labels, "issuing")])
	if err != nil {
		h.t.Fatal(err)
	}
	h.issuing = protocol.DigestOf(ca.RawSubjectPublicKeyInfo)
}

func (h *hostile) read(parts ...string) []byte {
	h.t.Helper()
	data, err := os.ReadFile(h.path(parts...))
	if err != nil {
		h.t.Fatal(err)
	}
	return data
}

func (h *hostile) put(name string, data []byte) {
	h.t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(h.path(name)), 0o755), os.WriteFile(h.path(name), data, 0o644)); err != nil {
		h.t.Fatal(err)
	}
}

// key reads a person's key; that person is asked to sign what the test says they sign.
func (h *hostile) key(name string) crypto.Signer {
	h.t.Helper()
	key, err := keyfile.Decode(h.read(name), nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return key
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	data, err := cose.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// newCSR makes a key and a CSR by it, and gives the fingerprint that its holder's device shows.
func newCSR(t *testing.T) (csr []byte, fingerprint protocol.Digest) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if csr, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key); err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return csr, protocol.DigestOf(spki)
}

// request makes a request of the agent's own wording; change may alter it.
func (h *hostile) request(kind protocol.Kind, subject string, content any, change func(*protocol.Request)) []byte {
	h.t.Helper()
	now := time.Now().Unix()
	r := protocol.Request{Version: protocol.Version, Appliance: h.id, Kind: kind, Issuer: h.issuing, Profile: workstation, Body: unit, Subject: subject,
		Created: now - 60, Expires: now + 86400, Content: encode(h.t, content)}
	rand.Read(r.Nonce[:])
	if kind.NamesProfile() {
		p, _ := h.policy.Profile(r.Profile)
		var err error
		if r.ProfileDigest, err = p.Digest(); err != nil {
			h.t.Fatal(err)
		}
	}
	if change != nil {
		change(&r)
	}
	return encode(h.t, r)
}

// pc asks for a workstation's certificate.
func (h *hostile) pc(number string, csr []byte) []byte {
	h.t.Helper()
	return h.request(protocol.KindIssue, "058091-PC-"+number, protocol.Issuance{CSR: csr, Fields: map[string]string{"number": number}, Origin: protocol.OriginHolder}, nil)
}

// about asks for something about the certificate of a workstation that the world began with.
func (h *hostile) about(kind protocol.Kind, number string, content any) []byte {
	h.t.Helper()
	return h.request(kind, "058091-PC-"+number, content, nil)
}

func (h *hostile) serialOf(number string) []byte {
	h.t.Helper()
	serial, err := hex.DecodeString(h.serial(h.t, number))
	if err != nil {
		h.t.Fatal(err)
	}
	return serial
}

// approval is made by the real program: a person reads what it shows and signs. It gives what was shown, too.
func (h *hostile) approval(key, statements string, requests ...[]byte) (message []byte, shown string) {
	h.t.Helper()
	dir, err := os.MkdirTemp(h.dir, "desk-")
	if err != nil {
		h.t.Fatal(err)
	}
	for i, raw := range requests {
		h.put(filepath.Join(filepath.Base(dir), fmt.Sprintf("%04d.request", i)), raw)
	}
	o := h.try(h.t, "coldseal", "approve", "--key", key, "--introduction", "introduction", "--digest", h.digest, "--dir", filepath.Base(dir),
		"--statement", statements, "--full", "--yes", "--out", filepath.Base(dir)+"/out.approval")
	if o.code != 0 {
		h.t.Fatalf("approve: exit %d\n%s", o.code, o.words)
	}
	return h.read(filepath.Base(dir), "out.approval"), o.words
}

func group(approvals [][]byte, requests ...[]byte) protocol.Group {
	g := protocol.Group{Section: protocol.SectionRequests, Approvals: approvals}
	for _, raw := range requests {
		if r, refusal := protocol.ParseRequest(raw); refusal == nil {
			g.Section = protocol.SectionOf(r.Kind)
		}
		data, err := cose.Marshal(protocol.Item{Request: raw})
		if err != nil {
			panic(err) // an array of bytes
		}
		g.Items = append(g.Items, data)
	}
	return g
}

// bundle makes the plaintext of a bundle; change may alter its header.
func (h *hostile) bundle(change func(*protocol.BundleHeader), groups ...protocol.Group) []byte {
	h.t.Helper()
	var rest, whole bytes.Buffer
	now := time.Now().Unix()
	header := protocol.BundleHeader{Version: protocol.Version, From: h.name, To: h.id, Sequence: h.number, Created: now, Expires: now + 86400}
	for _, g := range groups {
		if err := protocol.WriteGroup(&rest, g); err != nil {
			h.t.Fatal(err)
		}
		header.Items += uint64(len(g.Items))
	}
	if change != nil {
		change(&header)
	}
	header.Rest = sha256.Sum256(rest.Bytes())
	if err := protocol.WriteHeader(&whole, header, h.seal); err != nil {
		h.t.Fatal(err)
	}
	return append(whole.Bytes(), rest.Bytes()...)
}

// lay puts a bundle on a stick, encrypted for the appliance.
func (h *hostile) lay(stick string, number uint64, plain io.Reader) {
	h.t.Helper()
	receiver := h.keys.Now().Receiver
	place, err := media.Name{Kind: media.Bundle, Appliance: media.Tag(h.id), Agent: h.name, Sequence: number}.Path()
	if err != nil {
		h.t.Fatal(err)
	}
	name := h.path(stick, place)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		h.t.Fatal(err)
	}
	f, err := os.Create(name)
	if err != nil {
		h.t.Fatal(err)
	}
	sealed, err := media.Encrypt(f, receiver)
	if err == nil {
		if _, err = io.Copy(sealed, plain); err == nil {
			err = sealed.Close()
		}
	}
	if err := errors.Join(err, f.Close()); err != nil {
		h.t.Fatal(err)
	}
}

// visit is what the appliance says of one bundle.
type visit struct {
	Agent    string
	Sequence uint64
	Items    uint64
	Again    bool
	Missing  []uint64
	Code     protocol.Code
	Problem  string
}

// process has the appliance process a stick, and gives what it says of each bundle.
func (h *hostile) process(stick string, flags ...string) []visit {
	h.t.Helper()
	o := h.try(h.t, append([]string{"appliance", "process", "--media", stick, "--json"}, flags...)...)
	if o.code != 0 && o.code != 1 && o.code != 4 {
		h.t.Fatalf("process: exit %d\n%s%s", o.code, o.out, o.words)
	}
	var all []visit
	for line := range strings.Lines(o.out) {
		var v visit
		if strings.TrimSpace(line) == "" {
			continue
		}
		if err := json.Unmarshal([]byte(line), &v); err != nil || v.Problem != "" {
			h.t.Fatalf("process: %v %s", err, line)
		}
		all = append(all, v)
	}
	if refused := slices.ContainsFunc(all, func(v visit) bool { return v.Code != "" }); refused == (o.code == 0) {
		h.t.Fatalf("process: exit %d\n%s%s", o.code, o.out, o.words)
	}
	return all
}

// send has a bundle of these groups processed, alone on an empty stick, and gives the answer.
func (h *hostile) send(groups ...protocol.Group) answer {
	h.t.Helper()
	h.number++
	return h.bring(h.number, h.bundle(nil, groups...))
}

// bring has a bundle processed, alone on an empty stick, and gives the answer to it.
func (h *hostile) bring(number uint64, plain []byte) answer {
	h.t.Helper()
	h.empty(h.t)
	h.lay("stick", number, bytes.NewReader(plain))
	all := h.process("stick")
	if len(all) != 1 {
		h.t.Fatalf("%d bundles were seen, want one", len(all))
	}
	if all[0].Code != "" && all[0].Code != protocol.CodeMalformed { // what is cut short is answered under its number
		number = 0
	}
	return h.answer(number, all[0])
}

// empty makes the stick an empty one.
func (w *world) empty(t *testing.T) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(w.path("stick")), os.Mkdir(w.path("stick"), 0o755)); err != nil {
		t.Fatal(err)
	}
}

// answer is a response, opened as an agent opens it.
type answer struct {
	visit
	t       *testing.T
	header  protocol.ResponseHeader
	plain   []byte
	results []protocol.Result
}

// answer opens a response on the stick; number 0 is the notice.
func (h *hostile) answer(number uint64, v visit) answer {
	h.t.Helper()
	a := answer{visit: v, t: h.t}
	a.header, a.plain = h.each(number, func(r protocol.Result) { a.results = append(a.results, r) })
	return a
}

// each goes through the answers of a response on the stick.
func (h *hostile) each(number uint64, f func(protocol.Result)) (header protocol.ResponseHeader, plain []byte) {
	h.t.Helper()
	place, err := media.Name{Kind: media.Response, Appliance: media.Tag(h.id), Agent: h.name, Sequence: number}.Path()
	if err != nil {
		h.t.Fatal(err)
	}
	plain = h.decrypt(h.t, h.path("stick", place))
	r, refusal, err := protocol.OpenResponse(bytes.NewReader(plain), h.keys, h.name)
	if refusal != nil || err != nil {
		h.t.Fatalf("open response: %v, %v", refusal, err)
	}
	for {
		part, data, err := r.Next()
		if err == io.EOF {
			return r.Header, plain
		}
		if err != nil {
			h.t.Fatal(err)
		}
		if part != protocol.PartAnswer {
			continue
		}
		_, result, err := protocol.ParseAnswer(data)
		if err != nil {
			h.t.Fatal(err)
		}
		f(result)
	}
}

// of finds what became of a request.
func (a answer) of(raw []byte) protocol.Result {
	a.t.Helper()
	for _, r := range a.results {
		if r.ID == protocol.ID(raw) {
			return r
		}
	}
	a.t.Fatalf("bundle %d: no answer to request %s among %d", a.Sequence, protocol.ID(raw), len(a.results))
	return protocol.Result{}
}

// refused wants a request refused for a reason.
func (a answer) refused(raw []byte, code protocol.Code) {
	a.t.Helper()
	if r := a.of(raw); r.Refusal == nil || r.Refusal.Code != code {
		a.t.Errorf("the request became %s %+v, want %s", r.Outcome, r.Refusal, code)
	}
}

// done wants what became of a request to be this.
func (a answer) done(raw []byte, want protocol.Outcome) {
	a.t.Helper()
	if r := a.of(raw); r.Outcome != want {
		a.t.Errorf("the request became %s %+v, want %s", r.Outcome, r.Refusal, want)
	}
}

// standing is what the log says, after all that is asked of it was found to hold: certificates by serial, and which of
// them do not stand.
type standing struct {
	*told
	status map[string]auditlog.Status // of those that ever changed
	roster string
}

// audited wants the log to verify, its audit to find nothing, and so many certificates in it.
func (h *hostile) audited(issued int) standing {
	h.t.Helper()
	s := standing{told: h.audit(h.t), status: map[string]auditlog.Status{}}
	if len(s.issued) != issued {
		h.t.Errorf("there are %d certificates in the log, want %d", len(s.issued), issued)
	}
	for _, e := range h.entries() {
		if e.leaf.Kind == auditlog.Changed {
			s.status[hex.EncodeToString(e.leaf.Serial)] = e.leaf.Status
		}
	}
	var summary struct{ Roster string }
	if err := json.Unmarshal([]byte(h.must(h.t, "coldseal", "log", "verify", "--log", "log", "--digest", h.digest, "--json")), &summary); err != nil {
		h.t.Fatal(err)
	}
	s.roster = summary.Roster
	return s
}

// entry is a leaf of the exported log with its body.
type entry struct {
	leaf auditlog.Leaf
	body []byte
}

// entries reads the log that was exported last.
func (h *hostile) entries() (all []entry) {
	h.t.Helper()
	f, err := os.Open(h.path("log"))
	if err != nil {
		h.t.Fatal(err)
	}
	defer f.Close()
	r := bufio.NewReader(f)
	for n := 0; ; n++ {
		data, err := protocol.ReadString(r, auditlog.MaxBody)
		switch {
		case err == io.EOF:
			return all
		case err != nil:
			h.t.Fatal(err)
		case n == 0: // the checkpoint
		case n%2 == 1:
			leaf, err := auditlog.ParseLeaf(data)
			if err != nil {
				h.t.Fatal(err)
			}
			all = append(all, entry{leaf: leaf})
		default:
			all[len(all)-1].body = data[min(len(data), 16):]
		}
	}
}

// begunWith is how many certificates a world begins with: two CAs, an approver and five workstations.
const begunWith = 8
