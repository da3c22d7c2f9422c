package appliance

import (
	"fmt"
	"slices"

	"coldseal/appliance/issue"
	"coldseal/appliance/lint"
	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/policy"
)

// newCRL is a CRL on its way through intent, signature and record.
type newCRL struct {
	ca     *issue.CA
	shard  uint16
	crl    store.CRL
	tbs    []byte
	linted []byte
}

// dueCRLs builds what has to be signed at the end of a bundle: the CRL of a CA whose state changed, or which passed half
// its life. A root's CRL is made by order only, and is then in forced.
func (r *run) dueCRLs(forced []protocol.Digest) ([]*newCRL, error) {
	var due []*newCRL
	err := r.ledger.View(func(tx *store.Tx) error {
		for _, id := range r.caOrder() {
			ca, signs := r.cas[id]
			p, known := r.policy.Profile(r.state.CAs[id].Profile)
			if !signs || !known {
				continue
			}
			byOrder := slices.Contains(forced, id)
			if p.Use == policy.UseRoot && !byOrder || r.now < ca.NotBefore || r.now >= ca.NotAfter {
				continue // what has ended signs nothing more: its last CRL ends with it
			}
			record, _, err := tx.CA(id)
			if err != nil {
				return err
			}
			for shard := range uint16(r.shards(id)) {
				last, found, err := tx.CRL(id, shard)
				if err != nil {
					return err
				}
				age := r.now - last.ThisUpdate // negative if the clock was set back since
				fresh := found && record.Changed < last.Index && age >= 0 && age < (last.NextUpdate-last.ThisUpdate)/2
				if fresh && !byOrder {
					continue
				}
				next, err := r.buildCRL(tx, ca, p.Profile, shard, max(last.Number, record.Floor)+1)
				if err != nil {
					return err
				}
				due = append(due, next)
			}
		}
		return nil
	})
	return due, err
}

const secondsOfDay = 86400

// buildCRL collects the entries of a shard. What expired stays on CRLs for another two lives of a CRL, so that it was on
// one issued after it expired (RFC 5280 section 3.3).
func (r *run) buildCRL(tx *store.Tx, ca *issue.CA, p *policy.Profile, shard uint16, number uint64) (*newCRL, error) {
	life := p.CRLDays * secondsOfDay
	n := &newCRL{ca: ca, shard: shard, crl: store.CRL{Number: number, ThisUpdate: r.now, NextUpdate: min(r.now+life, ca.NotAfter)}}
	head := issue.CRLHead{Number: number, ThisUpdate: n.crl.ThisUpdate, NextUpdate: n.crl.NextUpdate}
	if r.shards(ca.KeyID) > 1 && p.CRLURL != "" {
		head.Points = []string{policy.URL(p.CRLURL, ca.Label, uint64(shard))}
	}
	c, err := issue.NewCRL(ca, head)
	if err != nil {
		return nil, fmt.Errorf("build CRL of %s: %w", ca.Label, err)
	}
	err = tx.EachRevoked(ca.KeyID, shard, func(serial []byte, e store.Revoked) error {
		if e.NotAfter+2*life < r.now {
			return nil
		}
		return c.Add(issue.Revoked{Serial: serial, Time: e.Time, Reason: e.Reason, Since: e.Since})
	})
	if err != nil {
		return nil, fmt.Errorf("build CRL of %s: %w", ca.Label, err)
	}
	if n.tbs, err = c.TBS(); err != nil {
		return nil, fmt.Errorf("build CRL of %s: %w", ca.Label, err)
	}
	n.linted = lint.Dummy(n.tbs, ca.AlgorithmRaw, ca.SignatureLen)
	refusal, err := r.lintOne(r.Lint.CRLs, p, n.linted)
	if err == nil && refusal != nil {
		err = fault("build CRL of "+ca.Label, fmt.Errorf("%s", refusal.Words()))
	}
	return n, err
}

// signCRLs goes the way of law 7 with the CRLs that are due: intents, then signatures; the results are for the step that
// follows.
func (r *run) signCRLs(forced []protocol.Digest) ([]*newCRL, error) {
	due, err := r.dueCRLs(forced)
	if err != nil || len(due) == 0 {
		return nil, err
	}
	err = r.step(r.now, func(rec *recorder) error {
		var intents []store.Intent
		var body auditlog.IntentsBody
		for _, n := range due {
			tbs := protocol.DigestOf(n.tbs)
			intents = append(intents, store.Intent{Issuer: n.ca.KeyID, TBS: tbs})
			body.Intents = append(body.Intents, auditlog.Intent{Issuer: n.ca.KeyID, TBS: tbs})
		}
		return putIntents(rec, intents, body)
	}, nil)
	if err != nil {
		return nil, err
	}
	for _, n := range due {
		if n.crl.DER, err = r.sign(n.ca, n.tbs, n.linted); err != nil {
			return nil, err
		}
	}
	return due, nil
}

// recordCRLs logs the CRLs that were signed.
func recordCRLs(rec *recorder, due []*newCRL) error {
	for _, n := range due {
		body, err := cose.Marshal(auditlog.CRLBody{CRL: protocol.DigestOf(n.crl.DER), Shard: uint64(n.shard)})
		if err != nil {
			return err
		}
		leaf := auditlog.Leaf{Kind: auditlog.CRL, Issuer: n.ca.KeyID[:], Number: n.crl.Number}
		if n.crl.Index, _, err = rec.append(leaf, body); err != nil {
			return err
		}
		if err := rec.tx.PutCRL(n.ca.KeyID, n.shard, n.crl); err != nil {
			return err
		}
	}
	return rec.tx.PutIntents(nil)
}

// CRLs lists the newest CRLs of all CAs, for the clear part of a medium.
func (e *Engine) CRLs(f func(label string, shard uint16, crl store.CRL) error) error {
	return e.ledger.View(func(tx *store.Tx) error {
		for _, id := range e.caOrder() {
			for shard := range uint16(e.shards(id)) {
				crl, found, err := tx.CRL(id, shard)
				if err != nil {
					return err
				}
				if !found {
					continue
				}
				if err := f(e.state.CAs[id].Label, shard, crl); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
