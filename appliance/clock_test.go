package appliance_test

import (
	"testing"
	"time"

	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// setTime has two officers set the time to what their watches show; request and approvals are made at that time.
func (d *desk) setTime(watch time.Time) protocol.Result {
	d.t.Helper()
	shown := d.now
	d.now = watch
	raw := d.encode(d.request(protocol.KindSetTime, protocol.SetTime{Time: watch.Unix()}))
	challenge := must[[]byte](d.t)(d.engine.Challenge())
	approvals := d.by(raw, d.officers[0], d.officers[1])(challenge)
	d.now = shown
	result, err := d.engine.Order(raw, approvals)
	if err != nil {
		d.t.Fatal(err)
	}
	return result
}

func (d *desk) gate() *protocol.Refusal {
	d.t.Helper()
	status, err := d.engine.Status()
	if err != nil {
		d.t.Fatal(err)
	}
	return status.Gate
}

// A clock that is before the last entry, before the release, or too far ahead is not believed; officers set the time.
func TestClock(t *testing.T) {
	d := newDesk(t)
	right := d.now
	create := func() protocol.Request {
		return d.request(protocol.KindCreateKey, protocol.CreateKey{Label: "second", Algorithm: "P-256"})
	}
	if d.gate() != nil {
		t.Fatal("the gate is shut at the right time")
	}
	t.Run("a second before the last entry", func(t *testing.T) {
		d.world.t = t
		d.now = right.Add(-time.Second)
		wants(t, d.gate(), protocol.CodeClock)
		d.refusedOrder(create(), protocol.CodeClock)
		d.now = right
	})
	t.Run("ahead", func(t *testing.T) {
		d.world.t = t
		d.now = right.Add(400 * day)
		if d.gate() != nil {
			t.Error("as far as policy allows")
		}
		d.now = right.Add(400*day + time.Second)
		wants(t, d.gate(), protocol.CodeClock)
		d.refusedOrder(create(), protocol.CodeClock)
		early := d.setTime(right.Add(-31 * day))
		wants(t, early.Refusal, protocol.CodeTimeOutside)
	})
	t.Run("set ahead, as after a long rest", func(t *testing.T) {
		d.world.t = t
		if done := d.setTime(d.now); done.Outcome != protocol.OutcomeDone {
			t.Fatalf("%+v", done.Refusal)
		}
		if d.gate() != nil {
			t.Error("the gate is still shut")
		}
		d.mustOrder(create())
		d.reopen()
	})
	t.Run("set back, after entries of the future", func(t *testing.T) {
		d.world.t = t
		future := d.now
		alp := d.approver(d.issuing, "it:BRTSRA60A01F205X", scope("it-workstation"))
		pc := d.pc("0001")
		serial := d.issued(pc, alp).Serial
		raw := d.encode(d.about(protocol.KindRevoke, pc, protocol.Revocation{Serial: serial}))
		d.answer(d.taken(raw, alp))
		d.now = right.Add(time.Hour)
		wants(t, d.gate(), protocol.CodeClock)
		if done := d.setTime(d.now); done.Outcome != protocol.OutcomeDone {
			t.Fatalf("%+v", done.Refusal)
		}
		if d.gate() != nil {
			t.Error("the gate is still shut")
		}
		d.reopen()
		if crl := d.newest("issuing"); !crl.ThisUpdate.Equal(d.now) {
			t.Errorf("the CRL is of %v", crl.ThisUpdate)
		}
		if _, listed := reason(d.newest("issuing"), serial); !listed {
			t.Error("what was revoked is not on the CRL")
		}
		if got := d.issued(d.pc("0002"), d.alp); len(got.Certificate) == 0 {
			t.Error("nothing is issued")
		}
		d.now = future.Add(-time.Hour)
		if d.gate() != nil {
			t.Error("the future is no future any more")
		}
		d.now = right.Add(time.Hour)
	})
	t.Run("set back while the clock is believed", func(t *testing.T) {
		d.world.t = t
		d.now = right.Add(300 * day)
		d.answer()
		d.now = right.Add(301 * day)
		if done := d.setTime(right.Add(2 * time.Hour)); done.Outcome != protocol.OutcomeDone {
			t.Fatalf("%+v", done.Refusal)
		}
		d.now = right.Add(2 * time.Hour)
		d.reopen()
		if d.gate() != nil {
			t.Error("the gate is shut")
		}
	})
	t.Run("not by one officer", func(t *testing.T) {
		d.world.t = t
		raw := d.encode(d.request(protocol.KindSetTime, protocol.SetTime{Time: d.now.Unix()}))
		wants(t, d.ordered(raw, d.by(raw, d.officers[0])).Refusal, protocol.CodeApprovalsMissing)
	})
}

// Orders travel in bundles too; they still take the console's challenge, and what follows in the bundle stands on them.
func TestOrdersInBundles(t *testing.T) {
	d := newDesk(t)
	order := func(r protocol.Request) ([]byte, protocol.Group) {
		raw := d.encode(r)
		challenge := must[[]byte](t)(d.engine.Challenge())
		return raw, group(raw, d.by(raw, d.officers[0], d.officers[1])(challenge)...)
	}
	create, g := order(d.request(protocol.KindCreateKey, protocol.CreateKey{Label: "second", Algorithm: "P-256"}))
	pc := d.encode(d.pc("0001"))
	r := d.answer(g, d.approved(pc, d.alp))
	if a := r.of(t, create); a.result.Outcome != protocol.OutcomeDone || a.Index != 0 || len(a.result.Key) == 0 {
		t.Errorf("order: %+v", a)
	}
	if a := r.of(t, pc); a.result.Outcome != protocol.OutcomeIssued {
		t.Errorf("request: %+v", a.result)
	}
	if a := d.answer(group(create)).of(t, create); a.result.Outcome != protocol.OutcomeDone {
		t.Errorf("the same order again: %+v", a)
	}
	exists, g := order(d.request(protocol.KindCreateKey, protocol.CreateKey{Label: "second", Algorithm: "P-384"}))
	d.refused(exists, protocol.CodeKeyExists, g)
	bare := d.encode(d.request(protocol.KindCreateKey, protocol.CreateKey{Label: "third", Algorithm: "P-256"}))
	d.refused(bare, protocol.CodeConsoleRequired, group(bare, d.by(bare, d.officers[0], d.officers[1])(nil)...))

	t.Run("one that sets a time which the clock does not show", func(t *testing.T) {
		watch := d.now.Add(500 * day)
		d.now, watch = watch, d.now
		raw := d.encode(d.request(protocol.KindSetTime, protocol.SetTime{Time: d.now.Unix()}))
		approvals := d.by(raw, d.officers[0], d.officers[1])(must[[]byte](t)(d.engine.Challenge()))
		d.now = watch
		late := d.encode(d.pc("0002"))
		d.sequence++
		out := d.process(d.sealAs(d.sequence, group(raw, approvals...), d.approved(late, d.alp)))
		if out.Refusal != nil {
			t.Fatal(out.Refusal.Words())
		}
		r := d.read(d.responsePath(d.sequence))
		if r.of(t, raw).result.Outcome != protocol.OutcomeDone {
			t.Errorf("set-time: %+v", r.of(t, raw).result)
		}
		wants(t, r.of(t, late).result.Refusal, protocol.CodeClock)
	})
	d.reopen()

	t.Run("one that retires the agent that brings it", func(t *testing.T) {
		d.now = d.now.Add(500 * day)
		record := d.engine.State().Parties["desk"]
		p := must[protocol.Party](t)(protocol.ParseParty(record))
		p.Retired = true
		raw, g := order(d.request(protocol.KindAgent, protocol.Enrolment{Replaces: protocol.DigestOf(record), Party: must[[]byte](t)(cose.Marshal(p))}))
		if a := d.answer(g).of(t, raw); a.result.Outcome != protocol.OutcomeDone {
			t.Fatalf("%+v", a.result)
		}
		d.sequence++
		wants(t, d.process(d.sealAs(d.sequence)).Refusal, protocol.CodeRetiredSender)
	})
}
