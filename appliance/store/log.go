package store

import (
	"bytes"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"coldseal/protocol"
)

// SaltSize is the length of the salt before a body.
const SaltSize = 16

// PutLeaf appends a leaf, its body behind its salt, and the stored hashes it completes, from firstHash on.
func (t *Tx) PutLeaf(index uint64, leaf, saltedBody []byte, firstHash int64, hashes []tlog.Hash) error {
	for _, b := range [][]byte{bucketLeaves, bucketBodies, bucketHashes} {
		t.tx.Bucket(b).FillPercent = 0.95 // indexes ascend
	}
	if err := t.putBytes(bucketLeaves, number(index), leaf); err != nil {
		return err
	}
	if saltedBody != nil {
		if err := t.putBytes(bucketBodies, number(index), saltedBody); err != nil {
			return err
		}
	}
	for i, h := range hashes {
		if err := t.putBytes(bucketHashes, number(uint64(firstHash)+uint64(i)), bytes.Clone(h[:])); err != nil {
			return err
		}
	}
	return nil
}

// EachLeaf calls f for the leaves from first on. The slices are valid during the call only; saltedBody is nil where
// the body was erased or there is none.
func (t *Tx) EachLeaf(first uint64, f func(index uint64, leaf, saltedBody []byte) error) error {
	c, bodies := t.tx.Bucket(bucketLeaves).Cursor(), t.tx.Bucket(bucketBodies).Cursor()
	bk, body := bodies.Seek(number(first))
	for k, leaf := c.Seek(number(first)); k != nil; k, leaf = c.Next() {
		var salted []byte
		if bytes.Equal(bk, k) {
			salted = body
			bk, body = bodies.Next()
		}
		if err := f(toNumber(k), leaf, salted); err != nil {
			return err
		}
	}
	return nil
}

// Body finds the salt and body of a leaf.
func (t *Tx) Body(index uint64) (salt, body []byte, err error) {
	data := bytes.Clone(t.tx.Bucket(bucketBodies).Get(number(index)))
	if len(data) < SaltSize {
		return nil, nil, fmt.Errorf("ledger: the body of leaf %d is missing", index)
	}
	return data[:SaltSize], data[SaltSize:], nil
}

// Leaf finds a leaf.
func (t *Tx) Leaf(index uint64) ([]byte, error) {
	leaf := bytes.Clone(t.tx.Bucket(bucketLeaves).Get(number(index)))
	if leaf == nil {
		return nil, fmt.Errorf("ledger: leaf %d is missing", index)
	}
	return leaf, nil
}

// CountLeaves counts leaves.
func (t *Tx) CountLeaves() uint64 { return t.count(bucketLeaves) }

// ReadHashes makes a transaction a tlog.HashReader.
func (t *Tx) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		data := t.tx.Bucket(bucketHashes).Get(number(uint64(x)))
		if len(data) != tlog.HashSize {
			return nil, fmt.Errorf("ledger: hash %d is missing", x)
		}
		hashes[i] = tlog.Hash(data)
	}
	return hashes, nil
}

// PutDone records that a request has its result, in the leaf.
func (t *Tx) PutDone(id protocol.Digest, index uint64) error {
	return t.putIndexed(indexDone, id[:], number(index))
}

// Done finds the leaf with a request's result.
func (t *Tx) Done(id protocol.Digest) (index uint64, found bool) {
	data := t.indexed(indexDone, id[:])
	if len(data) != 8 {
		return 0, false
	}
	return toNumber(data), true
}

// CountDone counts requests that have a result.
func (t *Tx) CountDone() uint64 { return t.countIndexed(indexDone) }

// PutBrought keeps the item that was brought with a leaf.
func (t *Tx) PutBrought(index uint64, item []byte) error {
	return t.putBytes(bucketBrought, number(index), item)
}

// Brought finds the item that was brought with a leaf; nil if there is none.
func (t *Tx) Brought(index uint64) []byte {
	return bytes.Clone(t.tx.Bucket(bucketBrought).Get(number(index)))
}
