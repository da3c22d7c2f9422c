package appliance_test

import (
	"testing"

	"coldseal/protocol"
)

// full makes a batch of its own of groups: the rest of it are items that can't be read.
func full(groups ...protocol.Group) (all []protocol.Group) {
	n := protocol.MaxGroupItems
	for _, g := range groups {
		n -= len(g.Items)
	}
	rest := protocol.Group{Section: protocol.SectionRequests}
	for range n {
		rest.Items = append(rest.Items, []byte{0})
	}
	return append(groups, rest)
}

// While one batch is signed, the next is decided, whose step records the one before. What the batch that is signed takes
// is as little there to be taken again as what the ledger shows.
func TestBatchesBesideEachOther(t *testing.T) {
	d := newDesk(t)
	of := d.renewable("0009")
	d.pass(of.end.Add(-10 * day))
	alp := d.approver(d.issuing, "it:BRTSRA60A01F205X", scope("it-workstation"))
	key := newKey(t)
	first := d.encode(d.workstation(d.issuing, unit, "0001", key))
	next, nextGroup, _ := d.renewal(of, of.key, nil)
	batches := [][]protocol.Group{full(d.approved(first, alp), nextGroup)}
	sent := []any{first, protocol.OutcomeIssued, next, protocol.OutcomeIssued}
	for _, number := range []string{"0002", "0003"} {
		again, alien, good := d.encode(d.pc("0001")), d.encode(d.workstation(d.issuing, unit, "1"+number[1:], key)), d.encode(d.pc(number))
		renewal, renewalGroup, _ := d.renewal(of, of.key, nil)
		batches = append(batches, full(d.approved(again, alp), d.approved(alien, alp), renewalGroup, d.approved(good, alp)))
		sent = append(sent, again, protocol.CodeNameActive, alien, protocol.CodeKeyKnown, renewal, protocol.CodeAlreadyRenewed, good, protocol.OutcomeIssued)
	}
	var groups []protocol.Group
	for _, batch := range batches {
		groups = append(groups, batch...)
	}
	r := d.answer(groups...)
	for i := 0; i < len(sent); i += 2 {
		result := r.of(t, sent[i].([]byte)).result
		if outcome, good := sent[i+1].(protocol.Outcome); good && result.Outcome != outcome {
			t.Errorf("request %d: %+v", i/2, result.Refusal)
		} else if !good && (result.Refusal == nil || result.Refusal.Code != sent[i+1]) {
			t.Errorf("request %d: %+v, want %s", i/2, result.Refusal, sent[i+1])
		}
	}
	d.reopen()
}

// A request that comes twice has one result, whichever batches it comes in.
func TestRepeatedInTheNextBatch(t *testing.T) {
	d := newDesk(t)
	raw, other := d.encode(d.pc("0001")), d.encode(d.pc("0002"))
	groups := full(d.approved(raw, d.alp))
	groups = append(groups, full(d.approved(raw, d.alp), d.approved(other, d.alp))...)
	groups = append(groups, d.approved(raw, d.alp))
	var codes []protocol.Code
	var indexes []uint64
	for _, a := range d.answer(groups...).answers {
		if a.result.ID == protocol.ID(raw) {
			code := protocol.Code("")
			if a.result.Refusal != nil {
				code = a.result.Refusal.Code
			}
			codes, indexes = append(codes, code), append(indexes, a.Index)
		}
	}
	if len(codes) != 3 || codes[0] != "" || codes[1] != protocol.CodeRepeated || codes[2] != "" || indexes[0] == 0 || indexes[2] != indexes[0] {
		t.Errorf("%q in entries %d", codes, indexes)
	}
	d.reopen()
}
