package appliance

import (
	"errors"
	"slices"

	"coldseal/appliance/issue"
	"coldseal/appliance/lint"
	"coldseal/appliance/signer"
	"coldseal/appliance/store"
	"coldseal/appliance/wire"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/policy"
)

// Orders that make something: keys, CA certificates, CRLs.

// createKey has the signer make a key. One that this order, or one like it, had made when it was interrupted is taken over.
// Any other of that label, on a token of another appliance or from before a restore, may have signed anything.
func (r *run) createKey(it *item) (*protocol.Refusal, error) {
	c, _ := it.req.CreateKey()
	for _, k := range r.Signer.Keys() {
		if k.Label != c.Label {
			continue
		}
		making, err := r.making()
		if err != nil {
			return nil, err
		}
		if making != c.Label || k.Purpose != signer.CA || string(k.Algorithm) != c.Algorithm {
			return protocol.Refuse(protocol.CodeKeyExists, "label", c.Label), nil
		}
		it.result.Key = k.SPKI
		return nil, nil
	}
	if err := r.setMaking(c.Label); err != nil {
		return nil, err
	}
	key, err := r.Signer.CreateKey(c.Label, signer.CA, signer.Algorithm(c.Algorithm))
	if refused, is := errors.AsType[*wire.Refused](err); is && refused.Code == signer.RefusedDevice {
		return protocol.Refuse(protocol.CodeNoDevice, "algorithm", c.Algorithm), r.setMaking("")
	}
	if err != nil {
		return nil, fault("create key "+c.Label, err)
	}
	it.result.Key, it.result.Attestation = key.Info().SPKI, key.Attestation()
	return nil, nil
}

// making is the label of the key that an order was having made when it was interrupted.
func (e *Engine) making() (label string, err error) {
	err = e.ledger.View(func(tx *store.Tx) error {
		m, err := tx.Meta()
		label = m.Making
		return err
	})
	return label, err
}

// setMaking notes, durably, which key is going to be made. The note is taken back when it is recorded (writeState).
func (e *Engine) setMaking(label string) error {
	err := e.ledger.Update(func(tx *store.Tx) error {
		m, err := tx.Meta()
		if err != nil {
			return err
		}
		m.Making = label
		return tx.PutMeta(m)
	})
	if err != nil {
		return fault("note which key is made", err)
	}
	return nil
}

// signCA makes a CA certificate: intent, signature, result, as with any other.
func (r *run) signCA(it *item, approvals [][]byte, now int64, record recordOrder) (*protocol.Refusal, error) {
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
	if refusal := p.CheckKey(key.SPKI); refusal != nil {
		return refusal, nil
	}
	ca := r.cas[it.req.Issuer]
	var err error
	if it.req.Issuer == c.Key {
		if ca, err = issue.NewSelf(key.Label, key.SPKI, names.Subject); err != nil {
			return nil, fault("make CA "+key.Label, err)
		}
	}
	certificate := issue.Certificate{Subject: names.Subject, AltNames: names.Alt, SPKI: key.SPKI, NotBefore: c.NotBefore, NotAfter: c.NotAfter}
	return r.certify(it, approvals, now, record, p, ca, certificate, key.Label, func(linted []byte) error {
		made, err := issue.NewCA(key.Label, linted)
		if err != nil {
			return err
		}
		return shapeAll(map[shapeKey]*issue.Shape{}, made, r.state.CurrentPolicy(), max(p.CRLShards, 1))
	})
}

// crossCertify certifies the key and name of another CA.
func (r *run) crossCertify(it *item, approvals [][]byte, now int64, record recordOrder) (*protocol.Refusal, error) {
	c, _ := it.req.CrossCertification()
	p, found := r.policy.Profile(it.req.Profile)
	if !found {
		return protocol.Refuse(protocol.CodeProfileUnknown, "profile", it.req.Profile), nil
	}
	other, refusal := r.state.Other(&it.req)
	if refusal != nil {
		return refusal, nil
	}
	if refusal := p.CheckKey(other.RawSubjectPublicKeyInfo); refusal != nil {
		return refusal, nil
	}
	if end := other.NotAfter.Unix(); c.NotAfter > end || now > end {
		return protocol.Refuse(protocol.CodeValidityOutside, "reason", "the other CA's own certificate ends before", "limit", protocol.Date(end)), nil
	}
	certificate := issue.Certificate{
		SPKI: other.RawSubjectPublicKeyInfo, NotBefore: c.NotBefore, NotAfter: c.NotAfter,
		Other: &issue.Other{SubjectRaw: other.RawSubject, SubjectKeyID: other.SubjectKeyId},
	}
	return r.certify(it, approvals, now, record, p, r.cas[it.req.Issuer], certificate, crossSubject, func([]byte) error { return nil })
}

// crossSubject is what the ledger has for the subject of cross-certificates; no CA has it for a label.
const crossSubject = "(cross)"

// recordOrder is the step in which an order, and more, is recorded.
type recordOrder = func(more func(*recorder) error) error

// certify makes a certificate by order; its term is as asked for. Usable is asked about what was linted: whether it fits
// what is to stand on it.
func (r *run) certify(it *item, approvals [][]byte, now int64, record recordOrder, p *policy.CompiledProfile, ca *issue.CA, certificate issue.Certificate, subject string, usable func(linted []byte) error) (*protocol.Refusal, error) {
	if !slices.Contains(p.Issuers, ca.Label) {
		return protocol.Refuse(protocol.CodeProfileUnknown, "profile", it.req.Profile), nil
	}
	notBefore, notAfter, refusal := issue.Validity(ca, p.Profile, now, certificate.NotBefore, certificate.NotAfter)
	if refusal != nil {
		return refusal, nil
	}
	serial, err := r.serial()
	if err != nil {
		return nil, err
	}
	certificate.Serial, certificate.NotBefore, certificate.NotAfter = serial, notBefore, notAfter
	shape, err := issue.NewShape(ca, p.Profile, r.shards(it.req.Issuer))
	if err != nil {
		return protocol.Refuse(protocol.CodePolicyInvalid, "reason", err.Error()), nil
	}
	tbs, refusal, err := shape.TBS(certificate)
	if err != nil {
		return nil, fault("make CA certificate "+subject, err)
	}
	if refusal != nil {
		return refusal, nil
	}
	linted := lint.Dummy(tbs, ca.AlgorithmRaw, ca.SignatureLen)
	if refusal, err = r.lintOne(r.Lint.Certificates, p.Profile, linted); refusal != nil || err != nil {
		return refusal, err
	}
	if err := usable(linted); err != nil {
		return protocol.Refuse(protocol.CodePolicyInvalid, "reason", err.Error()), nil
	}
	err = r.step(now, func(rec *recorder) error {
		intent := store.Intent{Issuer: ca.KeyID, Serial: serial, TBS: protocol.DigestOf(tbs), Profile: p.Name, NotAfter: notAfter}
		asked, err := cose.Marshal(protocol.Item{Request: it.item.Request}) // at the console there is no item
		if err != nil {
			return err
		}
		body := auditlog.IntentsBody{Intents: []auditlog.Intent{{Item: asked, Issuer: ca.KeyID, Serial: serial, TBS: intent.TBS}}, Approvals: approvals}
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
			Key: protocol.DigestOf(certificate.SPKI), Approved: now, Subject: subject,
		})
	})
}

// putIntents logs what is going to be done, and remembers what of it is going to be signed.
func putIntents(rec *recorder, intents []store.Intent, body auditlog.IntentsBody) error {
	if err := announce(rec, body); err != nil {
		return err
	}
	return rec.tx.PutIntents(intents)
}

// announce logs what is going to be done, with all that an auditor needs to decide it again.
func announce(rec *recorder, body auditlog.IntentsBody) error {
	if len(body.Intents) == 0 {
		return nil
	}
	encoded, err := cose.Marshal(body)
	if err != nil {
		return err
	}
	_, _, err = rec.append(auditlog.Leaf{Kind: auditlog.Intents, Number: uint64(len(body.Intents))}, encoded)
	return err
}

// orderCRL makes a CRL whatever its CA's state. Order and CRL are recorded together, so that an order which is done has
// its CRL.
func (r *run) orderCRL(it *item, record recordOrder) (*protocol.Refusal, error) {
	c, refusal := it.req.CRLOrder()
	if refusal != nil {
		return refusal, nil
	}
	if ca := r.cas[it.req.Issuer]; r.now < ca.NotBefore || r.now >= ca.NotAfter {
		return protocol.Refuse(protocol.CodeValidityOutside, "reason", "the CA is not valid now", "limit", protocol.Date(ca.NotAfter)), nil
	}
	var current protocol.Digest
	err := r.ledger.View(func(tx *store.Tx) error {
		crl, found, err := tx.CRL(it.req.Issuer, 0)
		if found {
			current = protocol.DigestOf(crl.DER)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if current != c.Replaces {
		return protocol.Refuse(protocol.CodeSuperseded, "reason", "the CRL is not the one that was to be replaced"), nil
	}
	due, err := r.signCRLs([]protocol.Digest{it.req.Issuer})
	if err != nil {
		return nil, err
	}
	return nil, record(func(rec *recorder) error { return recordCRLs(rec, due) })
}
