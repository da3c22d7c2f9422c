package appliance

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
)

// Applying writes what was brought into the ledger, a step's worth in each transaction, so that memory is that of one.
// Interrupted, it goes on where it stopped. Each leaf is written and then folded as at every start, which compares.

// ApplyLeaves brings the ledger to the end of the leaves that were brought. Somebody must not know more of the log than
// these: the appliance would fork it. When it is done the whole log was replayed.
func (e *Engine) ApplyLeaves() (Taken, error) {
	if e.broken != nil {
		return Taken{}, e.broken
	}
	if e.restoring == nil {
		return Taken{}, fmt.Errorf("apply leaves: %w", errLiving)
	}
	taken, err := e.applyStaged()
	if err != nil {
		return taken, err
	}
	if err := e.ledger.Close(); err != nil {
		return taken, e.stop(fault("close ledger", err))
	}
	next, err := Open(e.Config)
	if err != nil {
		e.broken = err
		return taken, err
	}
	next.Report = e.Report
	*e = *next
	return taken, nil
}

// ErrTooShort is returned when somebody knows more of the log than was brought.
var ErrTooShort = errors.New("somebody knows more of the log than was brought")

func (e *Engine) applyStaged() (Taken, error) {
	from := e.restoring.From
	taken := Taken{From: from, Size: from}
	s, err := e.openStaged()
	if err != nil {
		return taken, err
	}
	defer s.close()
	if s.r == nil {
		return taken, nil
	}
	taken.Heard = s.Heard
	last, err := e.openNote(Note{"what was brought", s.r.Header.Checkpoint})
	if err != nil {
		return taken, fault("read leaves that were brought", err)
	}
	taken.Size = max(from, uint64(last.Size))
	if len(s.Known.Text) > 0 {
		known, err := e.openNote(s.Known)
		if err != nil {
			return taken, fault("read leaves that were brought", err)
		}
		taken.Known, taken.By = uint64(known.Size), s.Known.Name
		if taken.Known > taken.Size {
			return taken, fmt.Errorf("%s has a checkpoint of %d entries, the leaves that were brought end at %d: %w", s.Known.Name, taken.Known, taken.Size, ErrTooShort)
		}
	}
	for uint64(e.folded.next) < taken.Size {
		if err := e.ledger.Update(func(tx *store.Tx) error { return e.applyBatch(tx, s, uint64(last.Size)) }); err != nil {
			return taken, e.stop(fault("write what was brought", err))
		}
		if e.Report != nil {
			e.Report(Progress{Done: e.folded.next - from, Items: taken.Size - from})
		}
	}
	return taken, nil
}

// applyBatch writes some leaves, in one transaction. The fold is ahead of a transaction that fails, and is of no more use
// then: the engine stops.
func (e *Engine) applyBatch(tx *store.Tx, s *stagedFile, size uint64) error {
	m, err := tx.Meta()
	if err != nil {
		return err
	}
	edge, err := auditlog.NewRange(int64(m.Size), m.Edge)
	if err != nil {
		return err
	}
	f := e.folded
	f.tx = tx
	appender := auditlog.NewAppender(edge)
	bytes := 0
	for n := 0; n < protocol.MaxGroupItems && bytes < protocol.MaxGroupBytes && f.next < size; {
		index, leaf, b, err := s.r.Next()
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		if index < f.next {
			continue // applied before this was interrupted
		}
		n, bytes = n+1, bytes+len(b.Salted)+len(b.Item)
		if err := e.applyLeaf(tx, appender, index, leaf, b); err != nil {
			return fmt.Errorf("entry %d: %w", index, err)
		}
	}
	if m, err = tx.Meta(); err != nil { // an order may have changed it
		return err
	}
	if err := tx.PutIntents(f.interrupted()); err != nil {
		return err
	}
	edge = appender.Edge()
	m.Size, m.Edge, m.Counter, m.Clock = f.next, edge.Hashes(), f.counter, f.state.Clock
	m.Restoring.Applying = f.next < size
	if !m.Restoring.Applying {
		m.Checkpoint = s.r.Header.Checkpoint
	}
	return tx.PutMeta(m)
}

// interrupted lists what was being signed when the log ended, as far as its intents are known.
func (f *fold) interrupted() []store.Intent {
	keys := slices.Sorted(maps.Keys(f.signing))
	intents := make([]store.Intent, len(keys))
	for i, key := range keys {
		intents[i] = f.signing[key]
	}
	return intents
}

// applyLeaf writes one leaf and what it comes to, then folds it.
func (e *Engine) applyLeaf(tx *store.Tx, appender *auditlog.Appender, index uint64, leaf auditlog.Leaf, b auditlog.Brought) error {
	f := e.folded
	var salted, body []byte
	if len(b.Salted) > 0 {
		salted, body = b.Salted, b.Salted[store.SaltSize:]
	}
	if leaf.Kind == auditlog.Order && !e.canTakeEffect(leaf, body) {
		salted, body = nil, nil // it is lost, for whoever reads the log
	}
	first, hashes := appender.Append(b.Leaf)
	if err := tx.PutLeaf(index, b.Leaf, salted, first, hashes); err != nil {
		return err
	}
	if len(b.Item) > 0 {
		if err := tx.PutBrought(index, b.Item); err != nil {
			return err
		}
	}
	if err := f.write(index, leaf, body); err != nil {
		return err
	}
	if err := f.leaf(index, b.Leaf, salted); err != nil {
		return err
	}
	if leaf.Kind == auditlog.Order && body != nil {
		return writeState(tx, f.state, index)
	}
	return nil
}

// canTakeEffect tells whether an order that was brought takes effect here: its body is known, what it stands on was not
// lost, and a key that it made is in the signer.
func (e *Engine) canTakeEffect(leaf auditlog.Leaf, body []byte) bool {
	var o auditlog.OrderBody
	if body == nil || cose.Unmarshal(body, &o) != nil {
		return false
	}
	req, refusal := e.folded.state.Authorize(o.Request, o.Approvals, o.Challenge, leaf.Time)
	if refusal != nil {
		return false
	}
	result, err := protocol.ParseResult(o.Result)
	if err != nil {
		return false
	}
	return req.Kind != protocol.KindCreateKey || e.hasKey(protocol.DigestOf(result.Key))
}

// write changes the ledger as a brought leaf says.
func (f *fold) write(index uint64, leaf auditlog.Leaf, body []byte) error {
	switch leaf.Kind {
	case auditlog.Issued:
		return f.writeIssuance(index, leaf, body)
	case auditlog.Changed:
		return f.writeChange(index, leaf, body)
	case auditlog.Burned:
		if !f.knows(leaf) {
			return nil
		}
		issuer := protocol.Digest(leaf.Issuer)
		if err := f.writeEntry(leaf, store.Revoked{Time: leaf.Time, Index: index, NotAfter: end(f.state.CAs[issuer])}); err != nil {
			return err
		}
		return markChanged(f.tx, issuer, index)
	case auditlog.Order:
		if body == nil {
			return nil
		}
		var o auditlog.OrderBody
		if err := cose.Unmarshal(body, &o); err != nil {
			return err
		}
		return f.tx.PutDone(protocol.ID(o.Request), index)
	case auditlog.Refused, auditlog.Withdrawn:
		id, err := resultID(body)
		if err != nil || id.IsZero() {
			return err
		}
		if err := f.tx.PutDone(id, index); err != nil || leaf.Kind == auditlog.Refused {
			return err
		}
		mark, known, err := f.withdrawnAs(index, id)
		if err != nil || !known {
			return err
		}
		return f.tx.PutDone(mark, index)
	}
	return nil
}

func (f *fold) writeIssuance(index uint64, leaf auditlog.Leaf, body []byte) error {
	if !f.knows(leaf) {
		return nil
	}
	issuer := protocol.Digest(leaf.Issuer)
	to, err := f.issuedAs(index, leaf, body)
	if err != nil {
		return err
	}
	if to.renews != nil {
		old, _, err := f.tx.Certificate(to.renews.Issuer, to.renews.Serial)
		if err != nil {
			return err
		}
		old.Renewed = true
		if err := f.tx.PutCertificate(to.renews.Issuer, to.renews.Serial, old); err != nil {
			return err
		}
	}
	if err := f.tx.PutCertificate(issuer, leaf.Serial, to.Certificate); err != nil {
		return err
	}
	if to.id.IsZero() {
		return nil
	}
	if err := f.tx.PutDone(to.id, index); err != nil {
		return err
	}
	if to.approver != nil {
		if err := f.tx.PutApprover(to.Key, *to.approver); err != nil {
			return err
		}
	}
	if to.Name != nil {
		if err := f.tx.PutName(to.Name, issuer, leaf.Serial); err != nil {
			return err
		}
	}
	if use, known := f.tx.KeyUse(to.Key); !known || to.Name != nil {
		return f.tx.PutKeyUse(to.Key, store.KeyUse{Name: to.Name, Compromised: use.Compromised})
	}
	return nil
}

func (f *fold) writeChange(index uint64, leaf auditlog.Leaf, body []byte) error {
	id, err := resultID(body)
	if err != nil {
		return err
	}
	if !id.IsZero() && f.lastKind != auditlog.Order { // the order's own leaf is where that is done
		if err := f.tx.PutDone(id, index); err != nil {
			return err
		}
	}
	if !f.knows(leaf) {
		return nil
	}
	issuer := protocol.Digest(leaf.Issuer)
	c, found, err := f.tx.Certificate(issuer, leaf.Serial)
	if err != nil {
		return err
	}
	if !found {
		c = f.broughtUnlogged(index, leaf)
	}
	c.Status, c.Changed = leaf.Status, index
	if err := f.tx.PutCertificate(issuer, leaf.Serial, c); err != nil {
		return err
	}
	if err := markChanged(f.tx, issuer, index); err != nil {
		return err
	}
	if leaf.Status == auditlog.Active {
		return f.tx.DeleteRevoked(issuer, f.shard(leaf), leaf.Serial)
	}
	entry, barred, err := f.changedTo(index, leaf, id, c.NotAfter)
	if err != nil {
		return err
	}
	if barred && !c.Key.IsZero() {
		if err := f.tx.PutKeyUse(c.Key, store.KeyUse{Name: c.Name, Compromised: true}); err != nil {
			return err
		}
	}
	return f.writeEntry(leaf, entry)
}

func (f *fold) writeEntry(leaf auditlog.Leaf, entry store.Revoked) error {
	return f.tx.PutRevoked(protocol.Digest(leaf.Issuer), f.shard(leaf), leaf.Serial, entry)
}
