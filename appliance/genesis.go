package appliance

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"coldseal/appliance/signer"
	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/media"
	"coldseal/protocol/policy"
)

// Genesis begins an appliance: its own keys, its identity, the first leaf of its log. What is given here is the only
// thing that is ever typed; everything later is a request. Interrupted, it is run again, and what it had decided stays
// decided. It returns the digest that people type elsewhere.
func Genesis(c Config, name string, roster *policy.Roster, p *policy.Policy) (protocol.Digest, error) {
	if problems := policy.Check(p, roster); len(problems) != 0 {
		return protocol.Digest{}, protocolError(problems[0])
	}
	if pinned, found, err := c.Signer.Pinned(); err != nil {
		return protocol.Digest{}, fault("ask signer for the genesis digest", err)
	} else if found {
		return protocol.Digest(pinned), fmt.Errorf("genesis: %w, with digest %s", ErrBegun, protocol.Digest(pinned))
	}
	if reason, err := (&Engine{Config: c}).unknownLints(p); err != nil {
		return protocol.Digest{}, err
	} else if reason != "" {
		return protocol.Digest{}, fmt.Errorf("genesis: %s", reason)
	}
	if err := media.MakeFolder(c.Dir); err != nil {
		return protocol.Digest{}, err
	}
	if err := c.unused(); err != nil {
		return protocol.Digest{}, err
	}
	// The ledger is opened before any key is made: a disk that can't hold it is found out first.
	ledger, err := openUnfinished(c.Dir)
	if err != nil {
		return protocol.Digest{}, err
	}
	e := &Engine{Config: c, ledger: ledger}
	digest, err := e.begin(name, roster, p)
	return digest, errors.Join(err, ledger.Close())
}

// unused refuses devices that have the appliance's own keys already, unless a genesis was interrupted here after it made
// them: another appliance uses them, or did in a rehearsal.
func (c *Config) unused() error {
	if _, err := os.Stat(filepath.Join(c.Dir, store.FileName)); err == nil {
		return nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return fault("look for the ledger", err)
	}
	for _, k := range c.Signer.Keys() {
		if use, own := protocol.ParseUse(k.Label); own {
			return fmt.Errorf("genesis: %w: %s", ErrUsed, ownLabel(use, 1))
		}
	}
	return nil
}

// ErrUsed is returned for a genesis on devices that have keys of an appliance.
var ErrUsed = errors.New("a device has a key of another appliance")

// ErrBegun is returned for a second genesis.
var ErrBegun = errors.New("the appliance has begun already")

func protocolError(p policy.Problem) error {
	return fmt.Errorf("genesis: %s: %s", p.Where, p.Words)
}

// openUnfinished opens the ledger of a genesis that nobody has relied on yet.
func openUnfinished(dir string) (*store.Store, error) {
	ledger, err := store.Open(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		ledger, err = store.Create(dir)
	case errors.Is(err, store.ErrUnfinished):
		ledger, err = store.Recreate(dir)
	default: // also a ledger that is in use, or damaged: that is not for genesis to remove
		return ledger, err
	}
	if err != nil {
		return nil, fault("make ledger", err)
	}
	return ledger, nil
}

func (e *Engine) begin(name string, roster *policy.Roster, p *policy.Policy) (protocol.Digest, error) {
	var written []byte
	err := e.ledger.View(func(tx *store.Tx) error {
		if m, err := tx.Meta(); err == nil {
			written = m.Genesis
		}
		return nil
	})
	if err != nil {
		return protocol.Digest{}, err
	}
	if written == nil {
		if written, err = e.write(name, roster, p); err != nil {
			return protocol.Digest{}, err
		}
	}
	digest := protocol.DigestOf(written)
	// Once the digest is pinned everybody relies on what was made: that the ledger and the keys have their names, too.
	if err := media.MakeFolder(e.Dir); err != nil {
		return digest, fault("keep state directory", err)
	}
	counter, err := e.Signer.Counter()
	if err != nil {
		return digest, fault("read counter", err)
	}
	if counter == 0 {
		if err := e.Signer.Advance(1); err != nil {
			return digest, fault("advance counter", err)
		}
	}
	if err := e.Signer.Pin(digest); err != nil {
		return digest, fault("pin genesis digest", err)
	}
	return digest, nil
}

// write makes the keys and the first two leaves: genesis, and the step to counter value 1.
func (e *Engine) write(name string, roster *policy.Roster, p *policy.Policy) ([]byte, error) {
	g := protocol.Genesis{Version: protocol.Version, Name: name, Created: e.Now().Unix()}
	if _, err := io.ReadFull(e.Rand, g.Nonce[:]); err != nil {
		return nil, fault("draw nonce", err)
	}
	var err error
	if e.log, g.Log, err = e.ownKey(protocol.UseLog); err != nil {
		return nil, err
	}
	if _, g.Receiver, err = e.ownKey(protocol.UseReceiver); err != nil {
		return nil, err
	}
	if _, g.Seal, err = e.ownKey(protocol.UseSeal); err != nil {
		return nil, err
	}
	if g.Roster, err = cose.Marshal(roster); err != nil {
		return nil, err
	}
	if g.Policy, err = cose.Marshal(p); err != nil {
		return nil, err
	}
	genesis, err := cose.Marshal(g)
	if err != nil {
		return nil, err
	}
	if e.state, err = auditlog.NewState(genesis, protocol.DigestOf(genesis)); err != nil {
		return nil, fmt.Errorf("genesis: %w", err)
	}
	err = e.ledger.Update(func(tx *store.Tx) error {
		rec := &recorder{tx: tx, appender: auditlog.NewAppender(auditlog.Range{}), now: g.Created, rand: e.Rand}
		if _, _, err := rec.append(auditlog.Leaf{Kind: auditlog.Genesis}, genesis); err != nil {
			return err
		}
		if _, _, err := rec.append(auditlog.Leaf{Kind: auditlog.Step, Number: 1}, nil); err != nil {
			return err
		}
		edge, origin := rec.appender.Edge(), auditlog.Origin(protocol.DigestOf(genesis))
		checkpoint, err := auditlog.SignCheckpoint(auditlog.CheckpointText(origin, edge.Size(), edge.Root()), origin, e.log)
		if err != nil {
			return err
		}
		return tx.PutMeta(store.Meta{
			Schema: store.Schema, Generation: 1, Genesis: genesis, Roster: g.Roster, Policy: g.Policy, Counter: 1,
			Clock: g.Created, Size: rec.size, Edge: edge.Hashes(), Checkpoint: checkpoint,
		})
	})
	if err != nil {
		return nil, fault("write ledger", err)
	}
	return genesis, nil
}

// ownKey makes one of the appliance's own keys, or finds it where genesis was interrupted.
func (e *Engine) ownKey(use protocol.Use) (*signer.Key, []byte, error) {
	kind, label := own[use], ownLabel(use, 1)
	key, err := e.Signer.KeyLabelled(label, kind.purpose)
	if err != nil {
		if key, err = e.Signer.CreateKey(label, kind.purpose, kind.algorithm); err != nil {
			return nil, nil, fault("create "+label+" key", err)
		}
	}
	return key, key.Info().SPKI, nil
}
