package fire

import (
	"crypto/sha256"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// block is what a stick writes in one piece.
const block = 512

// TestTornResponse cuts a response at every block and at random bytes. The agent refuses it, says what to do and is what
// it was; what it said to do brings the same response again.
func TestTornResponse(t *testing.T) {
	tear(t, travelled(t, faultItems, 2), "stick/coldseal/*/to-agent/desk/0000000004.response", tornResponse)
}

func tornResponse(t *testing.T, w *world, name string, whole []byte, cuts []int) {
	s := w.witness()
	s.look(t)
	before := w.state(t, "agent")
	for _, size := range cuts {
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
	tear(t, travelled(t, faultItems, 1), "stick/coldseal/*/to-appliance/desk-0000000004.bundle", tornBundle)
}

func tornBundle(t *testing.T, w *world, name string, whole []byte, cuts []int) {
	s := w.witness()
	s.look(t)
	before, asked := w.state(t, "appliance"), len(w.asked(t))
	for _, size := range cuts {
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
	if o := w.try(t, again...); o.code != 1 || !strings.Contains(o.words, "hint: look at the file that is there; move it away, or give --replace if the command has it") {
		t.Errorf("a different file was replaced unasked: exit %d\n%s", o.code, o.words)
	}
	for _, line := range [][]string{append(again, "--replace"), journey[1], journey[2]} {
		w.must(t, line...)
		s.look(t)
	}
	w.check(t)
}

// tear copies a world and has a file on its stick cut, in several copies beside each other: at every block, and at random
// bytes.
func tear(t *testing.T, w *world, pattern string, f func(t *testing.T, w *world, name string, whole []byte, cuts []int)) {
	t.Helper()
	whole := readAll(t, w.glob(t, pattern)[0])
	all := []int{len(whole) - 1}
	for at := 0; at < len(whole); at += block {
		all = append(all, at)
	}
	random, more := dice(t), 40
	if everything() {
		more = 1000
	}
	for range more {
		all = append(all, random.IntN(len(whole)))
	}
	t.Logf("%d bytes, cut in %d places", len(whole), len(all))
	lane := 0
	for cuts := range slices.Chunk(all, 70) {
		lane++
		t.Run(fmt.Sprint(lane), func(t *testing.T) {
			t.Parallel()
			w := w.copy(t)
			f(t, w, w.glob(t, pattern)[0], whole, cuts)
		})
	}
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
