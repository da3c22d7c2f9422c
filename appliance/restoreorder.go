package appliance

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
)

// The order that ends a restore. The appliance makes it, because it knows what was brought; officers approve it at the
// console, when they are sure that nobody knows more of the log.

// crlLeap is how far above all numbers that are known the CRLs of a restored appliance begin: one may have been published
// from a medium that was never brought back.
const crlLeap = 1000

// orderLifetime is how long the order may wait, in seconds.
const orderLifetime = 7 * secondsOfDay

// RestoreOrder makes the order for what was brought and applied. CRLs get numbers above the given one, too.
func (e *Engine) RestoreOrder(above uint64) ([]byte, error) {
	if e.broken != nil {
		return nil, e.broken
	}
	c, err := e.restoration()
	if err != nil {
		return nil, err
	}
	for i := range c.CRLs {
		c.CRLs[i].Number = max(c.CRLs[i].Number+crlLeap, above)
	}
	content, err := c.Encode()
	if err != nil {
		return nil, err
	}
	now := e.Now().Unix()
	req := protocol.Request{
		Version: protocol.Version, Appliance: e.appliance, Kind: protocol.KindRestore, Created: now, Expires: now + orderLifetime, Content: content,
	}
	if _, err := io.ReadFull(e.Rand, req.Nonce[:]); err != nil {
		return nil, fmt.Errorf("draw nonce: %w", err)
	}
	return cose.Marshal(req)
}

// ErrNotApplied is returned when the order is asked for before the leaves that were brought are in the ledger.
var ErrNotApplied = errors.New("the leaves that were brought are not in the ledger yet")

// restoration says from where the appliance goes on, with the highest numbers of CRLs that are known.
func (e *Engine) restoration() (c protocol.Restoration, err error) {
	if e.restoring == nil {
		return c, fmt.Errorf("restore: %w", errLiving)
	}
	s, err := e.openStaged()
	if err != nil {
		return c, err
	}
	defer s.close()
	if s.r != nil {
		last, err := e.openNote(Note{"what was brought", s.r.Header.Checkpoint})
		if err != nil {
			return c, err
		}
		if e.restoring.Applying || uint64(last.Size) > e.folded.next {
			return c, ErrNotApplied
		}
	}
	edge := e.folded.appender.Edge()
	c = protocol.Restoration{From: e.restoring.From, Size: e.folded.next, Root: protocol.Digest(edge.Root()), Lost: e.folded.lost}
	err = e.ledger.View(func(tx *store.Tx) error {
		for id, ca := range e.state.CAs {
			number := max(e.folded.seen[id], e.folded.floors[id])
			if ca.Certificate == nil && number == 0 {
				continue // it had no CRL; one whose certificate is lost may have had some
			}
			number = max(number, 1)
			for shard := range uint16(e.shards(id)) {
				crl, _, err := tx.CRL(id, shard)
				if err != nil {
					return err
				}
				number = max(number, crl.Number)
			}
			c.CRLs = append(c.CRLs, protocol.CRLFloor{Issuer: id, Number: number})
		}
		return nil
	})
	slices.SortFunc(c.CRLs, func(a, b protocol.CRLFloor) int { return slices.Compare(a.Issuer[:], b.Issuer[:]) })
	return c, err
}

// orderRestore carries out the one order that an appliance takes which waits for it, with the CRLs that it calls for.
func (e *Engine) orderRestore(request []byte, approvals [][]byte) (protocol.Result, error) {
	result, err := e.restore(request, approvals)
	if errors.Is(err, ErrRestoring) || err == nil && result.Refusal != nil {
		return result, err
	}
	if err == nil {
		r := &run{Engine: e, forced: e.caOrder()} // also of roots: what was revoked since the backup is on none that is here
		r.now, r.shut = e.time()
		err = r.finish(nil)
	}
	return result, e.stop(err)
}

// restore carries the order out: it is logged, and with it the appliance is live.
func (e *Engine) restore(request []byte, approvals [][]byte) (protocol.Result, error) {
	now := e.Now().Unix()
	it := &item{item: protocol.Item{Request: request}}
	e.look(it, protocol.SectionOrders, now)
	refusal, err := it.refusal, error(nil)
	if refusal == nil && it.req.Kind != protocol.KindRestore {
		return protocol.Result{}, ErrRestoring
	}
	if refusal == nil {
		refusal = e.behind(now)
	}
	var challenge []byte
	if refusal == nil {
		challenge, refusal, err = e.mayRestore(it, approvals, now)
	}
	if err != nil {
		return protocol.Result{}, err
	}
	if refusal != nil { // nothing is logged before the log goes on
		return protocol.Result{ID: it.id, Outcome: protocol.OutcomeRefused, Refusal: refusal}, nil
	}
	it.result = protocol.Result{ID: it.id, Outcome: protocol.OutcomeDone}
	return it.result, e.revive(it, approvals, challenge, now)
}

// mayRestore asks the officers, and whether the order is about what is here.
func (e *Engine) mayRestore(it *item, approvals [][]byte, now int64) ([]byte, *protocol.Refusal, error) {
	var challenge []byte
	err := e.ledger.View(func(tx *store.Tx) error {
		m, err := tx.Meta()
		challenge = slices.Clone(m.Challenge)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if _, refusal := e.state.Authorize(it.item.Request, approvals, challenge, now); refusal != nil {
		return nil, refusal, nil
	}
	ordered, refusal := it.req.Restoration()
	if refusal != nil {
		return nil, refusal, nil
	}
	here, err := e.restoration()
	if errors.Is(err, ErrNotApplied) {
		return nil, protocol.Refuse(protocol.CodeNotRestoring, "reason", err.Error()), nil
	}
	if err != nil {
		return nil, nil, err
	}
	same := ordered.From == here.From && ordered.Size == here.Size && ordered.Root == here.Root && ordered.Lost == here.Lost && len(ordered.CRLs) == len(here.CRLs)
	for _, f := range here.CRLs {
		same = same && ordered.Floor(f.Issuer) >= f.Number
	}
	if !same {
		return nil, protocol.Refuse(protocol.CodeSuperseded, "reason", "the log that was brought here is not the one that the order is about"), nil
	}
	return challenge, nil, nil
}

// revive writes the leaf that ends the restore and takes the device's counter for the log's.
func (e *Engine) revive(it *item, approvals [][]byte, challenge []byte, now int64) error {
	device, err := e.Signer.Counter()
	if err != nil {
		return fault("read counter", err)
	}
	ordered, _ := it.req.Restoration()
	restoring := e.restoring
	e.restoring = nil
	var intents []store.Intent
	err = e.stepFrom(device, now, func(rec *recorder) (err error) {
		if intents, err = rec.tx.Intents(); err != nil {
			return err
		}
		index, err := e.recordRestore(rec, it, approvals, challenge, device)
		if err != nil {
			return err
		}
		for id, ca := range e.state.CAs {
			record, _, err := rec.tx.CA(id)
			if err != nil {
				return err
			}
			record.Floor = max(record.Floor, ordered.Floor(id))
			if ca.Certificate != nil {
				record.Changed = index
			}
			if err := rec.tx.PutCA(id, record); err != nil {
				return err
			}
		}
		m, err := rec.tx.Meta()
		if err != nil {
			return err
		}
		m.Restoring, m.Generation, m.Restores = nil, m.Generation+1, append(m.Restores, store.Range{From: restoring.From, Size: ordered.Size})
		return rec.tx.PutMeta(m)
	})
	if err != nil {
		return err
	}
	e.folded = nil
	if err := e.forgetBrought(); err != nil {
		return err
	}
	if err := e.adopt(); err != nil {
		return err
	}
	if err := e.burn(intents); err != nil {
		return err
	}
	if err := e.destroyLeft(); err != nil {
		return err
	}
	return e.keepReserve()
}

// forgetBrought removes what a restore needed, requests of people among it: when it is over, and at a start after one that
// was interrupted there.
func (e *Engine) forgetBrought() error {
	if err := os.RemoveAll(filepath.Join(e.Dir, restoreDir)); err != nil {
		return fault("remove what was brought", err)
	}
	return nil
}

func (e *Engine) recordRestore(rec *recorder, it *item, approvals [][]byte, challenge []byte, device uint64) (uint64, error) {
	result, err := cose.Marshal(it.result)
	if err != nil {
		return 0, err
	}
	body, err := cose.Marshal(auditlog.OrderBody{Request: it.item.Request, Approvals: approvals, Challenge: challenge, Result: result})
	if err != nil {
		return 0, err
	}
	index, _, err := rec.append(auditlog.Leaf{Kind: auditlog.Restored, Number: device}, body)
	if err != nil {
		return 0, err
	}
	if err := rec.tx.PutDone(it.id, index); err != nil {
		return 0, err
	}
	if err := e.state.Carry(&it.req, it.result, index, rec.now); err != nil {
		return 0, err
	}
	return index, writeState(rec.tx, e.state, index)
}

// Unheard lists the agents that may have leaves and brought none.
func (e *Engine) Unheard(heard []string) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(e.state.Parties)) {
		party, err := protocol.ParseParty(e.state.Parties[name])
		if err == nil && party.Role == protocol.RoleAgent && !slices.Contains(heard, name) {
			names = append(names, name)
		}
	}
	return names
}

// Adopt takes a key device for the appliance whose backup was opened beside it, if it belongs to no other.
func Adopt(c Config, typed protocol.Digest) error {
	if err := c.Signer.Pin(typed); err != nil {
		return fault("pin genesis digest", err)
	}
	return nil
}
