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
	Destroyed bool // by order
}

// KnownKeys says which keys there should be.
func (e *Engine) KnownKeys() ([]KnownKey, error) {
	return knownKeys(e.genesis, e.state.CAs)
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
		all, err = knownKeys(g, cas)
		return err
	})
	return all, errors.Join(err, ledger.Close())
}

// knownKeys lists the keys of CAs, by label, then the appliance's own.
func knownKeys(g protocol.Genesis, cas map[protocol.Digest]auditlog.CA) (all []KnownKey, err error) {
	add := func(label string, purpose signer.Purpose, spki []byte, destroyed bool) {
		public, parseErr := x509.ParsePKIXPublicKey(spki)
		k := KnownKey{ID: protocol.DigestOf(spki), Label: label, Purpose: purpose, Destroyed: destroyed}
		if parseErr == nil {
			k.Algorithm, parseErr = signer.AlgorithmOf(public)
		}
		if parseErr != nil {
			err = errors.Join(err, fmt.Errorf("key %s: %w", label, parseErr))
		}
		all = append(all, k)
	}
	for _, ca := range slices.SortedFunc(maps.Values(cas), func(a, b auditlog.CA) int { return strings.Compare(a.Label, b.Label) }) {
		add(ca.Label, signer.CA, ca.SPKI, ca.Destroyed)
	}
	add(LabelLog, signer.Log, g.Log, false)
	add(LabelReceiver, signer.Receiver, g.Receiver, false)
	add(LabelSeal, signer.Seal, g.Seal, false)
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
