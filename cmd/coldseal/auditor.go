package main

import (
	"crypto/x509"
	"fmt"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/policy"
	"coldseal/protocol/show"
)

// maxFindings bounds the list; the number goes on.
const maxFindings = 1000

// auditor asks of every certificate in a log whether it was announced first, and whether enough persons approved it by
// the roster, the policy and the approver certificates of that moment. Revocations, holds and releases are logged with
// their results only, so their approvals are not asked for here; nor are requesters and current keys, whose signatures
// the log does not hold.
type auditor struct {
	approvers map[protocol.Digest]*certified // by key
	holders   map[string]*certified          // the same, by issuer and serial
	pending   map[string]announced
	crls      map[protocol.Digest]crlCount
	profiles  map[string]*profileCount
	compiled  *policy.Compiled
	of        protocol.Digest // the policy that compiled is of

	burned   []show.Sheet
	findings []string
	found    int
	unknown  uint64 // intents whose body was erased
	discount uint64 // approvals that did not count
}

// certified is the holder of an approver certificate, as the log has issued and changed it.
type certified struct {
	policy.Approver
	key                 cose.Key
	status              auditlog.Status
	notBefore, notAfter int64
}

type announced struct {
	tbs     protocol.Digest
	request protocol.Digest
	at      uint64
}

type crlCount struct {
	announced int
	number    uint64
}

type profileCount struct{ issued, approved, byOrder, byKey, unread uint64 }

func newAuditor() *auditor {
	return &auditor{approvers: map[protocol.Digest]*certified{}, holders: map[string]*certified{}, pending: map[string]announced{},
		crls: map[protocol.Digest]crlCount{}, profiles: map[string]*profileCount{}}
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

// entry audits one leaf. An error is that the log can't be read; what is wrong in it is a finding.
func (a *auditor) entry(r *replay, e *entry) error {
	switch e.leaf.Kind {
	case auditlog.Intents:
		return a.intents(r, e)
	case auditlog.Issued:
		return a.issued(r, e)
	case auditlog.Changed:
		if h := a.holders[certificateKey(e.leaf.Issuer, e.leaf.Serial)]; h != nil {
			h.status = e.leaf.Status
		}
	case auditlog.Burned:
		a.burned = append(a.burned, show.Sheet{{Name: "entry", Value: e.index}, {Name: "issuer", Value: fmt.Sprintf("%x", e.leaf.Issuer)},
			{Name: "serial", Value: fmt.Sprintf("%x", e.leaf.Serial)}, {Name: "profile", Value: e.leaf.Profile}, {Name: "time", Value: protocol.Date(e.leaf.Time)}})
		a.conclude(e)
	case auditlog.CRL:
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
	return nil
}

// conclude takes the intent of a serial away, and finds fault if there was none.
func (a *auditor) conclude(e *entry) (announced, bool) {
	key := certificateKey(e.leaf.Issuer, e.leaf.Serial)
	in, found := a.pending[key]
	if !found && a.unknown == 0 {
		a.find(e, "serial %x is %s without an intent", e.leaf.Serial, e.leaf.Kind)
	}
	delete(a.pending, key)
	return in, found
}

// intents decides the requests of a batch again.
func (a *auditor) intents(r *replay, e *entry) error {
	if e.body == nil {
		a.unknown++
		return nil
	}
	var body auditlog.IntentsBody
	if err := cose.Unmarshal(e.body, &body); err != nil {
		return err
	}
	if uint64(len(body.Intents)) != e.leaf.Number {
		a.find(e, "announces %d signatures, its body has %d", e.leaf.Number, len(body.Intents))
	}
	if digest := protocol.DigestOf(r.state.Policy); a.compiled == nil || a.of != digest {
		var err error
		if a.compiled, err = policy.Compile(r.state.CurrentPolicy()); err != nil {
			return err
		}
		a.of = digest
	}
	given := a.open(r, e, body.Approvals)
	for _, in := range body.Intents {
		if len(in.Serial) == 0 {
			c := a.crls[in.Issuer]
			c.announced++
			a.crls[in.Issuer] = c
			continue
		}
		key := certificateKey(in.Issuer[:], in.Serial)
		if other, again := a.pending[key]; again {
			a.find(e, "serial %x was announced in entry %d", in.Serial, other.at)
		}
		a.pending[key] = announced{in.TBS, protocol.ID(in.Request), e.index}
		a.decide(r, e, in.Request, given)
	}
	return nil
}

// given is an approval whose signature was verified.
type given struct {
	protocol.Approval
	who      policy.Approver
	discount *protocol.Refusal
}

// open verifies approvals by the keys of the roster and of approver certificates that the log had issued by then.
func (a *auditor) open(r *replay, e *entry, messages [][]byte) []given {
	var all []given
	for _, message := range messages {
		id, err := cose.KeyID(message)
		if err != nil {
			a.discount++
			continue
		}
		g := given{}
		var key cose.Key
		if o, officerKey, found := auditlog.Officer(r.state.CurrentRoster(), id); found {
			g.who, key = o.Approver(), officerKey
			if o.Suspended {
				g.discount = protocol.Refuse(protocol.CodeApproverSuspended, "person", o.Person)
			}
		} else if h := a.approvers[id]; h != nil {
			g.who, key = h.Approver, h.key
			switch {
			case h.status != auditlog.Active:
				g.discount = protocol.Refuse(protocol.CodeApproverRevoked, "person", h.Person, "status", h.status.String())
			case e.leaf.Time < h.notBefore || e.leaf.Time > h.notAfter:
				g.discount = protocol.Refuse(protocol.CodeApproverExpired, "person", h.Person, "from", protocol.Date(h.notBefore), "to", protocol.Date(h.notAfter))
			}
		} else {
			a.discount++
			continue
		}
		var refusal *protocol.Refusal
		if g.Approval, refusal = protocol.OpenApproval(message, key); refusal != nil {
			a.discount++
			continue
		}
		if g.discount == nil {
			g.discount = auditlog.CheckApproval(&g.Approval, r.typed, g.who.Person, e.leaf.Time)
		}
		if g.discount != nil {
			a.discount++
		}
		all = append(all, g)
	}
	return all
}

// decide asks whether a request was approved by enough persons. Orders are decided again by the replay.
func (a *auditor) decide(r *replay, e *entry, raw []byte, approvals []given) {
	id := protocol.ID(raw)
	req, refusal := protocol.ParseRequest(raw)
	if refusal != nil {
		a.find(e, "request %s: %s", id, refusal.Words())
		return
	}
	if req.Appliance != r.typed {
		a.find(e, "request %s is for another appliance", id)
	}
	if req.Kind.IsOrder() {
		a.profile(req.Profile).byOrder++
		return
	}
	c, refusal := req.Issuance()
	if refusal != nil {
		a.find(e, "request %s: %s", id, refusal.Words())
		return
	}
	profile, found := a.compiled.Profile(req.Profile)
	if !found || profile.Digest != req.ProfileDigest {
		a.find(e, "request %s is under a profile %s that was not in force", id, req.Profile)
		return
	}
	var approved []policy.Approved
	for _, g := range approvals {
		if entry, covers := g.Entry(id); covers {
			approved = append(approved, policy.Approved{Approver: g.who, Entry: entry, Covers: len(g.Entries), Discount: g.discount})
		}
	}
	subject := ""
	if profile.Use.IsPerson() {
		subject = req.Subject
	}
	target := protocol.Scope{Profile: req.Profile, Body: req.Body}
	rule := profile.RuleFor(req.Kind, c.Origin)
	refusal = rule.Decide(target, subject, "", approved)
	if refusal == nil {
		refusal = a.compiled.Escalation(rule, target, c.Scopes, subject, "", approved)
	}
	switch {
	case refusal == nil:
		a.profile(req.Profile).approved++
	case req.Kind == protocol.KindRenew && c.Origin == protocol.OriginCurrent && profile.Renew != (policy.Renewal{}):
		a.profile(req.Profile).byKey++
	default:
		a.find(e, "request %s (%s for %s) was not approved enough: %s", id, req.Profile, req.Body, refusal.Words())
	}
}

// issued holds a certificate against its intent and the key of its CA, and learns who may approve with it.
func (a *auditor) issued(r *replay, e *entry) error {
	in, found := a.conclude(e)
	count := a.profile(e.leaf.Profile)
	count.issued++
	if e.body == nil {
		count.unread++
		return nil
	}
	result, err := protocol.ParseResult(e.body)
	if err != nil {
		return err
	}
	c, err := x509.ParseCertificate(result.Certificate)
	if err != nil {
		a.find(e, "the certificate can't be read: %v", err)
		return nil
	}
	issuer := protocol.Digest(e.leaf.Issuer)
	if string(c.SerialNumber.Bytes()) != string(e.leaf.Serial) || result.Issuer != issuer {
		a.find(e, "the certificate is not the one that the entry names")
	}
	if found && (protocol.DigestOf(c.RawTBSCertificate) != in.tbs || result.ID != in.request) {
		a.find(e, "the certificate %x is not what entry %d announced", e.leaf.Serial, in.at)
	}
	if err := signedBy(c, r.state.CAs[issuer].SPKI); err != nil {
		a.find(e, "the certificate %x is not signed by the key of %s: %v", e.leaf.Serial, issuer, err)
	}
	scope, isApprover, err := protocol.ScopeOf(c)
	if err != nil {
		a.find(e, "the scopes of %x can't be read: %v", e.leaf.Serial, err)
	} else if isApprover {
		return a.learn(e, c, scope)
	}
	return nil
}

func (a *auditor) learn(e *entry, c *x509.Certificate, scope protocol.ApproverScope) error {
	key, err := cose.ParseKey(c.RawSubjectPublicKeyInfo)
	if err != nil {
		a.find(e, "the approver's key can't be read: %v", err)
		return nil
	}
	h := &certified{key: key, status: auditlog.Active, notBefore: c.NotBefore.Unix(), notAfter: c.NotAfter.Unix()}
	h.Person, h.Roles, h.Scopes = scope.Person, []string{policy.RoleApprover}, scope.Scopes
	a.approvers[key.ID()] = h
	a.holders[certificateKey(e.leaf.Issuer, e.leaf.Serial)] = h
	return nil
}

func signedBy(c *x509.Certificate, spki []byte) error {
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return fmt.Errorf("the CA's key is not known: %w", err)
	}
	return (&x509.Certificate{PublicKey: public}).CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature)
}
