package store

import (
	"errors"

	"coldseal/protocol"
)

// Meta is what there is one of.
type Meta struct {
	Schema    uint64          `cbor:"1,keyasint"`
	Appliance protocol.Digest `cbor:"2,keyasint"` // as it was typed
	Genesis   []byte          `cbor:"3,keyasint"`
	Party     []byte          `cbor:"4,keyasint"` // this agent's record, as it is to be enrolled
	Requests  uint64          `cbor:"5,keyasint"` // how many there are; the same for those below
	Approvals uint64          `cbor:"6,keyasint"`
	Lines     uint64          `cbor:"7,keyasint"`
	Imports   uint64          `cbor:"8,keyasint"`            // later ones are staged: they do not count yet
	Last      uint64          `cbor:"9,keyasint"`            // highest bundle number used, by this store or a later copy of it
	Size      uint64          `cbor:"10,keyasint"`           // leaves known; later ones are staged
	Root      protocol.Digest `cbor:"11,keyasint"`           // of the tree of these leaves
	Time      int64           `cbor:"12,keyasint"`           // unix seconds: when the newest checkpoint known was made
	StateSize uint64          `cbor:"13,keyasint"`           // size of the log when the state was
	Acks      []uint64        `cbor:"14,keyasint"`           // responses that were imported and the appliance does not know it; ascending
	Restored  int64           `cbor:"15,keyasint,omitempty"` // unix seconds: when the appliance was last restored; earlier approvals are void
	Handovers [][]byte        `cbor:"16,keyasint,omitempty"` // of the appliance's own keys, oldest first
}

var (
	keyMeta       = []byte("meta")
	keyState      = []byte("state")
	keyCheckpoint = []byte("checkpoint")
)

// Meta reads the one record.
func (t *Tx) Meta() (Meta, error) {
	m, found, err := get[Meta](t, bucketMeta, keyMeta)
	if err == nil && !found {
		err = errors.New("read meta: it is missing")
	}
	return m, err
}

// HasMeta tells whether the store was ever finished.
func (t *Tx) HasMeta() bool { return t.tx.Bucket(bucketMeta).Get(keyMeta) != nil }

// PutMeta writes the one record.
func (t *Tx) PutMeta(m Meta) error { return t.put(bucketMeta, keyMeta, m) }

// State reads the appliance's state as it was last imported.
func (t *Tx) State() (protocol.State, error) {
	s, found, err := get[protocol.State](t, bucketMeta, keyState)
	if err == nil && !found {
		err = errors.New("read state: it is missing")
	}
	return s, err
}

// PutState writes the appliance's state.
func (t *Tx) PutState(s protocol.State) error { return t.put(bucketMeta, keyState, s) }

// Checkpoint reads the newest signed note; nil before the first response.
func (t *Tx) Checkpoint() []byte { return clone(t.tx.Bucket(bucketMeta).Get(keyCheckpoint)) }

// PutCheckpoint writes the newest signed note.
func (t *Tx) PutCheckpoint(note []byte) error { return t.putBytes(bucketMeta, keyCheckpoint, note) }

// CRL is the newest CRL of a CA.
type CRL struct {
	Number     []byte `cbor:"1,keyasint"` // big-endian without leading zeros (RFC 5280 section 5.2.3)
	ThisUpdate int64  `cbor:"2,keyasint"` // unix seconds
	NextUpdate int64  `cbor:"3,keyasint"` // unix seconds
	DER        []byte `cbor:"4,keyasint"`
}

// PutCRL replaces the CRL of a CA.
func (t *Tx) PutCRL(issuer protocol.Digest, c CRL) error { return t.put(bucketCRLs, issuer[:], c) }

// CRL reads the CRL of a CA.
func (t *Tx) CRL(issuer protocol.Digest) (CRL, bool, error) {
	return get[CRL](t, bucketCRLs, issuer[:])
}

// EachCRL calls f for the CRLs of all CAs.
func (t *Tx) EachCRL(f func(issuer protocol.Digest, c CRL) error) error {
	return each(t, bucketCRLs, nil, func(k []byte, c CRL) error { return f(protocol.Digest(k), c) })
}

// PutKey keeps a private key, PKCS#8, by the SHA-256 of its SubjectPublicKeyInfo.
func (t *Tx) PutKey(id protocol.Digest, pkcs8 []byte) error {
	return t.putBytes(bucketKeys, id[:], pkcs8)
}

// Key returns a private key that is kept here; nil if it is not.
func (t *Tx) Key(id protocol.Digest) []byte { return clone(t.tx.Bucket(bucketKeys).Get(id[:])) }

// Line is what one command did.
type Line struct {
	Time int64  `cbor:"1,keyasint"` // unix seconds
	Code string `cbor:"2,keyasint"` // what was done, such as exported
	Text string `cbor:"3,keyasint"` // with what, such as bundle 3
}

// AddLine appends to the history and returns the line's number. m.Lines is advanced; the caller writes m.
func (t *Tx) AddLine(m *Meta, l Line) (uint64, error) {
	m.Lines++
	return m.Lines, t.put(bucketHistory, number(m.Lines), l)
}

// Line reads one line of the history.
func (t *Tx) Line(n uint64) (Line, bool, error) { return get[Line](t, bucketHistory, number(n)) }

// EachLine calls f for the lines of the history from a number on.
func (t *Tx) EachLine(from uint64, f func(n uint64, l Line) error) error {
	return each(t, bucketHistory, number(from), func(k []byte, l Line) error { return f(toNumber(k), l) })
}

func clone(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append([]byte{}, b...)
}
