package appliance

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"coldseal/appliance/issue"
	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/policy"
)

// Taking away needs nobody's leave but its approvers' (law 6): no quota, space, sender, clock or CA key stands before
// it. It signs nothing with a CA key; the CRL follows when it can.

// takeAway carries out one group of revocations and holds. Refusals are logged only for a sender whose bundle was not
// refused, and as far as its quota goes: nobody else fills the log (law 11).
func (r *run) takeAway(g protocol.Group) error {
	items := r.parseGroup(g, r.now)
	err := r.step(r.now, func(rec *recorder) error {
		approvals, err := r.openApprovals(rec.tx, g, items, rec.now)
		if err != nil {
			return err
		}
		for _, it := range items {
			if err := it.recall(rec.tx); err != nil {
				return err
			}
			if it.answered {
				continue
			}
			if it.refusal == nil {
				if err := r.revoke(rec, it, approvals); err != nil {
					return err
				}
			}
			switch {
			case it.refusal == nil:
				r.took = true
			case r.left == 0:
				err = it.refuse(it.refusal)
			default:
				r.left--
				err = it.conclude(rec, it.refusal)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}, nil)
	if err != nil {
		return err
	}
	return r.answer(items)
}

// revoke decides one revocation or hold and records it; a refusal is left in the item.
func (r *run) revoke(rec *recorder, it *item, approvals []approval) (err error) {
	content, refusal := it.req.Revocation()
	if it.refusal = refusal; refusal != nil {
		return nil
	}
	it.refusal, err = r.decideStanding(rec.tx, it, content.Serial, "", "", approvedFor(approvals, it.id))
	if it.refusal != nil || err != nil {
		return err
	}
	c := it.old
	hold := it.req.Kind == protocol.KindHold
	serial := fmt.Sprintf("%x", content.Serial)
	shard := r.shard(it.req.Issuer, content.Serial)
	if c.Status != auditlog.Active {
		entry, _, err := rec.tx.Revoked(it.req.Issuer, shard, content.Serial)
		if err != nil {
			return err
		}
		if c.Status == auditlog.Revoked {
			it.refusal = protocol.Refuse(protocol.CodeAlreadyRevoked, "serial", serial, "date", protocol.Date(entry.Time))
			return nil
		}
		if hold {
			it.refusal = protocol.Refuse(protocol.CodeAlreadyHeld, "serial", serial, "date", protocol.Date(entry.Time))
			return nil
		}
	}
	it.result = protocol.Result{ID: it.id, Outcome: protocol.OutcomeRevoked, Issuer: it.req.Issuer, Serial: content.Serial}
	reason := content.Reason
	c.Status = auditlog.Revoked
	if hold {
		it.result.Outcome, c.Status, reason = protocol.OutcomeHeld, auditlog.Held, protocol.ReasonCertificateHold
	}
	if it.result.Receipt, err = r.receipt(it.result, rec.now); err != nil {
		return err
	}
	if err := r.change(rec, it, c); err != nil {
		return err
	}
	if reason == protocol.ReasonKeyCompromise {
		if err := rec.tx.PutKeyUse(c.Key, store.KeyUse{Name: c.Name, Compromised: true}); err != nil {
			return err
		}
	}
	return rec.tx.PutRevoked(it.req.Issuer, shard, content.Serial, store.Revoked{
		Time: rec.now, Reason: reason, Since: content.Since, Index: it.answer.Index, NotAfter: c.NotAfter,
	})
}

// change logs a new status and writes it to the ledger.
func (r *run) change(rec *recorder, it *item, c store.Certificate) error {
	leaf := auditlog.Leaf{Kind: auditlog.Changed, Issuer: it.result.Issuer[:], Serial: it.result.Serial, Status: c.Status}
	if err := it.record(rec, leaf); err != nil {
		return err
	}
	c.Changed = it.answer.Index
	if err := rec.tx.PutCertificate(it.result.Issuer, it.result.Serial, c); err != nil {
		return err
	}
	return markChanged(rec.tx, it.result.Issuer, it.answer.Index)
}

// markChanged notes that a CA's CRL has to show the leaf.
func markChanged(tx *store.Tx, issuer protocol.Digest, index uint64) error {
	ca, found, err := tx.CA(issuer)
	if err == nil && !found {
		err = errors.New("it is missing")
	}
	if err != nil {
		return fmt.Errorf("ledger: CA %s: %w", issuer, err)
	}
	ca.Changed = index
	return tx.PutCA(issuer, ca)
}

// receipt signs what was done for the one who asked.
func (r *run) receipt(result protocol.Result, now int64) ([]byte, error) {
	payload, err := cose.Marshal(protocol.Receipt{
		Appliance: r.appliance, Request: result.ID, Outcome: result.Outcome, Issuer: result.Issuer, Serial: result.Serial, Time: now,
	})
	if err != nil {
		return nil, err
	}
	return cose.Sign(r.seal, protocol.ContextReceipt, payload)
}

// decideStanding decides a request about a certificate of ours, by the rule of that certificate's own profile, and
// leaves the certificate in it.old. Subject and requester are the persons who may not approve it; taking away one's own
// certificate is nobody's to refuse.
func (e *Engine) decideStanding(tx *store.Tx, it *item, serial []byte, subject, requester string, approved []policy.Approved) (*protocol.Refusal, error) {
	c, found, err := e.certificate(tx, it.req.Issuer, serial)
	if err != nil {
		return nil, err
	}
	if !found {
		return protocol.Refuse(protocol.CodeNotOurs, "serial", fmt.Sprintf("%x", serial)), nil
	}
	if c.Profile != it.req.Profile || c.Body != it.req.Body || c.Subject != it.req.Subject {
		return protocol.Refuse(protocol.CodeSubjectMismatch, "field", "certificate", "profile", c.Profile, "reason", "profile, body or subject of the request are not those of the certificate"), nil
	}
	it.old = c
	asked := e.lastResort()
	if p, known := e.policy.Profile(c.Profile); known {
		asked = p.RuleFor(it.req.Kind, 0)
	} else if !it.req.Kind.TakesAway() {
		return protocol.Refuse(protocol.CodeProfileUnknown, "profile", c.Profile), nil
	}
	return asked.Decide(protocol.Scope{Profile: c.Profile, Body: c.Body}, subject, requester, approved), nil
}

// certificate finds a certificate as a request names it. The ledger's keys hold the beginning of the issuer's id only, so
// that id is compared whole here.
func (e *Engine) certificate(tx *store.Tx, issuer protocol.Digest, serial []byte) (store.Certificate, bool, error) {
	if _, ours := e.state.CAs[issuer]; !ours {
		return store.Certificate{}, false, nil
	}
	return tx.Certificate(issuer, serial)
}

// lastResort is the rule for taking away certificates whose profile is no longer in the policy: anybody whose scope
// covers them.
func (e *Engine) lastResort() policy.Rule {
	rule := policy.Rule{Persons: 1, Roles: []string{policy.RoleApprover}}
	for _, o := range e.state.CurrentRoster().Officers {
		rule.Roles = append(rule.Roles, o.Roles...)
	}
	slices.Sort(rule.Roles)
	rule.Roles = slices.Compact(rule.Roles)
	return rule
}

// release ends a hold: that one, by its place in the log, and no later one.
func (r *run) release(rec *recorder, it *item) error {
	content, refusal := it.req.Release()
	if refusal != nil {
		return it.conclude(rec, refusal)
	}
	serial := fmt.Sprintf("%x", content.Serial)
	c, found, err := rec.tx.Certificate(it.req.Issuer, content.Serial)
	if err != nil {
		return err
	}
	switch {
	case !found:
		return it.conclude(rec, protocol.Refuse(protocol.CodeNotOurs, "serial", serial))
	case c.Status != auditlog.Held:
		return it.conclude(rec, protocol.Refuse(protocol.CodeNotHeld, "serial", serial))
	case c.Changed != content.Hold:
		return it.conclude(rec, protocol.Refuse(protocol.CodeSuperseded, "reason", "the certificate is on hold again, since a later entry of the log"))
	}
	shard := r.shard(it.req.Issuer, content.Serial)
	c.Status = auditlog.Active
	it.result = protocol.Result{ID: it.id, Outcome: protocol.OutcomeReleased, Issuer: it.req.Issuer, Serial: bytes.Clone(content.Serial)}
	if err := r.change(rec, it, c); err != nil {
		return err
	}
	return rec.tx.DeleteRevoked(it.req.Issuer, shard, content.Serial)
}

// withdraw makes sure that a request which was not done never will be.
func (r *run) withdraw(rec *recorder, it *item) error {
	content, refusal := it.req.Withdrawal()
	if refusal != nil {
		return it.conclude(rec, refusal)
	}
	mark := withdrawn(content.Request, it.req.Body)
	if _, already := rec.tx.Done(mark); already {
		return it.conclude(rec, protocol.Refuse(protocol.CodeWithdrawn))
	}
	if index, done := rec.tx.Done(content.Request); done {
		result, _, err := resultAt(rec.tx, index)
		if err != nil {
			return err
		}
		if result.Outcome != protocol.OutcomeRefused {
			return it.conclude(rec, protocol.Refuse(protocol.CodeAlreadyDone))
		}
	}
	it.result = protocol.Result{ID: it.id, Outcome: protocol.OutcomeWithdrawn}
	if err := it.record(rec, auditlog.Leaf{Kind: auditlog.Withdrawn}); err != nil {
		return err
	}
	return rec.tx.PutDone(mark, it.answer.Index)
}

// shards is how many a CA's CRL has; the number is in the profile of its certificate.
func (e *Engine) shards(issuer protocol.Digest) uint64 {
	if p, found := e.state.CurrentPolicy().Profile(e.state.CAs[issuer].Profile); found && p.CRLShards > 0 {
		return p.CRLShards
	}
	return 1
}

func (e *Engine) shard(issuer protocol.Digest, serial []byte) uint16 {
	return uint16(issue.Shard(serial, e.shards(issuer)))
}
