package appliance_test

import (
	"bytes"
	"os"
	"slices"
	"testing"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
)

// Numbers: gaps and late arrivals are named, answers are kept until they are acknowledged, and an answer that was
// removed is made again.
func TestNumbers(t *testing.T) {
	d := newDesk(t)
	first := d.sequence
	groups := map[uint64]protocol.Group{}
	raws := map[uint64][]byte{}
	for n, number := range map[uint64]string{first + 1: "0001", first + 2: "0002", first + 3: "0003", first + 5: "0005"} {
		raws[n] = d.encode(d.pc(number))
		groups[n] = d.approved(raws[n], d.alp)
	}
	bring := func(n uint64) response {
		t.Helper()
		if out := d.process(d.sealAs(n, groups[n])); out.Refusal != nil {
			t.Fatal(out.Refusal.Words())
		}
		return d.read(d.responsePath(n))
	}
	bring(first + 3)
	r := bring(first + 5)
	if want := []uint64{first + 1, first + 2, first + 4}; r.header.Last != first+5 || !slices.Equal(r.header.Missing, want) {
		t.Errorf("last %d, missing %v, want %v", r.header.Last, r.header.Missing, want)
	}
	r = bring(first + 2)
	if a := r.of(t, raws[first+2]); a.result.Outcome != protocol.OutcomeIssued || !slices.Equal(r.header.Missing, []uint64{first + 1, first + 4}) {
		t.Errorf("a late bundle: %+v, missing %v", a.result, r.header.Missing)
	}
	var pending []uint64
	for n := range first {
		pending = append(pending, n+1)
	}
	if want := append(pending, first+2, first+3, first+5); !slices.Equal(r.header.Pending, want) {
		t.Errorf("pending %v, want %v", r.header.Pending, want)
	}

	late := d.sealAs(first+2, groups[first+2]) // as it was: the acknowledgement below is of another bundle
	before := bring(first + 2)
	d.acknowledged = append(pending, first+2, 77)
	r = bring(first + 1)
	if !slices.Equal(r.header.Pending, []uint64{first + 1, first + 3, first + 5}) {
		t.Errorf("pending %v", r.header.Pending)
	}
	for n := uint64(1); n <= first+2; n++ {
		_, err := os.Stat(d.responsePath(n))
		if kept := err == nil; kept != (n == first+1) {
			t.Errorf("the response %d is kept: %v", n, kept)
		}
	}
	issued, used := d.logged(auditlog.Issued), d.logged(auditlog.Bundle)
	d.now = d.now.Add(day)
	out := d.process(late)
	after := d.read(d.responsePath(first + 2))
	if out.Refusal != nil || out.Again || !bytes.Equal(after.of(t, raws[first+2]).Body, before.of(t, raws[first+2]).Body) || after.of(t, raws[first+2]).Index != before.of(t, raws[first+2]).Index {
		t.Errorf("made again: %+v", out)
	}
	if d.logged(auditlog.Issued) != issued || d.logged(auditlog.Bundle) != used {
		t.Error("making the answer again issued or logged something")
	}
	if err := os.Remove(d.responsePath(first + 2)); err != nil {
		t.Fatal(err)
	}
	d.now = d.now.Add(40 * day)
	wants(t, d.process(late).Refusal, protocol.CodeBundleExpired)
	d.reopen()
}

// One request has one result, however often it comes: in a group, in groups of one batch, in bundles.
func TestDuplicates(t *testing.T) {
	d := newDesk(t)
	good, late := d.encode(d.pc("0001")), d.pc("0002")
	late.Created, late.Expires = late.Created-100, d.now.Unix()
	final, bad := d.encode(late), d.encode(d.pc("0003"))
	twice := func(g protocol.Group) protocol.Group {
		g.Items = append(g.Items, g.Items...)
		return g
	}
	issued := d.logged(auditlog.Issued)
	r := d.answer(twice(d.approved(good, d.alp)), twice(d.approved(final, d.alp)), group(bad), d.approved(bad, d.alp), d.approved(good, d.alp), d.approved(final, d.alp))
	if n := d.logged(auditlog.Issued) - issued; n != 2 {
		t.Errorf("%d certificates were issued, want 2", n)
	}
	want := []protocol.Code{"", protocol.CodeRepeated, protocol.CodeRequestExpired, protocol.CodeRepeated, protocol.CodeApprovalsMissing, "", protocol.CodeRepeated, protocol.CodeRepeated}
	for i, a := range r.answers {
		code := protocol.Code("")
		if a.result.Refusal != nil {
			code = a.result.Refusal.Code
		}
		if code != want[i] {
			t.Errorf("answer %d: %q, want %q", i, code, want[i])
		}
	}
	again := d.answer(d.approved(good, d.alp), group(final))
	for _, raw := range [][]byte{good, final} {
		if a, b := r.of(t, raw), again.of(t, raw); a.Index != b.Index || !bytes.Equal(a.Body, b.Body) {
			t.Errorf("in another bundle: leaf %d, first %d", b.Index, a.Index)
		}
	}
	serial := r.of(t, good).result.Serial
	revoke := d.encode(d.about(protocol.KindRevoke, d.made("0001"), protocol.Revocation{Serial: serial}))
	r = d.answer(twice(d.taken(revoke, d.alp)))
	if len(r.answers) != 2 || r.answers[0].Index == 0 || r.answers[0].Index != r.answers[1].Index {
		t.Errorf("a revocation twice: %+v", r.answers)
	}
	d.reopen()
}

// A bundle that is not well formed behind its seal is done as far as it could be read.
func TestBundleCutShort(t *testing.T) {
	d := newDesk(t)
	raws := [][]byte{d.encode(d.pc("0001")), d.encode(d.pc("0002"))}
	d.sequence++
	out := d.process(d.sealBy(d.agent, func(h *protocol.BundleHeader) { h.Items = 1 }, d.approved(raws[0], d.alp), d.approved(raws[1], d.alp)))
	wants(t, out.Refusal, protocol.CodeMalformed)
	r := d.read(d.responsePath(d.sequence))
	if out.Items != 1 || len(r.answers) != 1 || r.of(t, raws[0]).result.Outcome != protocol.OutcomeIssued || r.header.Refusal != nil {
		t.Errorf("%+v: %d answers", out, len(r.answers))
	}
	if a := d.answer(d.approved(raws[1], d.alp)).of(t, raws[1]); a.result.Outcome != protocol.OutcomeIssued {
		t.Errorf("in the next bundle: %+v", a.result)
	}
	d.reopen()
}
