package store

import (
	"bufio"
	"bytes"
	"fmt"
	"io"

	"golang.org/x/mod/sumdb/tlog"

	"coldseal/protocol"
)

// ChunkLeaves is how many leaves lie together in one value.
const ChunkLeaves = 1024

// StageLeaves writes up to ChunkLeaves leaves, each as a CBOR byte string; they count once Meta.Size has passed them.
func (t *Tx) StageLeaves(first uint64, leaves []byte) error {
	return t.putBytes(bucketLeaves, number(first), leaves)
}

// StageHashes writes stored hashes, from a stored index on; they count with their leaves.
func (t *Tx) StageHashes(first uint64, hashes []byte) error {
	return t.putBytes(bucketHashes, number(first), hashes)
}

// chunk finds the value that holds an index, and the index of its beginning.
func (t *Tx) chunk(bucket []byte, index uint64) (first uint64, value []byte, err error) {
	c := t.tx.Bucket(bucket).Cursor()
	k, v := c.Seek(number(index))
	if k == nil || toNumber(k) != index {
		k, v = c.Prev()
		if k == nil {
			return 0, nil, fmt.Errorf("read %s: %d is missing", bucket, index)
		}
	}
	return toNumber(k), v, nil
}

// Leaf reads the leaf with an index.
func (t *Tx) Leaf(index uint64) ([]byte, error) {
	first, value, err := t.chunk(bucketLeaves, index)
	if err != nil {
		return nil, err
	}
	r := bufio.NewReader(bytes.NewReader(value))
	for i := first; ; i++ {
		leaf, err := protocol.ReadString(r, protocol.MaxLeaf)
		if err != nil {
			return nil, fmt.Errorf("read leaf %d: %w", index, err)
		}
		if i == index {
			return leaf, nil
		}
	}
}

// EachLeaf calls f for the leaves from an index on, until f returns an error. Those that are staged are among them.
func (t *Tx) EachLeaf(from uint64, f func(index uint64, leaf []byte) error) error {
	first, _, err := t.chunk(bucketLeaves, from)
	if err != nil {
		return err
	}
	c := t.tx.Bucket(bucketLeaves).Cursor()
	for k, value := c.Seek(number(first)); k != nil; k, value = c.Next() {
		r := bufio.NewReader(bytes.NewReader(value))
		for index := toNumber(k); ; index++ {
			leaf, err := protocol.ReadString(r, protocol.MaxLeaf)
			if err == io.EOF {
				break
			}
			if err != nil {
				return fmt.Errorf("read leaf %d: %w", index, err)
			}
			if index < from {
				continue
			}
			if err := f(index, leaf); err != nil {
				return err
			}
		}
	}
	return nil
}

// ReadHashes reads stored hashes (tlog.HashReader).
func (t *Tx) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		first, value, err := t.chunk(bucketHashes, uint64(index))
		if err != nil {
			return nil, err
		}
		at := (uint64(index) - first) * tlog.HashSize
		if at+tlog.HashSize > uint64(len(value)) {
			return nil, fmt.Errorf("read hashes: %d is missing", index)
		}
		copy(hashes[i][:], value[at:])
	}
	return hashes, nil
}

// ClearStaged removes what an interrupted import left, at most limit entries, and tells whether that was all.
func (t *Tx) ClearStaged(limit int) (done bool, err error) {
	m, err := t.Meta()
	if err != nil {
		return false, err
	}
	for _, rest := range []struct {
		bucket []byte
		from   []byte
	}{
		{bucketResults, number(m.Imports + 1)},
		{bucketImports, number(m.Imports + 1)},
		{bucketLeaves, number(m.Size)},
		{bucketHashes, number(uint64(tlog.StoredHashCount(int64(m.Size))))},
	} {
		c := t.tx.Bucket(rest.bucket).Cursor()
		for k, _ := c.Seek(rest.from); k != nil; k, _ = c.Seek(rest.from) {
			if limit == 0 {
				return false, nil
			}
			if err := c.Delete(); err != nil {
				return false, fmt.Errorf("clear %s: %w", rest.bucket, err)
			}
			limit--
		}
	}
	return true, nil
}
