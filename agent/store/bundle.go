package store

import (
	"fmt"

	"coldseal/protocol"
)

// Bundle is a bundle of this agent: what is in it was fixed when its number was taken.
type Bundle struct {
	Created   int64             `cbor:"1,keyasint"`           // unix seconds
	Expires   int64             `cbor:"2,keyasint"`           // unix seconds, exclusive
	Items     uint64            `cbor:"3,keyasint"`           //
	Groups    uint64            `cbor:"4,keyasint"`           //
	Acks      []uint64          `cbor:"5,keyasint,omitempty"` // responses it acknowledges
	KnownSize uint64            `cbor:"6,keyasint,omitempty"` //
	KnownRoot protocol.Digest   `cbor:"7,keyasint,omitzero"`  //
	Digest    protocol.Digest   `cbor:"8,keyasint,omitzero"`  // SHA-256 of its plaintext; absent until its file is made
	Media     []string          `cbor:"9,keyasint,omitempty"` // where it was written
	Line      uint64            `cbor:"10,keyasint"`          // of the history: its making
	Writes    []uint64          `cbor:"11,keyasint,omitempty"`
	Imports   []uint64          `cbor:"12,keyasint,omitempty"` // responses to it; ascending
	Refusal   *protocol.Refusal `cbor:"13,keyasint,omitempty"` // of the bundle as a whole, by the last of them
	Answered  bool              `cbor:"14,keyasint,omitempty"` // no further response is waited for
}

// PutBundle writes a bundle.
func (t *Tx) PutBundle(sequence uint64, b Bundle) error {
	return t.put(bucketBundles, number(sequence), b)
}

// Bundle finds a bundle.
func (t *Tx) Bundle(sequence uint64) (Bundle, bool, error) {
	return get[Bundle](t, bucketBundles, number(sequence))
}

// EachBundle calls f for all bundles, in order.
func (t *Tx) EachBundle(f func(sequence uint64, b Bundle) error) error {
	return each(t, bucketBundles, nil, func(k []byte, b Bundle) error { return f(toNumber(k), b) })
}

// Group is what one group of a bundle is made of.
type Group struct {
	_         struct{} `cbor:",toarray"`
	Section   protocol.Section
	Approvals []uint64
	Requests  []uint64
}

// PutGroup writes a group; they count from 0.
func (t *Tx) PutGroup(sequence, group uint64, g Group) error {
	return t.put(bucketGroups, pair(sequence, group), g)
}

// Group reads a group that is known to be there.
func (t *Tx) Group(sequence, group uint64) (Group, error) {
	g, found, err := get[Group](t, bucketGroups, pair(sequence, group))
	if err == nil && !found {
		err = fmt.Errorf("read group %d of bundle %d: it is missing", group, sequence)
	}
	return g, err
}
