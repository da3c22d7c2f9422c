package auditlog

import (
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
)

// A proof is a list of hashes of 32 bytes each, as messages carry it; no proof below MaxSize has more than maxProof.
const maxProof = 64

// ErrProof is returned when a proof does not prove what it should.
var ErrProof = errors.New("proof does not verify")

func encodeProof(hashes []Hash) [][]byte {
	proof := make([][]byte, len(hashes))
	for i, h := range hashes {
		proof[i] = h[:]
	}
	return proof
}

func decodeProof(proof [][]byte) ([]Hash, error) {
	if len(proof) > maxProof {
		return nil, fmt.Errorf("%d hashes, at most %d", len(proof), maxProof)
	}
	hashes := make([]Hash, len(proof))
	for i, h := range proof {
		if len(h) != tlog.HashSize {
			return nil, fmt.Errorf("hash %d has %d bytes, want %d", i, len(h), tlog.HashSize)
		}
		hashes[i] = Hash(h)
	}
	return hashes, nil
}

// ProveInclusion makes the audit path of leaf index in the tree of size leaves (RFC 6962 section 2.1.1), from the leaf
// up, at most 53 hashes.
func ProveInclusion(size, index int64, reader HashReader) ([][]byte, error) {
	if size > MaxSize || index < 0 || index >= size {
		return nil, fmt.Errorf("prove leaf %d in a tree of size %d: no such leaf", index, size)
	}
	proof, err := tlog.ProveRecord(size, index, reader)
	if err != nil {
		return nil, fmt.Errorf("prove leaf %d in a tree of size %d: %w", index, size, err)
	}
	return encodeProof(proof), nil
}

// CheckInclusion returns the leaf that is encoded in data, once it is proved to be the one with this index, counted from
// 0, under the checkpoint. It refuses what ParseLeaf refuses.
func CheckInclusion(proof [][]byte, under Checkpoint, index int64, data []byte) (Leaf, error) {
	fail := func(why string) (Leaf, error) {
		return Leaf{}, fmt.Errorf("leaf %d in a tree of size %d: %s: %w", index, under.Size, why, ErrProof)
	}
	if under.Size > MaxSize || index < 0 || index >= under.Size {
		return fail("no such leaf")
	}
	hashes, err := decodeProof(proof)
	if err != nil {
		return fail(err.Error())
	}
	if err := tlog.CheckRecord(hashes, under.Size, under.Root, index, LeafHash(data)); err != nil {
		return fail("hashes do not lead to the root")
	}
	leaf, err := ParseLeaf(data)
	if err != nil {
		return Leaf{}, fmt.Errorf("leaf %d: %w", index, err)
	}
	return leaf, nil
}

// ProveConsistency makes the proof that the tree of size older begins the tree of size newer (RFC 6962 section 2.1.2).
// It is empty where older is 0 or the sizes are equal.
func ProveConsistency(older, newer int64, reader HashReader) ([][]byte, error) {
	if older < 0 || older > newer || newer > MaxSize {
		return nil, fmt.Errorf("prove that size %d begins size %d: sizes out of order or range", older, newer)
	}
	if older == 0 {
		return [][]byte{}, nil
	}
	proof, err := tlog.ProveTree(newer, older, reader)
	if err != nil {
		return nil, fmt.Errorf("prove that size %d begins size %d: %w", older, newer, err)
	}
	return encodeProof(proof), nil
}

// CheckConsistency verifies that newer holds all leaves of older, unchanged, in the same log.
func CheckConsistency(proof [][]byte, older, newer Checkpoint) error {
	fail := func(why string) error {
		return fmt.Errorf("size %d begins size %d: %s: %w", older.Size, newer.Size, why, ErrProof)
	}
	switch {
	case older.Origin != newer.Origin:
		return fail("origins differ")
	case older.Size < 0 || newer.Size > MaxSize:
		return fail("size out of range")
	case older.Size > newer.Size:
		return fail("the log shrank")
	case older.Size == 0:
		if len(proof) != 0 || older != EmptyCheckpoint(older.Origin) || newer.Size == 0 && newer != older {
			return fail("size 0 needs the empty tree and an empty proof")
		}
		return nil
	}
	hashes, err := decodeProof(proof)
	if err == nil {
		err = tlog.CheckTree(hashes, newer.Size, newer.Root, older.Size, older.Root)
	}
	if err != nil {
		return fail("hashes do not lead to both roots")
	}
	return nil
}

// ProveRange makes the range proof for the leaves from size known on: the right edge of the tree of size known. It does
// not depend on the size of the newer tree.
func ProveRange(known int64, reader HashReader) ([][]byte, error) {
	edge, err := ReadRange(known, reader)
	if err != nil {
		return nil, err
	}
	return edge.Hashes(), nil
}

// Extension verifies a range proof while the leaves stream by: that they are exactly the leaves that a newer checkpoint
// has beyond a known one, none left out, and that the known tree begins the newer one. Until Done returns nil, the
// leaves are claims. Memory is that of one Range.
type Extension struct {
	origin string
	edge   Range
	last   Kind // of the newest leaf appended; 0 before the first
	failed error
}

// NewExtension starts at a known checkpoint, which at first contact is the EmptyCheckpoint with no hashes, and refuses
// hashes that do not lead to the known root.
func NewExtension(known Checkpoint, proof [][]byte) (*Extension, error) {
	edge, err := NewRange(known.Size, proof)
	if err != nil {
		return nil, fmt.Errorf("range from %d: %w: %w", known.Size, ErrProof, err)
	}
	if edge.Root() != known.Root {
		return nil, fmt.Errorf("range from %d: hashes do not lead to the known root: %w", known.Size, ErrProof)
	}
	return &Extension{origin: known.Origin, edge: edge}, nil
}

// Append takes the next encoded leaf and returns it decoded, still unproved. It refuses what ParseLeaf refuses, and a
// genesis leaf anywhere but at index 0. After an error Done fails too.
func (e *Extension) Append(leaf []byte) (Leaf, error) {
	if e.failed != nil {
		return Leaf{}, e.failed
	}
	l, err := ParseLeaf(leaf)
	if err == nil && (l.Kind == Genesis) != (e.edge.size == 0) {
		err = fmt.Errorf("%s leaf where leaf 0, and no other, is genesis", l.Kind)
	}
	if err != nil {
		e.failed = fmt.Errorf("leaf %d: %w", e.edge.size, err)
		return Leaf{}, e.failed
	}
	e.edge.Append(LeafHash(leaf))
	e.last = l.Kind
	return l, nil
}

// Done verifies that the known tree and the leaves appended make exactly the tree of the next checkpoint, and that the
// last leaf is a step.
func (e *Extension) Done(next Checkpoint) error {
	fail := func(why string) error { return fmt.Errorf("range up to %d: %s: %w", next.Size, why, ErrProof) }
	switch {
	case e.failed != nil:
		return e.failed
	case next.Origin != e.origin:
		return fail("origins differ")
	case next.Size != e.edge.size:
		return fail(fmt.Sprintf("known tree and leaves make %d", e.edge.size))
	case next.Root != e.edge.Root():
		return fail("leaves do not lead to the root")
	case e.last != Step && e.last != 0:
		return fail(fmt.Sprintf("last leaf is %s, not step", e.last))
	}
	return nil
}

// Edge is the right edge of the tree with all leaves appended so far. Who keeps its Size and Hashes needs no range proof
// from others to go on from here.
func (e *Extension) Edge() Range { return e.edge }
