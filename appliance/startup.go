package appliance

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"coldseal/appliance/signer"
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
	var err error
	if e.ledger, err = store.Open(c.Dir); err != nil {
		return nil, err
	}
	if err := e.open(); err != nil {
		return nil, errors.Join(err, e.ledger.Close())
	}
	return e, nil
}

func (e *Engine) open() error {
	pinned, found, err := e.Signer.Pinned()
	if err != nil {
		return fault("ask signer for the genesis digest", err)
	}
	if !found {
		return errors.New("open appliance: genesis was not finished; run genesis again")
	}
	e.appliance = pinned
	if e.spool, err = newSpool(e.Dir); err != nil {
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
		if err := e.keys(); err != nil {
			return err
		}
		if e.state, err = auditlog.NewState(m.Genesis, e.appliance); err != nil {
			return err
		}
		if err := e.replay(tx, &m); err != nil {
			return fmt.Errorf("%w; nothing is signed on a ledger that does not agree with its log", err)
		}
		counter, e.serials = m.Counter, m.Size
		intents, err = tx.Intents()
		return err
	})
	if err != nil {
		return fault("start", err)
	}
	if err := e.checkCounter(counter); err != nil {
		return fault("start", err)
	}
	if err := e.adopt(); err != nil {
		return fault("start", err)
	}
	return e.burn(intents)
}

// keys finds the appliance's own keys in the signer.
func (e *Engine) keys() error {
	for _, k := range []struct {
		key     **signer.Key
		label   string
		purpose signer.Purpose
		spki    []byte
	}{
		{&e.seal, LabelSeal, signer.Seal, e.genesis.Seal},
		{&e.log, LabelLog, signer.Log, e.genesis.Log},
		{&e.receiver, LabelReceiver, signer.Receiver, e.genesis.Receiver},
	} {
		key, err := e.Signer.KeyLabelled(k.label, k.purpose)
		if err != nil {
			return fmt.Errorf("find %s key: %w", k.label, err)
		}
		if !bytes.Equal(key.Info().SPKI, k.spki) {
			return fmt.Errorf("the %s key of the signer is not the one of genesis", k.label)
		}
		*k.key = key
	}
	return nil
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
			entry := store.Revoked{Time: now, Reason: protocol.ReasonUnspecified, Index: index, NotAfter: in.NotAfter}
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

// replay folds the log and compares what it comes to with the ledger.
func (e *Engine) replay(tx *store.Tx, m *store.Meta) error {
	f := &fold{tx: tx, state: e.state, appender: auditlog.NewAppender(auditlog.Range{}), crls: map[crlKey]crlSeen{}}
	err := tx.EachLeaf(0, f.leaf)
	if err != nil {
		return err
	}
	if f.next != m.Size {
		return fmt.Errorf("replay: %d leaves, the ledger counts %d", f.next, m.Size)
	}
	edge := f.appender.Edge()
	logKey, err := e.genesis.LogKey()
	if err != nil {
		return err
	}
	checkpoint, err := auditlog.OpenCheckpoint(m.Checkpoint, auditlog.Origin(e.appliance), logKey)
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	if checkpoint.Size != edge.Size() || checkpoint.Root != edge.Root() || !slices.EqualFunc(edge.Hashes(), m.Edge, bytes.Equal) {
		return errors.New("replay: the leaves are not those under the last checkpoint")
	}
	if f.counter != m.Counter {
		return fmt.Errorf("replay: the last step names counter %d, the ledger %d", f.counter, m.Counter)
	}
	return f.compare(m)
}

type crlKey struct {
	issuer protocol.Digest
	shard  uint64
}

type crlSeen struct {
	number, index uint64
	digest        protocol.Digest
}

// fold is one pass over the log beside the ledger, in bounded memory: each leaf is compared with what the ledger says
// of the same thing, and counts show whether the ledger says more.
type fold struct {
	tx       *store.Tx
	state    *auditlog.State
	appender *auditlog.Appender
	crls     map[crlKey]crlSeen
	next     uint64
	counter  uint64
	lastKind auditlog.Kind
	issued   uint64
	done     uint64
	revoked  uint64
}

func (f *fold) leaf(index uint64, encoded, salted []byte) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("replay: leaf %d: "+format, append([]any{index}, args...)...)
	}
	if index != f.next {
		return fail("leaf %d is missing", f.next)
	}
	leaf, err := auditlog.ParseLeaf(encoded)
	if err != nil {
		return fail("%w", err)
	}
	first, hashes := f.appender.Append(encoded)
	if err := f.hashes(first, hashes); err != nil {
		return fail("%w", err)
	}
	var body []byte
	if salted != nil {
		if len(salted) < store.SaltSize || auditlog.BodyDigest([16]byte(salted[:store.SaltSize]), salted[store.SaltSize:]) != leaf.Body {
			return fail("the body is not the one that was logged")
		}
		body = salted[store.SaltSize:]
	}
	switch leaf.Kind {
	case auditlog.Step:
		if leaf.Number != f.counter+1 {
			return fail("step %d follows %d", leaf.Number, f.counter)
		}
		f.counter = leaf.Number
	case auditlog.Issued:
		err = f.issuance(index, leaf, body)
	case auditlog.Changed:
		err = f.change(index, leaf, body)
	case auditlog.Burned:
		f.revoked++
		err = f.entry(index, leaf)
	case auditlog.Order:
		err = f.order(index, body)
	case auditlog.Refused, auditlog.Withdrawn:
		err = f.result(index, body)
		if leaf.Kind == auditlog.Withdrawn {
			f.done++ // the mark on the request that was withdrawn
		}
	case auditlog.CRL:
		err = f.crl(index, leaf, body)
	case auditlog.Bundle:
		err = f.bundle(body)
	}
	if err != nil {
		return fail("%w", err)
	}
	if err := f.state.Apply(leaf, bytes.Clone(body)); err != nil {
		return fail("%w", err)
	}
	f.next, f.lastKind = index+1, leaf.Kind
	return nil
}

func (f *fold) hashes(first int64, hashes []auditlog.Hash) error {
	indexes := make([]int64, len(hashes))
	for i := range hashes {
		indexes[i] = first + int64(i)
	}
	stored, err := f.tx.ReadHashes(indexes)
	if err == nil && !slices.Equal(stored, []tlog.Hash(hashes)) {
		err = errors.New("a stored hash of the tree is not right")
	}
	return err
}

// result: the request whose result is in the leaf is done, there.
func (f *fold) result(index uint64, body []byte) error {
	f.done++
	if body == nil {
		return nil // erased after retention
	}
	r, err := protocol.ParseResult(body)
	if err != nil {
		return err
	}
	return f.isDone(r.ID, index)
}

func (f *fold) isDone(id protocol.Digest, index uint64) error {
	if at, found := f.tx.Done(id); !found || at != index {
		return fmt.Errorf("the ledger does not say that request %s is done here", id)
	}
	return nil
}

func (f *fold) issuance(index uint64, leaf auditlog.Leaf, body []byte) error {
	f.issued++
	c, found, err := f.tx.Certificate(protocol.Digest(leaf.Issuer), leaf.Serial)
	if err != nil {
		return err
	}
	if !found || c.Issued != index || c.Profile != leaf.Profile || c.Changed < index || c.Changed == index && c.Status != auditlog.Active {
		return fmt.Errorf("the ledger says something else of certificate %x", leaf.Serial)
	}
	if f.lastKind == auditlog.Order {
		return nil // a CA certificate; its request is done in the order's leaf
	}
	return f.result(index, body)
}

func (f *fold) change(index uint64, leaf auditlog.Leaf, body []byte) error {
	c, found, err := f.tx.Certificate(protocol.Digest(leaf.Issuer), leaf.Serial)
	if err != nil {
		return err
	}
	if !found || c.Changed < index || c.Changed == index && c.Status != leaf.Status {
		return fmt.Errorf("the ledger says something else of certificate %x", leaf.Serial)
	}
	if c.Changed == index && leaf.Status != auditlog.Active {
		f.revoked++
		if err := f.entry(index, leaf); err != nil {
			return err
		}
	}
	return f.result(index, body)
}

func (f *fold) entry(index uint64, leaf auditlog.Leaf) error {
	for shard := range uint16(1) {
		r, found, err := f.tx.Revoked(protocol.Digest(leaf.Issuer), shard, leaf.Serial)
		if err != nil {
			return err
		}
		if found && r.Index == index {
			return nil
		}
	}
	return fmt.Errorf("certificate %x is not among those that the CRL lists", leaf.Serial)
}

func (f *fold) order(index uint64, body []byte) error {
	f.done++
	var o auditlog.OrderBody
	if err := cose.Unmarshal(body, &o); err != nil {
		return err
	}
	return f.isDone(protocol.ID(o.Request), index)
}

func (f *fold) crl(index uint64, leaf auditlog.Leaf, body []byte) error {
	var b auditlog.CRLBody
	if err := cose.Unmarshal(body, &b); err != nil {
		return err
	}
	key := crlKey{protocol.Digest(leaf.Issuer), b.Shard}
	if last := f.crls[key]; leaf.Number != last.number+1 {
		return fmt.Errorf("CRL %d follows %d", leaf.Number, last.number)
	}
	f.crls[key] = crlSeen{leaf.Number, index, b.CRL}
	return nil
}

func (f *fold) bundle(body []byte) error {
	var b auditlog.BundleBody
	if err := cose.Unmarshal(body, &b); err != nil {
		return err
	}
	known, found, err := f.tx.Bundle(b.From, b.Sequence)
	if err == nil && (!found || known.Digest != b.Bundle) {
		err = fmt.Errorf("the ledger does not know bundle %d of %s", b.Sequence, b.From)
	}
	return err
}

// compare holds what the log came to against what there is one of in the ledger, and the counts.
func (f *fold) compare(m *store.Meta) error {
	switch {
	case !bytes.Equal(m.Roster, f.state.Roster):
		return errors.New("replay: the roster is not the one that was ordered")
	case !bytes.Equal(m.Policy, f.state.Policy):
		return errors.New("replay: the policy is not the one that was ordered")
	case f.tx.CountCertificates() != f.issued:
		return errors.New("replay: the ledger has certificates that the log does not")
	case f.tx.CountDone() != f.done:
		return errors.New("replay: the ledger has results that the log does not")
	}
	parties := map[string][]byte{}
	if err := f.tx.EachParty(func(name string, record []byte) error {
		parties[name] = record
		return nil
	}); err != nil {
		return err
	}
	if !maps.EqualFunc(parties, f.state.Parties, bytes.Equal) {
		return errors.New("replay: the agents and stations are not those that were ordered")
	}
	cas, entries := 0, uint64(0)
	if err := f.tx.EachCA(func(id protocol.Digest, ca store.CA) error {
		cas++
		known, found := f.state.CAs[id]
		if !found || ca.Label != known.Label || ca.Profile != known.Profile || !bytes.Equal(ca.SPKI, known.SPKI) || !bytes.Equal(ca.Certificate, known.Certificate) {
			return fmt.Errorf("replay: the CA %s is not the one that was ordered", ca.Label)
		}
		return f.tx.EachRevoked(id, 0, func([]byte, store.Revoked) error {
			entries++
			return nil
		})
	}); err != nil {
		return err
	}
	if cas != len(f.state.CAs) || entries != f.revoked {
		return fmt.Errorf("replay: the ledger has %d CAs and %d revoked certificates, the log %d and %d", cas, entries, len(f.state.CAs), f.revoked)
	}
	for key, seen := range f.crls {
		crl, found, err := f.tx.CRL(key.issuer, uint16(key.shard))
		if err != nil {
			return err
		}
		if !found || crl.Number != seen.number || crl.Index != seen.index || protocol.DigestOf(crl.DER) != seen.digest {
			return fmt.Errorf("replay: the newest CRL is not number %d, as logged", seen.number)
		}
	}
	return nil
}
