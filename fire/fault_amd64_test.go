package fire

import (
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// kind is a way in which calls fail.
type kind struct {
	name string
	at   fate
	then fate // of the next call to the same file
}

var kinds = []kind{
	{"EIO", fate{errno: syscall.EIO}, fate{}},
	{"ENOSPC", fate{errno: syscall.ENOSPC}, fate{}},
	{"short", fate{short: true}, fate{errno: syscall.ENOSPC}},
	{"kill", fate{kill: true}, fate{}}, // nothing else differs between two calls: these are all deaths there are
}

// faultItems is how many workstations are in the bundle.
const faultItems = 20

// TestFaults makes each call that changes a file, or sends something to a worker, fail once in each way, and kills whoever
// makes it: in all programs that a bundle meets, at genesis and at the console. The command has to say so and what to do,
// or to have done all the same what it says; given again it finishes.
func TestFaults(t *testing.T) {
	random := dice(t)
	var faults, halts atomic.Int64
	for n, s := range stages() {
		w := s.world(t)
		clean := &tracer{}
		again := w.copy(t)
		again.run = clean.run
		again.must(t, s.line...)
		again.run = nil
		s.done(t, again, "undisturbed")
		t.Logf("%s makes %d calls", strings.Join(s.line[:2], " "), len(clean.calls))
		for _, c := range clean.calls {
			for _, k := range kinds {
				if k.at.short && !c.writes() || c.reads && k.name != "EIO" {
					continue
				}
				if !everything() && random.IntN(1000) >= 50 {
					continue
				}
				t.Run(fmt.Sprintf("%d-%s/%d-%s", n, s.line[1], c.number, k.name), func(t *testing.T) {
					t.Parallel()
					faults.Add(1)
					if s.suffer(t, w.copy(t), misfortune{name: k.name, kills: k.at.kill, befalls: k.befalls(c)}) {
						halts.Add(1)
					}
				})
			}
		}
	}
	t.Cleanup(func() { t.Logf("%d faults: %d commands halted, the others went on", faults.Load(), halts.Load()) })
}

// befalls has one call fail, and the next to the same file if that is the way.
func (k kind) befalls(planned call) func(c call) fate {
	next := ""
	return func(c call) fate {
		switch {
		case c.number == planned.number:
			next = c.path
			return k.at
		case k.then != fate{} && next != "" && c.path == next && next != "socket":
			next = ""
			return k.then
		}
		return fate{}
	}
}

// misfortune is what befalls a command.
type misfortune struct {
	name    string
	kills   bool
	befalls func(c call) fate
	hint    string // with what the hint has to begin
	mend    func() // afterwards; may be nil
}

// suffer has a command meet a misfortune. It must have done what it says, or say what to do, or have been killed by it.
// Then it is given again. suffer tells whether the command halted.
func (s stage) suffer(t *testing.T, w *world, m misfortune) bool {
	t.Helper()
	var happened []call
	tr := &tracer{before: func(c call) fate {
		f := m.befalls(c)
		if f != (fate{}) && len(happened) < 3 {
			happened = append(happened, c)
		}
		return f
	}}
	w.run = tr.run
	o := w.try(t, s.line...)
	w.run = nil
	if m.mend != nil {
		m.mend()
	}
	where := fmt.Sprintf("%s of %v: exit %d\n%s%s", m.name, happened, o.code, o.out, o.words)
	switch {
	case o.signal != 0:
		if o.signal != syscall.SIGKILL || !m.kills {
			t.Errorf("%s ended by %v", where, o.signal)
		}
	case o.code == 0:
		s.done(t, w, where)
	case !strings.Contains(o.words, "error: ") || !strings.Contains(o.words, "hint: "+m.hint):
		t.Errorf("%s: nobody says what to do", where)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(where)
		}
	})
	s.finish(t, w)
	return o.code != 0
}
