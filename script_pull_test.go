package coldseal

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// TestPulled pulls the card that holds the keys of CAs, seal and receiver after each command of a bundle and of an order, with
// the programs as they are shipped. Each time the operator is told so, and nothing comes out but the receipt of what is taken
// away first; with the card back the same command ends it, and an auditor finds each serial that was announced. FIRE_ALL=1
// leaves out nothing of what comes before the first signature, which is the card being read, slot by slot.
func TestPulled(t *testing.T) {
	programs := build(t)
	first := newCards(t)
	b := first.box(t)
	begun := play(t, programs, b, "testdata/begin.txt", "")
	begun = play(t, programs, b, "testdata/device/bundle.txt", begun)

	lanes := []*pulling{}
	for range 5 {
		p := &pulling{cards: newCards(t), programs: programs, begun: begun}
		if err := copyFile(filepath.Join(first.dir, "appliance.card"), filepath.Join(p.cards.dir, "appliance.card")); err != nil {
			t.Fatal(err)
		}
		lanes = append(lanes, p)
	}
	for _, act := range []act{
		{"process --media stick", 10, (*pulling).imported},
		{"console order --request key.order --officer officers/1.key --officer officers/2.key --yes", 24, (*pulling).made},
	} {
		n := lanes[0].whole(t, act)
		var points []int
		for at := 1; at <= n; at++ {
			if os.Getenv("FIRE_ALL") == "1" || at > n-act.last || at%16 == 1 {
				points = append(points, at)
			}
		}
		var group sync.WaitGroup
		for i, p := range lanes {
			group.Go(func() {
				for j := i; j < len(points); j += len(lanes) {
					p.pull(t, act, points[j], n)
				}
			})
		}
		group.Wait()
	}
}

// act is something that the appliance does with its keys.
type act struct {
	line string
	last int // so many commands at its end are not reading
	done func(*pulling, *testing.T) bool
}

// pulling is a copy of a box, with the card that goes with it.
type pulling struct {
	*cards
	programs, begun string
	dir             string
}

// anew has everything as it was before the bundle.
func (p *pulling) anew(t *testing.T) {
	t.Helper()
	p.dir = t.TempDir()
	if err := errors.Join(copyTree(p.begun, p.dir), p.tell("copy", "0", "appliance", "work")); err != nil {
		t.Fatal(err)
	}
}

func (p *pulling) run(t *testing.T, program string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, words bytes.Buffer
	c := exec.Command(filepath.Join(p.programs, program), args...)
	c.Dir, c.Stdout, c.Stderr = p.dir, &out, &words
	err := c.Run()
	if exit, is := errors.AsType[*exec.ExitError](err); is {
		return exit.ExitCode(), out.String(), words.String()
	}
	if err != nil {
		t.Error(err)
	}
	return 0, out.String(), words.String()
}

func (p *pulling) appliance(t *testing.T, words string, more ...string) (code int, stdout, stderr string) {
	t.Helper()
	args := append(strings.Fields(words), "--state", "appliance", "--secret-file", "secret", "--keys", p.locator(), "--pin-file", "pin")
	return p.run(t, "coldseal-appliance", append(args, more...)...)
}

// whole counts the commands of an act during which nothing happens.
func (p *pulling) whole(t *testing.T, act act) int {
	t.Helper()
	p.anew(t)
	code, _, stderr := p.appliance(t, act.line)
	answer, err := p.ask("count", "0")
	if code != 0 || !act.done(p, t) {
		t.Fatalf("%s: exit %d, %s", act.line, code, stderr)
	}
	n, errNumber := strconv.Atoi(answer)
	if err := errors.Join(err, errNumber); err != nil || n < 60 {
		t.Fatalf("%d commands, %v", n, err)
	}
	t.Logf("%s: %d commands", act.line, n)
	return n
}

// pull has the card pulled at one command of an act.
func (p *pulling) pull(t *testing.T, act act, at, n int) {
	p.anew(t)
	bad := func(format string, a ...any) {
		t.Helper()
		t.Errorf("%s, the card pulled at command %d of %d: "+format, append([]any{act.line, at, n}, a...)...)
	}
	before := p.released(t)
	if err := p.tell("pull", "0", strconv.Itoa(at)); err != nil {
		bad("%v", err)
		return
	}
	code, _, stderr := p.appliance(t, act.line)
	gone := strings.Contains(stderr, "the card was pulled\nhint: ") && strings.HasSuffix(stderr, "put the card in again and run the same command again\n")
	never := at <= 3 && strings.Contains(stderr, "no card is in a reader\nhint: put the card in; ") // it had not told its number
	if code != 6 || !gone && !never {
		bad("exit %d, %s", code, stderr)
	}
	released := slices.DeleteFunc(p.released(t), func(file string) bool {
		return slices.Contains(before, file) || filepath.Ext(file) == ".receipt" // of what is taken away first
	})
	if len(released) != 0 {
		bad("it releases %v", released)
	}
	if err := p.tell("insert", "0", "work"); err != nil {
		bad("%v", err)
		return
	}
	if code, _, stderr := p.appliance(t, act.line); code != 0 {
		bad("once more: exit %d, %s", code, stderr)
	}
	if !act.done(p, t) {
		bad("once more: it is not as it should be")
	}
	if code, _, stderr := p.appliance(t, "log export --out log"); code != 0 {
		bad("log export: exit %d, %s", code, stderr)
	}
	digest, err := os.ReadFile(filepath.Join(p.dir, "digest"))
	if err != nil {
		bad("%v", err)
	}
	code, stdout, stderr := p.run(t, "coldseal", "log", "audit", "--json", "--log", "log", "--digest", strings.TrimSpace(string(digest)))
	var audit struct {
		Verified   bool
		Found      int
		Unfinished []any
	}
	if err := json.Unmarshal([]byte(stdout), &audit); code != 0 || err != nil || !audit.Verified || audit.Found != 0 || len(audit.Unfinished) != 0 {
		bad("the auditor: exit %d, %s%s, %v", code, stdout, stderr, err)
	}
}

// imported has the agent look at what came back of the bundle.
func (p *pulling) imported(t *testing.T) bool {
	t.Helper()
	code, stdout, stderr := p.run(t, "coldseal-agent", "import", "--state", "agent", "--media", "stick")
	t.Logf("%s%s", stdout, stderr)
	return code == 0 && strings.Count(stdout, " issued ") == 2 && strings.Count(stdout, " held ") == 1
}

// made looks for the key that was ordered, and for nothing beside it.
func (p *pulling) made(t *testing.T) bool {
	t.Helper()
	code, stdout, stderr := p.appliance(t, "keys")
	t.Logf("%s%s", stdout, stderr)
	return code == 0 && strings.Count(stdout, "\n") == 6 && strings.Count(stdout, "\nsecond ") == 1
}

// released lists what is on the medium from the appliance.
func (p *pulling) released(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(p.dir, "stick/coldseal/*/*/*"))
	if err != nil {
		t.Error(err)
	}
	return files
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o600)
}
