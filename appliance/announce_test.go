package appliance_test

import (
	"bytes"
	"slices"
	"testing"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
)

// announced is an intents leaf and the kinds of the leaves behind it, up to the next one.
type announced struct {
	auditlog.IntentsBody
	then []auditlog.Kind
}

// announced lists what the log announces from an index on.
func (d *desk) announced(first uint64) (all []announced) {
	d.t.Helper()
	if err := d.engine.EachLeaf(first, func(_ uint64, data, salted []byte) error {
		leaf, err := auditlog.ParseLeaf(data)
		if err != nil {
			return err
		}
		if leaf.Kind == auditlog.Intents {
			body, err := auditlog.ParseIntents(salted[16:])
			if err != nil {
				return err
			}
			if leaf.Number != uint64(len(body.Intents)) {
				d.t.Errorf("the leaf announces %d, its body %d", leaf.Number, len(body.Intents))
			}
			all = append(all, announced{IntentsBody: body})
		} else if len(all) > 0 {
			last := &all[len(all)-1]
			last.then = append(last.then, leaf.Kind)
		}
		return nil
	}); err != nil {
		d.t.Fatal(err)
	}
	return all
}

// TestChangesAreAnnounced: what changes a certificate or withdraws a request is in the log before it, whole, with the
// approvals that it was decided by, and nothing that was refused.
func TestChangesAreAnnounced(t *testing.T) {
	d := newDesk(t)
	pc, other := d.pc("0001"), d.pc("0002")
	serial, second := d.issued(pc, d.alp).Serial, d.issued(other, d.alp).Serial
	item := func(raw []byte) []byte { // with what only the item has
		asked := must[[]byte](t)(protocol.SignID(d.officers[0].key, protocol.ContextRequester, protocol.ID(raw)))
		return must[[]byte](t)(cose.Marshal(protocol.Item{Request: raw, Requester: asked}))
	}
	is := func(in auditlog.Intent, item []byte, issuer protocol.Digest, serial []byte) bool {
		return bytes.Equal(in.Item, item) && in.Issuer == issuer && bytes.Equal(in.Serial, serial) && in.TBS.IsZero()
	}

	hold := d.encode(d.about(protocol.KindHold, pc, protocol.Revocation{Serial: serial}))
	again := d.encode(d.about(protocol.KindHold, pc, protocol.Revocation{Serial: serial}))
	foreign := d.encode(d.about(protocol.KindRevoke, pc, protocol.Revocation{Serial: []byte{0x40, 1}}))
	revoke := d.encode(d.about(protocol.KindRevoke, other, protocol.Revocation{Serial: second}))
	alone := d.encode(d.about(protocol.KindRevoke, other, protocol.Revocation{Serial: second}))
	approval := d.approve(d.alp, nil, nil, hold, again, foreign, revoke)
	unused := d.approve(d.alp, nil, nil, alone)
	stranger := d.approve(&person{id: "it:NOBODY", key: newKey(t)}, nil, nil, hold)
	from := d.size()
	r := d.answer(protocol.Group{Section: protocol.SectionTakeAway, Approvals: [][]byte{[]byte("junk"), approval, stranger, unused},
		Items: [][]byte{item(hold), item(hold), item(again), item(foreign), item(revoke)}})
	all := d.announced(from)
	if len(all) != 2 || len(all[0].Intents) != 2 || !is(all[0].Intents[0], item(hold), d.issuing, serial) || !is(all[0].Intents[1], item(revoke), d.issuing, second) {
		t.Fatalf("taking away announced %+v", all)
	}
	if !slices.EqualFunc(all[0].Approvals, [][]byte{approval}, bytes.Equal) {
		t.Errorf("%d approvals are logged", len(all[0].Approvals))
	}
	if want := []auditlog.Kind{auditlog.Changed, auditlog.Refused, auditlog.Refused, auditlog.Changed, auditlog.Step}; !slices.Equal(all[0].then, want) {
		t.Errorf("behind it are %v", all[0].then)
	}

	release := func() []byte {
		return d.encode(d.about(protocol.KindRelease, pc, protocol.Release{Serial: serial, Hold: r.of(t, hold).Index}))
	}
	first, late, never := release(), release(), release()
	issue := d.encode(d.pc("0003"))
	withdrawal := d.request(protocol.KindWithdraw, protocol.Withdrawal{Request: protocol.ID(issue)})
	withdrawal.Body = unit
	withdraw := d.encode(withdrawal)
	g := d.taken(first, d.alp)
	g.Approvals = append(g.Approvals, d.approve(d.alp, nil, nil, late))
	g.Items = [][]byte{item(first), item(late), item(never), item(withdraw)}
	from = d.size()
	r = d.answer(g)
	all = d.announced(from)
	if len(all) != 2 || len(all[0].Intents) != 3 || !is(all[0].Intents[0], item(first), d.issuing, serial) || !is(all[0].Intents[1], item(late), d.issuing, serial) ||
		!is(all[0].Intents[2], item(withdraw), protocol.Digest{}, nil) || !slices.EqualFunc(all[0].Approvals, g.Approvals, bytes.Equal) {
		t.Fatalf("a batch announced %+v", all)
	}
	if want := []auditlog.Kind{auditlog.Step, auditlog.Changed, auditlog.Refused, auditlog.Withdrawn, auditlog.Step}; !slices.Equal(all[0].then[:min(5, len(all[0].then))], want) {
		t.Errorf("behind it are %v", all[0].then)
	}
	if o := r.of(t, first).result.Outcome; o != protocol.OutcomeReleased {
		t.Errorf("the release was %s", o)
	}
	wants(t, r.of(t, late).result.Refusal, protocol.CodeNotHeld)
	wants(t, r.of(t, never).result.Refusal, protocol.CodeApprovalsMissing)

	from = d.size()
	d.refused(late, protocol.CodeNotHeld, d.taken(late, d.alp)) // it was final
	d.reopen()                                                  // and nothing of all that is burned
	if all := d.announced(from); len(all) != 0 {
		t.Errorf("announced %+v", all)
	}
}
