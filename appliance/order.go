package appliance

import (
	"io"
	"slices"

	"coldseal/appliance/issue"
	"coldseal/appliance/lint"
	"coldseal/appliance/signer"
	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/policy"
)

// Challenge makes what the console shows for the next order, and forgets the one before: an approval counts only if it
// was made over it.
func (e *Engine) Challenge() ([]byte, error) {
	challenge := make([]byte, 16)
	if _, err := io.ReadFull(e.Rand, challenge); err != nil {
		return nil, fault("draw challenge", err)
	}
	return challenge, e.ledger.Update(func(tx *store.Tx) error {
		m, err := tx.Meta()
		if err != nil {
			return err
		}
		m.Challenge = challenge
		return tx.PutMeta(m)
	})
}

// Order carries out one order from the console, whole: with the CRLs it calls for.
func (e *Engine) Order(request []byte, approvals [][]byte) (protocol.Result, error) {
	if e.broken != nil {
		return protocol.Result{}, e.broken
	}
	r := &run{Engine: e}
	r.now, r.shut = e.time()
	it, err := r.order(request, approvals)
	if err != nil {
		return it.result, err
	}
	r.now, r.shut = e.time()
	if r.shut == nil {
		err = r.finish(nil)
	}
	return it.result, err
}

// orders carries out one group of orders, each in a step of its own: one may be what the next stands on.
func (r *run) orders(g protocol.Group) error {
	for _, data := range g.Items {
		it := r.parse(data, g.Section, r.now)
		if it.refusal != nil {
			it.answered, it.result = true, protocol.Result{ID: it.id, Outcome: protocol.OutcomeRefused, Refusal: it.refusal}
		} else {
			var err error
			if it, err = r.order(it.item.Request, g.Approvals); err != nil {
				return err
			}
		}
		if err := r.answer([]*item{it}); err != nil {
			return err
		}
	}
	return nil
}

// order decides an order and carries it out.
func (r *run) order(request []byte, approvals [][]byte) (*item, error) {
	it := &item{item: protocol.Item{Request: request}, id: protocol.ID(request)}
	if it.req, it.refusal = protocol.ParseRequest(request); it.refusal != nil {
		it.result = protocol.Result{ID: it.id, Outcome: protocol.OutcomeRefused, Refusal: it.refusal}
		return it, nil
	}
	it.parsed = it.req.Appliance == r.appliance
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
		return it, err
	}
	now := r.now
	if r.shut != nil {
		// Only setting the time goes on while the clock can't be believed, at the time that the officers state.
		c, refusal := it.req.SetTime()
		if refusal != nil {
			it.result = protocol.Result{ID: it.id, Outcome: protocol.OutcomeRefused, Refusal: r.shut}
			return it, nil
		}
		now = c.Time
	}
	_, refusal := r.state.Authorize(request, approvals, challenge, now)
	if refusal == nil {
		refusal, err = r.carryOut(it, approvals, challenge, now)
	}
	if err != nil || refusal == nil {
		return it, err
	}
	return it, r.step(r.now, func(rec *recorder) error { return it.conclude(rec, refusal) }, nil)
}

// carryOut does what an authorized order says. A refusal means that nothing changed.
func (r *run) carryOut(it *item, approvals [][]byte, challenge []byte, now int64) (*protocol.Refusal, error) {
	it.result = protocol.Result{ID: it.id, Outcome: protocol.OutcomeDone}
	record := func(more func(*recorder) error) error {
		return r.step(now, func(rec *recorder) error { return r.recordOrder(rec, it, approvals, challenge, more) }, nil)
	}
	var err error
	switch it.req.Kind {
	case protocol.KindCreateKey:
		if err = r.createKey(it); err == nil {
			err = record(nil)
		}
	case protocol.KindSignCA:
		return r.signCA(it, approvals, now, record)
	case protocol.KindSetTime:
		c, _ := it.req.SetTime()
		if c.Time < r.Built.Unix() {
			return protocol.Refuse(protocol.CodeTimeOutside, "time", protocol.Date(c.Time), "reason", "this release was built on "+protocol.Date(r.Built.Unix())), nil
		}
		now = c.Time
		err = record(nil)
	case protocol.KindCRL:
		c, _ := it.req.CRLOrder()
		current, found := protocol.Digest{}, false
		if err = r.ledger.View(func(tx *store.Tx) error {
			var crl store.CRL
			var err error
			if crl, found, err = tx.CRL(it.req.Issuer, 0); found {
				current = protocol.DigestOf(crl.DER)
			}
			return err
		}); err != nil {
			return nil, err
		}
		if current != c.Replaces {
			return protocol.Refuse(protocol.CodeSuperseded, "reason", "the CRL is not the one that was to be replaced"), nil
		}
		if err = record(nil); err == nil {
			err = r.finish([]protocol.Digest{it.req.Issuer})
		}
	case protocol.KindPolicy:
		c, _ := it.req.Replacement()
		next, decodeErr := policy.Decode(c.New)
		if decodeErr != nil {
			return nil, decodeErr // it was decoded a moment ago
		}
		for _, ca := range r.cas {
			if err := shapeAll(map[shapeKey]*issue.Shape{}, ca, next, r.shards(ca.KeyID)); err != nil {
				return protocol.Refuse(protocol.CodePolicyInvalid, "reason", err.Error()), nil
			}
		}
		err = record(nil)
	default:
		err = record(nil)
	}
	return nil, err
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
	if it.index, _, err = rec.append(auditlog.Leaf{Kind: auditlog.Order}, body); err != nil {
		return err
	}
	if err := rec.tx.PutDone(it.id, it.index); err != nil {
		return err
	}
	if err := r.state.Carry(&it.req, it.result); err != nil {
		return err
	}
	if more != nil {
		if err := more(rec); err != nil {
			return err
		}
	}
	if err := writeState(rec.tx, r.state, it.index); err != nil {
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
	m.Roster, m.Policy, m.Challenge = s.Roster, s.Policy, nil
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

// createKey has the signer make a key. One that an interrupted order left behind is taken over: nothing was ever signed
// with it, since the ledger does not know it.
func (r *run) createKey(it *item) error {
	c, _ := it.req.CreateKey()
	for _, k := range r.Signer.Keys() {
		if k.Label == c.Label && k.Purpose == signer.CA && string(k.Algorithm) == c.Algorithm {
			it.result.Key = k.SPKI
			return nil
		}
	}
	key, err := r.Signer.CreateKey(c.Label, signer.CA, signer.Algorithm(c.Algorithm))
	if err != nil {
		return r.stop(fault("create key "+c.Label, err))
	}
	it.result.Key = key.Info().SPKI
	return nil
}

// signCA makes a CA certificate: intent, signature, result, as with any other.
func (r *run) signCA(it *item, approvals [][]byte, now int64, record func(func(*recorder) error) error) (*protocol.Refusal, error) {
	c, _ := it.req.SignCA()
	key := r.state.CAs[c.Key]
	p, found := r.policy.Profile(it.req.Profile)
	if !found {
		return protocol.Refuse(protocol.CodeProfileUnknown, "profile", it.req.Profile), nil
	}
	names, refusal := p.Names(&it.req, c.Fields)
	if refusal != nil {
		return refusal, nil
	}
	ca := r.cas[it.req.Issuer]
	var err error
	if it.req.Issuer == c.Key {
		if ca, err = issue.NewSelf(key.Label, key.SPKI, names.Subject); err != nil {
			return nil, fault("make CA "+key.Label, err)
		}
	}
	if !slices.Contains(p.Issuers, ca.Label) {
		return protocol.Refuse(protocol.CodeProfileUnknown, "profile", it.req.Profile), nil
	}
	notBefore, notAfter, refusal := issue.Validity(ca, p.Profile, now, c.NotBefore, c.NotAfter)
	if refusal != nil {
		return refusal, nil
	}
	serial, err := r.serial()
	if err != nil {
		return nil, err
	}
	shape, err := issue.NewShape(ca, p.Profile, r.shards(it.req.Issuer))
	if err != nil {
		return protocol.Refuse(protocol.CodePolicyInvalid, "reason", err.Error()), nil
	}
	tbs, refusal, err := shape.TBS(issue.Certificate{Serial: serial, Subject: names.Subject, AltNames: names.Alt, SPKI: key.SPKI, NotBefore: notBefore, NotAfter: notAfter})
	if err != nil {
		return nil, fault("make certificate of CA "+key.Label, err)
	}
	if refusal != nil {
		return refusal, nil
	}
	linted := lint.Dummy(tbs, ca.AlgorithmRaw, ca.SignatureLen)
	if refusal, err = r.lintOne(r.Lint.Certificates, lint.Config{Sets: p.Lint, Ignore: p.LintIgnore}, linted); refusal != nil || err != nil {
		return refusal, err
	}
	made, err := issue.NewCA(key.Label, linted)
	if err == nil {
		err = shapeAll(map[shapeKey]*issue.Shape{}, made, r.state.CurrentPolicy(), max(p.CRLShards, 1))
	}
	if err != nil {
		return protocol.Refuse(protocol.CodePolicyInvalid, "reason", err.Error()), nil
	}
	err = r.step(now, func(rec *recorder) error {
		intent := store.Intent{Issuer: ca.KeyID, Serial: serial, TBS: protocol.DigestOf(tbs), Profile: p.Name, NotAfter: notAfter}
		body := auditlog.IntentsBody{Intents: []auditlog.Intent{{Request: it.item.Request, Issuer: ca.KeyID, Serial: serial, TBS: intent.TBS}}, Approvals: approvals}
		return putIntents(rec, []store.Intent{intent}, body)
	}, nil)
	if err != nil {
		return nil, err
	}
	der, err := r.sign(ca, tbs, linted)
	if err != nil {
		return nil, err
	}
	it.result = protocol.Result{ID: it.id, Outcome: protocol.OutcomeIssued, Issuer: ca.KeyID, Serial: serial, Certificate: der}
	return nil, record(func(rec *recorder) error {
		body, err := cose.Marshal(it.result)
		if err != nil {
			return err
		}
		leaf := auditlog.Leaf{Kind: auditlog.Issued, Issuer: ca.KeyID[:], Serial: serial, Status: auditlog.Active, Profile: p.Name}
		index, _, err := rec.append(leaf, body)
		if err != nil {
			return err
		}
		if err := rec.tx.PutIntents(nil); err != nil {
			return err
		}
		return rec.tx.PutCertificate(ca.KeyID, serial, store.Certificate{
			Status: auditlog.Active, Profile: p.Name, Issued: index, Changed: index, NotBefore: notBefore, NotAfter: notAfter,
			Key: c.Key, Approved: now, Subject: key.Label,
		})
	})
}

// putIntents logs what is going to be signed.
func putIntents(rec *recorder, intents []store.Intent, body auditlog.IntentsBody) error {
	if len(intents) == 0 {
		return rec.tx.PutIntents(nil)
	}
	encoded, err := cose.Marshal(body)
	if err != nil {
		return err
	}
	if _, _, err := rec.append(auditlog.Leaf{Kind: auditlog.Intents, Number: uint64(len(intents))}, encoded); err != nil {
		return err
	}
	return rec.tx.PutIntents(intents)
}
