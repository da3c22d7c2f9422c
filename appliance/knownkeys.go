package appliance

import (
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"coldseal/appliance/signer"
	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
)

// KnownKey is a key that the ledger knows.
type KnownKey struct {
	ID        protocol.Digest
	Label     string
	Purpose   signer.Purpose
	Algorithm signer.Algorithm
	Replaced  bool // one of the appliance's own, by a newer one
	Destroyed bool // by order
}

// KnownKeys says which keys there should be.
func (e *Engine) KnownKeys() ([]KnownKey, error) {
	return knownKeys(e.state.Own, e.state.Gone, e.state.CAs)
}

// KnownKeys reads from a ledger in dir which keys there should be. It replays nothing: it is for looking for what is
// missing when, for just that, no engine opens.
func KnownKeys(dir string) ([]KnownKey, error) {
	ledger, err := store.Open(dir)
	if err != nil {
		return nil, err
	}
	var all []KnownKey
	err = ledger.View(func(tx *store.Tx) error {
		m, err := tx.Meta()
		if err != nil {
			return err
		}
		g, err := protocol.ParseGenesis(m.Genesis, protocol.DigestOf(m.Genesis))
		if err != nil {
			return err
		}
		keys, err := g.Keys(protocol.DigestOf(m.Genesis))
		if err == nil {
			keys, err = keys.Walk(m.Handovers)
		}
		if err != nil {
			return err
		}
		destroyed, err := destroyedKeys(tx)
		if err != nil {
			return err
		}
		cas := map[protocol.Digest]auditlog.CA{}
		if err := tx.EachCA(func(id protocol.Digest, ca store.CA) error {
			cas[id] = auditlog.CA{Label: ca.Label, SPKI: ca.SPKI, Destroyed: destroyed[id]}
			return nil
		}); err != nil {
			return err
		}
		all, err = knownKeys(keys, destroyed, cas)
		return err
	})
	return all, errors.Join(err, ledger.Close())
}

// knownKeys lists the keys of CAs, by label, then the appliance's own, the oldest for each use first.
func knownKeys(keys *protocol.Keys, gone map[protocol.Digest]bool, cas map[protocol.Digest]auditlog.CA) (all []KnownKey, err error) {
	add := func(k KnownKey, spki []byte) {
		public, parseErr := x509.ParsePKIXPublicKey(spki)
		k.ID = protocol.DigestOf(spki)
		if parseErr == nil {
			k.Algorithm, parseErr = signer.AlgorithmOf(public)
		}
		if parseErr != nil {
			err = errors.Join(err, fmt.Errorf("key %s: %w", k.Label, parseErr))
		}
		all = append(all, k)
	}
	for _, ca := range slices.SortedFunc(maps.Values(cas), func(a, b auditlog.CA) int { return strings.Compare(a.Label, b.Label) }) {
		add(KnownKey{Label: ca.Label, Purpose: signer.CA, Destroyed: ca.Destroyed}, ca.SPKI)
	}
	for _, use := range protocol.Uses() {
		n := 0
		keys.Each(use, func(spki []byte) {
			n++
			id := protocol.DigestOf(spki)
			add(KnownKey{Label: ownLabel(use, n), Purpose: own[use].purpose, Replaced: id != keys.Now().ID(use), Destroyed: gone[id]}, spki)
		})
	}
	return all, err
}

// destroyedKeys finds the orders that destroyed keys.
func destroyedKeys(tx *store.Tx) (map[protocol.Digest]bool, error) {
	gone := map[protocol.Digest]bool{}
	err := tx.EachLeaf(0, func(index uint64, encoded, salted []byte) error {
		leaf, err := auditlog.ParseLeaf(encoded)
		if err != nil || leaf.Kind != auditlog.Order || len(salted) < store.SaltSize {
			return err
		}
		var o auditlog.OrderBody
		if err := cose.Unmarshal(salted[store.SaltSize:], &o); err != nil {
			return fmt.Errorf("leaf %d: %w", index, err)
		}
		if req, refusal := protocol.ParseRequest(o.Request); refusal == nil && req.Kind == protocol.KindDestroyKey {
			if c, refusal := req.DestroyKey(); refusal == nil {
				gone[c.Key] = true
			}
		}
		return nil
	})
	return gone, err
}
