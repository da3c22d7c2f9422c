package appliance

import (
	"errors"
	"fmt"

	"coldseal/appliance/signer"
	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
)

// Orders that end something: a key is destroyed, a CA's certificate is revoked.

// destroyKey refuses while certificates under the key live. The order is in the log before the key is gone: what was
// interrupted in between is done at the next start.
func (r *run) destroyKey(it *item, record recordOrder) (*protocol.Refusal, error) {
	c, _ := it.req.DestroyKey()
	var live uint64
	var until int64
	err := r.ledger.View(func(tx *store.Tx) error {
		return tx.EachCertificate(c.Key, func(_ []byte, other store.Certificate) error {
			if other.Status != auditlog.Revoked && other.NotAfter >= r.now && other.Key != c.Key { // its own, of a root, ends with it
				live, until = live+1, max(until, other.NotAfter)
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	if live > 0 {
		return protocol.Refuse(protocol.CodeKeyInUse, "count", fmt.Sprint(live), "label", r.state.CAs[c.Key].Label, "date", protocol.Date(until)), nil
	}
	if err := record(nil); err != nil {
		return nil, err
	}
	return nil, r.destroyOrdered()
}

// destroyOrdered destroys the keys that are still there and were ordered to be destroyed: of CAs, and of the appliance's
// own those that were replaced.
func (e *Engine) destroyOrdered() error {
	for id := range e.state.Gone {
		use, _, _ := e.state.Own.Find(id)
		if err := e.destroy(id, own[use].purpose, "replaced "+use.String()+" key"); err != nil {
			return err
		}
	}
	for id, ca := range e.state.CAs {
		if !ca.Destroyed {
			continue
		}
		if err := e.destroy(id, signer.CA, "key "+ca.Label); err != nil {
			return err
		}
	}
	return nil
}

// destroyLeft destroys at a start what was not when it was ordered. A device that does not let go of a key stops nothing:
// nobody signs with it here, and doctor tells that it is there.
func (e *Engine) destroyLeft() error {
	err := e.destroyOrdered()
	if _, trouble := signer.AsTrouble(err); trouble {
		return nil
	}
	return err
}

func (e *Engine) destroy(id protocol.Digest, purpose signer.Purpose, what string) error {
	if _, err := e.Signer.Key(id, purpose); err != nil {
		return nil // it is gone
	}
	if err := e.Signer.DestroyKey(id, purpose); err != nil {
		return fault("destroy "+what, err)
	}
	return nil
}

// revokeCA revokes a certificate that an order made: announced, then recorded together with the order, like any other
// revocation. It asks for the CRL of its issuer, which is a root's as a rule.
func (r *run) revokeCA(it *item, approvals [][]byte, now int64, record recordOrder) (*protocol.Refusal, error) {
	c, _ := it.req.CARevocation()
	var old store.Certificate
	err := r.ledger.View(func(tx *store.Tx) (err error) {
		found := false
		if old, found, err = tx.Certificate(it.req.Issuer, c.Serial); err == nil && !found {
			err = errors.New("it is missing")
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ledger: CA certificate %x: %w", c.Serial, err)
	}
	var size uint64
	err = r.step(now, func(rec *recorder) error {
		asked, err := cose.Marshal(protocol.Item{Request: it.item.Request})
		if err != nil {
			return err
		}
		size = rec.size
		return announce(rec, auditlog.IntentsBody{Intents: []auditlog.Intent{{Item: asked, Issuer: it.req.Issuer, Serial: c.Serial}}, Approvals: approvals})
	}, nil)
	if err != nil {
		return nil, err
	}
	it.result = protocol.Result{ID: it.id, Outcome: protocol.OutcomeRevoked, Issuer: it.req.Issuer, Serial: c.Serial}
	if it.result.Receipt, err = r.receipt(it.result, size, now); err != nil {
		return nil, err
	}
	r.forced = append(r.forced, it.req.Issuer)
	return nil, record(func(rec *recorder) error {
		body, err := cose.Marshal(it.result)
		if err != nil {
			return err
		}
		old.Status = auditlog.Revoked
		leaf := auditlog.Leaf{Kind: auditlog.Changed, Issuer: it.req.Issuer[:], Serial: c.Serial, Status: old.Status}
		if old.Changed, _, err = rec.append(leaf, body); err != nil {
			return err
		}
		if err := rec.tx.PutCertificate(it.req.Issuer, c.Serial, old); err != nil {
			return err
		}
		if err := markChanged(rec.tx, it.req.Issuer, old.Changed); err != nil {
			return err
		}
		if c.Reason == protocol.ReasonKeyCompromise {
			if err := rec.tx.PutKeyUse(old.Key, store.KeyUse{Compromised: true}); err != nil {
				return err
			}
		}
		return rec.tx.PutRevoked(it.req.Issuer, r.shard(it.req.Issuer, c.Serial), c.Serial, store.Revoked{
			Time: rec.now, Reason: c.Reason, Since: c.Since, Index: old.Changed, NotAfter: old.NotAfter,
		})
	})
}
