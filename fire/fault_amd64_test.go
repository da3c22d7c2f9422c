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
}

// faultItems is how many workstations are in the bundle.
const faultItems = 20

// TestFaults makes each call that changes a file, or sends something to a worker, fail once in each way, in all
// programs that a bundle meets. The command has to say so, or to have done all the same what it says; given again it
// finishes.
func TestFaults(t *testing.T) {
	random := dice(t)
	var faults, halts, survived atomic.Int64
	for phase, line := range journey {
		w := travelled(t, faultItems, phase)
		clean := &tracer{}
		again := w.copy(t)
		again.run = clean.run
		again.must(t, line...)
		t.Logf("%s makes %d calls", strings.Join(line[:2], " "), len(clean.calls))
		for _, c := range clean.calls {
			for _, k := range kinds {
				if k.at.short && !strings.Contains(c.name, "write") {
					continue
				}
				if !everything() && random.IntN(1000) >= 80 {
					continue
				}
				t.Run(fmt.Sprintf("%s/%d-%s", line[1], c.number, k.name), func(t *testing.T) {
					t.Parallel()
					faults.Add(1)
					if suffer(t, w.copy(t), phase, c, k) {
						halts.Add(1)
					} else {
						survived.Add(1)
					}
				})
			}
		}
	}
	t.Cleanup(func() {
		t.Logf("%d faults: %d commands halted, %d went on", faults.Load(), halts.Load(), survived.Load())
	})
}

// suffer has one call of a command fail. It tells whether the command halted.
func suffer(t *testing.T, w *world, phase int, planned call, k kind) bool {
	t.Helper()
	var happened []call
	next := ""
	tr := &tracer{before: func(c call) fate {
		switch {
		case c.number == planned.number:
			next = c.path
			happened = append(happened, c)
			return k.at
		case k.then != fate{} && next != "" && c.path == next && next != "socket":
			next = ""
			happened = append(happened, c)
			return k.then
		}
		return fate{}
	}}
	w.run = tr.run
	o := w.try(t, journey[phase]...)
	w.run = nil
	where := fmt.Sprintf("%s of %v: exit %d\n%s%s", k.name, happened, o.code, o.out, o.words)
	switch {
	case o.signal != 0:
		t.Errorf("%s ended by %v", where, o.signal)
	case o.code == 0:
		w.done(t, phase, where)
	case !strings.Contains(o.words, "error: "):
		t.Errorf("%s: nothing is said", where)
	}
	s := w.witness()
	s.look(t)
	for _, line := range journey[phase:] {
		w.finish(t, line)
		s.look(t)
		w.finish(t, line)
		s.look(t)
	}
	w.check(t)
	t.Log(where)
	return o.code != 0
}

// done asks whether what a command said it did was done.
func (w *world) done(t *testing.T, phase int, where string) {
	t.Helper()
	switch phase {
	case 0:
		if len(w.glob(t, "stick/coldseal/*/to-appliance/desk-0000000004.bundle")) != 1 {
			t.Errorf("%s: no bundle is on the stick", where)
		}
	case 1:
		if len(w.glob(t, "stick/coldseal/*/to-agent/desk/0000000004.response")) != 1 || len(w.glob(t, "appliance/responses/desk/0000000004.response")) != 1 {
			t.Errorf("%s: no response is on the stick, or kept", where)
		}
	case 2:
		if !strings.Contains(w.must(t, "agent", "import", "--media", "stick", "--json"), `"bundle":4,"already":true`) {
			t.Errorf("%s: the response was not imported", where)
		}
	}
}
