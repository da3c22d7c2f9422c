package appliance

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
)

// run is one bundle going through the engine, or the orders of one visit at the console.
type run struct {
	*Engine
	bundle *protocol.Bundle
	draft  *draft // nil if nobody is answered
	now    int64
	shut   *protocol.Refusal // the clock can't be believed
	left   int64             // items that the agent's quota still admits
	cut    *protocol.Refusal // what ended the bundle before its end
	done   uint64
	taken  func(id protocol.Digest, receipt []byte) error
}

// Outcome is what became of a bundle.
type Outcome struct {
	Sender   string            // empty if it is not known
	Sequence uint64            //
	Refusal  *protocol.Refusal // of the bundle as a whole; what takes away was done all the same
	Items    uint64            // answered
	Again    bool              // it had been answered before; the same answer is released
}

// Process opens a spooled bundle, carries out what is approved in it and stores the response. Receipts are handed out
// as soon as what they say is durable. An error is a fault: nothing more is done until the engine is opened again.
func (e *Engine) Process(spool protocol.Spool, receipt func(id protocol.Digest, receipt []byte) error) (Outcome, error) {
	if e.broken != nil {
		return Outcome{}, e.broken
	}
	bundle, refusal, err := protocol.OpenBundle(spool, e.appliance, e.sender)
	if err != nil {
		return Outcome{}, fault("read spool", err)
	}
	if refusal != nil {
		return Outcome{Refusal: refusal}, nil
	}
	r := &run{Engine: e, bundle: bundle, taken: receipt}
	r.now, r.shut = e.time()
	if bundle.Sender == nil {
		_, err := r.sections(protocol.Refuse(protocol.CodeUnknownSender))
		return Outcome{Refusal: protocol.Refuse(protocol.CodeUnknownSender), Items: r.done}, err
	}
	out := Outcome{Sender: bundle.Sender.Name, Sequence: bundle.Header.Sequence}
	refusal, again, err := r.admit(spool.Size())
	if err != nil || again {
		out.Again = again
		return out, err
	}
	if r.draft, err = e.newDraft(); err != nil {
		return out, e.stop(fault("make response", err))
	}
	defer r.draft.file.Close() // it has no name, and what it holds was copied
	if refusal == nil {
		if err := r.begin(); err != nil {
			return out, err
		}
	}
	cut, err := r.sections(refusal)
	if err != nil {
		return out, err
	}
	if refusal == nil {
		refusal = cut
	}
	out.Items, out.Refusal = r.done, refusal
	return out, r.conclude(refusal)
}

// sender finds an enrolled agent by its seal key.
func (e *Engine) sender(seal protocol.Digest) (protocol.Party, bool) {
	for _, record := range e.state.Parties {
		party, err := protocol.ParseParty(record)
		if err == nil && party.Role == protocol.RoleAgent && protocol.DigestOf(party.Seal) == seal {
			return party, true
		}
	}
	return protocol.Party{}, false
}

// admit decides whether more than taking away is looked at, and whether the bundle was answered already.
func (r *run) admit(size int64) (refusal *protocol.Refusal, again bool, err error) {
	h, party := r.bundle.Header, r.bundle.Sender
	err = r.ledger.View(func(tx *store.Tx) error {
		known, used, err := tx.Bundle(party.Name, h.Sequence)
		if err != nil {
			return err
		}
		var numbered protocol.ResponseHeader
		if err := numbers(tx, party.Name, &numbered); err != nil {
			return err
		}
		usage, err := tx.Usage(party.Name)
		if err != nil {
			return err
		}
		if usage.Day != day(r.now) {
			usage = store.Usage{}
		}
		switch {
		case used && known.Digest != r.bundle.Digest:
			refusal = protocol.Refuse(protocol.CodeSequenceReused, "sequence", fmt.Sprint(h.Sequence), "last", fmt.Sprint(numbered.Last))
		case used:
			_, statErr := os.Stat(r.responsePath(party.Name, h.Sequence))
			again = statErr == nil
			r.left = int64(known.Items)
			if !again {
				refusal = r.shut
			}
		case party.Retired:
			refusal = protocol.Refuse(protocol.CodeRetiredSender, "name", party.Name)
		case r.shut != nil:
			refusal = r.shut
		case r.now >= h.Expires:
			refusal = protocol.Refuse(protocol.CodeBundleExpired, "expires", protocol.Date(h.Expires))
		case usage.Bundles >= party.BundlesPerDay:
			refusal = protocol.Refuse(protocol.CodeQuota, "thing", "bundles", "limit", fmt.Sprint(party.BundlesPerDay))
		default:
			r.left = int64(party.ItemsPerDay) - int64(usage.Items)
			refusal, err = r.space(size)
		}
		return err
	})
	if err != nil {
		return nil, false, r.stop(fault("read ledger", err))
	}
	return refusal, again, nil
}

// space asks for room for what a bundle grows to: the ledger takes about four times its size and the response two.
func (r *run) space(size int64) (*protocol.Refusal, error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(r.Dir, &fs); err != nil {
		return nil, fmt.Errorf("measure free space: %w", err)
	}
	free, need := int64(fs.Bavail)*fs.Bsize, 6*size+SpoolReserve
	if free < need {
		return protocol.Refuse(protocol.CodeNoSpace, "free", fmt.Sprintf("%d MiB", free>>20), "need", fmt.Sprintf("%d MiB", need>>20)), nil
	}
	return nil, nil
}

// begin uses the bundle's number, once and for all.
func (r *run) begin() error {
	h, party := r.bundle.Header, r.bundle.Sender
	var acknowledged []uint64
	err := r.step(r.now, func(rec *recorder) error {
		if _, used, err := rec.tx.Bundle(party.Name, h.Sequence); err != nil || used {
			return err // a crash interrupted it: it goes on under the same number
		}
		usage, err := rec.tx.Usage(party.Name)
		if err != nil {
			return err
		}
		if usage.Day != day(rec.now) {
			usage = store.Usage{Day: day(rec.now)}
		}
		usage.Bundles++
		usage.Items += h.Items
		if err := rec.tx.PutUsage(party.Name, usage); err != nil {
			return err
		}
		if err := rec.tx.PutBundle(party.Name, h.Sequence, store.Bundle{Digest: r.bundle.Digest, Items: uint64(max(r.left, 0))}); err != nil {
			return err
		}
		for _, sequence := range h.Acknowledged {
			b, used, err := rec.tx.Bundle(party.Name, sequence)
			if err != nil {
				return err
			}
			if !used || sequence == h.Sequence {
				continue
			}
			b.Acknowledged = true
			if err := rec.tx.PutBundle(party.Name, sequence, b); err != nil {
				return err
			}
			acknowledged = append(acknowledged, sequence)
		}
		body, err := cose.Marshal(auditlog.BundleBody{From: party.Name, Sequence: h.Sequence, Bundle: r.bundle.Digest})
		if err != nil {
			return err
		}
		_, _, err = rec.append(auditlog.Leaf{Kind: auditlog.Bundle, Number: h.Sequence}, body)
		return err
	}, nil)
	if err != nil {
		return err
	}
	for _, sequence := range acknowledged {
		if err := os.Remove(r.responsePath(party.Name, sequence)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return r.stop(fault("remove acknowledged response", err))
		}
	}
	return nil
}

// sections goes through the groups. With a refusal only what takes away is done. It returns what ended the bundle early.
func (r *run) sections(refusal *protocol.Refusal) (*protocol.Refusal, error) {
	for {
		g, cut, err := r.bundle.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil, nil
		case err != nil:
			return nil, r.stop(fault("read spool", err))
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
	err := r.ledger.View(func(tx *store.Tx) error {
		for _, it := range items {
			if r.taken != nil && len(it.result.Receipt) != 0 {
				if err := r.taken(it.id, it.result.Receipt); err != nil {
					return err
				}
			}
			if r.draft == nil {
				continue
			}
			a := protocol.Answer{Index: it.index}
			var err error
			if it.index != 0 && !it.req.Kind.IsOrder() {
				if a.Salt, a.Body, err = tx.Body(it.index); err != nil {
					return err
				}
			} else {
				a.Index = 0
				if a.Body, err = cose.Marshal(it.result); err != nil {
					return err
				}
			}
			if err := r.draft.answer(a); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return r.stop(fault("write answers", err))
	}
	r.done += uint64(len(items))
	if r.Report != nil && r.bundle != nil {
		r.Report(Progress{Done: r.done, Items: r.bundle.Header.Items})
	}
	return nil
}

// finish makes the CRLs that are due and records them.
func (r *run) finish(forced []protocol.Digest) error {
	due, err := r.dueCRLs(forced)
	if err != nil {
		return r.stop(err)
	}
	if len(due) == 0 {
		return nil
	}
	if err := r.signCRLs(due); err != nil {
		return err
	}
	return r.step(r.now, func(rec *recorder) error { return recordCRLs(rec, due) }, nil)
}

// conclude makes the CRLs that are due and stores the response, in the order of law 7.
func (r *run) conclude(refusal *protocol.Refusal) error {
	var due []*newCRL
	var err error
	if r.shut == nil {
		if due, err = r.dueCRLs(nil); err != nil {
			return r.stop(err)
		}
		if err := r.signCRLs(due); err != nil {
			return err
		}
	}
	path := r.responsePath(r.bundle.Sender.Name, r.bundle.Header.Sequence)
	h := protocol.ResponseHeader{}
	if refusal != nil && r.unused(refusal) {
		path = r.responsePath(r.bundle.Sender.Name, noticeSequence)
		h.Refusal = refusal
	}
	stored := func() error {
		if err := r.ledger.View(func(tx *store.Tx) error { return numbers(tx, r.bundle.Sender.Name, &h) }); err != nil {
			return err
		}
		return r.store(path, h)
	}
	if h.Refusal != nil && len(due) == 0 && r.done == 0 {
		return stored() // nothing happened that the log has to tell
	}
	return r.step(r.now, func(rec *recorder) error { return recordCRLs(rec, due) }, stored)
}

// unused tells whether a refusal left the bundle's number unused, so that its answer is a notice beside the numbered
// responses. A bundle that was cut short has used its number.
func (r *run) unused(refusal *protocol.Refusal) bool {
	return refusal.Code != protocol.CodeMalformed && refusal.Code != protocol.CodeTooLarge
}
