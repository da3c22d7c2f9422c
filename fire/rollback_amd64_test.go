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

// snapshot is a ledger as it was at one moment, and where the counter stood then.
type snapshot struct {
	name    string // of files NAME.ledger and NAME.counter
	step    uint64 // that the ledger names; 0 if its genesis was not finished
	counter uint64
}

// album takes a snapshot at every moment in which the ledger has become durable: two in each transaction, for data and
// for what makes them count. So there is one before and one after each move of law 7.
type album struct {
	dir  string
	last []snapshot
}

// run runs a command and takes snapshots on its way.
func (a *album) run(cmd *exec.Cmd) (outcome, error) {
	var failed error
	tr := &tracer{}
	tr.after = func(c call) {
		if c.name == "fdatasync" && c.path == "appliance/ledger.db" {
			failed = errors.Join(failed, a.take(cmd.Dir))
		}
	}
	o, err := tr.run(cmd)
	return o, errors.Join(err, failed)
}

func (a *album) take(world string) error {
	s := snapshot{name: filepath.Join(a.dir, fmt.Sprint(len(a.last)))}
	ledger, err := os.ReadFile(filepath.Join(world, "appliance/ledger.db"))
	if err != nil {
		return err
	}
	counter, err := os.ReadFile(filepath.Join(world, "appliance/keys/counter"))
	if err != nil {
		return err
	}
	s.counter = max(binary.BigEndian.Uint64(counter), binary.BigEndian.Uint64(counter[len(counter)/2:])) // two slots
	a.last = append(a.last, s)
	return errors.Join(os.WriteFile(s.name+".ledger", ledger, 0o600), os.WriteFile(s.name+".counter", counter, 0o600))
}

// read finds out which step each ledger names.
func (a *album) read(t *testing.T) {
	t.Helper()
	for i := range a.last {
		s := &a.last[i]
		dir := t.TempDir()
		if err := os.Link(s.name+".ledger", filepath.Join(dir, "ledger.db")); err != nil {
			t.Fatal(err)
		}
		ledger, err := store.Open(dir)
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

// TestRollback puts back every ledger that there ever was. With the counter as it is now all are refused but the
// newest; with a counter of before, all but those of that step and of the one whose counter had not moved yet.
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
	now := snapshot{counter: last.step} // without a name: the counter as it is
	random := dice(t)
	var accepted, refused atomic.Int64
	try := func(name string, ledger snapshot, counter snapshot) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if w.putBack(t, ledger, counter) {
				accepted.Add(1)
			} else {
				refused.Add(1)
			}
		})
	}
	for i, s := range a.last {
		try(fmt.Sprint("now/", i), s, now)
		try(fmt.Sprint("then/", i), s, s) // power went at that moment
		for _, j := range others(random, i, len(a.last)) {
			try(fmt.Sprint(i, "/", j), s, a.last[j])
		}
	}
	t.Cleanup(func() {
		t.Logf("%d ledgers: %d times refused, %d times accepted", len(a.last), refused.Load(), accepted.Load())
	})
	if len(a.last) < 100 {
		t.Errorf("%d ledgers are fewer than 100", len(a.last))
	}
}

// others draws the places of some other snapshots.
func others(random *rand.Rand, own, n int) (places []int) {
	some := 1
	if everything() {
		some = 20
	}
	for i := range n {
		if i != own && random.IntN(n) < some {
			places = append(places, i)
		}
	}
	return places
}

// putBack starts an appliance on a ledger beside a counter, and asks whether that was right. It tells whether the
// appliance started.
func (w *world) putBack(t *testing.T, ledger, counter snapshot) bool {
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
	put := func(from, to string) {
		if err := os.WriteFile(again.path("appliance", to), readAll(t, from), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(ledger.name+".ledger", "ledger.db")
	if counter.name != "" {
		put(counter.name+".counter", "keys/counter")
	}
	o := again.try(t, journey[1]...)
	right := ledger.step != 0 && (ledger.step == counter.counter || ledger.step == counter.counter+1)
	where := fmt.Sprintf("ledger of step %d, counter at %d: exit %d\n%s%s", ledger.step, counter.counter, o.code, o.out, o.words)
	if right {
		if o.code != 0 && o.code != 4 || strings.Contains(o.words, "fault") {
			t.Errorf("%s: it should start", where)
		}
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
