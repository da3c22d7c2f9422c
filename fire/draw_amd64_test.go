package fire

import (
	"math/rand/v2"
	"sort"
	"sync"
)

// draw draws cuts of which no two leave the same.
type draw struct {
	mu        sync.Mutex
	histories []*history
	random    *rand.Rand
	worst     []moment // that were not drawn yet
	seen      map[[32]byte]bool
	left      int // wanted
	made      int
	tried     int
}

func (d *draw) next() (c cut, which, serial int, found bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.left > 0 && d.tried < 100*(d.made+d.left) {
		c, which = d.one()
		d.tried++
		digest := c.left.digest(d.histories[which].top)
		if !d.seen[digest] {
			d.seen[digest] = true
			d.left--
			d.made++
			return c, which, d.made, true
		}
	}
	return cut{}, 0, 0, false
}

// moment is one of a history.
type moment struct{ which, n int }

// worst are the moments at which it is most likely that something was forgotten: when a command has said that all is
// done, and when the first things become durable after somebody was killed.
func worst(histories []*history) (all []moment) {
	const syncs = 12
	for which, h := range histories {
		all = append(all, moment{which, len(h.done)})
		for n, found := h.from, 0; h.from > 0 && n < len(h.done) && found < syncs; n++ {
			if h.done[n].synced != nil {
				all = append(all, moment{which, n + 1})
				found++
			}
		}
	}
	return all
}

// one draws any cut, after the worst ones. Half of them are of the command that nobody killed.
func (d *draw) one() (cut, int) {
	if len(d.worst) > 0 {
		m := d.worst[0]
		d.worst = d.worst[1:]
		return d.histories[m.which].cut(m.n, dropped, d.random), m.which
	}
	which := 0
	if d.random.IntN(2) == 0 {
		which = d.random.IntN(len(d.histories))
	}
	h := d.histories[which]
	n := h.from + sort.SearchInts(h.weights, d.random.IntN(h.weights[len(h.weights)-1]))
	if d.random.IntN(20) == 0 {
		n = len(h.done)
	}
	kind := []string{kept, dropped}[d.random.IntN(2)]
	if d.random.IntN(4) > 0 {
		kind = drawn[d.random.IntN(len(drawn))]
	}
	return h.cut(n, kind, d.random), which
}
