package appliance_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/policy"
)

// desk is a world at work: CAs, an enrolled agent, and people who approve.
type desk struct {
	*world
	root, issuing protocol.Digest
	alp           *person                     // approves workstations, servers and robots of the unit
	rao           *person                     // approves robots of the unit as well
	suspended     *person                     // an officer who is
	narrow        *person                     // an officer who may make approvers and nothing else
	requests      map[string]protocol.Request // for workstations, the latest of each name
}

// robots is a profile for what the library has no example of: two approvers, strict about CSRs, keys vouched for by
// stations, and a name that linters object to.
const robots = `
policy: test
clock_ahead: 400 days
profiles:
  it-robot:
    use: machine
    issuers: [issuing]
    bodies: [it]
    segments: 2
    subject:
      - CN: "{body}-RB-{number}"
    names:
      - uri: "http://{host}/{body}"
        optional: true
    fields:
      host: {pattern: '[a-z]+', max: 63, optional: true}
      number: {pattern: '[0-9]{4}', max: 4}
    machine: "{body}-RB-{number}"
    unique: "{body}-RB-{number}"
    keys: [P-256]
    origins: [holder, station, attested]
    extras: refuse
    days: 365
    key_usage: [digitalSignature]
    ext_usage: [clientAuth]
    crl_url: http://pki.example/{ca}.crl
    lint: [rfc5280, community]
    approve: {persons: 2, roles: [approver]}
    take_away: {persons: 1, roles: [approver]}
    release: {persons: 1, roles: [approver]}
`

// deskPolicy is the library and robots.
func deskPolicy(t testing.TB) *policy.Policy {
	t.Helper()
	files := must[[]policy.File](t)(policy.Files(policy.Library()))
	return must[*policy.Policy](t)(policy.Load(append(files, policy.File{Name: "robots.yaml", Data: []byte(robots)})...))
}

func newDesk(t testing.TB) *desk {
	t.Helper()
	return newDeskOn(t, nil)
}

// newDeskOn is a desk whose keys are in a device.
func newDeskOn(t testing.TB, on *device) *desk {
	t.Helper()
	d := &desk{world: newWorldOn(t, time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC), deskPolicy(t), on), requests: map[string]protocol.Request{}}
	d.root, d.issuing = d.cas()
	d.enrol()
	d.alp = d.approver(d.issuing, "it:RSSCRL70A41H501X", scope("it-robot"), scope("it-server"), scope("it-workstation"))
	d.rao = d.approver(d.issuing, "it:BNCLRA65C50F205K", scope("it-robot"))
	d.suspended, d.narrow = &person{id: "it:OFFICER4", key: newKey(t)}, &person{id: "it:OFFICER5", key: newKey(t)}
	next := *d.engine.State().CurrentRoster()
	next.Officers = append(slices.Clone(next.Officers), officer(t, d.suspended), officer(t, d.narrow))
	next.Officers[3].Suspended = true
	next.Officers[4].Scopes = []protocol.Scope{{Profile: "approver", Body: "it"}}
	d.mustOrder(d.roster(&next, d.suspended, d.narrow))
	return d
}

func scope(profile string) protocol.Scope { return protocol.Scope{Profile: profile, Body: unit} }

func officer(t testing.TB, p *person) policy.Officer {
	return policy.Officer{
		Person: p.id, Name: p.id, Keys: [][]byte{spki(t, p.key)}, Roles: []string{"security-officer"},
		Scopes: []protocol.Scope{{Profile: protocol.Any, Body: protocol.Any}},
	}
}

// roster makes the order of a new roster; those who are new prove their keys.
func (w *world) roster(next *policy.Roster, proving ...*person) protocol.Request {
	w.t.Helper()
	c := protocol.Replacement{Replaces: protocol.DigestOf(w.engine.State().Roster), New: must[[]byte](w.t)(cose.Marshal(next))}
	for _, p := range proving {
		c.Possession = append(c.Possession, must[[]byte](w.t)(protocol.SignID(p.key, protocol.ContextPossession, protocol.DigestOf(c.New))))
	}
	return w.request(protocol.KindRoster, c)
}

// replacePolicy makes the order of a new policy.
func (w *world) replacePolicy(next *policy.Policy) protocol.Request {
	w.t.Helper()
	return w.request(protocol.KindPolicy, protocol.Replacement{
		Replaces: protocol.DigestOf(w.engine.State().Policy), New: must[[]byte](w.t)(cose.Marshal(next)),
	})
}

// pc is a workstation of the unit, with a key of its own.
func (d *desk) pc(number string) protocol.Request {
	d.t.Helper()
	r := d.workstation(d.issuing, unit, number, newKey(d.t))
	d.requests[r.Subject] = r
	return r
}

func (d *desk) robot(number string, key crypto.Signer, change func(*protocol.Issuance)) protocol.Request {
	d.t.Helper()
	c := protocol.Issuance{CSR: csrFor(d.t, key), Fields: map[string]string{"number": number}, Origin: protocol.OriginHolder}
	if change != nil {
		change(&c)
	}
	return d.issue(d.issuing, "it-robot", unit, filepath.Base(unit)+"-RB-"+number, c)
}

// about makes a request about a certificate that was issued to the request made.
func (d *desk) about(kind protocol.Kind, made protocol.Request, content any) protocol.Request {
	d.t.Helper()
	r := d.request(kind, content)
	r.Issuer, r.Profile, r.Body, r.Subject = made.Issuer, made.Profile, made.Body, made.Subject
	return r
}

// approved is a group of one request that people approve, with the fingerprint compared.
func (d *desk) approved(raw []byte, people ...*person) protocol.Group {
	d.t.Helper()
	var approvals [][]byte
	for _, p := range people {
		approvals = append(approvals, d.approve(p, nil, fingerprint, raw))
	}
	return group(raw, approvals...)
}

// taken is approved for what takes away: nothing is stated.
func (d *desk) taken(raw []byte, p *person) protocol.Group {
	d.t.Helper()
	return group(raw, d.approve(p, nil, nil, raw))
}

// item is a group of one item as it is.
func (d *desk) item(it protocol.Item, approvals ...[]byte) protocol.Group {
	d.t.Helper()
	return protocol.Group{Section: protocol.SectionRequests, Approvals: approvals, Items: [][]byte{must[[]byte](d.t)(cose.Marshal(it))}}
}

// answer sends groups in the next bundle, which is not refused, and gives the verified response.
func (d *desk) answer(groups ...protocol.Group) response {
	d.t.Helper()
	if out := d.process(d.seal(groups...)); out.Refusal != nil {
		d.t.Fatalf("bundle refused: %s", out.Refusal.Words())
	}
	return d.read(d.responsePath(d.sequence))
}

// issued sends a request with its approvals and gives what was issued.
func (d *desk) issued(r protocol.Request, people ...*person) protocol.Result {
	d.t.Helper()
	raw := d.encode(r)
	a := d.answer(d.approved(raw, people...)).of(d.t, raw)
	if a.result.Outcome != protocol.OutcomeIssued {
		d.t.Fatalf("%s %s: %s", r.Profile, r.Subject, a.result.Refusal.Words())
	}
	return a.result
}

// refused sends groups and asks that the request is refused so, that nothing is going to be signed, and that the
// refusal is in the log if and only if it is final.
func (d *desk) refused(raw []byte, code protocol.Code, groups ...protocol.Group) answered {
	d.t.Helper()
	issued, intents := d.logged(auditlog.Issued), d.logged(auditlog.Intents)
	a := d.answer(groups...).of(d.t, raw)
	if a.result.Outcome != protocol.OutcomeRefused || a.result.Refusal.Code != code {
		d.t.Fatalf("outcome %s, refusal %+v, want %s", a.result.Outcome, a.result.Refusal, code)
	}
	for _, words := range []string{a.result.Refusal.Words(), a.result.Refusal.Hint()} {
		if strings.Contains(words, "?") {
			d.t.Errorf("a parameter is missing: %s", words)
		}
	}
	if n := d.logged(auditlog.Issued); n != issued {
		d.t.Errorf("%d certificates were issued", n-issued)
	}
	if d.logged(auditlog.Intents) != intents {
		d.t.Error("something was going to be signed")
	}
	unread := code == protocol.CodeMalformed || code == protocol.CodeWrongAppliance
	if logged := len(a.Salt) != 0; logged == (a.result.Refusal.Open() || unread) {
		d.t.Errorf("%s is open: %v, logged: %v", code, a.result.Refusal.Open(), logged)
	}
	return a
}

// csrOf makes a CSR from a template.
func csrOf(t testing.TB, key crypto.Signer, template x509.CertificateRequest) []byte {
	t.Helper()
	template.Subject = pkix.Name{CommonName: "x"}
	return must[[]byte](t)(x509.CreateCertificateRequest(rand.Reader, &template, key))
}

// newest is the newest CRL of a CA.
func (w *world) newest(label string) *x509.RevocationList {
	w.t.Helper()
	var crl *x509.RevocationList
	if err := w.engine.CRLs(func(l string, _ uint16, c store.CRL) error {
		if l == label {
			crl = must[*x509.RevocationList](w.t)(x509.ParseRevocationList(bytes.Clone(c.DER)))
		}
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
	if crl == nil {
		w.t.Fatalf("there is no CRL of %s", label)
	}
	return crl
}

// reason tells why a serial is on a CRL; false if it is not.
func reason(crl *x509.RevocationList, serial []byte) (int, bool) {
	for _, e := range crl.RevokedCertificateEntries {
		if bytes.Equal(e.SerialNumber.Bytes(), serial) {
			return e.ReasonCode, true
		}
	}
	return 0, false
}
