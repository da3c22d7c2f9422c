package appliance_test

import (
	"crypto/x509"
	"slices"
	"testing"
	"time"

	"coldseal/protocol"
	"coldseal/protocol/cose"
	"coldseal/protocol/policy"
)

// A roster takes the quorum of the old one and of itself.
func TestRosterChangesUnderBoth(t *testing.T) {
	d := newDesk(t)
	var fresh []*person
	next := policy.Roster{Version: 1, Orders: slices.Clone(d.engine.State().CurrentRoster().Orders)}
	for _, id := range []string{"it:NEW1", "it:NEW2", "it:NEW3"} {
		p := &person{id: id, key: newKey(t)}
		fresh, next.Officers = append(fresh, p), append(next.Officers, officer(t, p))
	}
	raw := d.encode(d.roster(&next, fresh...))
	for name, people := range map[string][]*person{
		"the old ones alone": d.officers[:2],
		"the new ones alone": fresh[:2],
		"one of each":        {d.officers[0], fresh[0]},
	} {
		wants(t, d.ordered(raw, d.by(raw, people...)).Refusal, protocol.CodeApprovalsMissing)
		if len(d.engine.State().CurrentRoster().Officers) != 5 {
			t.Errorf("%s changed the roster", name)
		}
	}
	if done := d.ordered(raw, d.by(raw, d.officers[0], d.officers[1], fresh[0], fresh[1])); done.Outcome != protocol.OutcomeDone {
		t.Fatalf("both: %+v", done.Refusal)
	}
	create := d.encode(d.request(protocol.KindCreateKey, protocol.CreateKey{Label: "second", Algorithm: "P-256"}))
	wants(t, d.ordered(create, d.by(create, d.officers[0], d.officers[1])).Refusal, protocol.CodeApprovalsMissing)
	if done := d.ordered(create, d.by(create, fresh[0], fresh[1])); done.Outcome != protocol.OutcomeDone {
		t.Errorf("the new officers: %+v", done.Refusal)
	}
	d.reopen()
}

// A policy that changed between approval and processing refuses what was approved under the old one.
func TestPolicyChangesInBetween(t *testing.T) {
	d := newDesk(t)
	raw, server := d.encode(d.pc("0001")), d.encode(d.issue(d.issuing, "it-server", unit, "058091-CO-0001", protocol.Issuance{
		CSR: csrFor(t, newKey(t)), Fields: map[string]string{"number": "0001"}, Origin: protocol.OriginHolder,
	}))
	g, untouched := d.approved(raw, d.alp), d.approved(server, d.alp)
	next := *d.policy
	next.Profiles = slices.Clone(d.policy.Profiles)
	for i := range next.Profiles {
		if next.Profiles[i].Name == "it-workstation" {
			next.Profiles[i].MaxDays, next.Profiles[i].Days = 400, 365
		}
	}
	d.mustOrder(d.replacePolicy(&next))
	d.policy = &next
	d.refused(raw, protocol.CodeProfileChanged, g)
	if a := d.answer(untouched).of(t, server); a.result.Outcome != protocol.OutcomeIssued {
		t.Errorf("a profile that did not change: %+v", a.result.Refusal)
	}
	made := must[*x509.Certificate](t)(x509.ParseCertificate(d.issued(d.pc("0001"), d.alp).Certificate))
	if term := made.NotAfter.Sub(made.NotBefore); term != 365*day-time.Second {
		t.Errorf("under the new policy it is valid for %v", term)
	}
	t.Run("a profile that went away", func(t *testing.T) {
		gone := next
		gone.Profiles = slices.DeleteFunc(slices.Clone(next.Profiles), func(p policy.Profile) bool { return p.Name == "it-workstation" })
		pc := d.made("0001")
		serial := d.serial(pc)
		d.mustOrder(d.replacePolicy(&gone))
		late := d.encode(pc)
		if a := d.answer(d.approved(late, d.alp)).of(t, late); a.result.Outcome != protocol.OutcomeIssued {
			t.Errorf("what was done stays done: %+v", a.result)
		}
		hold := d.encode(d.about(protocol.KindHold, pc, protocol.Revocation{Serial: serial}))
		held := d.answer(d.taken(hold, d.alp)).of(t, hold)
		if held.result.Outcome != protocol.OutcomeHeld {
			t.Fatalf("taking away needs no profile: %+v", held.result.Refusal)
		}
		release := d.encode(d.about(protocol.KindRelease, pc, protocol.Release{Serial: serial, Hold: held.Index}))
		d.refused(release, protocol.CodeProfileUnknown, d.taken(release, d.officers[0]))
	})
	d.reopen()
}

// The root's CRL is made by order only, and an order that is done has its CRL.
func TestCRLs(t *testing.T) {
	d := newDesk(t)
	number := func(label string) uint64 { return d.newest(label).Number.Uint64() }
	root := func(replaces protocol.Digest) protocol.Request {
		r := d.request(protocol.KindCRL, protocol.CRLOrder{Replaces: replaces})
		r.Issuer = d.root
		return r
	}
	d.mustOrder(root(protocol.Digest{}))
	first := d.newest("root")
	before := number("issuing")
	d.pass(d.now.Add(14 * day))
	if number("root") != 1 || number("issuing") != before {
		t.Errorf("before half their life: root %d, issuing %d", number("root"), number("issuing"))
	}
	d.pass(d.now.Add(2 * day))
	if number("root") != 1 || number("issuing") != before+1 {
		t.Errorf("past half the issuing CA's: root %d, issuing %d", number("root"), number("issuing"))
	}
	d.pass(d.now.Add(360 * day))
	if number("root") != 1 {
		t.Errorf("the root made CRL %d without an order", number("root"))
	}
	d.refusedOrder(root(protocol.Digest{}), protocol.CodeSuperseded)
	d.mustOrder(root(protocol.DigestOf(first.Raw)))
	if second := d.newest("root"); second.Number.Uint64() != 2 || !second.ThisUpdate.Equal(d.now) {
		t.Errorf("root CRL %d of %v", second.Number, second.ThisUpdate)
	}
	t.Run("what expired leaves the CRL after two lives of it", func(t *testing.T) {
		pc := d.workstation(d.issuing, unit, "0001", newKey(t))
		c, _ := pc.Issuance()
		c.NotAfter = d.now.Add(10 * day).Unix()
		pc.Content = must[[]byte](t)(cose.Marshal(c))
		serial := d.issued(pc, d.alp).Serial
		raw := d.encode(d.about(protocol.KindRevoke, pc, protocol.Revocation{Serial: serial}))
		d.answer(d.taken(raw, d.alp))
		d.pass(d.now.Add(60 * day))
		if _, listed := reason(d.newest("issuing"), serial); !listed {
			t.Error("it is gone too early")
		}
		d.pass(d.now.Add(30 * day))
		if _, listed := reason(d.newest("issuing"), serial); listed {
			t.Error("it is still there")
		}
	})
	t.Run("a CA that ended stops nothing", func(t *testing.T) {
		d.pass(must[*x509.Certificate](t)(x509.ParseCertificate(d.engine.PublicState().CAs[1])).NotAfter.Add(time.Hour))
		last := number("issuing")
		if d.answer(); number("issuing") != last {
			t.Error("it signed a CRL")
		}
		r := d.request(protocol.KindCRL, protocol.CRLOrder{Replaces: protocol.DigestOf(d.newest("issuing").Raw)})
		r.Issuer = d.issuing
		d.refusedOrder(r, protocol.CodeValidityOutside)
		raw := d.encode(d.pc("0002"))
		d.refused(raw, protocol.CodeValidityOutside, d.approved(raw, d.alp))
	})
	d.reopen()
}
