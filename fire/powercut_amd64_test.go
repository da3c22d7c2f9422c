package fire

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"coldseal/appliance"
	"coldseal/appliance/lint"
	"coldseal/protocol"
	"coldseal/protocol/cose"
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
	slowest             slowest

	mu    sync.Mutex
	kinds map[string]int
}

func (y *tally) count(c cut) {
	y.cuts.Add(1)
	if c.ordered {
		y.ordered.Add(1)
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	y.kinds[c.kind]++
}

func (y *tally) report(t *testing.T) {
	for _, kind := range sorted(y.kinds) {
		t.Logf("%6d cuts: %s", y.kinds[kind], kind)
	}
	t.Logf("%6d cuts left different files, %d with names in order as a journal keeps them; %d were looked at by the real programs too; the slowest start took %v",
		y.cuts.Load(), y.ordered.Load(), y.real.Load(), time.Duration(y.slowest.Load()).Round(time.Millisecond))
}

// history is a command that was run to its end, perhaps killed and given again, with all it did to its disks.
type history struct {
	*journal
	outage  outage
	base    *world // a template: what was there before
	end     *world // what is there now
	from    int    // operations before the command was given the last time
	asked   []question
	weights []int // sums, from the first of these operations on
	slow    *slowest
	shared
}

// question is something that the signer was asked to sign, and before which operation.
type question struct {
	at     int
	digest protocol.Digest
}

// record runs the command of an outage; it is killed at one of its calls first, unless that is zero.
func (o outage) record(t *testing.T, kill int) *history {
	t.Helper()
	h := &history{outage: o, base: o.world(t)}
	h.end = h.base.copy(t)
	var err error
	if h.journal, err = keep(h.end.dir, o.on...); err != nil {
		t.Fatal(err)
	}
	if kill > 0 {
		h.end.run = h.run(func(c call) fate { return fate{kill: c.number == kill} })
		h.end.try(t, o.line...)
		h.from = len(h.done)
	}
	h.end.run = h.run(nil)
	h.outcome(t)
	h.end.run = nil
	if err := h.compare(); err != nil {
		t.Fatalf("%v, killed at call %d", err, kill)
	}
	h.questions(t)
	h.weigh()
	return h
}

// syncs are the calls that make something durable, by what that is. Those of a database are divided once more, for each of
// its transactions takes several. Who is killed there leaves most that is not durable.
func (h *history) syncs() [][]int {
	calls := map[string][]int{}
	databases := 0
	for _, c := range h.calls {
		what := c.path
		switch {
		case !strings.HasSuffix(c.name, "sync"):
			continue
		case strings.HasSuffix(what, ".db"):
			what += fmt.Sprint(databases % 3)
			databases++
		}
		calls[what] = append(calls[what], c.number)
	}
	var all [][]int
	for _, what := range sorted(calls) {
		all = append(all, calls[what])
	}
	return all
}

// weigh says how often the power is cut after which operation: the more there is that a cut may undo, the more often.
func (h *history) weigh() {
	sum := 0
	for n := h.from; n <= len(h.done); n++ {
		durable := h.durable(n)
		sum++
		for i := range durable {
			if o := &h.done[i]; !durable[i] && (o.data() || o.names()) {
				sum += 1 + len(o.bytes)/pageSize
			}
		}
		h.weights = append(h.weights, sum)
	}
}

// outcome gives the command until it is done or says that it was done.
func (h *history) outcome(t *testing.T) {
	t.Helper()
	o := h.end.try(t, h.outage.line...)
	if o.code == 3 && strings.Contains(o.words, "--again 4") {
		o = h.end.try(t, "agent", "export", "--media", "stick", "--again", "4")
	}
	if o.code != 0 && !strings.Contains(o.words, "the appliance has begun already") {
		t.Fatalf("%s: exit %d\n%s%s", h.outage.name, o.code, o.out, o.words)
	}
}

// questions finds in what programs said to each other what the signer was asked to sign with a CA's key.
func (h *history) questions(t *testing.T) {
	t.Helper()
	streams := map[string]*bytes.Buffer{}
	for i, o := range h.done {
		if o.said == "" {
			continue
		}
		stream := streams[o.said]
		if stream == nil {
			stream = new(bytes.Buffer)
			streams[o.said] = stream
		}
		stream.Write(o.spoken)
		for {
			rest := bytes.NewReader(stream.Bytes())
			word, body, err := readFrame(rest)
			if err != nil {
				break // the rest of the frame comes later
			}
			stream.Next(stream.Len() - rest.Len())
			var s signRequest
			if word != opSign || cose.Unmarshal(body, &s) != nil {
				continue
			}
			for _, digest := range s.digests() {
				h.asked = append(h.asked, question{i, digest})
			}
		}
	}
}

// ruin is what is left after a power cut.
type ruin struct {
	cut
	*history
	world *world
	live  image // what programs saw just before
}

// finished tells whether the command had said that it was done.
func (r *ruin) finished() bool { return r.n == len(r.done) }

// signed are the digests that the signer had been asked to sign.
func (r *ruin) signed() (digests []protocol.Digest) {
	for _, q := range r.asked {
		if q.at < r.n {
			digests = append(digests, q.digest)
		}
	}
	return digests
}

// seen gives the paths of that form that programs saw before the cut.
func (r *ruin) seen(pattern string) (paths []string) {
	err := r.live.walk(r.top, "", func(path string, n *node) error {
		if matches, err := filepath.Match(pattern, path); err != nil || !matches {
			return err
		}
		paths = append(paths, path)
		return nil
	})
	if err != nil {
		panic(err)
	}
	return paths
}

// ruin makes the files that a cut left, beside links to those that no cut concerns; whole copies them.
func (h *history) ruin(t *testing.T, c cut, whole bool) *ruin {
	t.Helper()
	dir, err := os.MkdirTemp(spare(), "fire-cut-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	entries, err := os.ReadDir(h.base.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		switch {
		case slices.Contains(h.on, e.Name()):
		case whole:
			if o, err := execute(exec.Command("cp", "-a", h.base.path(e.Name()), dir)); err != nil || o.code != 0 {
				t.Fatalf("copy %s: %v: %s", e.Name(), err, o.words)
			}
		default:
			if err := os.Symlink(h.base.path(e.Name()), filepath.Join(dir, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := c.left.put(h.top, dir); err != nil {
		t.Fatal(err)
	}
	w := *h.base
	w.dir = dir
	if own := w.path("appliance", "reserve"); !whole && slices.Contains(h.on, "appliance") && c.left.find(h.top, "appliance/reserve") != nil {
		if err := errors.Join(os.Remove(own), os.Link(h.reserve, own)); err != nil {
			t.Fatal(err)
		}
	}
	return &ruin{cut: c, history: h, world: &w, live: h.after(c.n)}
}

// spare is where ruins lie: in memory if there is room, for what is asked there is what a disk keeps, and not how fast.
func spare() string {
	const shm, room = "/dev/shm", 1 << 30
	var s unix.Statfs_t
	if err := unix.Statfs(shm, &s); err == nil && int64(s.Bavail)*s.Bsize >= room {
		return shm
	}
	return ""
}

// play cuts the power of one command so many times.
func (o outage) play(t *testing.T, random *rand.Rand, wanted int, s shared, y *tally) {
	clean := o.record(t, 0)
	kills, share := 1, 60
	if everything() {
		kills, share = 4, 600
	}
	histories := []*history{clean}
	for _, calls := range clean.syncs() {
		for _, i := range random.Perm(len(calls))[:min(kills, len(calls))] {
			histories = append(histories, o.record(t, calls[i]))
		}
	}
	var checks []func(*testing.T, *ruin)
	for _, h := range histories {
		h.slow, h.shared = &y.slowest, s
		checks = append(checks, o.expect(t, h))
	}
	d := &draw{histories: histories, random: random, worst: worst(histories), seen: map[[32]byte]bool{}, left: wanted}
	began := time.Now()
	defer func() {
		t.Logf("%s: %d operations; %d different of %d cuts, in %v", o.name, len(clean.done), d.made, d.tried, time.Since(began).Round(time.Millisecond))
	}()
	t.Run("cuts", func(t *testing.T) {
		for lane := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint(lane), func(t *testing.T) {
				t.Parallel()
				for !t.Failed() {
					c, which, serial, found := d.next()
					if !found {
						return
					}
					h := histories[which]
					real := serial%share == share/2
					t.Run(fmt.Sprint(serial), func(t *testing.T) {
						t.Cleanup(func() {
							if t.Failed() {
								t.Log(h.tell(c))
							}
						})
						checks[which](t, h.ruin(t, c, false))
						y.count(c)
						if real {
							o.again(t, h.ruin(t, c, true).world)
							y.real.Add(1)
						}
					})
				}
			})
		}
	})
}

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

// tell says what was before a cut: the last operations, and which of them no cut undoes.
func (h *history) tell(c cut) string {
	var text strings.Builder
	fmt.Fprintln(&text, c)
	durable := h.durable(c.n)
	for i := max(0, c.n-40); i < c.n; i++ {
		mark := " "
		if durable[i] {
			mark = "+"
		}
		fmt.Fprintf(&text, "%5d %s %s\n", i, mark, h.done[i].what)
	}
	if c.n == len(h.done) {
		text.WriteString("      and the command had ended\n")
	}
	return text.String()
}
