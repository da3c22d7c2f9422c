package fire

import (
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"testing"
)

// block is what a stick writes in one piece.
const block = 512

// TestTornResponse cuts a response at every block and at random bytes. The agent refuses it, says what to do and is what
// it was; what it said to do brings the same response again.
func TestTornResponse(t *testing.T) {
	w := travelled(t, faultItems, 2).copy(t)
	name := w.glob(t, "stick/coldseal/*/to-agent/desk/0000000004.response")[0]
	s := w.witness()
	s.look(t)
	whole := readAll(t, name)
	before := w.state(t, "agent")
	for _, size := range cuts(t, len(whole)) {
		if err := os.WriteFile(name, whole[:size], 0o644); err != nil {
			t.Fatal(err)
		}
		o := w.try(t, journey[2]...)
		if o.code != 7 || !strings.Contains(o.words, "hint: have the appliance write it again: export --again and process once more") {
			t.Fatalf("cut after %d of %d bytes: exit %d\n%s%s", size, len(whole), o.code, o.out, o.words)
		}
		if w.state(t, "agent") != before {
			t.Fatalf("cut after %d of %d bytes: the agent is not what it was", size, len(whole))
		}
	}
	w.must(t, "agent", "export", "--media", "stick", "--again", "4")
	for _, line := range journey[1:] {
		w.must(t, line...)
		s.look(t)
	}
	w.check(t)
}

// TestTornBundle cuts a bundle in the same way. The appliance refuses it, says what to do, signs nothing and is what it
// was; exported again, the bundle is the same bytes.
func TestTornBundle(t *testing.T) {
	w := travelled(t, faultItems, 1).copy(t)
	name := w.glob(t, "stick/coldseal/*/to-appliance/desk-0000000004.bundle")[0]
	s := w.witness()
	s.look(t)
	whole := readAll(t, name)
	before, asked := w.state(t, "appliance"), len(w.asked(t))
	for _, size := range cuts(t, len(whole)) {
		if err := os.WriteFile(name, whole[:size], 0o644); err != nil {
			t.Fatal(err)
		}
		o := w.try(t, journey[1]...)
		if o.code != 7 || !strings.Contains(o.words, "hint: ") {
			t.Fatalf("cut after %d of %d bytes: exit %d\n%s%s", size, len(whole), o.code, o.out, o.words)
		}
		if w.state(t, "appliance") != before || len(w.asked(t)) != asked || len(w.glob(t, "stick/coldseal/*/to-agent/desk/*")) != 0 {
			t.Fatalf("cut after %d of %d bytes: the appliance did something", size, len(whole))
		}
	}
	again := []string{"agent", "export", "--media", "stick", "--again", "4"}
	if o := w.try(t, again...); o.code != 1 || !strings.Contains(o.words, "hint: look at the file that is there; move it away, or ask for it to be replaced") {
		t.Errorf("a different file was replaced unasked: exit %d\n%s", o.code, o.words)
	}
	for _, line := range [][]string{append(again, "--replace"), journey[1], journey[2]} {
		w.must(t, line...)
		s.look(t)
	}
	w.check(t)
}

// cuts are where a file of a size is cut.
func cuts(t *testing.T, size int) []int {
	var all []int
	random, limit := dice(t), 40
	for at := 0; at < size; at += block {
		if everything() || at < 2*block || random.IntN(size/block) < limit {
			all = append(all, at)
		}
	}
	if everything() {
		limit = 1000
	}
	for range limit {
		all = append(all, random.IntN(size))
	}
	return append(all, size-1)
}

func readAll(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// state is a digest over the files of a state directory, as they are called and what they hold.
func (w *world) state(t *testing.T, dir string) string {
	t.Helper()
	sum := sha256.New()
	for _, pattern := range []string{"/*", "/*/*", "/*/*/*"} {
		for _, name := range w.glob(t, dir+pattern) {
			info, err := os.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().IsRegular() && info.Name() != "reserve" { // which is large and holds nothing
				fmt.Fprintf(sum, "%s %x\n", name, sha256.Sum256(readAll(t, name)))
			}
		}
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}
