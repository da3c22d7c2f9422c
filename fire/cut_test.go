package fire

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// cut is a power cut: when it came, and what it left.
type cut struct {
	n       int // operations that were done before it
	kind    string
	left    image
	ordered bool // the names that survived are the first that were made: so would a journal of the file system leave them
}

func (c cut) String() string { return fmt.Sprintf("power cut after operation %d, %s", c.n, c.kind) }

// The kinds of cuts. Of each, some parts are drawn.
const (
	kept      = "all came to the disk"
	dropped   = "nothing came to the disk that was not synced"
	reordered = "what was not synced came to the disk in any order"
	journaled = "names came to the disk in order, data not"
	torn512   = "what was not synced came to the disk in parts of 512 bytes"
	torn4096  = "what was not synced came to the disk in parts of 4 KiB"
)

var drawn = []string{reordered, journaled, torn512, torn512, torn4096} // the first three of these have most to choose

// cut derives what one cut leaves.
func (d *disk) cut(n int, kind string, random *rand.Rand) cut {
	durable := d.durable(n)
	c := cut{n: n, kind: kind, left: image{}}
	likely := []float64{0.1, 0.5, 0.9}[random.IntN(3)] // that something survives
	coin := func() bool { return random.Float64() < likely }
	names := d.names(n, kind, durable, coin, random)
	c.ordered = inOrder(names)
	for i := range d.done[:n] {
		o := &d.done[i]
		unit, whole, grown := int64(pageSize), all, true
		switch {
		case o.names():
			if !names[i] {
				continue
			}
		case !o.data():
			continue
		case durable[i] || kind == kept:
		case kind == dropped:
			continue
		case kind == torn512 || kind == torn4096 || kind == journaled:
			if kind == torn512 {
				unit = sectorSize
			}
			if grown = coin(); !grown && o.sized != nil {
				continue
			}
			whole = func(int64) bool { return coin() }
			if kind != journaled && o.written != nil && random.IntN(3) == 0 { // or in one piece up to somewhere
				end := (o.at + random.Int64N(int64(len(o.bytes))+1)) / unit
				whole = func(at int64) bool { return at < end }
			}
		case !coin():
			continue
		}
		c.left.do(o, unit, whole, grown)
	}
	return c
}

// names draws which operations on names survive: those that were synced, and of the others all, none, the first few, or
// any.
func (d *disk) names(n int, kind string, durable []bool, coin func() bool, random *rand.Rand) map[int]bool {
	survive := map[int]bool{}
	var open []int
	synced := 0
	for i := range d.done[:n] {
		o := &d.done[i]
		synced = max(synced, o.covers) // a journal that is synced for one is synced for all
		if !o.names() {
			continue
		}
		if survive[i] = durable[i]; !durable[i] {
			open = append(open, i)
		}
	}
	if kind == torn512 || kind == torn4096 {
		kind = []string{kept, dropped, journaled}[random.IntN(3)]
	}
	first := random.IntN(len(open) + 1)
	for place, i := range open {
		switch kind {
		case kept:
			survive[i] = true
		case journaled:
			survive[i] = i < synced || place < first
		case reordered:
			survive[i] = coin()
		}
	}
	return survive
}

// inOrder tells whether no name survived that was made after one which did not.
func inOrder(survive map[int]bool) bool {
	lost := false
	for _, i := range sortedNumbers(survive) {
		if survive[i] && lost {
			return false
		}
		lost = lost || !survive[i]
	}
	return true
}

func sortedNumbers(m map[int]bool) (numbers []int) {
	for n := range m {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	return numbers
}
