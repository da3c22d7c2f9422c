package appliance_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"coldseal/protocol"
	"coldseal/protocol/cose"
	"coldseal/protocol/policy"
)

// voters is how many persons there are.
const voters = 6

// quorumPolicy is the library and a profile for each k; the second body is one that voters out of scope are for.
func quorumPolicy(t testing.TB) *policy.Policy {
	t.Helper()
	var text strings.Builder
	text.WriteString("policy: test\nclock_ahead: 400 days\nprofiles:\n")
	for k := 1; k <= voters; k++ {
		fmt.Fprintf(&text, `  q%d:
    use: machine
    issuers: [issuing]
    bodies: [q]
    segments: 2
    subject:
      - CN: "{body}-%d-{number}"
    fields:
      number: {pattern: '[0-9]{6}', max: 6}
    machine: "{body}-%d-{number}"
    unique: "{body}-%d-{number}"
    keys: [P-256]
    origins: [holder]
    extras: refuse
    days: 365
    key_usage: [digitalSignature]
    ext_usage: [clientAuth]
    crl_url: http://pki.example/{ca}.crl
    lint: [rfc5280]
    approve: {persons: %d, roles: [approver, voter]}
    take_away: {persons: 1, roles: [approver]}
    release: {persons: 1, roles: [approver]}
`, k, k, k, k, k)
	}
	files := must[[]policy.File](t)(policy.Files(policy.Library()))
	return must[*policy.Policy](t)(policy.Load(append(files, policy.File{Name: "quorum.yaml", Data: []byte(text.String())})...))
}

// assembly is a world with voters, each in as many persons as they have to be.
type assembly struct {
	*watch
	good     [voters]*person    // may approve; every other one is an officer
	second   [voters]*person    // the same with their other key
	twice    [voters]*person    // security officers with theirs
	by       [choices][]*person // the others, by why they don't count
	csr      pattern
	number   int
	requests int
	quorate  int
}

// ballot is one request and who approved what of it.
type ballot struct {
	raw, item []byte
	twin      protocol.Digest // the id under another version of the profile
	k         int
	did       []choice
}

const quorumBody = "q/a"

func newAssembly(t testing.TB) *assembly {
	t.Helper()
	d := &desk{world: newWorldAt(t, time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)), requests: map[string]protocol.Request{}}
	d.counted = filepath.Join(t.TempDir(), "signed")
	d.restart()
	d.root, d.issuing = d.cas()
	d.enrol()
	d.party(func(p *protocol.Party) { p.Bodies, p.BundlesPerDay, p.ItemsPerDay = []string{"q"}, 1e9, 1e12 })
	a := &assembly{watch: &watch{desk: d}, csr: newPattern(t)}
	a.people()
	a.watch = newWatch(d)
	return a
}

func (a *assembly) person(kind string, i int) *person {
	return &person{id: fmt.Sprintf("it:%s%d", kind, i), key: newKey(a.t)}
}

// people makes the roster, and approvers by as many officers as k can ask for.
func (a *assembly) people() {
	a.t.Helper()
	d := a.desk
	next := *d.engine.State().CurrentRoster()
	next.Officers = slices.Clone(next.Officers)
	enlist := func(role string, p ...*person) *policy.Officer {
		o := officer(a.t, p[0])
		o.Roles, o.Keys = []string{role}, nil
		for _, one := range p {
			o.Keys = append(o.Keys, spki(a.t, one.key))
		}
		slices.SortFunc(o.Keys, bytes.Compare)
		next.Officers = append(next.Officers, o)
		return &next.Officers[len(next.Officers)-1]
	}
	var all []*person
	for i := range 4 {
		p := a.person("OFFICERMORE", i)
		enlist("security-officer", p)
		d.officers, all = append(d.officers, p), append(all, p)
	}
	for i := range voters { // officers have two keys
		o := &next.Officers[slices.IndexFunc(next.Officers, func(o policy.Officer) bool { return o.Person == d.officers[i].id })]
		a.twice[i] = &person{id: o.Person, key: newKey(a.t)}
		o.Keys = append(slices.Clone(o.Keys), spki(a.t, a.twice[i].key))
		slices.SortFunc(o.Keys, bytes.Compare)
		all = append(all, a.twice[i])
	}
	for i := range voters {
		a.good[i] = a.person("VOTER", i)
		a.second[i] = &person{id: a.good[i].id, key: newKey(a.t)}
		a.by[suspended] = append(a.by[suspended], a.person("SUSPENDED", i))
		enlist("voter", a.by[suspended][i]).Suspended = true
		all = append(all, a.by[suspended][i])
		if i%2 == 1 {
			enlist("voter", a.good[i], a.second[i])
			all = append(all, a.good[i], a.second[i])
		}
	}
	slices.SortFunc(next.Officers, func(a, b policy.Officer) int { return strings.Compare(a.Person, b.Person) })
	d.mustOrder(d.roster(&next, all...))
	p := quorumPolicy(a.t) // which needs voters
	d.mustOrder(d.replacePolicy(p))
	d.policy = p
	for i := range voters {
		if i%2 == 0 {
			first := a.make(a.good[i], nil, quorumBody, voters, 0)
			a.make(a.second[i], first, quorumBody, voters, 0)
		}
		for c, kind := range map[choice]string{revoked: "REVOKED", expired: "EXPIRED", outOfScope: "ELSEWHERE", madeByOne: "MADEBYONE"} {
			p := a.person(kind, i)
			a.by[c] = append(a.by[c], p)
			body, by, days := quorumBody, voters, 0
			switch c {
			case expired:
				days = 1
			case outOfScope:
				body = "q/b"
			case madeByOne: // or by the two that a certificate takes, where what it allows takes six
				by = 1 + i%2
			}
			made := a.make(p, nil, body, by, days)
			if (made == nil) != (c == madeByOne) {
				a.t.Fatalf("%s: %v", p.id, made)
			}
			if c == revoked {
				r := d.request(protocol.KindRevoke, protocol.Revocation{Serial: made})
				r.Issuer, r.Profile, r.Body, r.Subject = d.issuing, "approver", body, p.id
				raw := d.encode(r)
				d.answer(d.taken(raw, d.officers[0]))
			}
		}
	}
	d.now = d.now.Add(2 * day)
}

// make asks for an approver's certificate, or for a further one beside that with a serial, on so many officers'
// approvals. It gives the serial, nil if it was refused.
func (a *assembly) make(p *person, renews []byte, body string, officers, days int) []byte {
	a.t.Helper()
	d := a.desk
	c := protocol.Issuance{CSR: csrFor(a.t, p.key), Fields: a.approverFields(), Origin: protocol.OriginHolder}
	if days != 0 {
		c.NotAfter = a.now.Add(time.Duration(days) * day).Unix()
	}
	for k := 1; k <= voters; k++ {
		c.Scopes = append(c.Scopes, protocol.Scope{Profile: fmt.Sprintf("q%d", k), Body: body})
	}
	if renews != nil {
		c.Renews = &protocol.CertificateID{Issuer: d.issuing, Serial: renews}
	}
	r := d.issue(d.issuing, "approver", body, p.id, c)
	if renews != nil {
		r.Kind = protocol.KindRenew
	}
	raw := d.encode(r)
	var approvals [][]byte
	for _, o := range d.officers[:officers] {
		approvals = append(approvals, d.approve(o, nil, both, raw))
	}
	return d.answer(group(raw, approvals...)).of(a.t, raw).result.Serial
}

// pattern is a CSR of a key, from which those of other keys are made: crypto/x509 takes twice as long, for it verifies
// what it made.
type pattern struct {
	csr   *x509.CertificateRequest
	point []byte
}

func newPattern(t testing.TB) pattern {
	t.Helper()
	key := newKey(t)
	csr := must[*x509.CertificateRequest](t)(x509.ParseCertificateRequest(csrFor(t, key)))
	return pattern{csr, must[[]byte](t)(key.PublicKey.Bytes())}
}

func (p pattern) of(t testing.TB, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	tbs := bytes.Replace(p.csr.RawTBSCertificateRequest, p.point, must[[]byte](t)(key.PublicKey.Bytes()), 1)
	digest := sha256.Sum256(tbs)
	signature := must[[]byte](t)(key.Sign(nil, digest[:], crypto.SHA256))
	algorithm := must[[]byte](t)(asn1.Marshal(pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}))
	return must[[]byte](t)(asn1.Marshal([]any{asn1.RawValue{FullBytes: tbs}, asn1.RawValue{FullBytes: algorithm}, asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}}))
}

// ask makes a request that k persons must approve; who did what is told later.
func (a *assembly) ask(number, k int, did []choice, key *ecdsa.PrivateKey) ballot {
	text := fmt.Sprintf("%06d", number)
	profile := fmt.Sprintf("q%d", k)
	r := a.issue(a.issuing, profile, quorumBody, fmt.Sprintf("a-%d-%s", k, text), protocol.Issuance{
		CSR: a.csr.of(a.t, key), Fields: map[string]string{"number": text}, Origin: protocol.OriginHolder,
	})
	b := ballot{raw: a.encode(r), k: k, did: slices.Clone(did)}
	r.ProfileDigest[0] ^= 1
	b.twin = protocol.ID(a.encode(r))
	it := protocol.Item{Request: b.raw}
	if i := slices.Index(did, asked); i >= 0 {
		it.Requester = must[[]byte](a.t)(protocol.SignID(a.good[i].key, protocol.ContextRequester, protocol.ID(b.raw)))
	}
	b.item = must[[]byte](a.t)(cose.Marshal(it))
	return b
}

// signing is one message: who signs it, with what in it.
type signing struct {
	voter int
	did   choice
	again bool // the second of two
}

// signings are the messages that a voter's choice takes.
func signings(voter int, did choice) []signing {
	switch did {
	case absent:
		return nil
	case approvedTwice, approvedByTwoKeys:
		return []signing{{voter, did, false}, {voter, did, true}}
	}
	return []signing{{voter, did, false}}
}

// sign makes a message about all the ballots in which it stands.
func (a *assembly) sign(s signing, ballots []ballot) []byte {
	p := a.good[s.voter]
	if others := a.by[s.did]; others != nil {
		p = others[s.voter]
	}
	if s.did == approvedByTwoKeys && s.again {
		p = a.second[s.voter]
	}
	m := protocol.Approval{Version: 1, Appliance: a.engine.Appliance(), Created: a.now.Unix() - 100, Expires: a.now.Add(14 * day).Unix()}
	switch {
	case s.did == old:
		m.Expires = a.now.Unix() - 1
	case s.again:
		m.Created--
	}
	counts := map[int]uint64{}
	for _, b := range ballots {
		if b.did[s.voter] != s.did {
			continue
		}
		entry := protocol.ApprovalEntry{ID: protocol.ID(b.raw), Statements: fingerprint}
		switch s.did {
		case otherProfile:
			entry.ID = b.twin
		case unstated:
			entry.Statements = nil
		}
		m.Entries = append(m.Entries, entry)
		counts[b.k]++
	}
	slices.SortFunc(m.Entries, func(x, y protocol.ApprovalEntry) int { return bytes.Compare(x.ID[:], y.ID[:]) })
	for k := 1; k <= voters; k++ {
		if counts[k] > 0 {
			m.Manifest = append(m.Manifest, protocol.Count{Kind: protocol.KindIssue, Profile: fmt.Sprintf("q%d", k), Body: quorumBody, N: counts[k]})
		}
	}
	return must[[]byte](a.t)(cose.Sign(p.key, protocol.ContextApproval, must[[]byte](a.t)(m.Encode())))
}
