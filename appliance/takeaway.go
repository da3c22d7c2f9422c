package appliance

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"

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
		if err := r.decideTaking(rec, items, approvals, g.Approvals); err != nil {
			return err
		}
		for _, it := range items {
			if err := it.recall(rec.tx); err != nil { // one before it may have been the same
				return err
			}
			if it.answered {
				continue
			}
			switch {
			case it.refusal == nil:
				r.took = true
				err = r.revoke(rec, it)
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

// decideTaking decides the revocations and holds of a group, each as if those before it were done, and logs which of
// them will be, with the approvals that they were decided by. Refusals are left in the items.
func (r *run) decideTaking(rec *recorder, items []*item, approvals []approval, messages [][]byte) error {
	var body auditlog.IntentsBody
	done := map[string]auditlog.Status{} // by those before, of the same group
	first := map[protocol.Digest]*item{}
	covers := make([]bool, len(messages))
	for _, it := range items {
		if err := it.recall(rec.tx); err != nil {
			return err
		}
		if same := first[it.id]; same != nil {
			it.refusal = same.refusal
			continue
		}
		first[it.id] = it
		if it.answered || it.refusal != nil {
			continue
		}
		if err := r.decideRevocation(rec.tx, it, approvals, done, rec.now); err != nil {
			return err
		}
		if it.refusal != nil {
			continue
		}
		done[string(store.CertificateKey(it.req.Issuer, it.serial))] = auditlog.StatusAfter(it.req.Kind)
		body.Intents = append(body.Intents, auditlog.Intent{Item: it.data, Issuer: it.req.Issuer, Serial: it.serial})
		for i := range approvals {
			_, covered := approvals[i].Entry(it.id)
			covers[i] = covers[i] || covered
		}
	}
	for i, message := range messages { // junk beside them is not logged: it may come from anybody
		if covers[i] {
			body.Approvals = append(body.Approvals, message)
		}
	}
	return announce(rec, body)
}

// decideRevocation decides one revocation or hold; a refusal is left in the item.
func (r *run) decideRevocation(tx *store.Tx, it *item, approvals []approval, done map[string]auditlog.Status, now int64) (err error) {
	content, refusal := it.req.Revocation()
	if it.refusal = refusal; refusal != nil {
		return nil
	}
	it.serial = content.Serial
	it.refusal, err = r.decideStanding(tx, it, content.Serial, "", "", approvedFor(approvals, it.id))
	if it.refusal != nil || err != nil {
		return err
	}
	status, since := it.old.Status, now
	if changed, again := done[string(store.CertificateKey(it.req.Issuer, content.Serial))]; again {
		status = changed
	} else if status != auditlog.Active {
		entry, _, err := tx.Revoked(it.req.Issuer, r.shard(it.req.Issuer, content.Serial), content.Serial)
		if err != nil {
			return err
		}
		since = entry.Time
	}
	already := protocol.CodeAlreadyRevoked
	if status == auditlog.Held {
		already = protocol.CodeAlreadyHeld
	}
	if status >= auditlog.StatusAfter(it.req.Kind) {
		it.refusal = protocol.Refuse(already, "serial", fmt.Sprintf("%x", content.Serial), "date", protocol.Date(since))
	}
	return nil
}

// revoke records one revocation or hold that was decided.
func (r *run) revoke(rec *recorder, it *item) (err error) {
	content, _ := it.req.Revocation()
	c := it.old
	shard := r.shard(it.req.Issuer, content.Serial)
	it.result = protocol.Result{ID: it.id, Outcome: protocol.OutcomeRevoked, Issuer: it.req.Issuer, Serial: content.Serial}
	reason := content.Reason
	c.Status = auditlog.StatusAfter(it.req.Kind)
	if it.req.Kind == protocol.KindHold {
		it.result.Outcome, reason = protocol.OutcomeHeld, protocol.ReasonCertificateHold
	}
	if it.result.Receipt, err = r.receipt(it.result, rec.size, rec.now); err != nil {
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
	if c.Status == auditlog.Revoked {
		r.state.Revoke(it.result.Issuer, it.result.Serial)
	}
	c.Changed = it.answer.Index
	if c.Issued == 0 { // leaf 0 is the genesis: its own was lost
		c.Issued = it.answer.Index
	}
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

// receipt signs what was done, in a log of size leaves, for the one who asked.
func (r *run) receipt(result protocol.Result, size uint64, now int64) ([]byte, error) {
	payload, err := cose.Marshal(protocol.Receipt{
		Appliance: r.appliance, Request: result.ID, Outcome: result.Outcome, Issuer: result.Issuer, Serial: result.Serial, Time: now, Size: size,
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
	forgotten := found && c.Body == "" && c.Subject == "" && c.Profile == it.req.Profile
	if !found {
		if c, found = e.unlogged(it, serial); !found {
			return protocol.Refuse(protocol.CodeNotOurs, "serial", fmt.Sprintf("%x", serial)), nil
		}
		forgotten = true
	}
	if forgotten && it.req.Kind.TakesAway() { // it was issued before a restore, and whose it is nobody brought back
		it.old = c
		return e.state.CurrentRoster().LastResort().Decide(protocol.Scope{Profile: it.req.Profile, Body: it.req.Body}, subject, requester, approved), nil
	}
	if c.Profile != it.req.Profile || c.Body != it.req.Body || c.Subject != it.req.Subject {
		return protocol.Refuse(protocol.CodeSubjectMismatch, "field", "certificate", "profile", c.Profile, "reason", "profile, body or subject of the request are not those of the certificate"), nil
	}
	it.old = c
	asked := e.state.CurrentRoster().LastResort()
	if p, known := e.policy.Profile(c.Profile); known {
		asked = p.RuleFor(it.req.Kind, 0)
	} else if !it.req.Kind.TakesAway() {
		return protocol.Refuse(protocol.CodeProfileUnknown, "profile", c.Profile), nil
	}
	return asked.Decide(protocol.Scope{Profile: c.Profile, Body: c.Body}, subject, requester, approved), nil
}

// unlogged finds a certificate that comes with a request to revoke it because the log does not know it: a key of ours
// signed it, and its entry was lost with a disk. Nothing is said against taking it away.
func (e *Engine) unlogged(it *item, serial []byte) (store.Certificate, bool) {
	c, refusal := it.req.Revocation()
	ca, ours := e.state.CAs[it.req.Issuer]
	if refusal != nil || c.Certificate == nil || !ours {
		return store.Certificate{}, false
	}
	signed, err := auditlog.SignedBy(c.Certificate, ca.SPKI)
	if err != nil || !bytes.Equal(signed.SerialNumber.Bytes(), serial) {
		return store.Certificate{}, false
	}
	return unloggedAs(&it.req, signed), true
}

// unloggedAs is what the ledger says of such a certificate before it is revoked.
func unloggedAs(req *protocol.Request, signed *x509.Certificate) store.Certificate {
	return store.Certificate{
		Status: auditlog.Active, Profile: req.Profile, NotBefore: signed.NotBefore.Unix(), NotAfter: signed.NotAfter.Unix(),
		Key: protocol.DigestOf(signed.RawSubjectPublicKeyInfo), Body: req.Body, Subject: req.Subject,
	}
}

// certificate finds a certificate as a request names it. The ledger's keys hold the beginning of the issuer's id only, so
// that id is compared whole here.
func (e *Engine) certificate(tx *store.Tx, issuer protocol.Digest, serial []byte) (store.Certificate, bool, error) {
	if _, ours := e.state.CAs[issuer]; !ours {
		return store.Certificate{}, false, nil
	}
	return tx.Certificate(issuer, serial)
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
