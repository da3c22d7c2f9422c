package appliance

import (
	"io"
	"slices"

	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
)

// Challenge makes what the console shows for the next order, and forgets the one before: an approval counts only if it
// was made over it.
func (e *Engine) Challenge() ([]byte, error) {
	if e.broken != nil {
		return nil, e.broken
	}
	challenge := make([]byte, 16)
	_, err := io.ReadFull(e.Rand, challenge)
	if err == nil {
		err = e.ledger.Update(func(tx *store.Tx) error {
			m, err := tx.Meta()
			if err != nil {
				return err
			}
			m.Challenge = challenge
			return tx.PutMeta(m)
		})
	}
	if err != nil {
		return nil, e.stop(fault("make challenge", err))
	}
	return challenge, nil
}

// Order carries out one order from the console, whole: with the CRLs it calls for.
func (e *Engine) Order(request []byte, approvals [][]byte) (protocol.Result, error) {
	if e.broken != nil {
		return protocol.Result{}, e.broken
	}
	if e.restoring != nil {
		return e.orderRestore(request, approvals)
	}
	r := &run{Engine: e}
	r.now, r.shut = e.time()
	it := &item{item: protocol.Item{Request: request}}
	e.look(it, protocol.SectionOrders, r.now)
	err := r.order(it, approvals)
	if err == nil {
		r.now, r.shut = e.time()
		err = r.finish(nil)
	}
	return it.result, e.stop(err)
}

// orders carries out one group of orders, each in a step of its own: one may be what the next stands on.
func (r *run) orders(g protocol.Group) error {
	for _, data := range g.Items {
		r.now, r.shut = r.time() // the clock may have jumped, and orders set the time
		it := r.parse(data, g.Section, r.now)
		r.admits(it)
		if err := r.order(it, g.Approvals); err != nil {
			return err
		}
		if err := r.answer([]*item{it}); err != nil {
			return err
		}
		r.standing()
	}
	r.now, r.shut = r.time()
	return nil
}

// standing takes over what an order made of the bundle's own sender. Of one whose key was replaced or retired nothing
// more is looked at.
func (r *run) standing() {
	if party, enrolled := r.sender(protocol.DigestOf(r.bundle.Sender.Seal)); enrolled {
		*r.bundle.Sender = party
	} else {
		r.bundle.Sender.Retired = true
	}
}

// order decides an order and carries it out. One that sets the time is decided at the time it states, by the officers'
// watches, and goes on while the clock can't be believed.
func (r *run) order(it *item, approvals [][]byte) error {
	var challenge []byte
	err := r.ledger.View(func(tx *store.Tx) error {
		m, err := tx.Meta()
		if err != nil {
			return err
		}
		challenge = slices.Clone(m.Challenge)
		return it.recall(tx)
	})
	if err != nil || it.answered {
		return err
	}
	now, refusal := r.now, it.refusal
	if c, other := it.req.SetTime(); other == nil {
		now = c.Time
	} else if refusal == nil {
		refusal = r.shut
	}
	if refusal == nil {
		_, refusal = r.state.Authorize(it.item.Request, approvals, challenge, now)
	}
	if refusal == nil {
		if refusal, err = r.carryOut(it, approvals, challenge, now); refusal == nil || err != nil {
			return err
		}
	}
	return r.step(r.now, func(rec *recorder) error { return it.conclude(rec, refusal) }, nil)
}

// carryOut does what an authorized order says. A refusal means that nothing changed.
func (r *run) carryOut(it *item, approvals [][]byte, challenge []byte, now int64) (refusal *protocol.Refusal, err error) {
	it.result = protocol.Result{ID: it.id, Outcome: protocol.OutcomeDone}
	record := func(more func(*recorder) error) error {
		return r.step(now, func(rec *recorder) error { return r.recordOrder(rec, it, approvals, challenge, more) }, nil)
	}
	switch it.req.Kind {
	case protocol.KindCreateKey:
		refusal, err = r.createKey(it)
	case protocol.KindSignCA:
		return r.signCA(it, approvals, now, record)
	case protocol.KindSetTime:
		if now < r.Built.Unix() {
			refusal = protocol.Refuse(protocol.CodeTimeOutside, "time", protocol.Date(now), "reason", "this release was built on "+protocol.Date(r.Built.Unix()))
		}
	case protocol.KindCRL:
		return r.orderCRL(it, record)
	case protocol.KindRoster:
		refusal, err = r.checkRoster(it)
	case protocol.KindPolicy:
		refusal, err = r.checkPolicy(it)
	case protocol.KindAgent, protocol.KindStation:
		refusal, err = r.checkParty(it)
	case protocol.KindRestore:
		return protocol.Refuse(protocol.CodeNotRestoring, "reason", errLiving.Error()), nil
	case protocol.KindDestroyKey:
		return r.destroyKey(it, record)
	case protocol.KindRotateKey:
		return r.rotateKey(it, approvals, challenge, now)
	case protocol.KindCrossCertify:
		return r.crossCertify(it, approvals, now, record)
	case protocol.KindRevokeCA:
		return r.revokeCA(it, approvals, now, record)
	case protocol.KindSuspend, protocol.KindRecovery, protocol.KindForeignCA: // the state is all that they change
	}
	if refusal != nil || err != nil {
		return refusal, err
	}
	return nil, record(nil)
}

// recordOrder logs an order and brings state and ledger to what it says.
func (r *run) recordOrder(rec *recorder, it *item, approvals [][]byte, challenge []byte, more func(*recorder) error) error {
	result, err := cose.Marshal(it.result)
	if err != nil {
		return err
	}
	body, err := cose.Marshal(auditlog.OrderBody{Request: it.item.Request, Approvals: approvals, Challenge: challenge, Result: result})
	if err != nil {
		return err
	}
	it.answered, it.answer.Body = true, result
	index, _, err := rec.append(auditlog.Leaf{Kind: auditlog.Order}, body)
	if err != nil {
		return err
	}
	if err := rec.tx.PutDone(it.id, index); err != nil {
		return err
	}
	if err := r.state.Carry(&it.req, it.result, index, rec.now); err != nil {
		return err
	}
	if more != nil {
		if err := more(rec); err != nil {
			return err
		}
	}
	if err := writeState(rec.tx, r.state, index); err != nil {
		return err
	}
	return r.adopt()
}

// writeState brings the ledger to what the orders folded to. A challenge is used up by an order.
func writeState(tx *store.Tx, s *auditlog.State, index uint64) error {
	m, err := tx.Meta()
	if err != nil {
		return err
	}
	m.Roster, m.Policy, m.Handovers, m.Challenge = s.Roster, s.Policy, s.Own.Handovers(), nil
	if recorded(s, m.Making) {
		m.Making = ""
	}
	for name, record := range s.Parties {
		if err := tx.PutParty(name, record); err != nil {
			return err
		}
	}
	for id, ca := range s.CAs {
		known, found, err := tx.CA(id)
		if err != nil {
			return err
		}
		if !found {
			known.Made = index
		}
		known.Label, known.SPKI, known.Certificate, known.Profile = ca.Label, ca.SPKI, ca.Certificate, ca.Profile
		if err := tx.PutCA(id, known); err != nil {
			return err
		}
	}
	return tx.PutMeta(m)
}
