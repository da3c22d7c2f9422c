package store

import (
	"bytes"
	"fmt"

	"coldseal/protocol"
)

// Request is what lists, searches and bundles need of a request.
type Request struct {
	ID        protocol.Digest `cbor:"1,keyasint"`
	Kind      protocol.Kind   `cbor:"2,keyasint"`
	Profile   string          `cbor:"3,keyasint,omitempty"`
	Body      string          `cbor:"4,keyasint,omitempty"`
	Subject   string          `cbor:"5,keyasint,omitempty"`
	Created   int64           `cbor:"6,keyasint"` // unix seconds
	Expires   int64           `cbor:"7,keyasint"` // unix seconds, exclusive
	Text      string          `cbor:"8,keyasint,omitempty"`
	Size      uint64          `cbor:"9,keyasint"` // of the item, bytes
	Current   bool            `cbor:"10,keyasint,omitempty"`
	Covers    []Cover         `cbor:"11,keyasint,omitempty"` // ascending
	Bundles   []uint64        `cbor:"12,keyasint,omitempty"` // sequences of the bundles it is in; ascending
	Imports   []uint64        `cbor:"13,keyasint,omitempty"` // imports that answered it in a bundle not known here; ascending
	Lines     []uint64        `cbor:"14,keyasint,omitempty"` // of the history, but those of its bundles and imports
	Withdrawn bool            `cbor:"15,keyasint,omitempty"` // before it left
	Key       protocol.Digest `cbor:"16,keyasint,omitzero"`  // id of its key, if that was made here
	Attached  uint64          `cbor:"17,keyasint,omitempty"` // imports there were when the newest approval came
	Taker     uint64          `cbor:"18,keyasint,omitempty"` // number of the request that withdraws it
}

// Cover says that an approval covers a request, with what it states.
type Cover struct {
	_          struct{} `cbor:",toarray"`
	Approval   uint64
	Statements []protocol.Statement
}

// AddRequest stores a new request and returns its number. m.Requests is advanced; the caller writes m.
func (t *Tx) AddRequest(m *Meta, r Request, a Asked, item []byte, wish protocol.Digest) (uint64, error) {
	m.Requests++
	n := m.Requests
	a.ID, a.Kind, a.Profile, a.Body, a.Subject = r.ID, r.Kind, r.Profile, r.Body, r.Subject
	if err := t.put(bucketRequests, number(n), r); err != nil {
		return 0, err
	}
	if err := t.putBytes(bucketAsked, number(n), a.encode()); err != nil {
		return 0, err
	}
	if err := t.putBytes(bucketItems, number(n), item); err != nil {
		return 0, err
	}
	if err := t.putBytes(bucketIDs, r.ID[:], number(n)); err != nil {
		return 0, err
	}
	if len(a.Serial) != 0 {
		if err := t.PutAbout(a.Issuer, a.Serial, n); err != nil {
			return 0, err
		}
	}
	return n, t.putBytes(bucketWishes, wish[:], number(n))
}

// PutRequest replaces a request.
func (t *Tx) PutRequest(n uint64, r Request) error { return t.put(bucketRequests, number(n), r) }

// PutItem replaces a request and its item.
func (t *Tx) PutItem(n uint64, r Request, item []byte) error {
	if err := t.PutRequest(n, r); err != nil {
		return err
	}
	return t.putBytes(bucketItems, number(n), item)
}

// Request reads a request that is known to be there.
func (t *Tx) Request(n uint64) (Request, error) {
	r, found, err := get[Request](t, bucketRequests, number(n))
	if err == nil && !found {
		err = fmt.Errorf("read request %d: it is missing", n)
	}
	return r, err
}

// Item reads the item of a request, encoded.
func (t *Tx) Item(n uint64) ([]byte, error) {
	item := clone(t.tx.Bucket(bucketItems).Get(number(n)))
	if item == nil {
		return nil, fmt.Errorf("read item of request %d: it is missing", n)
	}
	return item, nil
}

// RequestNumber finds a request by its id; 0 if there is none.
func (t *Tx) RequestNumber(id protocol.Digest) uint64 {
	if n := t.tx.Bucket(bucketIDs).Get(id[:]); n != nil {
		return toNumber(n)
	}
	return 0
}

// RequestsLike finds the numbers of at most two requests whose id begins with prefix.
func (t *Tx) RequestsLike(prefix []byte) []uint64 {
	var found []uint64
	c := t.tx.Bucket(bucketIDs).Cursor()
	for k, v := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix) && len(found) < 2; k, v = c.Next() {
		found = append(found, toNumber(v))
	}
	return found
}

// Wish finds the newest request for the same; 0 if there is none.
func (t *Tx) Wish(wish protocol.Digest) uint64 {
	if n := t.tx.Bucket(bucketWishes).Get(wish[:]); n != nil {
		return toNumber(n)
	}
	return 0
}

// EachRequest calls f for the requests from a number on.
func (t *Tx) EachRequest(from uint64, f func(n uint64, r Request) error) error {
	return each(t, bucketRequests, number(from), func(k []byte, r Request) error { return f(toNumber(k), r) })
}

func aboutKey(issuer protocol.Digest, serial []byte) []byte {
	key := make([]byte, 0, 32+1+len(serial)+8)
	key = append(key, issuer[:]...)
	key = append(key, byte(len(serial)))
	return append(key, serial...)
}

// PutAbout records that a request is about a certificate: it changes it, or it made it. What a staged import wrote does
// not count by itself: who reads it looks at the results.
func (t *Tx) PutAbout(issuer protocol.Digest, serial []byte, n uint64) error {
	return t.putBytes(bucketCertificates, append(aboutKey(issuer, serial), number(n)...), nil)
}

// IsAbout tells whether PutAbout was called.
func (t *Tx) IsAbout(issuer protocol.Digest, serial []byte, n uint64) bool {
	key := append(aboutKey(issuer, serial), number(n)...)
	k, _ := t.tx.Bucket(bucketCertificates).Cursor().Seek(key)
	return bytes.Equal(k, key)
}

// About returns the numbers of requests about a certificate, ascending.
func (t *Tx) About(issuer protocol.Digest, serial []byte) []uint64 {
	prefix := aboutKey(issuer, serial)
	var numbers []uint64
	c := t.tx.Bucket(bucketCertificates).Cursor()
	for k, _ := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, _ = c.Next() {
		numbers = append(numbers, toNumber(k[len(prefix):]))
	}
	return numbers
}
