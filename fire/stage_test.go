package fire

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// stage is a command that meets its fate: in which world, and what has to hold when it has been given again.
type stage struct {
	line   []string
	world  func(t *testing.T) *world // a template
	done   func(t *testing.T, w *world, where string)
	finish func(t *testing.T, w *world)
}

func stages() (all []stage) {
	for phase := range journey {
		all = append(all, journeyStage(phase, faultItems))
	}
	return append(all, stage{genesis, beforeGenesis, begunIndeed, afterGenesis}, stage{console, beforeKey, keyMade, afterKey}, stage{console, beforeCA, caMade, afterCA},
		stage{batch, beforeBatch, allRequested, afterBatch}, stage{attach, beforeAttach, attached, afterAttach})
}

// journeyStage is one of the commands by which a bundle of so many workstations comes and goes.
func journeyStage(phase, items int) stage {
	return stage{journey[phase], func(t *testing.T) *world { return travelled(t, items, phase) },
		func(t *testing.T, w *world, where string) { w.done(t, phase, where) },
		func(t *testing.T, w *world) { w.arrive(t, phase) }}
}

// arrive takes a bundle on from a phase of its journey, and asks what was lost.
func (w *world) arrive(t *testing.T, phase int) {
	t.Helper()
	s := w.witness()
	s.look(t)
	for _, line := range journey[phase:] {
		for range 2 {
			w.finish(t, line)
			s.look(t)
		}
	}
	w.check(t)
}

func beforeGenesis(t *testing.T) *world {
	return template(t, "people", func(t *testing.T, dir string) *world { return people(t, dir, nil) })
}

// afterGenesis holds genesis again; where it was finished that says so, with the digest.
func afterGenesis(t *testing.T, w *world) {
	t.Helper()
	o := w.try(t, genesis...)
	if o.code != 0 {
		_, digest, begun := strings.Cut(o.words, "the appliance has begun already, with digest ")
		if !begun {
			t.Fatalf("genesis again: exit %d\n%s", o.code, o.words)
		}
		o.out = digest[:64]
	}
	w.digest = strings.TrimSpace(o.out)
	w.order(t, "create-key", "--label", "root", "--algorithm", "P-256")
	w.audit(t)
}

// holds asks whether a command tells what another one said it did.
func (w *world) holds(t *testing.T, where, what string, line ...string) {
	t.Helper()
	if o := w.try(t, line...); o.code != 0 || !strings.Contains(o.out, what) {
		t.Errorf("%s: it was not done: %s: exit %d\n%s%s", where, strings.Join(line, " "), o.code, o.out, o.words)
	}
}

func begunIndeed(t *testing.T, w *world, where string) {
	t.Helper()
	w.holds(t, where, `"digest":"`, "appliance", "status", "--json")
}

func keyMade(t *testing.T, w *world, where string) {
	t.Helper()
	w.holds(t, where, `"label":"other"`, "appliance", "keys", "--json")
}

func caMade(t *testing.T, w *world, where string) {
	t.Helper()
	w.holds(t, where, `"label":"other","state":"issuing"`, "appliance", "status", "--json")
}

func allRequested(t *testing.T, w *world, where string) {
	t.Helper()
	for i := range faultItems {
		w.holds(t, where, fmt.Sprintf("058091-PC-%04d", i+1), "agent", "list", "--json")
	}
}

func attached(t *testing.T, w *world, where string) {
	t.Helper()
	w.holds(t, where, `"approvals":[`, "agent", "show", w.load.done[0], "--json")
}

func beforeKey(t *testing.T) *world {
	return template(t, "before-key", from(begun, func(t *testing.T, w *world) { w.write(t, "create-key", "--label", "other", "--algorithm", "P-256") }))
}

// afterKey gives the order again, and asks whether there is one key, which the log knows.
func afterKey(t *testing.T, w *world) {
	t.Helper()
	id := w.must(t, console...)
	if again := w.must(t, console...); again != id {
		t.Errorf("the order made key %s, given again %s", id, again)
	}
	known := `"label":"other","purpose":"ca","algorithm":"P-256","id":"` + id + `","known":true`
	if keys := w.must(t, "appliance", "keys", "--json"); strings.Count(keys, `"known":true`) != 6 || strings.Contains(keys, `"known":false`) || !strings.Contains(keys, known) {
		t.Errorf("the keys are not those that were ordered, and %s:\n%s", known, keys)
	}
	w.audit(t)
}

func beforeCA(t *testing.T) *world {
	return template(t, "before-ca", from(begun, func(t *testing.T, w *world) {
		w.write(t, w.certify(w.order(t, "create-key", "--label", "other", "--algorithm", "P-256"), "Other")...)
	}))
}

func afterCA(t *testing.T, w *world) {
	t.Helper()
	serial := w.must(t, console...)
	if again := w.must(t, console...); again != serial {
		t.Errorf("the order made certificate %s, given again %s", serial, again)
	}
	log := w.audit(t)
	if len(log.issued) != 9 {
		t.Errorf("there are %d certificates, want 9", len(log.issued))
	}
}

func beforeBatch(t *testing.T) *world {
	return template(t, "before-batch", from(begun, func(t *testing.T, w *world) { w.tabulate(t, 1, faultItems) }))
}

// afterBatch gives the table again, and asks whether each workstation gets one certificate.
func afterBatch(t *testing.T, w *world) {
	t.Helper()
	w.must(t, batch...)
	w.approve(t, "local.key", "fingerprint")
	w.carry(t)
	issued := map[string]int{}
	for _, r := range w.rows(t) {
		if r.Kind == "issue" && r.Outcome == "issued" {
			issued[r.Subject]++
		}
	}
	for i := range faultItems {
		if name := fmt.Sprintf("058091-PC-%04d", i+1); issued[name] != 1 {
			t.Errorf("%s has %d certificates", name, issued[name])
		}
	}
	w.audit(t)
}

var attach = []string{"agent", "attach", "approval"}

func beforeAttach(t *testing.T) *world {
	return template(t, "before-attach", from(begun, func(t *testing.T, w *world) {
		serial := w.serial(t, "9001")
		id := w.must(t, "agent", "request", "revoke", "--serial", serial, "--reason", "keyCompromise")
		if err := os.WriteFile(w.path("approval"), w.approval(t, id), 0o644); err != nil {
			t.Fatal(err)
		}
		w.load.done, w.load.listed = []string{id}, []string{serial, w.serial(t, "9004")}
	}))
}

// afterAttach attaches the approval again, and has what was approved done.
func afterAttach(t *testing.T, w *world) {
	t.Helper()
	w.must(t, attach...)
	w.carry(t)
	w.check(t)
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
