// Package forge changes messages as a forger would who knows their format: it takes a message apart down to the last
// CBOR item and ASN.1 element, also where they stand in byte strings of each other, changes something there, and puts it
// together again with all lengths around it mended. What comes out is mostly well formed up to the place that was changed,
// which random bytes hardly ever are.
//
// It is for tests, and no program links it. It knows CBOR and DER, but no message, key or meaning: who signs a forgery,
// and what must become of it, is the business of the tests of either side.
package forge

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
)

// maxDepth bounds how deep a message is taken apart. Ours nest to some 20: a name in a CSR in a content in a request in
// an item in a bundle.
const maxDepth = 32

// major is a CBOR major type (RFC 8949 section 3), or one of two others.
type major byte

const (
	unsigned major = iota
	negative
	byteString
	textString
	array
	mapping
	tagged
	simple
	sequence // several CBOR items in a row
	element  // DER; number is the identifier octet
)

// node is one item. What its bytes hold, if that is CBOR or DER, or for a DER element its parts, is in kids.
type node struct {
	kind   major
	number uint64 // value, tag, simple value or float; identifier octet of an element
	width  int    // octets that the head takes beyond the first; -1 is the shortest, -2 indefinite length
	data   []byte // of a string or a primitive element that holds nothing known
	kids   []*node
	path   string // where it stood: the same place in another message has the same path
}

const (
	shortest   = -1
	indefinite = -2
)

// parse takes a message apart: DER, one CBOR item, or a sequence of them.
func parse(data []byte) *node {
	if n := parseInside(data, "", 0); n != nil {
		return n
	}
	n := &node{kind: sequence}
	for rest := data; len(rest) > 0; {
		var kid *node
		place := ".i"
		if len(n.kids) == 0 {
			place = ".head"
		}
		if kid, rest = parseCBOR(rest, place, 0); kid == nil {
			return &node{kind: sequence, data: data}
		}
		n.kids = append(n.kids, kid)
	}
	return n
}

// parseInside reads bytes that are exactly one DER element or one CBOR array, map or tag; nil if they are none.
func parseInside(data []byte, path string, depth int) *node {
	if len(data) < 2 || depth > maxDepth {
		return nil
	}
	if data[0] == 0x30 {
		if n, rest := parseDER(data, path, depth); n != nil && len(rest) == 0 {
			return n
		}
	}
	if m := major(data[0] >> 5); m == array || m == mapping || m == tagged {
		if n, rest := parseCBOR(data, path, depth); n != nil && len(rest) == 0 {
			return n
		}
	}
	return nil
}

// parseCBOR reads one item; nil if there is none. Only definite lengths are known: true messages have no others.
func parseCBOR(data []byte, path string, depth int) (*node, []byte) {
	if len(data) == 0 || depth > maxDepth {
		return nil, nil
	}
	n := &node{kind: major(data[0] >> 5), width: shortest, path: path}
	low := data[0] & 31
	rest := data[1:]
	switch {
	case low < 24:
		n.number = uint64(low)
	case low <= 27:
		width := 1 << (low - 24)
		if len(rest) < width {
			return nil, nil
		}
		var number [8]byte
		copy(number[8-width:], rest)
		n.number, rest = binary.BigEndian.Uint64(number[:]), rest[width:]
		if n.kind == simple && width > 1 {
			n.width = width // a float
		}
	default:
		return nil, nil
	}
	count := n.number
	switch n.kind {
	case unsigned, negative, simple:
		return n, rest
	case byteString, textString:
		if count > uint64(len(rest)) {
			return nil, nil
		}
		n.data, rest = rest[:count], rest[count:]
		if n.kind == byteString {
			if inside := parseInside(n.data, path+"<", depth+1); inside != nil {
				n.kids, n.data = []*node{inside}, nil
			}
		}
		return n, rest
	case tagged:
		count = 1
	case mapping:
		count *= 2
	}
	if count > uint64(len(rest)) {
		return nil, nil
	}
	for i := range count {
		var kid *node
		if kid, rest = parseCBOR(rest, n.place(int(i)), depth+1); kid == nil {
			return nil, nil
		}
		n.kids = append(n.kids, kid)
	}
	return n, rest
}

// place is the path of the kid that comes next. Maps name their values by key; the first eight elements of an array have
// each a place of their own, for our arrays are records or lists.
func (n *node) place(i int) string {
	switch n.kind {
	case mapping:
		if i%2 == 0 {
			return n.path + "k"
		}
		key := n.kids[i-1]
		return n.path + "." + string(rune('0'+key.number%64)) + string(key.data)
	case tagged:
		return n.path + "t"
	}
	return n.path + "[" + string(rune('0'+min(i, 8)))
}

func parseDER(data []byte, path string, depth int) (*node, []byte) {
	if len(data) < 2 || depth > maxDepth || data[0]&31 == 31 {
		return nil, nil
	}
	n := &node{kind: element, number: uint64(data[0]), width: shortest, path: path}
	size, rest := int(data[1]), data[2:]
	if size > 0x80 {
		width := size - 0x80
		if width > 3 || len(rest) < width {
			return nil, nil
		}
		size = 0
		for _, b := range rest[:width] {
			size = size<<8 | int(b)
		}
		rest = rest[width:]
	} else if size == 0x80 {
		return nil, nil
	}
	if size > len(rest) {
		return nil, nil
	}
	n.data, rest = rest[:size], rest[size:]
	if n.number&0x20 == 0 {
		return n, rest
	}
	for parts := n.data; len(parts) > 0; {
		var kid *node
		if kid, parts = parseDER(parts, path+"/"+string(rune('0'+min(len(n.kids), 8))), depth+1); kid == nil {
			n.kids = nil
			return n, rest
		}
		n.kids = append(n.kids, kid)
	}
	if len(n.kids) > 0 {
		n.data = nil
	}
	return n, rest
}

// encode puts the message together again.
func (n *node) encode(out []byte) []byte {
	switch n.kind {
	case sequence:
		out = append(out, n.data...)
		for _, k := range n.kids {
			out = k.encode(out)
		}
		return out
	case element:
		body := n.body()
		out = append(out, byte(n.number))
		return append(appendLength(out, len(body), n.width), body...)
	case byteString, textString:
		body := n.body()
		if n.width == indefinite { // one chunk
			out = appendHead(append(out, byte(n.kind)<<5|31), n.kind, uint64(len(body)), shortest)
			return append(append(out, body...), 0xff)
		}
		return append(appendHead(out, n.kind, uint64(len(body)), n.width), body...)
	case array, mapping, tagged:
		count := uint64(len(n.kids))
		switch {
		case n.kind == mapping:
			count /= 2
		case n.kind == tagged:
			count = n.number
		}
		if n.width == indefinite && n.kind != tagged {
			out = append(out, byte(n.kind)<<5|31)
		} else {
			out = appendHead(out, n.kind, count, n.width)
		}
		for _, k := range n.kids {
			out = k.encode(out)
		}
		if n.width == indefinite && n.kind != tagged {
			out = append(out, 0xff)
		}
		return out
	}
	return appendHead(out, n.kind, n.number, max(n.width, shortest))
}

// body is what a string or element holds.
func (n *node) body() []byte {
	if len(n.kids) == 0 {
		return n.data
	}
	out := make([]byte, 0, 512)
	for _, k := range n.kids {
		out = k.encode(out)
	}
	return out
}

func appendHead(out []byte, kind major, number uint64, width int) []byte {
	need := 0
	switch {
	case number > math.MaxUint32:
		need = 8
	case number > math.MaxUint16:
		need = 4
	case number > math.MaxUint8:
		need = 2
	case number >= 24:
		need = 1
	}
	width = max(width, need)
	first := byte(kind) << 5
	switch width {
	case 0:
		return append(out, first|byte(number))
	case 1:
		return append(out, first|24, byte(number))
	case 2:
		return binary.BigEndian.AppendUint16(append(out, first|25), uint16(number))
	case 4:
		return binary.BigEndian.AppendUint32(append(out, first|26), uint32(number))
	}
	return binary.BigEndian.AppendUint64(append(out, first|27), number)
}

// appendLength writes the length octets of DER, or where width asks for more or for none, of BER (X.690 section 8.1.3).
func appendLength(out []byte, size, width int) []byte {
	var octets []byte
	for rest := size; rest > 0; rest >>= 8 {
		octets = append(octets, byte(rest))
	}
	switch {
	case width == indefinite:
		return append(out, 0x80)
	case width < 0 && size < 0x80:
		return append(out, byte(size))
	}
	for len(octets) < width {
		octets = append(octets, 0)
	}
	slices.Reverse(octets)
	return append(append(out, 0x80|byte(len(octets))), octets...)
}

// clone copies a node with all below it.
func (n *node) clone() *node {
	c := *n
	c.data = bytes.Clone(n.data)
	c.kids = make([]*node, len(n.kids))
	for i, k := range n.kids {
		c.kids[i] = k.clone()
	}
	return &c
}

// each calls f for all nodes, with the one that holds it; nil holds the first.
func (n *node) each(holder *node, f func(holder, n *node)) {
	f(holder, n)
	for _, k := range n.kids {
		k.each(n, f)
	}
}
