package fire

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"coldseal/appliance"
	"coldseal/appliance/lint"
)

// outage is a command during which the power is cut, or after it.
type outage struct {
	name  string
	share int // of a hundred cuts
	on    []string
	world func(t *testing.T) *world // a template
	line  []string
	// expect looks at what the command did undisturbed, and gives what is asked after each cut.
	expect func(t *testing.T, h *history) func(t *testing.T, r *ruin)
	again  func(t *testing.T, w *world) // the same with the real programs
}

const cutItems = 100

func outages(t *testing.T) []outage {
	box, desk := []string{"appliance", "stick"}, []string{"agent", "stick"}
	return []outage{
		{"genesis", 11, box, beforeGenesis, genesis, expectGenesis, afterGenesis},
		{"bundle", 32, box, func(t *testing.T) *world { return travelled(t, cutItems, 1) }, journey[1], expectResponse, func(t *testing.T, w *world) { w.arrive(t, 1) }},
		{"bundle once more", 14, box, interrupted, journey[1], expectResponse, func(t *testing.T, w *world) { w.arrive(t, 1) }},
		{"key", 9, box, beforeKey, console, expectOrder, afterKey},
		{"CRL", 9, box, beforeCRL, console, expectOrder, afterOrder},
		{"policy", 9, box, beforePolicy, console, expectOrder, afterOrder},
		{"agent", 5, desk, beforeAgent, enrol(t), expectAgent, afterAgent},
		{"export", 9, desk, func(t *testing.T) *world { return laden(t, cutItems) }, journey[0], expectBundle, func(t *testing.T, w *world) { w.arrive(t, 0) }},
		{"import", 12, desk, func(t *testing.T) *world { return travelled(t, cutItems, 2) }, journey[2], expectImport, func(t *testing.T, w *world) { w.arrive(t, 2) }},
	}
}

// TestPowerCuts cuts the power during all that makes something: genesis, a bundle, orders, an agent, its exports and
// imports. What the programs wrote is taken down, and put together anew as cuts leave it. On each of these ruins the real
// engine starts; then the command is given again, and it is asked what was lost. Before some cuts the program is killed
// and the command given again: what it then finds was perhaps never synced.
func TestPowerCuts(t *testing.T) {
	random, wanted := dice(t), number(t, "FIRE_CUTS", 2000)
	if everything() {
		wanted = max(wanted, 20000)
	}
	shared := shared{lints: linter(t), reserve: reserve(t)}
	tally := &tally{kinds: map[string]int{}}
	asked := 0 // all that are wanted, unless -run leaves some out
	for _, o := range outages(t) {
		t.Run(o.name, func(t *testing.T) {
			asked += wanted * o.share / 110 // what shares come to: two cuts may leave the same
			o.play(t, random, wanted*o.share/100, shared, tally)
		})
	}
	tally.report(t)
	if int(tally.cuts.Load()) < asked && !t.Failed() {
		t.Errorf("%d cuts are fewer than %d", tally.cuts.Load(), asked)
	}
}

// shared is what all ruins use.
type shared struct {
	lints   *lint.Client
	reserve string
}

// reserve makes a file that takes as much room as the appliance's reserve does. In its place all ruins have a link to
// this one, so that not each of them has to find so much room anew.
func reserve(t *testing.T) string {
	t.Helper()
	f, err := os.CreateTemp(spare(), "fire-reserve-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(f.Name()); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, appliance.SpoolReserve), f.Close()); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// tally counts what happened in all outages.
type tally struct {
	cuts, real, ordered atomic.Int64

	mu      sync.Mutex
	kinds   map[string]int
	slowest time.Duration
}

func (y *tally) count(r *ruin) {
	y.cuts.Add(1)
	if r.ordered {
		y.ordered.Add(1)
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	y.kinds[r.kind]++
	y.slowest = max(y.slowest, r.took)
}

func (y *tally) report(t *testing.T) {
	for _, kind := range sorted(y.kinds) {
		t.Logf("%6d cuts: %s", y.kinds[kind], kind)
	}
	t.Logf("%6d cuts left different files, %d with names in order as a journal keeps them; %d were looked at by the real programs too; the slowest start took %v",
		y.cuts.Load(), y.ordered.Load(), y.real.Load(), y.slowest.Round(time.Millisecond))
}

// play cuts the power of one command so many times.
func (o outage) play(t *testing.T, random *rand.Rand, wanted int, s shared, y *tally) {
	histories := o.histories(t, random, s)
	checks := make([]func(*testing.T, *ruin), len(histories))
	for i, h := range histories {
		t.Run(fmt.Sprint("undisturbed ", i), func(t *testing.T) { checks[i] = o.expect(t, h) })
	}
	if t.Failed() {
		return
	}
	d := &draw{histories: histories, random: random, worst: worst(histories), seen: map[[32]byte]bool{}, left: wanted}
	t.Run("cuts", func(t *testing.T) {
		for lane := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint(lane), func(t *testing.T) {
				t.Parallel()
				for !t.Failed() {
					c, which, serial, found := d.next()
					if !found {
						return
					}
					t.Run(fmt.Sprint(serial), func(t *testing.T) { histories[which].suffer(t, c, checks[which], serial, y) })
				}
			})
		}
	})
	t.Logf("%s: %d operations, killed at %d places first; %d different of %d cuts", o.name, len(histories[0].done), len(histories)-1, d.made, d.tried)
}

// histories runs the command undisturbed, and killed at some calls of each sort that makes something durable: at the last
// one, for behind it the command says that all is done, and at others.
func (o outage) histories(t *testing.T, random *rand.Rand, s shared) []*history {
	t.Helper()
	kills := 1
	if everything() {
		kills = 2
	}
	all := []*history{o.record(t, 0)}
	for _, calls := range all[0].syncs() {
		last := len(calls) - 1
		all = append(all, o.record(t, calls[last]))
		for _, i := range random.Perm(last)[:min(kills, last)] {
			all = append(all, o.record(t, calls[i]))
		}
	}
	for _, h := range all {
		h.shared = s
	}
	return all
}

// suffer looks at what one cut left, and with the real programs at some of it.
func (h *history) suffer(t *testing.T, c cut, check func(*testing.T, *ruin), serial int, y *tally) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(h.tell(c))
		}
	})
	r := h.ruin(t, c, false)
	check(t, r)
	for tries := 1; r.took > recovery && tries < 3; tries++ { // perhaps this machine had something else to do
		r = h.ruin(t, c, false)
		check(t, r)
	}
	if r.took > recovery {
		t.Errorf("it took %v to start", r.took)
	}
	y.count(r)
	share := 60
	if everything() {
		share = 200
	}
	if serial%share == share/2 {
		h.outage.again(t, h.ruin(t, c, true).world)
		y.real.Add(1)
	}
}
