package forge

import (
	"bytes"
	"math/rand/v2"
	"slices"
)

// Forger draws changes. It remembers parts of true messages and puts them into others. It is used by one goroutine.
type Forger struct {
	*rand.Rand
	parts map[string][]*node // by path
	paths []string
}

// partsOfPath is how many parts of one place are remembered; later ones take the place of earlier ones.
const partsOfPath = 32

// New makes a forger with nothing to remember.
func New(random *rand.Rand) *Forger {
	return &Forger{Rand: random, parts: map[string][]*node{}}
}

// Learn remembers the parts of a true message of some kind. Parts go into the same place of messages of the same kind
// when Change is told the same kind.
func (f *Forger) Learn(kind string, message []byte) {
	parse(message).each(nil, func(_, n *node) {
		path := kind + n.path
		known := f.parts[path]
		switch {
		case len(known) == 0:
			f.paths = append(f.paths, path)
			fallthrough
		case len(known) < partsOfPath:
			f.parts[path] = append(known, n)
		default:
			known[f.IntN(partsOfPath)] = n
		}
	})
}

// Change gives a copy of the message with one to three changes, which may undo each other.
func (f *Forger) Change(kind string, message []byte) []byte {
	root := parse(message)
	for range 1 + f.IntN(8)/6 + f.IntN(8)/6 {
		root = f.change(kind, root)
	}
	out := root.encode(make([]byte, 0, len(message)+64))
	if f.IntN(32) == 0 {
		out = f.raw(out)
	}
	return out
}

// Raw changes bytes without looking at what they are: one bit, a cut, more at the end, itself twice.
func (f *Forger) Raw(message []byte) []byte { return f.raw(bytes.Clone(message)) }

func (f *Forger) raw(data []byte) []byte {
	if len(data) == 0 {
		return []byte{0}
	}
	switch f.IntN(5) {
	case 0:
		return data[:f.IntN(len(data))]
	case 1:
		return append(data, byte(f.Uint32()))
	case 2:
		return append(data, data...)
	}
	data[f.IntN(len(data))] ^= 1 << f.IntN(8)
	return data
}

// spot is a node and its place in what holds it.
type spot struct {
	holder *node
	i      int
	n      *node
}

// spots lists all places of a message. Every level of nesting has about the same chance to be drawn, so that what stands
// deep and often (the parts of a CSR) leaves room for what stands once (a version).
func (f *Forger) spot(root *node) spot {
	var levels [][]spot
	var walk func(holder *node, i int, n *node, depth int)
	walk = func(holder *node, i int, n *node, depth int) {
		if len(levels) <= depth {
			levels = append(levels, nil)
		}
		levels[depth] = append(levels[depth], spot{holder, i, n})
		for i, k := range n.kids {
			walk(n, i, k, depth+1)
		}
	}
	walk(nil, 0, root, 0)
	level := levels[f.IntN(len(levels))]
	return level[f.IntN(len(level))]
}

// change makes one change and gives the root, which it may have replaced.
func (f *Forger) change(kind string, root *node) *node {
	s := f.spot(root)
	replace := func(n *node) *node {
		if s.holder == nil {
			return n
		}
		s.holder.kids[s.i] = n
		return root
	}
	switch f.IntN(12) {
	case 0, 1, 2: // what stands there in another message
		if known := f.parts[kind+s.n.path]; len(known) > 0 {
			return replace(known[f.IntN(len(known))].clone())
		}
	case 3: // what stands anywhere in any
		if len(f.paths) > 0 {
			known := f.parts[f.paths[f.IntN(len(f.paths))]]
			return replace(known[f.IntN(len(known))].clone())
		}
	case 4:
		f.drop(s)
	case 5:
		f.double(s)
	case 6:
		f.swap(s)
	case 7:
		s.n.width = [...]int{indefinite, 1, 2, 4, 8}[f.IntN(5)]
	case 8:
		return replace(f.retype(s.n))
	default:
		f.value(s.n)
	}
	return root
}

// step is how many kids of a node belong together: a key and its value.
func step(n *node) int {
	if n.kind == mapping {
		return 2
	}
	return 1
}

func (f *Forger) drop(s spot) {
	if s.holder == nil || s.holder.kind == tagged {
		return
	}
	at, by := s.i/step(s.holder)*step(s.holder), step(s.holder)
	s.holder.kids = slices.Delete(s.holder.kids, at, min(at+by, len(s.holder.kids)))
}

func (f *Forger) double(s spot) {
	if s.holder == nil || s.holder.kind == tagged {
		return
	}
	at, by := s.i/step(s.holder)*step(s.holder), step(s.holder)
	var again []*node
	for _, k := range s.holder.kids[at:min(at+by, len(s.holder.kids))] {
		again = append(again, k.clone())
	}
	s.holder.kids = slices.Insert(s.holder.kids, at, again...)
}

// swap exchanges what is there with another of what is beside it.
func (f *Forger) swap(s spot) {
	if s.holder == nil {
		return
	}
	kids, by := s.holder.kids, step(s.holder)
	a, b := s.i/by*by, f.IntN(len(kids)/by+1)*by
	if a+by > len(kids) || b+by > len(kids) {
		return
	}
	for i := range by {
		kids[a+i], kids[b+i] = kids[b+i], kids[a+i]
	}
}

// retype gives something else than was there: nothing, a float, the same in a tag or a list, bytes as text.
func (f *Forger) retype(n *node) *node {
	switch f.IntN(6) {
	case 0:
		return &node{kind: simple, number: 20 + uint64(f.IntN(4)), width: shortest}
	case 1:
		return &node{kind: simple, number: 0x3c00, width: 2}
	case 2:
		return &node{kind: tagged, number: uint64(f.IntN(64)), width: shortest, kids: []*node{n}}
	case 3:
		return &node{kind: array, width: shortest, kids: []*node{n}}
	case 4:
		if n.kind == element {
			n.number ^= 1 << f.IntN(8)
		} else if n.kind < simple {
			n.kind = major(f.IntN(int(simple)))
		}
	case 5:
		return &node{kind: byteString, width: shortest, data: n.encode(nil)}
	}
	return n
}

// value changes a number, or the bytes of a string.
func (f *Forger) value(n *node) {
	switch n.kind {
	case unsigned, negative, simple, tagged:
		switch f.IntN(4) {
		case 0:
			n.number++
		case 1:
			n.number--
		case 2:
			n.number ^= 1 << f.IntN(64)
		case 3:
			n.number = [...]uint64{0, 1, 23, 24, 1 << 8, 1 << 16, 1 << 32, 1<<53 - 1, 1<<63 - 1, 1<<64 - 1, 253402300799}[f.IntN(11)]
		}
		return
	}
	n.data, n.kids = bytes.Clone(n.body()), nil // what was parsed is part of the message
	switch {
	case len(n.data) == 0 || f.IntN(8) == 0:
		n.data = append(n.data, byte(f.Uint32()))
	case f.IntN(8) == 0:
		n.data = n.data[:f.IntN(len(n.data))]
	case f.IntN(8) == 0:
		n.data = append(n.data, n.data...)
	default:
		n.data[f.IntN(len(n.data))] ^= 1 << f.IntN(8)
	}
}
