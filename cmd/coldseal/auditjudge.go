package main

import (
	"bytes"
	"fmt"
	"slices"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/policy"
)

// question is one request that is decided again, with what it came with.
type question struct {
	*replay
	entry     *entry
	approvals []given
	item      protocol.Item
	id        protocol.Digest
	req       protocol.Request
	requester string
	undecided bool // what would have to decide it was erased
}

// judge tells why the appliance should have refused a request, if it should have. What it approved goes into n.
func (a *auditor) judge(q *question, in auditlog.Intent, n *announced) *protocol.Refusal {
	now := q.entry.leaf.Time
	switch {
	case q.req.Appliance != q.typed:
		return protocol.Refuse(protocol.CodeWrongAppliance, "appliance", q.req.Appliance.String())
	case now >= q.req.Expires:
		return protocol.Refuse(protocol.CodeRequestExpired, "expires", protocol.Date(q.req.Expires))
	case q.req.Kind.TakesAway(): // whoever asks
		return a.judgeTaking(q, in)
	case q.req.Created > now+auditlog.Skew:
		return protocol.Refuse(protocol.CodeRequestEarly, "created", protocol.Date(q.req.Created))
	}
	if refusal := a.ask(q); refusal != nil {
		return refusal
	}
	switch q.req.Kind {
	case protocol.KindRelease:
		return a.judgeRelease(q, in)
	case protocol.KindWithdraw: // needs no approval
		_, refusal := q.req.Withdrawal()
		return refusal
	}
	return a.judgeIssuance(q, n)
}

// ask finds the person who signed that they ask, and may not approve.
func (a *auditor) ask(q *question) *protocol.Refusal {
	if len(q.item.Requester) == 0 {
		return nil
	}
	id, err := cose.KeyID(q.item.Requester)
	if err != nil {
		return protocol.Refuse(protocol.CodeApprovalInvalid, "reason", err.Error())
	}
	who, key, _, found := a.person(q.replay, q.entry, id)
	if !found {
		q.undecided = a.lost > 0
		return protocol.Refuse(protocol.CodeApproverUnknown, "key", protocol.Digest(id).String())
	}
	if err := protocol.VerifyID(q.item.Requester, protocol.ContextRequester, key, q.id); err != nil {
		return protocol.Refuse(protocol.CodeApprovalInvalid, "reason", err.Error())
	}
	q.requester = who.Person
	return nil
}

// approved collects what the approvals say about the request. Those for taking away may have been made later than the
// appliance's clock said.
func (a *auditor) approved(q *question) []policy.Approved {
	var approved []policy.Approved
	for i := range q.approvals {
		g := &q.approvals[i]
		entry, covers := g.Entry(q.id)
		if !covers {
			continue
		}
		now, restored, discount := q.entry.leaf.Time, q.state.Restored, g.discount
		if q.req.Kind.TakesAway() {
			now, restored = max(now, g.Created), 0
		}
		if discount == nil {
			discount = auditlog.CheckApproval(&g.Approval, q.typed, g.who.Person, now, restored)
		}
		if discount != nil {
			a.discount++
		}
		approved = append(approved, policy.Approved{Approver: g.who, Entry: entry, Covers: len(g.Entries), Discount: discount})
	}
	return approved
}

func (a *auditor) judgeIssuance(q *question, n *announced) *protocol.Refusal {
	c, refusal := q.req.Issuance()
	if refusal != nil {
		return refusal
	}
	p, found := a.compiled.Profile(q.req.Profile)
	if !found || p.Use.IsCA() {
		return protocol.Refuse(protocol.CodeProfileUnknown, "profile", q.req.Profile)
	}
	if p.Digest != q.req.ProfileDigest {
		return protocol.Refuse(protocol.CodeProfileChanged, "profile", q.req.Profile)
	}
	rule, target, approved := p.RuleFor(q.req.Kind, c.Origin), protocol.Scope{Profile: q.req.Profile, Body: q.req.Body}, a.approved(q)
	quorum := rule.Decide(target, q.req.Subject, q.requester, approved)
	if quorum == nil {
		quorum = q.state.CurrentPolicy().Escalation(rule, target, c.Scopes, q.req.Subject, q.requester, approved)
	}
	n.persons = quorum == nil
	if c.Renews == nil {
		return quorum
	}
	n.renews = certificateKey(c.Renews.Issuer[:], c.Renews.Serial)
	return a.judgeRenewal(q, c, p, quorum)
}

// judgeRenewal asks whether a certificate might be renewed, and by its key alone if persons did not approve (law 4).
func (a *auditor) judgeRenewal(q *question, c protocol.Issuance, p *policy.CompiledProfile, quorum *protocol.Refusal) *protocol.Refusal {
	now, serial := q.entry.leaf.Time, fmt.Sprintf("%x", c.Renews.Serial)
	old := a.certificates[certificateKey(c.Renews.Issuer[:], c.Renews.Serial)]
	switch {
	case old == nil:
		return protocol.Refuse(protocol.CodeNotOurs, "serial", serial)
	case old.status != auditlog.Active:
		return protocol.Refuse(protocol.CodeNotActive, "serial", serial, "status", old.status.String())
	case old.renewed != 0:
		return protocol.Refuse(protocol.CodeAlreadyRenewed, "serial", serial)
	case !old.known():
		q.undecided = true
		return nil
	case now > old.notAfter:
		return protocol.Refuse(protocol.CodeNotActive, "serial", serial, "status", "expired")
	case !old.isOf(&q.req):
		return protocol.Refuse(protocol.CodeSubjectMismatch, "field", "subject", "profile", p.Name, "reason", "it is not that of the certificate to be renewed")
	}
	signed := len(q.item.Current) != 0
	if signed || c.Origin == protocol.OriginCurrent {
		if err := verifyCurrent(q, old.spki); err != nil {
			return protocol.Refuse(protocol.CodeKeyNotVouched, "origin", protocol.OriginCurrent.String(), "reason", err.Error())
		}
	}
	if signed && quorum != nil && q.req.Created <= q.state.Restored {
		return protocol.Refuse(protocol.CodeApprovalVoid, "person", "the current key", "date", protocol.Date(q.state.Restored))
	}
	if quorum == nil || !signed || c.Origin != protocol.OriginCurrent || p.Renew.WindowDays == 0 || p.Use == policy.UseApprover {
		return quorum
	}
	return p.Renew.Renews(c.Renews.Serial, now, old.notAfter, old.approved)
}

func verifyCurrent(q *question, spki []byte) error {
	key, err := cose.ParseKey(spki)
	if err != nil {
		return err
	}
	return protocol.VerifyID(q.item.Current, protocol.ContextCurrentKey, key, q.id)
}

// isOf tells whether a request names the certificate's own profile, body and subject.
func (c *certificate) isOf(req *protocol.Request) bool {
	return c.profile == req.Profile && c.body == req.Body && c.subject == req.Subject
}

func (a *auditor) judgeTaking(q *question, in auditlog.Intent) *protocol.Refusal {
	content, refusal := q.req.Revocation()
	if refusal != nil {
		return refusal
	}
	a.unlogged(q, in, content)
	return a.judgeStanding(q, in, content.Serial, "")
}

// unlogged learns of a certificate that comes with the request to revoke it because the log does not know it.
func (a *auditor) unlogged(q *question, in auditlog.Intent, content protocol.Revocation) {
	key := certificateKey(in.Issuer[:], in.Serial)
	if a.certificates[key] != nil || content.Certificate == nil {
		return
	}
	cert, err := auditlog.SignedBy(content.Certificate, q.state.CAs[in.Issuer].SPKI)
	if err != nil || !bytes.Equal(cert.SerialNumber.Bytes(), in.Serial) {
		return
	}
	a.certificates[key] = &certificate{
		profile: shared(q.req.Profile), body: shared(q.req.Body), subject: q.req.Subject, status: auditlog.Active, changed: q.entry.index,
		spki: slices.Clone(cert.RawSubjectPublicKeyInfo), notBefore: cert.NotBefore.Unix(), notAfter: cert.NotAfter.Unix(), unlogged: true,
	}
}

func (a *auditor) judgeRelease(q *question, in auditlog.Intent) *protocol.Refusal {
	content, refusal := q.req.Release()
	if refusal != nil {
		return refusal
	}
	return a.judgeStanding(q, in, content.Serial, q.req.Subject)
}

// judgeStanding decides a request about a certificate by the rule of its own profile, and taking away by the roster's
// last resort where the policy has that profile no more. What status the certificate has is asked when it changes.
func (a *auditor) judgeStanding(q *question, in auditlog.Intent, serial []byte, subject string) *protocol.Refusal {
	c := a.certificates[certificateKey(in.Issuer[:], in.Serial)]
	switch {
	case c == nil:
		return protocol.Refuse(protocol.CodeNotOurs, "serial", fmt.Sprintf("%x", in.Serial))
	case !bytes.Equal(serial, in.Serial):
		return protocol.Refuse(protocol.CodeSubjectMismatch, "field", "serial", "profile", c.profile, "reason", "it is not that of the certificate announced")
	case c.body == "":
		q.undecided = true
		return nil
	case !c.isOf(&q.req):
		return protocol.Refuse(protocol.CodeSubjectMismatch, "field", "certificate", "profile", c.profile, "reason", "profile, body or subject of the request are not those of the certificate")
	}
	rule := q.state.CurrentRoster().LastResort()
	if p, known := a.compiled.Profile(c.profile); known && !c.unlogged {
		rule = p.RuleFor(q.req.Kind, 0)
	} else if !q.req.Kind.TakesAway() {
		return protocol.Refuse(protocol.CodeProfileUnknown, "profile", c.profile)
	}
	return rule.Decide(protocol.Scope{Profile: c.profile, Body: c.body}, subject, q.requester, a.approved(q))
}
