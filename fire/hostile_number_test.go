package fire

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/media"
)

// approved makes requests for workstations, approved together.
func (h *hostile) approved(numbers ...string) (g protocol.Group, raws [][]byte) {
	h.t.Helper()
	for _, number := range numbers {
		csr, _ := newCSR(h.t)
		raws = append(raws, h.pc(number, csr))
	}
	message, _ := h.approval("local.key", "fingerprint", raws...)
	return group([][]byte{message}, raws...), raws
}

// numbered makes a bundle with a number of its own choice.
func (h *hostile) numbered(n uint64, groups ...protocol.Group) []byte {
	h.t.Helper()
	return h.bundle(func(b *protocol.BundleHeader) { b.Sequence = n }, groups...)
}

// Numbers out of order and with gaps are processed, and what is missing is told to the operator and in the response. The
// same bytes again give the same bytes; other bytes under a used number bring about nothing, but for taking away.
func TestHostileNumbers(t *testing.T) {
	h := takeOver(t)
	var groups []protocol.Group
	var raws [][]byte
	for _, number := range []string{"0004", "0005", "0006", "0007", "0008"} {
		g, made := h.approved(number)
		groups, raws = append(groups, g), append(raws, made...)
	}
	seven := h.numbered(7, groups[3])
	a := h.bring(7, seven)
	a.done(raws[3], protocol.OutcomeIssued)
	if want := []uint64{4, 5, 6}; !slices.Equal(a.Missing, want) || !slices.Equal(a.header.Missing, want) || a.header.Last != 7 {
		t.Errorf("missing %v and %v, want %v; last %d", a.Missing, a.header.Missing, want, a.header.Last)
	}
	late := h.bring(5, h.numbered(5, groups[1]))
	late.done(raws[1], protocol.OutcomeIssued)
	if want := []uint64{4, 6}; !slices.Equal(late.Missing, want) || !slices.Equal(late.header.Missing, want) || late.header.Last != 7 {
		t.Errorf("missing %v and %v, want %v; last %d", late.Missing, late.header.Missing, want, late.header.Last)
	}
	h.audited(begunWith + 2)

	// Twice, with the same bytes: under its own name, and under another.
	again := h.bring(7, seven)
	if !again.Again || !bytes.Equal(again.plain, a.plain) {
		t.Error("the same bundle does not get the same response")
	}
	h.empty(t)
	h.lay("stick", 999, bytes.NewReader(seven))
	if all := h.process("stick"); len(all) != 1 || !all[0].Again || all[0].Sequence != 7 {
		t.Errorf("under another name: %+v", all)
	}
	if !bytes.Equal(h.answer(7, visit{}).plain, a.plain) {
		t.Error("under another name it gets another response")
	}

	// Twice, with other bytes: the number is used, whatever the other was.
	serial := h.serialOf("9000")
	revoke := h.about(protocol.KindRevoke, "9000", protocol.Revocation{Serial: serial})
	message, _ := h.approval("local.key", "", revoke)
	other := h.bring(7, h.numbered(7, group([][]byte{message}, revoke), groups[4]))
	if other.Code != protocol.CodeSequenceReused || other.header.Refusal == nil || other.header.Last != 7 || len(other.results) != 1 {
		t.Errorf("%s, %d answers, last %d", other.Code, len(other.results), other.header.Last)
	}
	other.done(revoke, protocol.OutcomeRevoked)
	if again = h.bring(7, seven); !again.Again || !bytes.Equal(again.plain, a.plain) {
		t.Error("a bundle of the same number changed the response to the first")
	}
	// Under a number of its own it is done.
	h.bring(8, h.numbered(8, groups[4])).done(raws[4], protocol.OutcomeIssued)
	h.audited(begunWith + 3)

	// The highest number there is costs the agent all below it that it does not use, and nobody else anything.
	last := h.bring(media.MaxSequence, h.numbered(media.MaxSequence, groups[0]))
	last.done(raws[0], protocol.OutcomeIssued)
	if len(last.header.Missing) != protocol.MaxMissing || last.header.Last != media.MaxSequence {
		t.Errorf("%d are missing, last %d", len(last.header.Missing), last.header.Last)
	}
	above := h.bring(1, h.numbered(media.MaxSequence+1, groups[2]))
	if above.Code != protocol.CodeTooLarge || len(above.results) != 0 {
		t.Errorf("%s, %d answers", above.Code, len(above.results))
	}
	h.bring(6, h.numbered(6, groups[2])).done(raws[2], protocol.OutcomeIssued)
	h.audited(begunWith + 5)
}

// Two agents are restored from one backup, and both go on. A number belongs to the one that comes first; the other is told,
// and takes a higher one. No request is done twice, and what both bring has one answer.
func TestHostileForksItsHistory(t *testing.T) {
	w := begun(t).copy(t)
	w.introduce(t)
	// What both know of: requests that were approved before the backup was made.
	shared := w.batch(t, 1, 3)
	w.approve(t, "local.key", "fingerprint")
	copyTree(t, w.path("agent"), w.path("other"))
	swap := func() {
		for _, names := range [][2]string{{"agent", "away"}, {"other", "agent"}, {"away", "other"}} {
			if err := os.Rename(w.path(names[0]), w.path(names[1])); err != nil {
				t.Fatal(err)
			}
		}
	}
	own := map[bool][]string{}
	for _, first := range []bool{true, false} {
		own[first] = w.batch(t, map[bool]int{true: 10, false: 20}[first], 2)
		w.approve(t, "local.key", "fingerprint")
		w.must(t, "agent", "export", "--media", map[bool]string{true: "stick", false: "second"}[first])
		swap()
		if err := os.MkdirAll(w.path("second"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// The two bundles have one number.
	names := append(w.glob(t, "stick/coldseal/*/to-appliance/*"), w.glob(t, "second/coldseal/*/to-appliance/*")...)
	if len(names) != 2 || filepath.Base(names[0]) != filepath.Base(names[1]) {
		t.Fatalf("the bundles are %v", names)
	}
	w.must(t, "appliance", "process", "--media", "stick")
	o := w.try(t, "appliance", "process", "--media", "second")
	if o.code != 4 || !strings.Contains(o.out, string(protocol.CodeSequenceReused)) {
		t.Fatalf("the second bundle of this number: exit %d %s", o.code, o.out)
	}
	w.must(t, "agent", "import", "--media", "stick")
	issued := func(ids []string) {
		t.Helper()
		states := map[string]string{}
		for _, r := range w.rows(t) {
			states[r.ID] = r.Outcome
		}
		for _, id := range ids {
			if states[id] != "issued" {
				t.Errorf("request %s is %q", id, states[id])
			}
		}
	}
	issued(append(shared, own[true]...))

	// The other one learns that it is not alone, and which numbers are used.
	swap()
	if o := w.try(t, "agent", "import", "--media", "second"); !strings.Contains(o.out+o.words, "number") {
		t.Errorf("the other one is not told: exit %d %s%s", o.code, o.out, o.words)
	}
	if err := os.RemoveAll(w.path("second")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(w.path("second"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.must(t, "agent", "export", "--media", "second")
	w.must(t, "appliance", "process", "--media", "second")
	w.must(t, "agent", "import", "--media", "second")
	issued(append(shared, own[false]...))

	h := possess(t, w, "agent", 5)
	log := h.audited(begunWith + len(shared) + len(own[true]) + len(own[false]))
	for _, id := range slices.Concat(shared, own[true], own[false]) {
		if log.results[id] != 1 || log.outcomes[id] != protocol.OutcomeIssued {
			t.Errorf("request %s has %d results in the log", id, log.results[id])
		}
	}
	var bundles []uint64
	for _, e := range h.entries() {
		if e.leaf.Kind == auditlog.Bundle {
			bundles = append(bundles, e.leaf.Number)
		}
	}
	if !slices.Equal(bundles, []uint64{1, 2, 3, 4, 5}) {
		t.Errorf("the log has bundles %v", bundles)
	}
	// The first one goes on, too: it is told in its turn.
	swap()
	w.load.issue = w.batch(t, 30, 1)
	w.approve(t, "local.key", "fingerprint")
	w.empty(t)
	w.must(t, "agent", "export", "--media", "stick")
	w.try(t, "appliance", "process", "--media", "stick")
	w.try(t, "agent", "import", "--media", "stick")
	w.empty(t)
	w.must(t, "agent", "export", "--media", "stick")
	w.must(t, "appliance", "process", "--media", "stick")
	w.must(t, "agent", "import", "--media", "stick")
	issued(w.load.issue)
	h.audited(begunWith + len(shared) + 5)
}
