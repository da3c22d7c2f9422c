package appliance

import (
	"cmp"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"coldseal/appliance/issue"
	"coldseal/appliance/signer"
	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/policy"
)

// Requests go through in batches, and three are on their way at once: one is prepared; one, announced by the step before,
// is signed; and the step between them records what was signed before and announces what was prepared last. So a device
// that signs waits for neither.

// batch is what goes through together.
type batch struct {
	items     []*item
	approvals [][]byte
	bytes     int
	alone     bool           // what it does may change who may approve, or what others do: no other is on its way with it
	intents   []store.Intent // what is going to be signed, once it is announced
}

func (b *batch) add(g protocol.Group, items []*item) {
	b.items = append(b.items, items...)
	b.approvals = append(b.approvals, g.Approvals...)
	for _, approval := range g.Approvals {
		b.bytes += len(approval)
	}
	for i, it := range items {
		b.bytes += len(g.Items[i])
		issues := it.req.Kind == protocol.KindIssue || it.req.Kind == protocol.KindRenew
		b.alone = b.alone || it.parsed && !issues || it.profile != nil && it.profile.Use == policy.UseApprover
	}
}

func (b *batch) full(next protocol.Group) bool {
	return len(b.items)+len(next.Items) > protocol.MaxGroupItems || b.bytes > protocol.MaxGroupBytes
}

// requests carries out the section of requests, which begins with the group first.
func (r *run) requests(first protocol.Group) (err error) {
	source := &batcher{run: r, pending: &first}
	var prepared, announced, signed *batch
	for {
		if prepared == nil && announced == nil && signed == nil {
			if prepared, err = source.next(); err != nil || prepared == nil {
				return err
			}
		}
		next, following := prepared, (*batch)(nil)
		prepare := !isAlone(prepared) && !isAlone(announced) && !isAlone(signed)
		if isAlone(prepared) && (announced != nil || signed != nil) {
			next, following = nil, prepared // it waits until all before it is recorded
		}
		var signing, preparing error
		var beside sync.WaitGroup
		if announced != nil {
			beside.Go(func() { signing = r.signBatch(announced) })
		}
		if prepare {
			beside.Go(func() { following, preparing = source.next() })
		}
		err = r.commit(signed, announced, next)
		beside.Wait()
		if err = cmp.Or(err, signing, preparing); err != nil {
			return err
		}
		prepared, announced, signed = following, next, announced
	}
}

func isAlone(b *batch) bool { return b != nil && b.alone }

// batcher makes batches of groups.
type batcher struct {
	run     *run
	pending *protocol.Group
	ended   bool
}

// next prepares the next batch; nil is the end.
func (s *batcher) next() (*batch, error) {
	b := &batch{}
	for !s.ended {
		if s.pending == nil {
			g, refusal, err := s.run.bundle.Next()
			if errors.Is(err, io.EOF) || refusal != nil {
				s.ended, s.run.cut = true, refusal
				break
			}
			if err != nil {
				return nil, fault("read spool", err)
			}
			s.pending = &g
		}
		if len(b.items) > 0 && (b.full(*s.pending) || b.alone) {
			break
		}
		g := *s.pending
		s.pending = nil
		items, err := s.run.prepare(g)
		if err != nil {
			return nil, fault("prepare requests", err)
		}
		b.add(g, items)
	}
	if len(b.items) == 0 {
		return nil, nil
	}
	if err := s.run.keysThere(b.items); err != nil {
		return nil, err
	}
	if err := s.run.lintBatch(b.items); err != nil {
		return nil, err
	}
	return b, nil
}

// keysThere stops before anything is announced that can't be signed: serials would be burned for nothing.
func (e *Engine) keysThere(items []*item) error {
	for _, it := range items {
		if it.refusal != nil || it.ca == nil {
			continue
		}
		if _, err := e.Signer.Key(it.ca.KeyID, signer.CA); err != nil {
			return fault("find key of CA "+it.ca.Label, err)
		}
	}
	return nil
}

// commit is the step that records the results of the batch that was signed and announces the next one, each of which may be
// nil, while the one between them is signed.
func (r *run) commit(signed, signing, next *batch) error {
	if signed == nil && next == nil {
		return nil
	}
	err := r.step(r.now, func(rec *recorder) error {
		var intents []store.Intent
		if signed != nil {
			for _, it := range signed.items {
				if err := r.settle(rec, it); err != nil {
					return err
				}
			}
		}
		if signing != nil {
			intents = signing.intents
		}
		if next != nil {
			if err := r.decideBatch(rec, signing, next); err != nil {
				return err
			}
			intents = slices.Concat(intents, next.intents)
		}
		return rec.tx.PutIntents(intents)
	}, nil)
	if err != nil || signed == nil {
		return err
	}
	return r.answer(signed.items)
}

// decideBatch decides what depends on what the ledger says now and on the batch that is signed meanwhile, and logs what
// will be done.
func (r *run) decideBatch(rec *recorder, signing, b *batch) error {
	taken := newReserved()
	if signing != nil {
		for _, it := range signing.items {
			taken.add(it)
		}
	}
	var body auditlog.IntentsBody
	for _, it := range b.items {
		if it.req.Kind == protocol.KindWithdraw && it.refusal == nil {
			c, _ := it.req.Withdrawal()
			taken.withdrawn[withdrawn(c.Request, it.req.Body)] = true
		}
	}
	shut := r.jumped()
	for _, it := range b.items {
		if err := it.recall(rec.tx); err != nil {
			return err
		}
		if it.answered {
			continue
		}
		if taken.ids[it.id] {
			it.refusal = protocol.Refuse(protocol.CodeRepeated)
			continue
		}
		if it.refusal == nil {
			it.refusal = shut
		}
		if it.refusal == nil {
			var err error
			if it.refusal, err = r.decideNow(rec, it, taken); err != nil {
				return err
			}
		}
		taken.add(it)
		if it.refusal != nil {
			continue
		}
		in := auditlog.Intent{Item: it.data, Issuer: it.req.Issuer, Serial: it.serial}
		if it.profile != nil { // release and withdraw sign nothing
			in.TBS = protocol.DigestOf(it.tbs)
			b.intents = append(b.intents, store.Intent{Issuer: in.Issuer, Serial: in.Serial, TBS: in.TBS, Profile: it.req.Profile, NotAfter: it.notAfter})
		}
		body.Intents = append(body.Intents, in)
	}
	body.Approvals = b.approvals
	return announce(rec, body)
}

// decideNow asks what only the ledger knows.
func (r *run) decideNow(rec *recorder, it *item, taken *reserved) (*protocol.Refusal, error) {
	switch it.req.Kind {
	case protocol.KindRelease:
		return decideRelease(rec.tx, it)
	case protocol.KindWithdraw:
		return decideWithdrawal(rec.tx, it)
	}
	return r.decide(rec.tx, it, taken, rec.now)
}

// signBatch has the certificates of a batch signed, CA by CA. The signer client verifies each; here the certificate is
// put together and compared with the one that was linted.
func (r *run) signBatch(b *batch) error {
	byCA := map[*issue.CA][]*item{}
	for _, it := range b.items {
		if it.refusal == nil && !it.answered && it.profile != nil {
			byCA[it.ca] = append(byCA[it.ca], it)
		}
	}
	for ca, items := range byCA {
		inputs := make([][]byte, len(items))
		for i, it := range items {
			inputs[i] = ca.Input(it.tbs)
		}
		signatures, err := r.Signer.SignBatch(ca.KeyID, signer.CA, signer.Scheme(ca.Scheme), inputs)
		if err != nil {
			return fault("sign with CA key "+ca.Label, err)
		}
		for i, it := range items {
			if it.certificate, err = r.assemble(ca, it.tbs, it.linted, signatures[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// settle records what became of an item.
func (r *run) settle(rec *recorder, it *item) error {
	if !it.answered && it.refusal == nil && it.profile == nil { // one before it in the batch may have withdrawn it
		if err := it.recall(rec.tx); err != nil {
			return err
		}
	}
	switch {
	case it.answered:
		return nil
	case it.refusal != nil:
		return it.conclude(rec, it.refusal)
	case it.req.Kind == protocol.KindRelease:
		return r.release(rec, it)
	case it.req.Kind == protocol.KindWithdraw:
		return r.withdraw(rec, it)
	}
	it.result = protocol.Result{ID: it.id, Outcome: protocol.OutcomeIssued, Issuer: it.ca.KeyID, Serial: it.serial, Certificate: it.certificate}
	leaf := auditlog.Leaf{Kind: auditlog.Issued, Issuer: it.ca.KeyID[:], Serial: it.serial, Status: auditlog.Active, Profile: it.req.Profile}
	if err := it.record(rec, leaf); err != nil {
		return err
	}
	c := store.Certificate{
		Status: auditlog.Active, Profile: it.req.Profile, Issued: it.answer.Index, Changed: it.answer.Index, NotBefore: it.notBefore,
		NotAfter: it.notAfter, Key: it.key, Name: it.name, Approved: rec.now, Body: it.req.Body, Subject: it.req.Subject,
	}
	if it.quorum != nil { // the current key alone
		c.Approved = it.old.Approved
	}
	if old := it.content.Renews; old != nil {
		c.Renews = store.CertificateKey(old.Issuer, old.Serial)
		it.old.Renewed = true
		if err := rec.tx.PutCertificate(old.Issuer, old.Serial, it.old); err != nil {
			return err
		}
	}
	if it.profile.Use == policy.UseApprover {
		a := store.Approver{Issuer: it.ca.KeyID, Serial: it.serial, Person: it.req.Subject, Scopes: it.content.Scopes, SPKI: it.csr.SPKI}
		if err := rec.tx.PutApprover(it.key, a); err != nil {
			return err
		}
	}
	if err := rec.tx.PutCertificate(it.ca.KeyID, it.serial, c); err != nil {
		return err
	}
	if err := rec.tx.PutName(it.name, it.ca.KeyID, it.serial); err != nil {
		return err
	}
	return rec.tx.PutKeyUse(it.key, store.KeyUse{Name: it.name})
}

// day is the number of days since 1970.
func day(now int64) int64 { return now / int64(24*time.Hour/time.Second) }
