package main

import (
	"fmt"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/policy"
)

// certified is the holder of an approver certificate.
type certified struct {
	policy.Approver
	key         cose.Key
	certificate *certificate
}

// person finds who holds a key that was enrolled for approving, by the roster and by the approver certificates that the
// log had issued by then. The refusal tells why what they sign did not count then.
func (a *auditor) person(r *replay, e *entry, id protocol.Digest) (who policy.Approver, key cose.Key, discount *protocol.Refusal, found bool) {
	if o, key, found := auditlog.Officer(r.state.CurrentRoster(), id); found {
		if o.Suspended {
			discount = protocol.Refuse(protocol.CodeApproverSuspended, "person", o.Person)
		}
		return o.Approver(), key, discount, true
	}
	h := a.approvers[id]
	if h == nil {
		return who, key, nil, false
	}
	switch c := h.certificate; {
	case a.compromised[id]: // by another certificate of the same key
		discount = protocol.Refuse(protocol.CodeApproverRevoked, "person", h.Person, "status", protocol.ReasonKeyCompromise.String())
	case c.status != auditlog.Active:
		discount = protocol.Refuse(protocol.CodeApproverRevoked, "person", h.Person, "status", c.status.String())
	case e.leaf.Time < c.notBefore || e.leaf.Time > c.notAfter:
		discount = protocol.Refuse(protocol.CodeApproverExpired, "person", h.Person, "from", protocol.Date(c.notBefore), "to", protocol.Date(c.notAfter))
	}
	return h.Approver, h.key, discount, true
}

// given is an approval whose signature was verified.
type given struct {
	protocol.Approval
	who      policy.Approver
	discount *protocol.Refusal
}

// open verifies approvals. Those whose key nobody has are counted.
func (a *auditor) open(r *replay, e *entry, messages [][]byte) []given {
	var all []given
	for _, message := range messages {
		id, err := cose.KeyID(message)
		if err != nil {
			a.discount++
			continue
		}
		who, key, discount, found := a.person(r, e, id)
		if !found {
			a.discount++
			continue
		}
		opened, refusal := protocol.OpenApproval(message, key)
		if refusal != nil {
			a.discount++
			continue
		}
		all = append(all, given{opened, who, discount})
	}
	return all
}

// intents decides again what is announced.
func (a *auditor) intents(r *replay, e *entry) error {
	if e.body == nil {
		a.unknown++
		return nil
	}
	body, err := auditlog.ParseIntents(e.body)
	if err != nil {
		return err
	}
	if uint64(len(body.Intents)) != e.leaf.Number {
		a.find(e, "announces %d things, its body has %d", e.leaf.Number, len(body.Intents))
	}
	if digest := protocol.DigestOf(r.state.Policy); a.compiled == nil || a.of != digest {
		if a.compiled, err = policy.Compile(r.state.CurrentPolicy()); err != nil {
			return err
		}
		a.of = digest
	}
	opened := a.open(r, e, body.Approvals)
	for _, in := range body.Intents {
		if len(in.Item) == 0 {
			c := a.crls[in.Issuer]
			c.announced++
			a.crls[in.Issuer] = c
			continue
		}
		a.intent(r, e, in, opened)
	}
	return nil
}

// intent decides one request again, and waits for what it becomes.
func (a *auditor) intent(r *replay, e *entry, in auditlog.Intent, opened []given) {
	q := &question{replay: r, entry: e, approvals: opened}
	var refusal *protocol.Refusal
	if q.item, refusal = protocol.ParseItem(in.Item); refusal == nil {
		q.req, refusal = protocol.ParseRequest(q.item.Request)
	}
	if refusal != nil {
		a.find(e, "announces what can't be read: %s", refusal.Words())
	}
	q.id = protocol.ID(q.item.Request)
	n := &announced{at: e.index, id: q.id, req: q.req, key: certificateKey(in.Issuer[:], in.Serial), tbs: in.TBS}
	n.req.Content = nil
	if c, other := q.req.Release(); other == nil {
		n.hold = c.Hold
	}
	if c, other := q.req.Revocation(); other == nil {
		n.lost = c.Reason == protocol.ReasonKeyCompromise
	}
	if refusal == nil {
		a.decide(q, in, n)
	}
	if in.TBS.IsZero() {
		a.changing[q.id] = *n
		return
	}
	if other, again := a.signing[n.key]; again {
		a.find(e, "serial %x was announced in entry %d", in.Serial, other.at)
	} else if a.certificates[n.key] != nil {
		a.find(e, "serial %x was used before", in.Serial)
	}
	a.signing[n.key] = *n
}

// decide counts and tells what a request comes to.
func (a *auditor) decide(q *question, in auditlog.Intent, n *announced) {
	e, kind := q.entry, q.req.Kind
	if signed := kind == protocol.KindIssue || kind == protocol.KindRenew || kind == protocol.KindSignCA || kind == protocol.KindCrossCertify; signed == in.TBS.IsZero() || in.Issuer != q.req.Issuer {
		a.find(e, "request %s to %s is announced as something else", q.id, kind)
		return
	}
	if kind.IsOrder() { // the replay decides it again, and that it is for this appliance
		if q.req.Profile != "" {
			a.profile(q.req.Profile).byOrder++
		}
		return
	}
	count := a.kind(kind)
	count.announced++
	refusal := a.judge(q, in, n)
	switch {
	case q.undecided || refusal != nil && refusal.Params["need"] != "" && a.lost > 0: // a quorum that those erased may have made
		count.undecided++
	case refusal != nil:
		count.found++
		what := fmt.Sprintf("%s × %s", q.req.Profile, q.req.Body)
		a.find(e, "request %s to %s (%s) should have been refused: %s", q.id, kind, what, refusal.Words())
	default:
		count.stands++
		if kind == protocol.KindIssue || kind == protocol.KindRenew {
			if n.persons {
				a.profile(q.req.Profile).approved++
			} else {
				a.profile(q.req.Profile).byKey++
			}
		}
	}
}
