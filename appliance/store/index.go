package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
)

// An index finds things by digests, which come in no order. In a B+tree alone each of a batch's thousand keys would lie
// on a page of its own, to be read, held, and written: most of what a step takes. So the keys that a transaction adds
// are first written together as a run, one sorted value, and the transaction also moves one part of the key space from
// all runs into the tree, each transaction the next part; what is moved together lies together in the tree. After as
// many transactions as there are parts nothing of a run is left, and it goes.
//
// A key is looked up among those that the transaction added, then in the runs, the newest first, then in the tree.
type index struct {
	tree  []byte // bucket: key → value
	runs  []byte // bucket: number of the run → run
	width int    // of a value
}

const (
	keySize = 16 // of a digest; two that agree in so much are not told apart
	parts   = 32 // of the key space
	share   = 1 << 64 / parts
)

// The indexes, by their number in Tx.
const (
	indexNames = iota
	indexKeys
	indexDone
	indexCount
)

var indexes = [indexCount]index{
	indexNames: {[]byte("names"), []byte("names-runs"), issuerSize + serialSize}, // SHA-256(uniqueness key) → issuer[:8] ‖ serial
	indexKeys:  {[]byte("keys"), []byte("keys-runs"), keySize + 1},               // SHA-256(SubjectPublicKeyInfo) → KeyUse
	indexDone:  {[]byte("done"), []byte("done-runs"), 8},                         // request id → leaf index
}

// indexState is what a transaction knows of an index.
type indexState struct {
	added  map[[keySize]byte][]byte
	loaded bool
	runs   []run // the newest first
}

func (t *Tx) putIndexed(i int, key, value []byte) error {
	x, s := &indexes[i], &t.indexes[i]
	if len(key) < keySize || len(value) != x.width {
		return fmt.Errorf("write %s: a key of %d bytes and a value of %d, want %d and %d", x.tree, len(key), len(value), keySize, x.width)
	}
	if s.added == nil {
		s.added = map[[keySize]byte][]byte{}
	}
	s.added[[keySize]byte(key)] = value
	return nil
}

// indexed finds a value, valid during the transaction; nil if there is none.
func (t *Tx) indexed(i int, key []byte) []byte {
	key = key[:keySize]
	if value, added := t.indexes[i].added[[keySize]byte(key)]; added {
		return value
	}
	runs := t.runs(i)
	for j := range runs {
		if value := runs[j].find(key); value != nil {
			return value
		}
	}
	return t.tx.Bucket(indexes[i].tree).Get(key)
}

// runs gives the runs, the newest first.
func (t *Tx) runs(i int) []run {
	s := &t.indexes[i]
	if !s.loaded {
		c := t.tx.Bucket(indexes[i].runs).Cursor()
		for k, data := c.Last(); k != nil; k, data = c.Prev() {
			s.runs = append(s.runs, openRun(data, indexes[i].width))
		}
		s.loaded = true
	}
	return s.runs
}

// run is some keys with their values.
type run struct {
	filter  []byte // a bit is set if a key with that remainder is there, filterBits for each key
	records []byte // key ‖ value, ascending
	size    int    // of a record
}

const filterBits = 16

func openRun(data []byte, width int) run {
	size := keySize + width
	n := len(data) / (filterBits/8 + size)
	return run{data[:n*filterBits/8], data[n*filterBits/8:], size}
}

func makeRun(added map[[keySize]byte][]byte, width int) []byte {
	data := make([]byte, len(added)*(filterBits/8+keySize+width))
	r := openRun(data, width)
	at := r.records
	for _, key := range slices.SortedFunc(maps.Keys(added), func(a, b [keySize]byte) int { return bytes.Compare(a[:], b[:]) }) {
		bit := r.bit(key[:])
		r.filter[bit/8] |= 1 << (bit % 8)
		at = at[copy(at, key[:]):]
		at = at[copy(at, added[key]):]
	}
	return data
}

func (r *run) bit(key []byte) uint64 {
	return binary.BigEndian.Uint64(key[8:]) % uint64(len(r.filter)*8)
}

// find gives the value of a key; nil if it is not there.
func (r *run) find(key []byte) []byte {
	if bit := r.bit(key); r.filter[bit/8]&(1<<(bit%8)) == 0 {
		return nil
	}
	head := binary.BigEndian.Uint64(key)
	for at := r.lowest(head); at < len(r.records) && binary.BigEndian.Uint64(r.records[at:]) == head; at += r.size {
		if bytes.Equal(r.records[at:at+keySize], key) {
			return r.records[at+keySize : at+r.size]
		}
	}
	return nil
}

// lowest is where the first record stands whose key does not begin with less than head.
func (r *run) lowest(head uint64) int {
	from, to := 0, len(r.records)/r.size
	for from < to {
		if middle := (from + to) / 2; binary.BigEndian.Uint64(r.records[middle*r.size:]) < head {
			from = middle + 1
		} else {
			to = middle
		}
	}
	return from * r.size
}

// countIndexed counts keys.
func (t *Tx) countIndexed(i int) uint64 {
	tree := t.tx.Bucket(indexes[i].tree)
	n, waiting := t.count(indexes[i].tree), map[[keySize]byte]bool{}
	for _, run := range t.runs(i) {
		for record := range slices.Chunk(run.records, run.size) {
			if tree.Get(record[:keySize]) == nil {
				waiting[[keySize]byte(record)] = true
			}
		}
	}
	return n + uint64(len(waiting))
}

// flush writes what was added to the indexes; it ends a transaction.
func (t *Tx) flush() error {
	for i := range indexes {
		if len(t.indexes[i].added) == 0 {
			continue
		}
		if err := t.flushIndex(i); err != nil {
			return fmt.Errorf("write %s: %w", indexes[i].tree, err)
		}
	}
	return nil
}

func (t *Tx) flushIndex(i int) error {
	x := &indexes[i]
	added := makeRun(t.indexes[i].added, x.width)
	bucket := t.tx.Bucket(x.runs)
	var next uint64
	if last, _ := bucket.Cursor().Last(); last != nil {
		next = toNumber(last) + 1
	}
	if err := bucket.Put(number(next), added); err != nil {
		return err
	}
	if err := t.move(x, next%parts, append([]run{openRun(added, x.width)}, t.runs(i)...)); err != nil {
		return err
	}
	c := bucket.Cursor()
	for k, _ := c.First(); toNumber(k)+parts-1 <= next; k, _ = c.First() {
		if err := bucket.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

// move writes one part of the runs, the newest first, into the tree.
func (t *Tx) move(x *index, part uint64, runs []run) error {
	var records [][]byte
	for _, r := range runs {
		for at := r.lowest(part * share); at < len(r.records) && binary.BigEndian.Uint64(r.records[at:])/share == part; at += r.size {
			records = append(records, r.records[at:at+r.size])
		}
	}
	slices.SortStableFunc(records, func(a, b []byte) int { return bytes.Compare(a[:keySize], b[:keySize]) })
	tree := t.tx.Bucket(x.tree)
	for i, record := range records {
		key := record[:keySize]
		if i > 0 && bytes.Equal(key, records[i-1][:keySize]) {
			continue // the one before is newer
		}
		if err := tree.Put(key, record[keySize:]); err != nil {
			return err
		}
	}
	return nil
}
