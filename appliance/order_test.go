package appliance_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"testing/iotest"

	"coldseal/appliance"
	"coldseal/appliance/signer"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/policy"
)

// ordered brings an order to the console with the approvals that make makes over the challenge.
func (d *desk) ordered(raw []byte, make func(challenge []byte) [][]byte) protocol.Result {
	d.t.Helper()
	challenge := must[[]byte](d.t)(d.engine.Challenge())
	result, err := d.engine.Order(raw, make(challenge))
	if err != nil {
		d.t.Fatal(err)
	}
	return result
}

// by has people approve an order at the console.
func (d *desk) by(raw []byte, people ...*person) func([]byte) [][]byte {
	return func(challenge []byte) (approvals [][]byte) {
		for _, p := range people {
			approvals = append(approvals, d.approve(p, challenge, nil, raw))
		}
		return approvals
	}
}

// refusedOrder asks that two officers' order is refused so, and that this is logged if and only if it is final.
func (d *desk) refusedOrder(r protocol.Request, code protocol.Code) {
	d.t.Helper()
	raw, refused, orders := d.encode(r), d.logged(auditlog.Refused), d.logged(auditlog.Order)
	result := d.ordered(raw, d.by(raw, d.officers[0], d.officers[1]))
	if result.Refusal == nil || result.Refusal.Code != code {
		d.t.Fatalf("%s: %s %+v, want %s", r.Kind, result.Outcome, result.Refusal, code)
	}
	final := 0
	if !result.Refusal.Open() && code != protocol.CodeWrongAppliance {
		final = 1
	}
	if n := d.logged(auditlog.Refused) - refused; n != final || d.logged(auditlog.Order) != orders {
		d.t.Errorf("%s: %d refusals logged, want %d; %d orders", code, n, final, d.logged(auditlog.Order)-orders)
	}
}

// An order counts with enough officers who approve it alone, at the console, over the challenge that it shows (law 1).
// Whatever is wrong with the approvals, the order can be approved again.
func TestWhoOrders(t *testing.T) {
	d := newDesk(t)
	a, b := d.officers[0], d.officers[1]
	var old []byte
	for name, test := range map[string]struct {
		code protocol.Code
		make func(raw, challenge []byte) [][]byte
	}{
		"nobody":            {protocol.CodeApprovalsMissing, func(_, _ []byte) [][]byte { return nil }},
		"one officer":       {protocol.CodeApprovalsMissing, func(raw, c []byte) [][]byte { return [][]byte{d.approve(a, c, nil, raw)} }},
		"one officer twice": {protocol.CodeSamePerson, func(raw, c []byte) [][]byte { return [][]byte{d.approve(a, c, nil, raw), d.approve(a, c, nil, raw)} }},
		"one, and an approver": {protocol.CodeApprovalsMissing, func(raw, c []byte) [][]byte {
			return [][]byte{d.approve(a, c, nil, raw), d.approve(d.alp, c, nil, raw)}
		}},
		"one is suspended": {protocol.CodeApproverSuspended, func(raw, c []byte) [][]byte {
			return [][]byte{d.approve(a, c, nil, raw), d.approve(d.suspended, c, nil, raw)}
		}},
		"not at the console": {protocol.CodeConsoleRequired, func(raw, _ []byte) [][]byte {
			return [][]byte{d.approve(a, nil, nil, raw), d.approve(b, nil, nil, raw)}
		}},
		"over a challenge of its own": {protocol.CodeConsoleRequired, func(raw, _ []byte) [][]byte {
			c := bytes.Repeat([]byte{1}, 16)
			return [][]byte{d.approve(a, c, nil, raw), d.approve(b, c, nil, raw)}
		}},
		"over an older challenge": {protocol.CodeConsoleRequired, func(raw, c []byte) [][]byte {
			old = must[[]byte](t)(d.engine.Challenge())
			return [][]byte{d.approve(a, c, nil, raw), d.approve(b, c, nil, raw)}
		}},
		"two orders in one approval": {protocol.CodeOneAtATime, func(raw, c []byte) [][]byte {
			other := d.encode(d.request(protocol.KindCreateKey, protocol.CreateKey{Label: "other", Algorithm: "P-256"}))
			return [][]byte{d.approve(a, c, nil, raw, other), d.approve(b, c, nil, raw, other)}
		}},
		"shown something else": {protocol.CodeManifestMismatch, func(raw, c []byte) [][]byte {
			change := func(x *protocol.Approval) { x.Manifest[0].Kind, x.Challenge = protocol.KindSetTime, c }
			return [][]byte{d.approveChanged(a, change, nil, raw), d.approve(b, c, nil, raw)}
		}},
		"for another appliance": {protocol.CodeApprovalInvalid, func(raw, c []byte) [][]byte {
			change := func(x *protocol.Approval) { x.Appliance[0]++; x.Challenge = c }
			return [][]byte{d.approveChanged(a, change, nil, raw), d.approve(b, c, nil, raw)}
		}},
		"over": {protocol.CodeApprovalExpired, func(raw, c []byte) [][]byte {
			change := func(x *protocol.Approval) { x.Created, x.Expires, x.Challenge = x.Created-100, d.now.Unix(), c }
			return [][]byte{d.approveChanged(a, change, nil, raw), d.approve(b, c, nil, raw)}
		}},
		"not a message": {protocol.CodeApprovalInvalid, func(raw, c []byte) [][]byte {
			return [][]byte{{1, 2, 3}, d.approve(b, c, nil, raw)}
		}},
		"signed over something else": {protocol.CodeApprovalInvalid, func(raw, c []byte) [][]byte {
			bad := d.approve(a, c, nil, raw)
			bad[len(bad)-1] ^= 1
			return [][]byte{bad, d.approve(b, c, nil, raw)}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			d.world.t = t
			raw := d.encode(d.request(protocol.KindCreateKey, protocol.CreateKey{Label: "second", Algorithm: "P-256"}))
			refused := d.logged(auditlog.Refused)
			result := d.ordered(raw, func(c []byte) [][]byte { return test.make(raw, c) })
			wants(t, result.Refusal, test.code)
			if d.logged(auditlog.Refused) != refused || len(d.engine.State().CAs) != 2 {
				t.Error("it was refused for good, or carried out")
			}
		})
	}
	d.world.t = t
	raw := d.encode(d.request(protocol.KindCreateKey, protocol.CreateKey{Label: "second", Algorithm: "P-256"}))
	garbage := d.ordered(raw, func([]byte) [][]byte { return [][]byte{{1}, {2}} })
	wants(t, garbage.Refusal, protocol.CodeApprovalInvalid)
	challenge := must[[]byte](t)(d.engine.Challenge())
	if bytes.Equal(challenge, old) {
		t.Error("the console shows a challenge again")
	}
	approvals := [][]byte{d.approve(a, challenge, nil, raw), d.approve(b, challenge, nil, raw)}
	done := must[protocol.Result](t)(d.engine.Order(raw, approvals))
	if done.Outcome != protocol.OutcomeDone || len(done.Key) == 0 {
		t.Fatalf("approved again: %+v", done)
	}
	if again := must[protocol.Result](t)(d.engine.Order(raw, nil)); !bytes.Equal(again.Key, done.Key) {
		t.Errorf("the same order again: %+v", again)
	}
	t.Run("a challenge is good for one order", func(t *testing.T) {
		raw := d.encode(d.request(protocol.KindCreateKey, protocol.CreateKey{Label: "third", Algorithm: "P-256"}))
		replayed := must[protocol.Result](t)(d.engine.Order(raw, [][]byte{d.approve(a, challenge, nil, raw), d.approve(b, challenge, nil, raw)}))
		wants(t, replayed.Refusal, protocol.CodeConsoleRequired)
	})
	t.Run("a request at the console stays good for a bundle", func(t *testing.T) {
		raw := d.encode(d.pc("0001"))
		wants(t, must[protocol.Result](t)(d.engine.Order(raw, nil)).Refusal, protocol.CodeMalformed)
		if a := d.answer(d.approved(raw, d.alp)).of(t, raw); a.result.Outcome != protocol.OutcomeIssued {
			t.Errorf("%+v", a.result)
		}
	})
	d.reopen()
}

// Orders that do not fit what stands are refused, whoever approves them.
func TestOrdersThatDoNotFit(t *testing.T) {
	d := newDesk(t)
	create := func(label, algorithm string) protocol.Request {
		return d.request(protocol.KindCreateKey, protocol.CreateKey{Label: label, Algorithm: algorithm})
	}
	d.refusedOrder(create("issuing", "P-256"), protocol.CodeKeyExists)
	d.refusedOrder(create("seal", "P-256"), protocol.CodeKeyExists)
	d.refusedOrder(create("Issuing", "P-256"), protocol.CodeMalformed)
	expired := create("late", "P-256")
	expired.Created, expired.Expires = expired.Created-100, d.now.Unix()
	d.refusedOrder(expired, protocol.CodeRequestExpired)
	foreign := create("foreign", "P-256")
	foreign.Appliance[0]++
	d.refusedOrder(foreign, protocol.CodeWrongAppliance)
	t.Run("a key left by an interrupted order", func(t *testing.T) {
		raw := d.encode(create("left", "P-384"))
		challenge := must[[]byte](t)(d.engine.Challenge())
		approvals := d.by(raw, d.officers[0], d.officers[1])(challenge)
		d.engine.Rand = iotest.ErrReader(errors.New("no entropy")) // for the salt of the leaf
		if _, err := d.engine.Order(raw, approvals); !errors.Is(err, appliance.ErrFault) {
			t.Fatalf("the order was not interrupted: %v", err)
		}
		d.reopen()
		left := must[*signer.Key](t)(d.config.Signer.KeyLabelled("left", signer.CA)).Info()
		d.refusedOrder(create("left", "P-256"), protocol.CodeKeyExists)
		if made := d.mustOrder(create("left", "P-384")); !bytes.Equal(made.Key, left.SPKI) {
			t.Error("it was not taken over")
		}
	})
	t.Run("a key that no order made", func(t *testing.T) {
		if _, err := d.config.Signer.CreateKey("planted", signer.CA, signer.P256); err != nil {
			t.Fatal(err)
		}
		d.refusedOrder(create("planted", "P-256"), protocol.CodeKeyExists)
		d.reopen()
		d.refusedOrder(create("planted", "P-256"), protocol.CodeKeyExists)
	})

	left, _, _ := d.engine.State().ByLabel("left")
	sign := func(issuer, key protocol.Digest, profile string, change func(*protocol.Request, *protocol.SignCA)) protocol.Request {
		c := protocol.SignCA{Key: key, Fields: d.caFields(profile)}
		r := d.request(protocol.KindSignCA, c)
		r.Issuer, r.Profile, r.ProfileDigest = issuer, profile, d.digestOf(profile)
		if change != nil {
			change(&r, &c)
			r.Content = must[[]byte](t)(cose.Marshal(c))
		}
		return r
	}
	d.refusedOrder(sign(d.root, protocol.Digest{1}, "issuing-ca", nil), protocol.CodeKeyUnknown)
	d.refusedOrder(sign(d.root, d.issuing, "issuing-ca", nil), protocol.CodeSuperseded)
	d.refusedOrder(sign(protocol.Digest{1}, left, "issuing-ca", nil), protocol.CodeIssuerUnknown)
	d.refusedOrder(sign(d.root, left, "root", nil), protocol.CodeProfileUnknown)
	d.refusedOrder(sign(left, left, "root", nil), protocol.CodeProfileUnknown) // the profile names the key root
	d.refusedOrder(sign(d.issuing, left, "issuing-ca", nil), protocol.CodeProfileUnknown)
	d.refusedOrder(sign(d.root, left, "issuing-ca", func(r *protocol.Request, _ *protocol.SignCA) { r.ProfileDigest[0]++ }), protocol.CodeProfileChanged)
	d.refusedOrder(sign(d.root, left, "issuing-ca", func(_ *protocol.Request, c *protocol.SignCA) { c.Fields = nil }), protocol.CodeSubjectMismatch)
	d.refusedOrder(sign(d.root, left, "issuing-ca", func(_ *protocol.Request, c *protocol.SignCA) { c.NotAfter = d.now.Add(4000 * day).Unix() }), protocol.CodeValidityTooLong)

	replaces := func(r protocol.Request) protocol.Request {
		c, _ := r.Replacement()
		c.Replaces[0]++
		r.Content = must[[]byte](t)(cose.Marshal(c))
		return r
	}
	standing := *d.engine.State().CurrentRoster()
	d.refusedOrder(replaces(d.roster(&standing)), protocol.CodeSuperseded)
	unproved := standing
	unproved.Officers = append(slices.Clone(standing.Officers), officer(t, &person{id: "it:OFFICER6", key: newKey(t)}))
	d.refusedOrder(d.roster(&unproved), protocol.CodeRosterInvalid)
	locked := standing
	locked.Officers = standing.Officers[:2]
	d.refusedOrder(d.roster(&locked), protocol.CodeRosterInvalid)
	certified := standing
	certified.Officers = append(slices.Clone(standing.Officers), officer(t, &person{id: "it:OFFICER6", key: d.alp.key}))
	d.refusedOrder(d.roster(&certified, d.alp), protocol.CodeRosterInvalid)
	agents := standing
	agent := &person{id: "it:OFFICER6", key: d.agent}
	agents.Officers = append(slices.Clone(standing.Officers), officer(t, agent))
	d.refusedOrder(d.roster(&agents, agent), protocol.CodeRosterInvalid)

	d.refusedOrder(replaces(d.replacePolicy(d.policy)), protocol.CodeSuperseded)
	invalid := *d.policy
	invalid.ClockAhead = -1
	d.refusedOrder(d.replacePolicy(&invalid), protocol.CodePolicyInvalid)
	stranded := *d.policy
	stranded.Profiles = slices.DeleteFunc(slices.Clone(d.policy.Profiles), func(p policy.Profile) bool { return p.Name == "issuing-ca" })
	d.refusedOrder(d.replacePolicy(&stranded), protocol.CodePolicyInvalid)

	party := func(change func(*protocol.Party), replaces protocol.Digest) protocol.Request {
		p := must[protocol.Party](t)(protocol.ParseParty(d.engine.State().Parties["desk"]))
		change(&p)
		return d.request(protocol.KindAgent, protocol.Enrolment{Replaces: replaces, Party: must[[]byte](t)(cose.Marshal(p))})
	}
	d.refusedOrder(party(func(*protocol.Party) {}, protocol.Digest{}), protocol.CodeSuperseded)
	d.refusedOrder(party(func(p *protocol.Party) { p.Name = "twin" }, protocol.Digest{}), protocol.CodeSuperseded)
	d.refusedOrder(party(func(p *protocol.Party) { p.Name, p.Seal = "officer", spki(t, d.officers[0].key) }, protocol.Digest{}), protocol.CodeKeyKnown)
	d.refusedOrder(party(func(p *protocol.Party) { p.Name = "Desk" }, protocol.Digest{}), protocol.CodeMalformed)

	crl := d.request(protocol.KindCRL, protocol.CRLOrder{})
	crl.Issuer = left
	d.refusedOrder(crl, protocol.CodeIssuerUnknown)
	crl = d.request(protocol.KindCRL, protocol.CRLOrder{})
	crl.Issuer = d.issuing
	d.refusedOrder(crl, protocol.CodeSuperseded)
	d.reopen()
}
