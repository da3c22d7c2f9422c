package appliance

import (
	"errors"
	"fmt"
	"os"

	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
)

// Open starts an engine. It replays the log from the genesis digest that is pinned in the signer, decides all orders
// again, and goes on only if ledger, log, checkpoint and counter agree (laws 7 and 9). What was being signed when the
// appliance last stopped is burned.
func Open(c Config) (*Engine, error) {
	e := &Engine{Config: c}
	pinned, found, err := e.Signer.Pinned()
	if err != nil {
		return nil, fault("ask signer for the genesis digest", err)
	}
	if !found {
		return nil, errors.New("open appliance: genesis was not finished; run genesis again")
	}
	e.appliance = pinned
	if e.ledger, err = store.Open(c.Dir); err != nil {
		// The digest is pinned after the ledger is durable: it was finished, and another one, or none, was put in its place.
		if errors.Is(err, store.ErrUnfinished) || errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("%w: %w", ErrRollback, err)
		}
		return nil, fault("start", err)
	}
	if err := e.open(); err != nil {
		return nil, errors.Join(err, e.ledger.Close())
	}
	return e, nil
}

func (e *Engine) open() (err error) {
	if e.spool, err = newSpool(e.Dir, SpoolReserve); err != nil {
		return err
	}
	var intents []store.Intent
	var counter uint64
	err = e.ledger.View(func(tx *store.Tx) error {
		m, err := tx.Meta()
		if err != nil {
			return err
		}
		if e.genesis, err = protocol.ParseGenesis(m.Genesis, e.appliance); err != nil {
			return err
		}
		if e.state, err = auditlog.NewState(m.Genesis, e.appliance); err != nil {
			return err
		}
		if err := e.replay(tx, &m); err != nil {
			return fmt.Errorf("%w; nothing is signed on a ledger that does not agree with its log", err)
		}
		counter, e.serials, e.restoring = m.Counter, m.Size, m.Restoring
		intents, err = tx.Intents()
		return err
	})
	if err != nil {
		return fault("start", err)
	}
	if e.restoring != nil {
		if err := e.openRestoring(counter); err != nil {
			return fault("start", err)
		}
		return nil
	}
	if err := e.checkCounter(counter); err != nil {
		return fault("start", err)
	}
	if err := e.forgetBrought(); err != nil {
		return err
	}
	if err := e.adopt(); err != nil {
		return fault("start", err)
	}
	if err := e.burn(intents); err != nil {
		return err
	}
	if err := e.destroyLeft(); err != nil {
		return err
	}
	return e.keepReserve()
}

// checkCounter compares the device's counter with the one that the last step named. One behind is a step that was
// interrupted before its last move; anything else is an older copy of the ledger, or a foreign device.
func (e *Engine) checkCounter(ledger uint64) error {
	device, err := e.Signer.Counter()
	if err != nil {
		return fmt.Errorf("read counter: %w", err)
	}
	switch {
	case device == ledger:
		return nil
	case device+1 == ledger:
		return e.Signer.Advance(ledger)
	}
	return fmt.Errorf("%w: the ledger is at step %d, the counter at %d", ErrRollback, ledger, device)
}

// ErrRollback is returned at start when the ledger is older than the counter: somebody put back a copy.
var ErrRollback = errors.New("rollback: the ledger is not the newest one")

// burn records serials whose signing was interrupted as revoked (law 7): perhaps they were signed, so they are never
// used again, and if such a certificate turns up it is on the CRL.
func (e *Engine) burn(intents []store.Intent) error {
	if len(intents) == 0 {
		return nil
	}
	if room, err := e.room(); err != nil {
		return fault("start", err)
	} else if room < SpoolReserve {
		if err := e.spendReserve(); err != nil {
			return err
		}
	}
	now, _ := e.time()
	return e.step(now, func(rec *recorder) error {
		for _, in := range intents {
			if len(in.Serial) == 0 {
				continue // a CRL: its number is given again, to a CRL that says more
			}
			body, err := cose.Marshal(in)
			if err != nil {
				return err
			}
			leaf := auditlog.Leaf{Kind: auditlog.Burned, Issuer: in.Issuer[:], Serial: in.Serial, Status: auditlog.Revoked, Profile: in.Profile}
			index, _, err := rec.append(leaf, body)
			if err != nil {
				return err
			}
			entry := store.Revoked{Time: now, Reason: protocol.ReasonUnspecified, Index: index, NotAfter: end(e.state.CAs[in.Issuer])}
			if err := rec.tx.PutRevoked(in.Issuer, e.shard(in.Issuer, in.Serial), in.Serial, entry); err != nil {
				return err
			}
			if err := markChanged(rec.tx, in.Issuer, index); err != nil {
				return err
			}
		}
		return rec.tx.PutIntents(nil)
	}, nil)
}
