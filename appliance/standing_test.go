package appliance_test

import (
	"testing"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
)

// A hold ends by its own release and no later one; a revocation never ends.
func TestHoldAndRelease(t *testing.T) {
	d := newDesk(t)
	pc := d.pc("0001")
	serial := d.issued(pc, d.alp).Serial
	change := func(kind protocol.Kind, content any) ([]byte, protocol.Group) {
		raw := d.encode(d.about(kind, pc, content))
		return raw, d.taken(raw, d.alp)
	}
	listed := func(want bool, why protocol.Reason) {
		t.Helper()
		if got, found := reason(d.newest("issuing"), serial); found != want || found && got != int(why) {
			t.Errorf("on the CRL: %v, reason %d", found, got)
		}
	}
	hold := func() answered {
		t.Helper()
		raw, g := change(protocol.KindHold, protocol.Revocation{Serial: serial})
		a := d.answer(g).of(t, raw)
		if a.result.Outcome != protocol.OutcomeHeld || len(a.result.Receipt) == 0 {
			t.Fatalf("hold: %+v", a.result)
		}
		listed(true, protocol.ReasonCertificateHold)
		return a
	}
	release := func(index uint64) ([]byte, protocol.Group) {
		return change(protocol.KindRelease, protocol.Release{Serial: serial, Hold: index})
	}

	raw, g := release(1)
	d.refused(raw, protocol.CodeNotHeld, g)
	first := hold()
	raw, g = change(protocol.KindHold, protocol.Revocation{Serial: serial})
	d.refused(raw, protocol.CodeAlreadyHeld, g)
	raw, _ = release(first.Index)
	d.refused(raw, protocol.CodeApprovalsMissing, group(raw))
	if a := d.answer(d.taken(raw, d.alp)).of(t, raw); a.result.Outcome != protocol.OutcomeReleased {
		t.Fatalf("release: %+v", a.result)
	}
	listed(false, 0)
	second := hold()
	raw, g = release(first.Index)
	d.refused(raw, protocol.CodeSuperseded, g)
	raw, g = release(second.Index)
	if a := d.answer(g).of(t, raw); a.result.Outcome != protocol.OutcomeReleased {
		t.Fatalf("release of the second hold: %+v", a.result)
	}
	third := hold()
	raw, g = change(protocol.KindRevoke, protocol.Revocation{Serial: serial, Reason: protocol.ReasonCessationOfOperation, Since: d.now.Add(-day).Unix()})
	if a := d.answer(g).of(t, raw); a.result.Outcome != protocol.OutcomeRevoked {
		t.Fatalf("revoke: %+v", a.result)
	}
	listed(true, protocol.ReasonCessationOfOperation)
	raw, g = release(third.Index)
	d.refused(raw, protocol.CodeNotHeld, g)
	raw, g = change(protocol.KindRevoke, protocol.Revocation{Serial: serial})
	d.refused(raw, protocol.CodeAlreadyRevoked, g)
	raw, g = change(protocol.KindRevoke, protocol.Revocation{Serial: []byte{0x40, 1}})
	d.refused(raw, protocol.CodeNotOurs, g)
	raw, g = change(protocol.KindRelease, protocol.Release{Serial: []byte{0x40, 1}, Hold: 3})
	d.refused(raw, protocol.CodeNotOurs, g)
	t.Run("hold and revoke in one group", func(t *testing.T) {
		pc := d.pc("0002")
		serial := d.issued(pc, d.alp).Serial
		hold := d.encode(d.about(protocol.KindHold, pc, protocol.Revocation{Serial: serial}))
		revoke := d.encode(d.about(protocol.KindRevoke, pc, protocol.Revocation{Serial: serial, Reason: protocol.ReasonSuperseded}))
		again := d.encode(d.about(protocol.KindRevoke, pc, protocol.Revocation{Serial: serial}))
		g := group(hold, d.approve(d.alp, nil, nil, hold, revoke, again))
		g.Items = append(g.Items, group(revoke).Items[0], group(again).Items[0])
		r := d.answer(g)
		if r.of(t, hold).result.Outcome != protocol.OutcomeHeld || r.of(t, revoke).result.Outcome != protocol.OutcomeRevoked {
			t.Errorf("%+v, %+v", r.of(t, hold).result, r.of(t, revoke).result)
		}
		wants(t, r.of(t, again).result.Refusal, protocol.CodeAlreadyRevoked)
		if why, listed := reason(d.newest("issuing"), serial); !listed || why != int(protocol.ReasonSuperseded) {
			t.Errorf("on the CRL: %v, reason %d", listed, why)
		}
	})
	other := d.about(protocol.KindRevoke, pc, protocol.Revocation{Serial: serial})
	other.Body = "it/058092"
	raw = d.encode(other)
	d.refused(raw, protocol.CodeSubjectMismatch, d.taken(raw, d.alp))
	d.reopen()
}

// Whoever may not take away can't, and whose certificate it is can.
func TestWhoTakesAway(t *testing.T) {
	d := newDesk(t)
	pc := d.pc("0001")
	serial := d.issued(pc, d.alp).Serial
	raw := d.encode(d.about(protocol.KindRevoke, pc, protocol.Revocation{Serial: serial}))
	d.refused(raw, protocol.CodeOutOfScope, d.taken(raw, d.rao))
	d.refused(raw, protocol.CodeApprovalsMissing, group(raw))
	if a := d.answer(d.taken(raw, d.officers[0])).of(t, raw); a.result.Outcome != protocol.OutcomeRevoked {
		t.Errorf("by an officer: %+v", a.result)
	}
	own := d.request(protocol.KindRevoke, protocol.Revocation{Serial: d.alp.serial})
	own.Issuer, own.Profile, own.Body, own.Subject = d.issuing, "approver", unit, d.alp.id
	raw = d.encode(own)
	d.refused(raw, protocol.CodeOutOfScope, d.taken(raw, d.alp)) // the scope, not the person, is missing
	t.Run("and then does not approve any more", func(t *testing.T) {
		if a := d.answer(d.taken(raw, d.officers[0])).of(t, raw); a.result.Outcome != protocol.OutcomeRevoked {
			t.Fatalf("%+v", a.result)
		}
		issue := d.encode(d.pc("0002"))
		d.refused(issue, protocol.CodeApproverRevoked, d.approved(issue, d.alp))
	})
	t.Run("not even in the same bundle", func(t *testing.T) {
		robot := d.encode(d.robot("0001", newKey(t), nil))
		gone := d.request(protocol.KindRevoke, protocol.Revocation{Serial: d.rao.serial})
		gone.Issuer, gone.Profile, gone.Body, gone.Subject = d.issuing, "approver", unit, d.rao.id
		raw := d.encode(gone)
		r := d.answer(d.taken(raw, d.officers[0]), d.approved(robot, d.alp, d.rao))
		wants(t, r.of(t, robot).result.Refusal, protocol.CodeApproverRevoked)
	})
}

// A name has one active certificate, held ones counted, and a key has one subject.
func TestNamesAndKeys(t *testing.T) {
	d := newDesk(t)
	a, b, c := d.encode(d.pc("0001")), d.encode(d.pc("0001")), d.encode(d.pc("0001"))
	t.Run("in one batch", func(t *testing.T) {
		r := d.answer(d.approved(a, d.alp), d.approved(b, d.alp))
		if r.of(t, a).result.Outcome != protocol.OutcomeIssued {
			t.Errorf("the first: %+v", r.of(t, a).result)
		}
		refusal := r.of(t, b).result.Refusal
		wants(t, refusal, protocol.CodeNameActive)
		if refusal.Params["serial"] == "" {
			t.Error("the refusal names no serial")
		}
	})
	pc := d.made("0001")
	first, _ := protocol.ParseRequest(a)
	serial := d.serial(first)
	hold := d.encode(d.about(protocol.KindHold, pc, protocol.Revocation{Serial: serial}))
	t.Run("while it is on hold", func(t *testing.T) {
		d.answer(d.taken(hold, d.alp))
		d.refused(c, protocol.CodeNameActive, d.approved(c, d.alp))
	})
	t.Run("revoked in the same bundle", func(t *testing.T) {
		revoke := d.encode(d.about(protocol.KindRevoke, pc, protocol.Revocation{Serial: serial}))
		if got := d.answer(d.taken(revoke, d.alp), d.approved(c, d.alp)).of(t, c); got.result.Outcome != protocol.OutcomeIssued {
			t.Errorf("%+v", got.result)
		}
	})
	t.Run("expired", func(t *testing.T) {
		d.pass(d.now.Add(800 * day))
		alp := d.approver(d.issuing, "it:BRTSRA60A01F205X", scope("it-workstation"))
		if got := d.issued(d.pc("0001"), alp); len(got.Certificate) == 0 {
			t.Error("the name did not get free")
		}
		d.alp = alp
	})
	t.Run("one key for two names in one batch", func(t *testing.T) {
		key := newKey(t)
		one, two := d.encode(d.workstation(d.issuing, unit, "0101", key)), d.encode(d.workstation(d.issuing, unit, "0102", key))
		r := d.answer(d.approved(one, d.alp), d.approved(two, d.alp))
		if r.of(t, one).result.Outcome != protocol.OutcomeIssued {
			t.Errorf("the first: %+v", r.of(t, one).result)
		}
		wants(t, r.of(t, two).result.Refusal, protocol.CodeKeyKnown)
	})
	t.Run("the same key for the same name again", func(t *testing.T) {
		key := newKey(t)
		pc := d.workstation(d.issuing, unit, "0103", key)
		revoke := d.encode(d.about(protocol.KindRevoke, pc, protocol.Revocation{Serial: d.issued(pc, d.alp).Serial, Reason: protocol.ReasonSuperseded}))
		again := d.encode(d.workstation(d.issuing, unit, "0103", key))
		if got := d.answer(d.taken(revoke, d.alp), d.approved(again, d.alp)).of(t, again); got.result.Outcome != protocol.OutcomeIssued {
			t.Errorf("%+v", got.result)
		}
	})
	d.reopen()
}

// A withdrawn request is never done, before, after or beside it; what was done is not undone; and nobody withdraws a
// revocation.
func TestWithdraw(t *testing.T) {
	d := newDesk(t)
	withdraw := func(raw []byte, body string) []byte {
		r := d.request(protocol.KindWithdraw, protocol.Withdrawal{Request: protocol.ID(raw)})
		r.Body = body
		return d.encode(r)
	}
	t.Run("before it came", func(t *testing.T) {
		raw := d.encode(d.pc("0001"))
		w := withdraw(raw, unit)
		if a := d.answer(group(w)).of(t, w); a.result.Outcome != protocol.OutcomeWithdrawn {
			t.Fatalf("%+v", a.result)
		}
		d.refused(raw, protocol.CodeWithdrawn, d.approved(raw, d.alp))
		d.refused(raw, protocol.CodeWithdrawn, d.approved(raw, d.alp))
		twice := withdraw(raw, unit)
		d.refused(twice, protocol.CodeWithdrawn, group(twice))
	})
	for name, order := range map[string][2]int{"beside it, first": {0, 1}, "beside it, second": {1, 0}} {
		t.Run(name, func(t *testing.T) {
			raw := d.encode(d.pc("0002"))
			w := withdraw(raw, unit)
			groups := [2]protocol.Group{group(w), d.approved(raw, d.alp)}
			r := d.answer(groups[order[0]], groups[order[1]])
			if r.of(t, w).result.Outcome != protocol.OutcomeWithdrawn {
				t.Errorf("%+v", r.of(t, w).result)
			}
			wants(t, r.of(t, raw).result.Refusal, protocol.CodeWithdrawn)
		})
	}
	t.Run("after it was refused for now", func(t *testing.T) {
		raw := d.encode(d.pc("0003"))
		d.refused(raw, protocol.CodeApprovalsMissing, group(raw))
		d.answer(group(withdraw(raw, unit)))
		d.refused(raw, protocol.CodeWithdrawn, d.approved(raw, d.alp))
	})
	t.Run("after it was done", func(t *testing.T) {
		pc := d.pc("0004")
		d.issued(pc, d.alp)
		raw := withdraw(d.encode(pc), unit)
		d.refused(raw, protocol.CodeAlreadyDone, group(raw))
	})
	t.Run("for another body", func(t *testing.T) {
		raw := d.encode(d.pc("0005"))
		d.answer(group(withdraw(raw, "it/058092")))
		if a := d.answer(d.approved(raw, d.alp)).of(t, raw); a.result.Outcome != protocol.OutcomeIssued {
			t.Errorf("%+v", a.result)
		}
	})
	t.Run("a revocation", func(t *testing.T) {
		pc := d.pc("0006")
		raw := d.encode(d.about(protocol.KindRevoke, pc, protocol.Revocation{Serial: d.issued(pc, d.alp).Serial}))
		d.answer(group(withdraw(raw, unit)))
		if a := d.answer(d.taken(raw, d.alp)).of(t, raw); a.result.Outcome != protocol.OutcomeRevoked {
			t.Errorf("%+v", a.result)
		}
	})
	t.Run("a release", func(t *testing.T) {
		pc := d.pc("0007")
		serial := d.issued(pc, d.alp).Serial
		hold := d.encode(d.about(protocol.KindHold, pc, protocol.Revocation{Serial: serial}))
		held := d.answer(d.taken(hold, d.alp)).of(t, hold)
		raw := d.encode(d.about(protocol.KindRelease, pc, protocol.Release{Serial: serial, Hold: held.Index}))
		r := d.answer(group(withdraw(raw, unit)), d.taken(raw, d.alp))
		wants(t, r.of(t, raw).result.Refusal, protocol.CodeWithdrawn)
	})
	if n := d.logged(auditlog.Withdrawn); n != 7 {
		t.Errorf("%d withdrawals in the log", n)
	}
	d.reopen()
}
