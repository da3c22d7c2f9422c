package store

import (
	"bytes"
	"fmt"

	"coldseal/protocol"
)

// Meta is what there is one of.
type Meta struct {
	Schema     uint64   `cbor:"1,keyasint"`
	Generation uint64   `cbor:"2,keyasint"` // counts restores; 1 until the first
	Genesis    []byte   `cbor:"3,keyasint"` // as its digest was taken
	Roster     []byte   `cbor:"4,keyasint"`
	Policy     []byte   `cbor:"5,keyasint"`
	Counter    uint64   `cbor:"6,keyasint"` // the value that the last step named
	Clock      int64    `cbor:"7,keyasint"` // time of the last leaf, or what set-time ordered since
	Size       uint64   `cbor:"8,keyasint"` // leaves
	Edge       [][]byte `cbor:"9,keyasint"` // compact range of the tree
	Checkpoint []byte   `cbor:"10,keyasint"`
	Challenge  []byte   `cbor:"11,keyasint,omitempty"` // what the console shows, until an order used it

	Restoring *Restoring `cbor:"12,keyasint,omitempty"` // not nil from a backup's opening until the restore is ordered
	Restores  []Range    `cbor:"13,keyasint,omitempty"` // leaves that were brought to restores, ascending
	Handovers [][]byte   `cbor:"14,keyasint,omitempty"` // of the appliance's own keys, oldest first
	Making    string     `cbor:"15,keyasint,omitempty"` // label of the key that an order has made, until the order is recorded
}

// Restoring is a ledger that came from a backup and waits for the order that makes it live.
type Restoring struct {
	From     uint64 `cbor:"1,keyasint"`           // leaves that the backup had; those after it are brought
	Applying bool   `cbor:"2,keyasint,omitempty"` // those that were brought are being written
}

// Range is leaves from From on, before Size.
type Range struct {
	_    struct{} `cbor:",toarray"`
	From uint64
	Size uint64
}

// Meta reads the one record.
func (t *Tx) Meta() (Meta, error) {
	m, found, err := get[Meta](t, bucketMeta, keyMeta)
	if err == nil && !found {
		err = fmt.Errorf("ledger: %w", ErrUnfinished)
	}
	return m, err
}

// PutMeta writes the one record.
func (t *Tx) PutMeta(m Meta) error { return t.put(bucketMeta, keyMeta, m) }

// CA is a key that signs certificates, with its certificate once it has one.
type CA struct {
	Label       string `cbor:"1,keyasint"`
	SPKI        []byte `cbor:"2,keyasint"`
	Certificate []byte `cbor:"3,keyasint,omitempty"` // DER
	Profile     string `cbor:"4,keyasint,omitempty"` // of the certificate
	Changed     uint64 `cbor:"5,keyasint,omitempty"` // leaf index of the last change that its CRL has to show
	Made        uint64 `cbor:"6,keyasint"`           // leaf index of create-key
	Floor       uint64 `cbor:"7,keyasint,omitempty"` // CRLs have numbers above it: others may be out there since before a restore
}

// PutCA writes a CA.
func (t *Tx) PutCA(id protocol.Digest, ca CA) error { return t.put(bucketCAs, id[:], ca) }

// CA finds a CA by the id of its key.
func (t *Tx) CA(id protocol.Digest) (CA, bool, error) { return get[CA](t, bucketCAs, id[:]) }

// EachCA calls f for all CAs.
func (t *Tx) EachCA(f func(id protocol.Digest, ca CA) error) error {
	return each(t, bucketCAs, nil, func(k []byte, ca CA) error { return f(protocol.Digest(k), ca) })
}

// PutParty writes the record of an agent or station.
func (t *Tx) PutParty(name string, record []byte) error {
	return t.putBytes(bucketParties, []byte(name), record)
}

// EachParty calls f for all agents and stations, by name.
func (t *Tx) EachParty(f func(name string, record []byte) error) error {
	c := t.tx.Bucket(bucketParties).Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if err := f(string(k), bytes.Clone(v)); err != nil {
			return err
		}
	}
	return nil
}

// Bundle is a number that an agent used.
type Bundle struct {
	Digest       protocol.Digest `cbor:"1,keyasint"`
	Items        uint64          `cbor:"2,keyasint"`           // how many of them its quota admitted
	Acknowledged bool            `cbor:"3,keyasint,omitempty"` // its response was imported and need not be kept
}

func bundleKey(agent string, sequence uint64) []byte {
	return append(append([]byte(agent), 0), number(sequence)...)
}

// PutBundle records the use of a number.
func (t *Tx) PutBundle(agent string, sequence uint64, b Bundle) error {
	return t.put(bucketBundles, bundleKey(agent, sequence), b)
}

// Bundle finds what a number was used for.
func (t *Tx) Bundle(agent string, sequence uint64) (Bundle, bool, error) {
	return get[Bundle](t, bucketBundles, bundleKey(agent, sequence))
}

// EachBundle calls f for all numbers that the agent used, ascending.
func (t *Tx) EachBundle(agent string, f func(sequence uint64, b Bundle) error) error {
	prefix := append([]byte(agent), 0)
	return each(t, bucketBundles, prefix, func(k []byte, b Bundle) error { return f(toNumber(k[len(prefix):]), b) })
}

// CountBundles counts the numbers that agents used.
func (t *Tx) CountBundles() uint64 { return t.count(bucketBundles) }

// Usage is what an agent brought in one day.
type Usage struct {
	Day     int64  `cbor:"1,keyasint"` // days since 1970
	Bundles uint64 `cbor:"2,keyasint"`
	Items   uint64 `cbor:"3,keyasint"`
}

// Usage reads what an agent brought; zero if nothing.
func (t *Tx) Usage(agent string) (Usage, error) {
	u, _, err := get[Usage](t, bucketUsage, []byte(agent))
	return u, err
}

// PutUsage writes what an agent brought.
func (t *Tx) PutUsage(agent string, u Usage) error { return t.put(bucketUsage, []byte(agent), u) }

// CRL is the newest CRL of a CA's shard.
type CRL struct {
	Number     uint64 `cbor:"1,keyasint"`
	Index      uint64 `cbor:"2,keyasint"` // its leaf
	ThisUpdate int64  `cbor:"3,keyasint"`
	NextUpdate int64  `cbor:"4,keyasint"`
	DER        []byte `cbor:"5,keyasint"`
}

func shardKey(issuer protocol.Digest, shard uint16) []byte {
	return append(bytes.Clone(issuer[:8]), byte(shard>>8), byte(shard))
}

// PutCRL writes the newest CRL.
func (t *Tx) PutCRL(issuer protocol.Digest, shard uint16, c CRL) error {
	return t.put(bucketCRLs, shardKey(issuer, shard), c)
}

// CRL finds the newest CRL.
func (t *Tx) CRL(issuer protocol.Digest, shard uint16) (CRL, bool, error) {
	return get[CRL](t, bucketCRLs, shardKey(issuer, shard))
}

// CountCRLs counts shards that have a CRL.
func (t *Tx) CountCRLs() uint64 { return t.count(bucketCRLs) }
