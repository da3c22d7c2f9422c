package appliance

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/policy"
)

// replay folds the log and compares what it comes to with the ledger.
func (e *Engine) replay(tx *store.Tx, m *store.Meta) error {
	f := &fold{
		tx: tx, state: e.state, appender: auditlog.NewAppender(auditlog.Range{}), crls: map[crlKey]crlSeen{},
		changed: map[protocol.Digest]uint64{}, approvers: map[protocol.Digest]protocol.Digest{}, shards: e.shards,
		ranges: m.Restores, seen: map[protocol.Digest]uint64{}, floors: map[protocol.Digest]uint64{}, signing: map[string]store.Intent{},
	}
	if m.Restoring != nil {
		f.ranges = append(slices.Clone(f.ranges), store.Range{From: m.Restoring.From, Size: auditlog.MaxSize})
		e.folded = f
	}
	err := tx.EachLeaf(0, f.leaf)
	if err != nil {
		return err
	}
	if f.next != m.Size {
		return fmt.Errorf("replay: %d leaves, the ledger counts %d", f.next, m.Size)
	}
	edge := f.appender.Edge()
	if m.Restoring != nil && m.Restoring.Applying {
		return nil // leaves are on their way in, up to the next checkpoint
	}
	checkpoint, err := auditlog.OpenCheckpoint(m.Checkpoint, e.state.Own)
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
	number, index          uint64
	digest                 protocol.Digest
	thisUpdate, nextUpdate int64
}

// fold is one pass over the log beside the ledger, in bounded memory: each leaf is compared with what the ledger says
// of the same thing, and counts show whether the ledger says more.
type fold struct {
	tx        *store.Tx
	state     *auditlog.State
	shards    func(issuer protocol.Digest) uint64
	appender  *auditlog.Appender
	crls      map[crlKey]crlSeen
	changed   map[protocol.Digest]uint64          // CA → leaf that its CRL has to show
	approvers map[protocol.Digest]protocol.Digest // key → digest of what the ledger should say of its holder
	next      uint64
	counter   uint64
	lastKind  auditlog.Kind
	signing   map[string]store.Intent       // announced, and neither signed nor burned
	requests  map[protocol.Digest]announced // of the last intents
	before    map[protocol.Digest]announced // and of those before them: two batches may be on their way at once
	compiled  *policy.Compiled              // the policy of the last intents
	issued    uint64
	done      uint64
	revoked   uint64
	renewals  uint64 // certificates that renew another one
	renewed   uint64 // certificates that the ledger says were renewed
	names     uint64
	bundles   uint64

	ranges    []store.Range              // leaves that were brought to restores, ascending; the last may wait for its order
	confirmed int                        // of them, by a leaf that says so
	lost      uint64                     // orders of the range that is folded which don't take effect
	seen      map[protocol.Digest]uint64 // CA → highest number of a CRL in that range
	floors    map[protocol.Digest]uint64 // CA → number that its CRLs are above
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
	var root protocol.Digest
	if leaf.Kind == auditlog.Restored {
		root = protocol.Digest(f.appender.Edge().Root())
	}
	first, hashes := f.appender.Append(encoded)
	if err := f.hashes(first, hashes); err != nil {
		return fail("%w", err)
	}
	var body []byte
	brought := f.within(index)
	if leaf.Kind != auditlog.Step && (!brought || len(salted) > 0) {
		if len(salted) < store.SaltSize || auditlog.BodyDigest([16]byte(salted[:store.SaltSize]), salted[store.SaltSize:]) != leaf.Body {
			return fail("the body is not the one that was logged")
		}
		body = salted[store.SaltSize:]
	}
	takesEffect := !brought && (leaf.Kind == auditlog.Order || leaf.Kind == auditlog.Restored)
	kind := leaf.Kind
	if brought {
		takesEffect, err = f.brought(index, leaf, body)
		kind = 0
	}
	switch kind {
	case auditlog.Intents:
		err = f.announce(bytes.Clone(body))
	case auditlog.Step:
		err = f.step(leaf)
	case auditlog.Restored:
		err = f.restored(index, leaf, body, root)
	case auditlog.Issued:
		err = f.issuance(index, leaf, body)
	case auditlog.Changed:
		err = f.change(index, leaf, body)
	case auditlog.Burned:
		err = f.burned(index, leaf)
	case auditlog.Order:
		err = f.order(index, body)
	case auditlog.Refused, auditlog.Withdrawn:
		var id protocol.Digest
		if id, err = f.result(index, body); err == nil && leaf.Kind == auditlog.Withdrawn {
			err = f.withdrawal(index, id)
		}
	case auditlog.CRL:
		err = f.crl(index, leaf, body)
	case auditlog.Bundle:
		err = f.bundle(body)
	}
	if err != nil {
		return fail("%w", err)
	}
	if !takesEffect {
		f.state.Bare(leaf)
	} else if err := f.state.Apply(index, leaf, bytes.Clone(body)); err != nil { // the state keeps parts of it
		return fail("%w", err)
	}
	f.next, f.lastKind = index+1, leaf.Kind
	return nil
}

func (f *fold) step(leaf auditlog.Leaf) error {
	if leaf.Number != f.counter+1 {
		return fmt.Errorf("step %d follows %d", leaf.Number, f.counter)
	}
	f.counter = leaf.Number
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

// compare holds what the log came to against what there is one of in the ledger, and the counts.
func (f *fold) compare(m *store.Meta) error {
	switch {
	case !bytes.Equal(m.Roster, f.state.Roster):
		return errors.New("replay: the roster is not the one that was ordered")
	case !bytes.Equal(m.Policy, f.state.Policy):
		return errors.New("replay: the policy is not the one that was ordered")
	case !slices.EqualFunc(m.Handovers, f.state.Own.Handovers(), bytes.Equal):
		return errors.New("replay: the handovers of the appliance's own keys are not those that were ordered")
	case f.tx.CountCertificates() != f.issued:
		return errors.New("replay: the ledger has certificates that the log does not")
	case f.renewed != f.renewals:
		return errors.New("replay: the ledger has certificates renewed that were not")
	case f.tx.CountNames() != f.names:
		return errors.New("replay: the ledger has names that no certificate was made for")
	case f.tx.CountBundles() != f.bundles:
		return errors.New("replay: the ledger has bundles that the log does not")
	case f.tx.CountCRLs() != uint64(len(f.crls)):
		return errors.New("replay: the ledger has CRLs that the log does not")
	case f.tx.CountDone() != f.done:
		return errors.New("replay: the ledger has results that the log does not")
	case f.confirmed != len(m.Restores):
		return errors.New("replay: the ledger has restores that the log does not")
	case m.Clock != f.state.Clock:
		return errors.New("replay: the ledger's time of the last entry is not that of the log")
	}
	if err := errors.Join(f.compareApprovers(), f.compareIntents()); err != nil {
		return err
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
		if ca.Floor != f.floors[id] {
			return fmt.Errorf("replay: the CRLs of the CA %s do not begin where it was ordered", ca.Label)
		}
		if ca.Changed != f.changed[id] {
			return fmt.Errorf("replay: the last change of the CA %s is not the one that was logged", ca.Label)
		}
		for shard := range uint16(f.shards(id)) {
			if err := f.tx.EachRevoked(id, shard, func([]byte, store.Revoked) error {
				entries++
				return nil
			}); err != nil {
				return err
			}
		}
		return nil
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
		if !found || crl.Number != seen.number || crl.Index != seen.index || protocol.DigestOf(crl.DER) != seen.digest ||
			crl.ThisUpdate != seen.thisUpdate || crl.NextUpdate != seen.nextUpdate {
			return fmt.Errorf("replay: the newest CRL is not number %d, as logged", seen.number)
		}
	}
	return nil
}

// compareApprovers asks whether the ledger knows exactly the approvers that certificates were made for: whose approvals
// count must not depend on a file.
func (f *fold) compareApprovers() error {
	known := 0
	err := f.tx.EachApprover(func(key protocol.Digest, a store.Approver) error {
		known++
		if digest, err := digestOf(a); err != nil || digest != f.approvers[key] {
			return fmt.Errorf("replay: the approver %s is not the one that was certified", a.Person)
		}
		return nil
	})
	if err == nil && known != len(f.approvers) {
		err = fmt.Errorf("replay: the ledger has %d approvers, the log %d", known, len(f.approvers))
	}
	return err
}

// compareIntents asks whether the serials that are to be burned are those whose signing was interrupted.
func (f *fold) compareIntents() error {
	kept, err := f.tx.Intents()
	if err != nil {
		return err
	}
	kept = slices.DeleteFunc(kept, func(in store.Intent) bool { return len(in.Serial) == 0 }) // a CRL's number is given again
	differ := func(in store.Intent) bool {
		logged, found := f.signing[string(store.CertificateKey(in.Issuer, in.Serial))]
		return !found || in.TBS != logged.TBS
	}
	if len(kept) != len(f.signing) || slices.ContainsFunc(kept, differ) {
		return fmt.Errorf("replay: %d signatures were under way, the ledger has %d others", len(f.signing), len(kept))
	}
	return nil
}
