package appliance

import (
	"fmt"

	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
)

// What ends a hold, and what keeps a request from ever being done: neither signs anything.

// decideRelease asks whether the hold stands that is to be ended: that one, by its place in the log, and no later one.
// It leaves the certificate in the item.
func decideRelease(tx *store.Tx, it *item) (*protocol.Refusal, error) {
	content, refusal := it.req.Release()
	if refusal != nil {
		return refusal, nil
	}
	serial := fmt.Sprintf("%x", content.Serial)
	c, found, err := tx.Certificate(it.req.Issuer, content.Serial)
	switch {
	case err != nil:
		return nil, err
	case !found:
		return protocol.Refuse(protocol.CodeNotOurs, "serial", serial), nil
	case c.Status != auditlog.Held:
		return protocol.Refuse(protocol.CodeNotHeld, "serial", serial), nil
	case c.Changed != content.Hold:
		return protocol.Refuse(protocol.CodeSuperseded, "reason", "the certificate is on hold again, since a later entry of the log"), nil
	}
	it.old, it.serial = c, content.Serial
	return nil, nil
}

// release ends a hold. What was decided is decided again, for one before it in the batch may have ended that hold.
func (r *run) release(rec *recorder, it *item) error {
	refusal, err := decideRelease(rec.tx, it)
	if err != nil {
		return err
	}
	if refusal != nil {
		return it.conclude(rec, refusal)
	}
	c := it.old
	c.Status = auditlog.StatusAfter(it.req.Kind)
	it.result = protocol.Result{ID: it.id, Outcome: protocol.OutcomeReleased, Issuer: it.req.Issuer, Serial: it.serial}
	if err := r.change(rec, it, c); err != nil {
		return err
	}
	return rec.tx.DeleteRevoked(it.req.Issuer, r.shard(it.req.Issuer, it.serial), it.serial)
}

// decideWithdrawal asks whether the request that is to be withdrawn was withdrawn or done already.
func decideWithdrawal(tx *store.Tx, it *item) (*protocol.Refusal, error) {
	content, refusal := it.req.Withdrawal()
	if refusal != nil {
		return refusal, nil
	}
	if _, already := tx.Done(withdrawn(content.Request, it.req.Body)); already {
		return protocol.Refuse(protocol.CodeWithdrawn), nil
	}
	if index, done := tx.Done(content.Request); done {
		result, _, err := resultAt(tx, index)
		if err != nil {
			return nil, err
		}
		if result.Outcome != protocol.OutcomeRefused {
			return protocol.Refuse(protocol.CodeAlreadyDone), nil
		}
	}
	return nil, nil
}

// withdraw makes sure that a request which was not done never will be.
func (r *run) withdraw(rec *recorder, it *item) error {
	refusal, err := decideWithdrawal(rec.tx, it)
	if err != nil {
		return err
	}
	if refusal != nil {
		return it.conclude(rec, refusal)
	}
	content, _ := it.req.Withdrawal()
	it.result = protocol.Result{ID: it.id, Outcome: protocol.OutcomeWithdrawn}
	if err := it.record(rec, auditlog.Leaf{Kind: auditlog.Withdrawn}); err != nil {
		return err
	}
	return rec.tx.PutDone(withdrawn(content.Request, it.req.Body), it.answer.Index)
}
