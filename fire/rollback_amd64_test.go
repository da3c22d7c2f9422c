package fire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"coldseal/appliance/store"
)

// snapshot is a state directory as it was at one moment, and where the counter stood then.
type snapshot struct {
	name    string // of folder NAME with the ledger and the responses, and file NAME.counter; empty is what there is now
	step    uint64 // that the ledger names; 0 if its genesis was not finished
	counter uint64
}

// album takes a snapshot before and after each move of law 7: whenever the ledger has become durable (two moments in each
// transaction, for data and for what makes them count), the counter has moved, a response is stored.
type album struct {
	dir  string
	last []snapshot
}

// run runs a command and takes snapshots on its way.
func (a *album) run(cmd *exec.Cmd) (outcome, error) {
	var failed error
	tr := &tracer{}
	tr.after = func(c call) {
		synced := strings.HasSuffix(c.name, "sync") // fsync, fdatasync
		if synced && (c.path == "appliance/ledger.db" || c.path == "appliance/keys/counter" || c.path == "appliance/responses/desk") {
			failed = errors.Join(failed, a.take(cmd.Dir))
		}
	}
	o, err := tr.run(cmd)
	return o, errors.Join(err, failed)
}

func (a *album) take(world string) error {
	s := snapshot{name: filepath.Join(a.dir, fmt.Sprint(len(a.last)))}
	counter, err := os.ReadFile(filepath.Join(world, "appliance/keys/counter"))
	if err != nil {
		return err
	}
	s.counter = max(binary.BigEndian.Uint64(counter), binary.BigEndian.Uint64(counter[len(counter)/2:])) // two slots
	ledger, err := os.ReadFile(filepath.Join(world, "appliance", "ledger.db"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	a.last = append(a.last, s)
	err = os.CopyFS(filepath.Join(s.name, "responses"), os.DirFS(filepath.Join(world, "appliance", "responses")))
	if errors.Is(err, os.ErrNotExist) { // there is none yet
		err = os.Mkdir(s.name, 0o700)
	}
	return errors.Join(err, os.WriteFile(filepath.Join(s.name, "ledger.db"), ledger, 0o600), os.WriteFile(s.name+".counter", counter, 0o600))
}

// read finds out which step each ledger names.
func (a *album) read(t *testing.T) {
	t.Helper()
	for i := range a.last {
		s := &a.last[i]
		ledger, err := store.Open(s.name)
		if errors.Is(err, store.ErrUnfinished) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		err = ledger.View(func(tx *store.Tx) error {
			m, err := tx.Meta()
			s.step = m.Counter
			return err
		})
		if err := errors.Join(err, ledger.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRollback puts back every state directory that there ever was. With the counter as it is now all are refused but those
// of the newest step; with a counter of before, all but those of that step and of the one whose counter had not moved yet.
func TestRollback(t *testing.T) {
	a := &album{dir: t.TempDir()}
	w := begin(t, t.TempDir(), a.run)
	w.lade(t, faultItems)
	for _, line := range journey {
		w.must(t, line...)
	}
	w.run = nil
	w.check(t)
	w.run = a.run
	for _, number := range []string{"0001", "0002", "0003", "0004"} {
		w.must(t, "agent", "request", "revoke", "--serial", w.serial(t, number), "--reason", "superseded")
		w.approve(t, "local.key", "", w.load.open...)
		w.carry(t)
	}
	w.run = nil
	a.read(t)
	last := a.last[len(a.last)-1]
	now := snapshot{counter: last.step}
	random := dice(t)
	var accepted, refused atomic.Int64
	try := func(name string, state snapshot, counter snapshot) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if w.putBack(t, state, counter) {
				accepted.Add(1)
			} else {
				refused.Add(1)
			}
		})
	}
	older := 0
	for i, s := range a.last {
		if s.step < last.step {
			older++
		}
		try(fmt.Sprint("now/", i), s, now)
		try(fmt.Sprint("then/", i), s, s) // power went at that moment
		for _, j := range others(random, i, len(a.last)) {
			try(fmt.Sprint(i, "/", j), s, a.last[j])
		}
	}
	t.Cleanup(func() {
		t.Logf("%d copies, %d of them older: %d times refused, %d times accepted", len(a.last), older, refused.Load(), accepted.Load())
	})
	if older < 100 {
		t.Errorf("%d older copies are fewer than 100", older)
	}
}

// others draws the places of some other snapshots.
func others(random *rand.Rand, own, n int) (places []int) {
	some := 1
	if everything() {
		some = 10
	}
	for i := range n {
		if i != own && random.IntN(n) < some {
			places = append(places, i)
		}
	}
	return places
}

// putBack starts an appliance on an older state beside a counter, and asks whether that was right. It tells whether the
// appliance started.
func (w *world) putBack(t *testing.T, state, counter snapshot) bool {
	t.Helper()
	again := *w
	again.dir = t.TempDir()
	for _, dir := range []string{"appliance", "stick"} {
		if err := os.Mkdir(again.path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
		copyTree(t, w.path(dir), again.path(dir))
	}
	if err := os.WriteFile(again.path("secret"), readAll(t, w.path("secret")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(again.path("appliance", "responses")); err != nil {
		t.Fatal(err)
	}
	copyTree(t, state.name, again.path("appliance"))
	if counter.name != "" {
		if err := os.WriteFile(again.path("appliance", "keys", "counter"), readAll(t, counter.name+".counter"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := again.try(t, journey[1]...)
	right := state.step != 0 && (state.step == counter.counter || state.step == counter.counter+1)
	where := fmt.Sprintf("ledger of step %d, counter at %d: exit %d\n%s%s", state.step, counter.counter, o.code, o.out, o.words)
	if right {
		if o.code != 0 && o.code != 4 || strings.Contains(o.words, "fault") {
			t.Errorf("%s: it should start", where)
		}
		again.must(t, "appliance", "log", "verify")
		return true
	}
	if o.code != 7 || !strings.Contains(o.words, "hint: ") {
		t.Errorf("%s: it should be refused", where)
	}
	if asked := again.asked(t); len(asked) != 0 {
		t.Errorf("%s: %d signatures were asked for", where, len(asked))
	}
	return false
}
