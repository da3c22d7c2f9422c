package fire

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// victim is somebody who is killed while a command runs.
type victim struct {
	name  string
	phase int    // of the journey
	child string // a worker of the program that runs; empty is the program itself
}

var victims = []victim{
	{"agent at export", 0, ""},
	{"appliance", 1, ""},
	{"signer", 1, "coldseal-signer"},
	{"lint worker", 1, "coldseal-lint"},
	{"agent at import", 2, ""},
}

// kills counts what happened in all worlds.
type kills struct {
	hit    [5]atomic.Int64 // by victim
	all    atomic.Int64
	missed atomic.Int64
	burned atomic.Int64
	amid   atomic.Int64 // of the kills: came between intent and record
	worlds atomic.Int64
	took   map[int][3]time.Duration // commands that nobody disturbs, by items of the bundle
}

// TestKills kills the programs again and again on the way of a bundle of 500 requests, and asks each time what was lost.
func TestKills(t *testing.T) {
	wanted := int64(number(t, "FIRE_KILLS", 100))
	k := &kills{took: map[int][3]time.Duration{}}
	sizes := []int{500}
	if everything() {
		sizes = append(sizes, 2600) // three batches, of which one is prepared while another is signed
	}
	for _, items := range sizes {
		clean := laden(t, items).copy(t)
		var took [3]time.Duration
		for phase, line := range journey {
			start := time.Now()
			clean.must(t, line...)
			took[phase] = time.Since(start)
		}
		k.took[items] = took
		clean.check(t)
	}
	random := dice(t)
	t.Run("worlds", func(t *testing.T) {
		for lane := range 2 {
			own := rand.New(rand.NewPCG(random.Uint64(), uint64(lane)))
			t.Run(fmt.Sprint(lane), func(t *testing.T) {
				t.Parallel()
				for k.all.Load() < wanted && !t.Failed() {
					n := k.worlds.Add(1)
					items := sizes[0]
					if n%25 == 0 {
						items = sizes[len(sizes)-1]
					}
					t.Run(fmt.Sprint(n), func(t *testing.T) { k.play(t, laden(t, items).copy(t), own) })
				}
			})
		}
	})
	for i, v := range victims {
		t.Logf("%4d kills of the %s", k.hit[i].Load(), v.name)
	}
	t.Logf("%d kills in %d worlds (%d missed), %d of them between intent and record: %d serials burned", k.all.Load(), k.worlds.Load(), k.missed.Load(), k.amid.Load(), k.burned.Load())
	if k.amid.Load() < wanted/25 {
		t.Errorf("%d of %d kills came between intent and record: the harness hardly reaches what it is for", k.amid.Load(), k.all.Load())
	}
}

// play takes one bundle through its life with some kills on the way.
func (k *kills) play(t *testing.T, w *world, random *rand.Rand) {
	s := w.witness()
	for phase, line := range journey {
		// Most happens at the appliance.
		for range random.IntN([]int{3, 8, 3}[phase]) {
			v := phase
			switch phase {
			case 1:
				v = 1 + random.IntN(3)
			case 2:
				v = 4
			}
			k.strike(t, w, random, v)
			s.look(t)
		}
		w.finish(t, line)
		s.look(t)
		// Whoever asks again gets the same.
		w.finish(t, line)
		s.look(t)
	}
	if want := []string{"0000000003.response", "0000000004.bundle", "0000000004.response"}; !slices.Equal(sorted(s.seen), want) {
		t.Errorf("seen were %v, want %v", sorted(s.seen), want) // the response to the bundle before was waiting for its receipt
	}
	log := w.check(t)
	k.burned.Add(int64(len(log.burned)))
	k.amid.Add(int64(log.burnings))
}

// strike runs a command and kills somebody at a random moment of it, or at one soon after signatures were asked for.
func (k *kills) strike(t *testing.T, w *world, random *rand.Rand, n int) {
	t.Helper()
	v := victims[n]
	span := int64(k.took[len(w.load.issue)][v.phase])
	delay, aimed, asked := time.Duration(random.Int64N(span*5/4)), false, int64(0)
	if v.phase == 1 && random.IntN(2) == 0 && len(w.glob(t, "appliance/responses/desk/0000000004.response")) == 0 {
		delay, aimed, asked = time.Duration(random.Int64N(span/8)), true, w.askedBytes()
	}
	hit := false
	o, err := watched(w.command(journey[v.phase]...), func(pid int, ended <-chan struct{}) {
		for aimed && w.askedBytes() < asked+manySignatures {
			select {
			case <-time.After(time.Millisecond / 2):
			case <-ended:
				return
			}
		}
		select {
		case <-time.After(delay):
			if v.child != "" {
				pid = descendant(pid, v.child)
			}
			hit = pid != 0 && syscall.Kill(pid, syscall.SIGKILL) == nil
		case <-ended:
		}
	})
	if err != nil {
		t.Fatalf("%s: %v", v.name, err)
	}
	if !hit {
		k.missed.Add(1)
	} else {
		k.hit[n].Add(1)
		k.all.Add(1)
	}
	switch {
	case o.signal == syscall.SIGKILL && v.child == "" && hit:
	case o.code == 0:
	case o.code == 3 && v.phase == 0: // an earlier one had finished
	case v.child != "" && hit && (o.code == 1 || o.code == 6):
		if !strings.Contains(o.words, "error: ") || !strings.Contains(o.words, "hint: ") {
			t.Errorf("after the %s was killed nobody said what to do: %s", v.name, o.words)
		}
	default:
		t.Fatalf("%s killed after %v (hit: %v): exit %d %v\n%s%s", v.name, delay, hit, o.code, o.signal, o.out, o.words)
	}
	if o.code == 0 && v.phase == 1 && len(w.glob(t, "stick/coldseal/*/to-agent/desk/0000000004.response")) != 1 {
		t.Errorf("%s killed after %v: exit 0 without a response: %s%s", v.name, delay, o.out, o.words)
	}
}

// manySignatures is fewer bytes than a request for a batch of signatures has, and more than all before it.
const manySignatures = 8 << 10

// askedBytes is how much the signers of a world were asked, in bytes.
func (w *world) askedBytes() (size int64) {
	entries, err := os.ReadDir(w.path(askedDir))
	if err != nil {
		return 0 // nobody was asked yet
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			size += info.Size()
		}
	}
	return size
}

// descendant finds the last of the processes below one that runs a program: the signer is below the tap of its name.
func descendant(pid int, program string) (found int) {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return 0
	}
	for _, list := range lists {
		children, err := os.ReadFile(list)
		if err != nil {
			continue // that thread has ended
		}
		for _, field := range strings.Fields(string(children)) {
			var child int
			if _, err := fmt.Sscan(field, &child); err != nil {
				continue
			}
			name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", child))
			if err == nil && strings.TrimSpace(string(name)) == program {
				found = child
			}
			if below := descendant(child, program); below != 0 {
				found = below
			}
		}
	}
	return found
}
