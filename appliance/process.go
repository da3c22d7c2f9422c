package appliance

import (
	"errors"
	"fmt"
	"io"

	"coldseal/appliance/store"
	"coldseal/protocol"
)

// run is one bundle going through the engine, or the orders of one visit at the console.
type run struct {
	*Engine
	bundle *protocol.Bundle
	draft  *draft // nil if nobody is answered
	now    int64
	shut   *protocol.Refusal // the clock can't be believed
	left   uint64            // items that the agent's quota still admits
	took   bool              // something was taken away
	cut    *protocol.Refusal // what ended the bundle before its end
	done   uint64
	few    bool   // of what was not done, only the first is answered: the bundle was refused as a whole
	undone uint64 // answers that say that something was not done
	taken  func(id protocol.Digest, receipt []byte) error
	forced []protocol.Digest // CAs whose CRL an order asked for
}

// Outcome is what became of a bundle.
type Outcome struct {
	Sender   string            // empty if it is not known
	Sequence uint64            //
	Refusal  *protocol.Refusal // of the bundle as a whole; what takes away was done all the same
	Items    uint64            // answered
	Again    bool              // it had been answered before; the same answer is released
	Missing  []uint64          // lower numbers of this sender that have not come; at most protocol.MaxMissing
}

// Process opens a spooled bundle, carries out what is approved in it and stores the response. Receipts are handed out
// as soon as what they say is durable. An error is a fault: nothing more is done until the engine is opened again.
func (e *Engine) Process(spool protocol.Spool, receipt func(id protocol.Digest, receipt []byte) error) (Outcome, error) {
	return e.processSpooled(spool, spool.Size(), receipt)
}

// processSpooled processes a bundle of a size, or the beginning of it where there was no room for more. The seal of a part
// can't be verified, and need not be: what takes away is done for any sender. The bundle is answered when it comes again.
func (e *Engine) processSpooled(spool protocol.Spool, size int64, receipt func(id protocol.Digest, receipt []byte) error) (out Outcome, err error) {
	if err := e.ready(); err != nil {
		return Outcome{}, err
	}
	if size == spool.Size() {
		out, err = e.process(spool, e.sender, protocol.Refuse(protocol.CodeUnknownSender), receipt)
	} else {
		var room int64
		if room, err = e.room(); err == nil {
			nobody := func(protocol.Digest) (protocol.Party, bool) { return protocol.Party{}, false }
			out, err = e.process(spool, nobody, noSpace(room, needs(size)), receipt)
		}
	}
	return out, e.stop(err)
}

// process refuses what does not take away of a bundle whose sender is not known.
func (e *Engine) process(spool protocol.Spool, sender func(protocol.Digest) (protocol.Party, bool), unknown *protocol.Refusal, receipt func(id protocol.Digest, receipt []byte) error) (Outcome, error) {
	bundle, refusal, err := protocol.OpenBundle(spool, e.appliance, sender)
	if err != nil {
		return Outcome{}, fault("read spool", err)
	}
	if refusal != nil {
		return Outcome{Refusal: refusal}, nil
	}
	r := &run{Engine: e, bundle: bundle, taken: receipt}
	r.now, r.shut = e.time()
	if bundle.Sender == nil {
		_, err := r.sections(unknown)
		if err == nil && r.took {
			err = r.finish(nil)
		}
		return Outcome{Refusal: unknown, Items: r.done}, err
	}
	out := Outcome{Sender: bundle.Sender.Name, Sequence: bundle.Header.Sequence}
	refusal, again, err := r.admit(spool.Size())
	if err != nil || again {
		out.Again = again
		return out, err
	}
	if r.draft, err = e.newDraft(); err != nil {
		return out, fault("make response", err)
	}
	defer r.draft.file.Close() // it has no name, and what it holds was copied
	if r.few = refusal != nil; !r.few {
		if err := r.begin(); err != nil {
			return out, err
		}
	}
	cut, err := r.sections(refusal)
	if err != nil {
		return out, err
	}
	if out.Items, out.Refusal = r.done, refusal; refusal == nil {
		out.Refusal = cut
	}
	out.Missing, err = r.conclude(refusal)
	return out, err
}

// sections goes through the groups. With a refusal only what takes away is done. It returns what ended the bundle early.
func (r *run) sections(refusal *protocol.Refusal) (*protocol.Refusal, error) {
	for {
		g, cut, err := r.bundle.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil, nil
		case err != nil:
			return nil, fault("read spool", err)
		case cut != nil:
			return cut, nil
		case g.Section == protocol.SectionTakeAway:
			err = r.takeAway(g)
		case refusal != nil:
			return nil, nil
		case g.Section == protocol.SectionOrders:
			err = r.orders(g)
		default:
			err = r.requests(g)
			return r.cut, err
		}
		if err != nil {
			return nil, err
		}
	}
}

// answer writes the answers of items to the draft, and hands out receipts, once what they say is durable.
func (r *run) answer(items []*item) error {
	for _, it := range items {
		if r.taken != nil && len(it.result.Receipt) != 0 {
			if err := r.taken(it.id, it.result.Receipt); err != nil {
				return fault("hand out receipt", err)
			}
		}
		if it.result.Outcome == protocol.OutcomeRefused {
			r.undone++
		}
		// A bundle that was refused asked for no room, and takes away all the same.
		if r.draft == nil || r.few && it.result.Outcome == protocol.OutcomeRefused && r.undone > protocol.MaxGroupItems {
			continue
		}
		if err := r.draft.answer(it.answer); err != nil {
			return fault("write answers", err)
		}
	}
	r.done += uint64(len(items))
	if r.Report != nil {
		r.Report(Progress{Done: r.done, Items: r.bundle.Header.Items})
	}
	return nil
}

// admits refuses what the clock or the agent's quota does not let in.
func (r *run) admits(it *item) {
	switch {
	case it.refusal != nil && !it.parsed:
		return
	case r.shut != nil: // an order in this bundle set the time
		it.refusal = r.shut
	case r.left == 0:
		it.refusal = protocol.Refuse(protocol.CodeQuota, "thing", "items", "limit", fmt.Sprint(r.bundle.Sender.ItemsPerDay))
	default:
		r.left--
	}
}

// finish makes the CRLs that are due, records them, and has stored put away what is to be safe then (step).
func (r *run) finish(stored func() error) error {
	var due []*newCRL
	var err error
	if r.jumped() == nil {
		if due, err = r.signCRLs(r.forced); err != nil {
			return err
		}
	}
	return r.step(r.now, func(rec *recorder) error { return recordCRLs(rec, due) }, stored)
}

// conclude makes the CRLs that are due and stores the response, in the order of law 7. The answer to a bundle that was
// refused as a whole is a notice beside the numbered responses, for it left its number unused; the log has nothing to
// tell of it. It returns the numbers that are missing below the highest.
func (r *run) conclude(refusal *protocol.Refusal) (missing []uint64, err error) {
	sequence := r.bundle.Header.Sequence
	if refusal != nil {
		sequence = noticeSequence
	}
	stored := func() error {
		h := protocol.ResponseHeader{Refusal: refusal}
		defer func() { missing = h.Missing }()
		if err := r.ledger.View(func(tx *store.Tx) error { return numbers(tx, r.bundle.Sender.Name, &h) }); err != nil {
			return err
		}
		return r.store(r.responsePath(r.bundle.Sender.Name, sequence), h)
	}
	if refusal == nil {
		err = r.finish(stored)
	} else if err = r.finish(nil); err == nil {
		err = stored()
	}
	return missing, err
}
