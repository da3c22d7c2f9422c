package fire

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// aboutStick tells whether a call is about the medium.
func (c call) aboutStick() bool { return c.path == "stick" || strings.HasPrefix(c.path, "stick/") }

// stickCalls are the calls about the medium that a command makes.
func (s stage) stickCalls(t *testing.T) (calls []call) {
	t.Helper()
	w := s.world(t).copy(t)
	tr := &tracer{}
	w.run = tr.run
	w.must(t, s.line...)
	for _, c := range tr.calls {
		if c.aboutStick() {
			calls = append(calls, c)
		}
	}
	return calls
}

// vanishings are the ways in which a medium goes: what becomes of calls about it from then on, what is done to its folder,
// and how it comes back.
var vanishings = map[string]struct {
	fate fate
	away func(w *world) error
	back func(w *world) error
}{
	"pulled out": {fate{errno: syscall.EIO}, nothingDone, nothingDone},
	"moved away": {fate{}, func(w *world) error { return os.Rename(w.path("stick"), w.path("away")) },
		func(w *world) error { return os.Rename(w.path("away"), w.path("stick")) }},
	"unmounted": {fate{}, // what is left is the empty folder it was mounted on
		func(w *world) error {
			return errors.Join(os.Rename(w.path("stick"), w.path("away")), os.Mkdir(w.path("stick"), 0o755))
		},
		func(w *world) error {
			return errors.Join(os.RemoveAll(w.path("stick")), os.Rename(w.path("away"), w.path("stick")))
		}},
}

func nothingDone(*world) error { return nil }

// TestVanishingMedium takes the medium away before each call about it, amid reading and writing. The command says so and
// what to do, or did what it says on the medium that is back then; given again it finishes.
func TestVanishingMedium(t *testing.T) {
	random := dice(t)
	var all, halts atomic.Int64
	for _, s := range stages()[:len(journey)] {
		for _, planned := range s.stickCalls(t)[1:] { // before it is opened it is another medium
			for name, way := range vanishings {
				if !everything() && random.IntN(1000) >= 100 {
					continue
				}
				t.Run(fmt.Sprintf("%s/%d-%s", s.line[1], planned.number, name), func(t *testing.T) {
					t.Parallel()
					w := s.world(t).copy(t)
					var failed error
					gone := false
					befalls := func(c call) fate {
						if c.number == planned.number {
							gone, failed = true, way.away(w)
						}
						if gone && c.aboutStick() {
							return way.fate
						}
						return fate{}
					}
					back := func() {
						if err := errors.Join(failed, way.back(w)); err != nil || !gone {
							t.Fatalf("%s at %v: %v", name, planned, err)
						}
					}
					all.Add(1)
					if s.suffer(t, w, misfortune{name, false, befalls, "put the same medium back", back}) {
						halts.Add(1)
					}
				})
			}
		}
	}
	t.Cleanup(func() { t.Logf("%d times the medium vanished: %d commands halted", all.Load(), halts.Load()) })
}

// changingItems is how many workstations are in a bundle that changes: it takes a dozen reads.
const changingItems = 200

// forked gives a world whose agent sealed another bundle under the number of the one of travelled, with one more request.
func forked(t *testing.T) *world {
	t.Helper()
	return template(t, "forked", from(func(t *testing.T) *world { return laden(t, changingItems) }, func(t *testing.T, w *world) {
		serial := w.serial(t, "9003")
		id := w.must(t, "agent", "request", "hold", "--serial", serial)
		w.load.done, w.load.listed = append([]string{id}, w.load.done...), append([]string{serial}, w.load.listed...)
		w.approve(t, "local.key", "", w.load.open...)
		w.must(t, journey[0]...)
	}))
}

// released gives a template in which the response was released once more: the same inside, and other bytes.
func released(t *testing.T) *world {
	t.Helper()
	return template(t, "released", from(func(t *testing.T) *world { return travelled(t, changingItems, 2) }, func(t *testing.T, w *world) {
		if err := os.RemoveAll(filepath.Dir(w.glob(t, "stick/coldseal/*/to-agent")[0])); err != nil {
			t.Fatal(err)
		}
		w.must(t, "agent", "export", "--media", "stick", "--again", "4")
		w.must(t, journey[1]...)
	}))
}

// damaged gives a template whose bundle has a bit changed in every block.
func damaged(t *testing.T) *world {
	t.Helper()
	return template(t, "damaged", from(func(t *testing.T) *world { return travelled(t, changingItems, 1) }, func(t *testing.T, w *world) {
		name := w.glob(t, "stick/coldseal/*/to-appliance/*.bundle")[0]
		data := readAll(t, name)
		for at := 0; at < len(data); at += block {
			data[at] ^= 1
		}
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}))
}

// TestChangingMedium has a medium answer differently the second time: what lies on it is another thing from one call on,
// or at every other call. What was read is taken whole or refused, and nothing is taken that is neither.
func TestChangingMedium(t *testing.T) {
	random := dice(t)
	var all, halts atomic.Int64
	bundle, response := "stick/coldseal/*/to-appliance/*.bundle", "stick/coldseal/*/to-agent/desk/0000000004.response"
	for _, c := range []struct {
		name    string
		phase   int
		pattern string
		other   func(t *testing.T) *world
	}{
		{"damaged bundle", 1, bundle, damaged},
		{"another bundle", 1, bundle, forked},
		{"response of another release", 2, response, released},
	} {
		s := journeyStage(c.phase, changingItems)
		other := c.other(t)
		otherBytes := readAll(t, other.glob(t, c.pattern)[0])
		if bytes.Equal(otherBytes, readAll(t, s.world(t).glob(t, c.pattern)[0])) {
			t.Fatalf("%s: it is the same", c.name)
		}
		for _, planned := range s.stickCalls(t) {
			for _, way := range []string{"in place", "by another file", "to and fro"} {
				sampled := 10
				if planned.name == "read" && filepath.Ext(planned.path) == filepath.Ext(c.pattern) {
					sampled = 250 // amid reading the thing itself
				}
				if everything() {
					sampled *= 15
				}
				if random.IntN(1000) >= sampled {
					continue
				}
				t.Run(fmt.Sprintf("%s/%d-%s", c.name, planned.number, way), func(t *testing.T) {
					t.Parallel()
					w := s.world(t).copy(t)
					name := w.glob(t, c.pattern)[0]
					own := readAll(t, name)
					var failed error
					befalls := func(now call) fate {
						switch {
						case now.number == planned.number && way == "by another file":
							failed = errors.Join(os.WriteFile(name+"-new", otherBytes, 0o644), os.Rename(name+"-new", name))
						case now.number == planned.number, now.number > planned.number && way == "to and fro" && now.number%2 == 0:
							failed = errors.Join(failed, os.WriteFile(name, otherBytes, 0o644))
						case now.number > planned.number && way == "to and fro":
							failed = errors.Join(failed, os.WriteFile(name, own, 0o644))
						}
						return fate{}
					}
					tr := &tracer{before: befalls}
					w.run = tr.run
					o := w.try(t, s.line...)
					w.run = nil
					if err := errors.Join(failed, os.WriteFile(name, own, 0o644)); err != nil {
						t.Fatal(err)
					}
					if o.code != 0 && (!strings.Contains(o.words, "error: ") || !strings.Contains(o.words, "hint: ")) {
						t.Errorf("exit %d, and nobody says what to do\n%s%s", o.code, o.out, o.words)
					}
					all.Add(1)
					if o.code != 0 {
						halts.Add(1)
					}
					if c.name == "another bundle" && strings.Contains(w.try(t, s.line...).words, "was used for another bundle") {
						w.become(t, other) // the other bundle was taken, whole
					}
					w.arrive(t, c.phase)
				})
			}
		}
	}
	t.Cleanup(func() { t.Logf("%d times the medium changed: %d commands halted", all.Load(), halts.Load()) })
}

// become has another agent, and what it wrote to the stick, take the place of a world's own.
func (w *world) become(t *testing.T, other *world) {
	t.Helper()
	for _, dir := range []string{"agent", "stick"} {
		if err := os.RemoveAll(w.path(dir)); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(w.path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
		copyTree(t, other.path(dir), w.path(dir))
	}
	w.load = other.load
}
