package main

import (
	"fmt"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/policy"
	"coldseal/protocol/show"
)

// maxFindings bounds the list; the number goes on.
const maxFindings = 1000

// auditor decides every request in a log again, by the roster, the policy and the certificates of that moment, and asks
// of everything that was done whether it was announced first, as what it then became. It keeps some 400 bytes for each
// certificate, and otherwise what one batch announces.
type auditor struct {
	certificates map[string]*certificate        // by issuer and serial
	approvers    map[protocol.Digest]*certified // by key
	signing      map[string]announced           // certificates on their way, by issuer and serial
	changing     map[protocol.Digest]announced  // changes and withdrawals on their way, by request
	compromised  map[protocol.Digest]bool       // keys that were reported so
	crls         map[protocol.Digest]crlCount
	profiles     map[string]*profileCount
	kinds        map[protocol.Kind]*kindCount
	compiled     *policy.Compiled
	of           protocol.Digest // the policy that compiled is of

	burned   []show.Sheet
	findings []string
	found    int
	unknown  uint64 // intents whose body was erased
	lost     uint64 // approver certificates that were erased: approvals by their keys can't be told from those of nobody
	discount uint64 // approvals that did not count
}

// certificate is what the log has said of a certificate so far. What was erased is empty.
type certificate struct {
	profile, body, subject string
	spki                   []byte
	status                 auditlog.Status
	changed                uint64 // entry that gave it this status
	renewed                uint64 // entry of its successor
	notBefore, notAfter    int64
	approved               int64 // when persons last approved it
	unlogged               bool  // no entry says it was issued: it came with the request to revoke it
}

// known tells whether request and certificate are there.
func (c *certificate) known() bool { return c.body != "" && c.spki != nil && c.approved != 0 }

// announced is what intents say of something that is going to be done.
type announced struct {
	at      uint64 // entry
	id      protocol.Digest
	req     protocol.Request // without its content
	key     string           // the certificate, by issuer and serial
	tbs     protocol.Digest
	renews  string // the certificate renewed, by issuer and serial
	persons bool   // approved it; otherwise the current key alone
	hold    uint64 // entry that a release ends
	lost    bool   // a revocation: the key is compromised
}

type crlCount struct {
	announced int
	number    uint64
}

type profileCount struct{ issued, approved, byOrder, byKey, unread uint64 }

// kindCount is what became of the requests of a kind. Undecided are those that something erased would have to decide.
type kindCount struct{ announced, stands, found, undecided, done, refused uint64 }

func newAuditor() *auditor {
	return &auditor{certificates: map[string]*certificate{}, approvers: map[protocol.Digest]*certified{}, signing: map[string]announced{},
		changing: map[protocol.Digest]announced{}, compromised: map[protocol.Digest]bool{}, crls: map[protocol.Digest]crlCount{}, profiles: map[string]*profileCount{}, kinds: map[protocol.Kind]*kindCount{}}
}

func (a *auditor) find(e *entry, format string, args ...any) {
	if a.found++; len(a.findings) < maxFindings {
		a.findings = append(a.findings, fmt.Sprintf("entry %d: %s", e.index, fmt.Sprintf(format, args...)))
	}
}

func certificateKey(issuer, serial []byte) string { return string(issuer) + string(serial) }

func (a *auditor) profile(name string) *profileCount {
	if a.profiles[name] == nil {
		a.profiles[name] = &profileCount{}
	}
	return a.profiles[name]
}

func (a *auditor) kind(k protocol.Kind) *kindCount {
	if a.kinds[k] == nil {
		a.kinds[k] = &kindCount{}
	}
	return a.kinds[k]
}

// entry audits one leaf. An error is that the log can't be read; what is wrong in it is a finding.
func (a *auditor) entry(r *replay, e *entry) error {
	switch e.leaf.Kind {
	case auditlog.Intents:
		return a.intents(r, e)
	case auditlog.Issued:
		return a.issued(r, e)
	case auditlog.Changed:
		return a.changed(e)
	case auditlog.Refused, auditlog.Withdrawn:
		return a.concluded(e)
	case auditlog.Burned:
		a.burned = append(a.burned, show.Sheet{{Name: "entry", Value: e.index}, {Name: "issuer", Value: fmt.Sprintf("%x", e.leaf.Issuer)},
			{Name: "serial", Value: fmt.Sprintf("%x", e.leaf.Serial)}, {Name: "profile", Value: e.leaf.Profile}, {Name: "time", Value: protocol.Date(e.leaf.Time)}})
		a.conclude(e)
	case auditlog.CRL:
		a.crl(e)
	}
	return nil
}

func (a *auditor) crl(e *entry) {
	id := protocol.Digest(e.leaf.Issuer)
	c := a.crls[id]
	if c.announced--; c.announced < 0 && a.unknown == 0 {
		a.find(e, "CRL %d of %s was not announced", e.leaf.Number, id)
	}
	if e.leaf.Number <= c.number {
		a.find(e, "CRL %d of %s comes after CRL %d", e.leaf.Number, id, c.number)
	}
	a.crls[id] = crlCount{max(c.announced, 0), e.leaf.Number}
}
