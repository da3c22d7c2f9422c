package auditlog

import (
	"crypto/sha256"
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// Hash is a node of the tree: SHA-256(0x00 ‖ leaf) or SHA-256(0x01 ‖ left ‖ right), RFC 6962 section 2.1.
type Hash = tlog.Hash

// HashReader reads stored hashes by their index, in the layout of tlog.StoredHashIndex.
type HashReader = tlog.HashReader

// MaxSize is how many leaves a tree may have: 2^53, so that every size is exact in JSON, and arithmetic on sizes and
// stored indexes never overflows (tlog does not end for sizes near 2^63).
const MaxSize = 1 << 53

// maxEdge is the number of set bits in MaxSize-1, hence the most nodes of a Range and of any proof below MaxSize.
const maxEdge = 53

// LeafHash is the hash of an encoded leaf: SHA-256(0x00 ‖ leaf).
func LeafHash(leaf []byte) Hash { return tlog.RecordHash(leaf) }

// Range is the right edge of a tree: the roots of the complete subtrees that its leaves fall into, the largest first.
// It is enough to append and to know the root. The zero value is the empty tree; a copy is independent.
type Range struct {
	size  int64
	nodes [maxEdge + 1]Hash
}

// NewRange makes the Range of a tree of size leaves from its Hashes. It refuses a number of hashes that differs from
// the number of set bits in size; that the hashes are right only shows when Root is compared to a known root.
func NewRange(size int64, hashes [][]byte) (Range, error) {
	nodes, err := decodeProof(hashes)
	if err != nil {
		return Range{}, fmt.Errorf("right edge of a tree of size %d: %w", size, err)
	}
	return newRange(size, nodes)
}

func newRange(size int64, nodes []Hash) (Range, error) {
	if size < 0 || size > MaxSize {
		return Range{}, fmt.Errorf("tree size %d is not in 0…%d", size, int64(MaxSize))
	}
	if n := bits.OnesCount64(uint64(size)); len(nodes) != n {
		return Range{}, fmt.Errorf("right edge of a tree of size %d has %d hashes, got %d", size, n, len(nodes))
	}
	r := Range{size: size}
	copy(r.nodes[:], nodes)
	return r, nil
}

// ReadRange gets the Range of the tree of the first size leaves from stored hashes, in one read.
func ReadRange(size int64, reader HashReader) (Range, error) {
	if size < 0 || size > MaxSize {
		return Range{}, fmt.Errorf("tree size %d is not in 0…%d", size, int64(MaxSize))
	}
	if size == 0 {
		return Range{}, nil
	}
	var indexes []int64
	for start, rest := int64(0), uint64(size); rest != 0; {
		level := bits.Len64(rest) - 1
		indexes = append(indexes, tlog.StoredHashIndex(level, start>>level))
		start += 1 << level
		rest &^= 1 << level
	}
	nodes, err := reader.ReadHashes(indexes)
	if err != nil {
		return Range{}, fmt.Errorf("read right edge of a tree of size %d: %w", size, err)
	}
	return newRange(size, nodes)
}

// Size is the number of leaves.
func (r Range) Size() int64 { return r.size }

// Hashes are the nodes, the largest subtree first, at most 53 of 32 bytes. They and the size make the Range again, and
// they are the range proof for the leaves that follow.
func (r Range) Hashes() [][]byte {
	return encodeProof(r.nodes[:bits.OnesCount64(uint64(r.size))])
}

// Root is the root of the tree; that of the empty tree is the SHA-256 of nothing (RFC 6962 section 2.1).
func (r Range) Root() Hash {
	n := bits.OnesCount64(uint64(r.size))
	if n == 0 {
		return sha256.Sum256(nil)
	}
	root := r.nodes[n-1]
	for i := n - 2; i >= 0; i-- {
		root = tlog.NodeHash(r.nodes[i], root)
	}
	return root
}

// Append adds a leaf by its LeafHash.
func (r *Range) Append(leaf Hash) {
	var completed [maxEdge + 1]Hash // on the stack
	r.push(leaf, completed[:0])
}

// push adds a leaf and appends to completed the nodes that it completes, from the leaf up: what tlog stores for it.
func (r *Range) push(node Hash, completed []Hash) []Hash {
	n := bits.OnesCount64(uint64(r.size))
	completed = append(completed, node)
	for left := r.size; left&1 == 1; left >>= 1 {
		n--
		node = tlog.NodeHash(r.nodes[n], node)
		completed = append(completed, node)
	}
	r.nodes[n] = node
	r.size++
	return completed
}

// Appender adds leaves to a stored tree without reading from it.
type Appender struct {
	edge      Range
	next      int64 // stored index of the next hash
	completed []Hash
}

// NewAppender starts at the right edge of the stored tree.
func NewAppender(edge Range) *Appender {
	return &Appender{edge: edge, next: tlog.StoredHashCount(edge.size), completed: make([]Hash, 0, maxEdge+1)}
}

// Append adds an encoded leaf. The hashes are to be stored at the indexes first, first+1, …; they are valid until the
// next call.
func (a *Appender) Append(leaf []byte) (first int64, hashes []Hash) {
	first = a.next
	a.completed = a.edge.push(LeafHash(leaf), a.completed[:0])
	a.next += int64(len(a.completed))
	return first, a.completed
}

// Edge is the right edge of the tree with all leaves appended so far.
func (a *Appender) Edge() Range { return a.edge }
