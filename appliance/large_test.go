package appliance_test

import (
	"testing"

	"coldseal/appliance"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
)

// A bundle of many batches, with what later requests stand on in the middle of it: all is answered, in order, and all of
// the answer is proved as an agent proves it, from a checkpoint that it knew.
func TestLargeBundle(t *testing.T) {
	d := newDesk(t)
	held := d.pc("9999")
	serial := d.issued(held, d.alp).Serial
	hold := d.encode(d.about(protocol.KindHold, held, protocol.Revocation{Serial: serial}))
	first := d.answer(d.taken(hold, d.alp))
	d.learn(first)

	raws, groups := d.many(1, 5000)
	half := len(groups) / 2
	// An approver is made, and approves the rest of the bundle; a hold ends.
	late := &person{id: "it:BRTSRA60A01F205X", key: newKey(t)}
	c := protocol.Issuance{CSR: csrFor(t, late.key), Fields: d.approverFields(), Origin: protocol.OriginHolder, Scopes: []protocol.Scope{scope("it-workstation")}}
	made := d.encode(d.issue(d.issuing, "approver", unit, late.id, c))
	release := d.encode(d.about(protocol.KindRelease, held, protocol.Release{Serial: serial, Hold: first.of(t, hold).Index}))
	revoke := d.encode(d.about(protocol.KindRevoke, held, protocol.Revocation{Serial: serial, Reason: protocol.ReasonSuperseded}))
	var all []protocol.Group
	for i, g := range groups {
		if i == half {
			all = append(all, group(made, d.approve(d.officers[0], nil, both, made), d.approve(d.officers[1], nil, both, made)), d.taken(release, d.alp))
		}
		if i >= half {
			var of [][]byte
			for _, data := range g.Items {
				it, refusal := protocol.ParseItem(data)
				if refusal != nil {
					t.Fatal(refusal.Words())
				}
				of = append(of, it.Request)
			}
			g.Approvals = [][]byte{d.approve(late, nil, fingerprint, of...)}
		}
		all = append(all, g)
	}
	var reported []uint64
	d.config.Report = func(p appliance.Progress) { reported = append(reported, p.Done) }
	d.reopen()
	r := d.answer(all...)
	if r.header.FirstLeaf != d.known.size || len(r.answers) != len(raws)+2 {
		t.Errorf("%d answers, leaves from %d", len(r.answers), r.header.FirstLeaf)
	}
	place := 0 // answers come in the order of the items
	for _, g := range all {
		for _, data := range g.Items {
			it, _ := protocol.ParseItem(data)
			if a := r.answers[place]; a.result.ID != protocol.ID(it.Request) || a.result.Outcome == protocol.OutcomeRefused {
				t.Fatalf("answer %d: %s %+v", place, a.result.Outcome, a.result.Refusal)
			}
			place++
		}
	}
	if r.of(t, release).result.Outcome != protocol.OutcomeReleased || r.of(t, made).result.Outcome != protocol.OutcomeIssued {
		t.Errorf("release: %+v", r.of(t, release).result)
	}
	for i := 1; i < len(reported); i++ {
		if reported[i] <= reported[i-1] {
			t.Errorf("progress went from %d to %d", reported[i-1], reported[i])
		}
	}
	if last := reported[len(reported)-1]; last != uint64(len(raws)+2) {
		t.Errorf("the last report is of %d items", last)
	}
	d.learn(r)
	r = d.answer(d.taken(revoke, d.alp))
	if r.header.Leaves > 10 || len(r.crls) != 1 {
		t.Errorf("the next response brings %d leaves and %d CRLs", r.header.Leaves, len(r.crls))
	}
	if n := d.logged(auditlog.Issued); n != 5000+2+1+1+2 {
		t.Errorf("%d certificates in the log", n)
	}
	d.reopen()
	size := d.size()
	for _, known := range []uint64{d.known.size, 1 << 40} { // of a tree that is none of ours: the agent gets all of ours, to see for itself
		d.known.root[0] ^= 1
		d.known.size = known
		wants(t, d.process(d.seal()).Refusal, protocol.CodeOlderLog)
		if r = d.read(d.responsePath(0)); r.header.FirstLeaf != 0 || r.header.Leaves != size || d.size() != size {
			t.Errorf("to an agent with another tree of %d: leaves %d from %d", known, r.header.Leaves, r.header.FirstLeaf)
		}
	}
}
