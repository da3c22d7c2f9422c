package fire

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// history is a command that was run to its end, perhaps killed and given again, with all it did to its disks.
type history struct {
	*journal
	outage  outage
	base    *world // a template: what was there before
	end     *world // what is there now
	from    int    // operations before the command was given the last time
	asked   []question
	weights []int // sums, from the first of these operations on
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
// its transactions takes several; new files in one folder are alike. Who is killed there leaves most that is not durable.
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
		case strings.HasSuffix(what, "-part"):
			what = filepath.Dir(what) + "/*"
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
