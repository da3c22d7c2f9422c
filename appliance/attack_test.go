package appliance_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"coldseal/appliance"
	"coldseal/appliance/signer"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/policy"
)

// One approver of one body, without any agent, brings requests that name a CA by the beginning of its id only: they are
// refused for what they are, and stop nothing.
func TestIssuerIsComparedWhole(t *testing.T) {
	d := newDesk(t)
	pc := d.pc("0001")
	serial := d.issued(pc, d.alp).Serial
	pc.Issuer[31] ^= 1
	for name, r := range map[string]protocol.Request{
		"revoke": d.about(protocol.KindRevoke, pc, protocol.Revocation{Serial: serial}),
		"hold":   d.about(protocol.KindHold, pc, protocol.Revocation{Serial: serial}),
	} {
		t.Run(name, func(t *testing.T) {
			raw := d.encode(r)
			bundle := d.sealBy(newKey(t), func(h *protocol.BundleHeader) {}, d.taken(raw, d.alp))
			if _, err := d.engine.Process(spool{bytes.NewReader(bundle)}, nil); err != nil {
				t.Fatal(err)
			}
			d.refused(raw, protocol.CodeNotOurs, d.taken(raw, d.alp))
		})
	}
	renewed := d.pc("0001")
	c, _ := renewed.Issuance()
	c.Renews = &protocol.CertificateID{Issuer: pc.Issuer, Serial: serial}
	renewed.Kind, renewed.Content = protocol.KindRenew, must[[]byte](t)(cose.Marshal(c))
	raw := d.encode(renewed)
	d.refused(raw, protocol.CodeNotOurs, d.approved(raw, d.alp))
}

// A key that was reported compromised approves nothing, whichever of its certificates was taken away for it.
func TestCompromisedKeyApprovesNothing(t *testing.T) {
	d := newDesk(t)
	first := d.alp.serial
	c := protocol.Issuance{
		CSR: csrFor(t, d.alp.key), Fields: d.approverFields(), Origin: protocol.OriginHolder, Scopes: []protocol.Scope{scope("it-workstation")},
		Renews: &protocol.CertificateID{Issuer: d.issuing, Serial: first},
	}
	renew := d.issue(d.issuing, "approver", unit, d.alp.id, c)
	renew.Kind = protocol.KindRenew
	raw := d.encode(renew)
	if a := d.answer(group(raw, d.approve(d.officers[0], nil, both, raw), d.approve(d.officers[1], nil, both, raw))).of(t, raw); a.result.Refusal != nil {
		t.Fatal(a.result.Refusal.Words())
	}
	d.issued(d.pc("0001"), d.alp)
	r := d.request(protocol.KindRevoke, protocol.Revocation{Serial: first, Reason: protocol.ReasonKeyCompromise})
	r.Issuer, r.Profile, r.Body, r.Subject = d.issuing, "approver", unit, d.alp.id
	raw = d.encode(r)
	if a := d.answer(d.taken(raw, d.officers[0])).of(t, raw); a.result.Refusal != nil {
		t.Fatal(a.result.Refusal.Words())
	}
	raw = d.encode(d.pc("0002"))
	d.refused(raw, protocol.CodeApproverRevoked, d.approved(raw, d.alp))
}

// A key that approves does nothing else: neither does it become an agent's or a station's, nor do theirs approve.
func TestApprovalKeysAreForApproving(t *testing.T) {
	d := newDesk(t)
	station := protocol.Party{Version: 1, Name: "station", Role: protocol.RoleStation, Seal: spki(t, d.alp.key), Bodies: []string{"it"}}
	enrol := func() protocol.Result {
		return d.order(d.request(protocol.KindStation, protocol.Enrolment{Party: must[[]byte](t)(cose.Marshal(station))}))
	}
	wants(t, enrol().Refusal, protocol.CodeKeyKnown)
	c := protocol.Issuance{CSR: csrFor(t, d.agent), Fields: d.approverFields(), Origin: protocol.OriginHolder, Scopes: []protocol.Scope{scope("it-workstation")}}
	raw := d.encode(d.issue(d.issuing, "approver", unit, "it:AGENT", c))
	d.refused(raw, protocol.CodeKeyKnown, group(raw, d.approve(d.officers[0], nil, both, raw), d.approve(d.officers[1], nil, both, raw)))
}

// An agent that says it knows nothing of the log, each time, does not fill the disk with it: its bundle has to wait.
func TestSpaceForTheLog(t *testing.T) {
	d := newDesk(t)
	pc := d.pc("0001")
	serial := d.issued(pc, d.alp).Serial
	free := int64(0)
	d.config.Free = func(string) (int64, error) { return free, nil }
	d.reopen()
	raw := d.encode(d.pc("0002"))
	revoke := d.encode(d.about(protocol.KindRevoke, pc, protocol.Revocation{Serial: serial}))
	bundle := d.seal(d.taken(revoke, d.alp), d.approved(raw, d.alp))
	free = 6*int64(len(bundle)) + appliance.SpoolReserve
	wants(t, d.process(bundle).Refusal, protocol.CodeNoSpace)
	if d.logged(auditlog.Changed) != 1 {
		t.Error("nothing was taken away")
	}
	free += 1 << 20
	if out := d.process(bundle); out.Refusal != nil {
		t.Error(out.Refusal.Words())
	}
}

// There are at most as many CA keys as a response has room for: the officers are told, and nothing stops.
func TestTooManyCAs(t *testing.T) {
	d := newDesk(t)
	for i := 2; i < protocol.MaxCAs; i++ {
		d.mustOrder(d.request(protocol.KindCreateKey, protocol.CreateKey{Label: fmt.Sprintf("ca-%d", i), Algorithm: "Ed25519"}))
	}
	wants(t, d.order(d.request(protocol.KindCreateKey, protocol.CreateKey{Label: "more", Algorithm: "Ed25519"})).Refusal, protocol.CodeTooLarge)
}

// A policy that names a lint which the worker does not know is refused when it is ordered: later it would be a fault,
// for every request and every CRL.
func TestPolicyWithAnUnknownLint(t *testing.T) {
	d := newDesk(t)
	for _, name := range []string{"issuing-ca", "it-workstation"} {
		next := *d.policy
		next.Profiles = slices.Clone(next.Profiles)
		i := slices.IndexFunc(next.Profiles, func(p policy.Profile) bool { return p.Name == name })
		next.Profiles[i].LintIgnore = []string{"e_no_such_lint"}
		result := d.order(d.replacePolicy(&next))
		wants(t, result.Refusal, protocol.CodePolicyInvalid)
		if !strings.Contains(result.Refusal.Words(), "e_no_such_lint") {
			t.Error(result.Refusal.Words())
		}
		config := d.config
		config.Dir = t.TempDir()
		config.Signer = must[*signer.Client](t)(signer.Start(t.Context(), filepath.Join(bin, "coldseal-signer"),
			[]string{"--dir", filepath.Join(config.Dir, "keys"), "--secret-file", d.secret}, signer.Options{}))
		if _, err := appliance.Genesis(config, "test", d.engine.State().CurrentRoster(), &next); err == nil || !strings.Contains(err.Error(), "e_no_such_lint") {
			t.Errorf("genesis: %v", err)
		}
		if err := config.Signer.Close(); err != nil {
			t.Error(err)
		}
	}
	d.issued(d.pc("0001"), d.alp)
}

// Once an order in a bundle has retired its sender, nothing more of the bundle is done.
func TestRetiredByItsOwnBundle(t *testing.T) {
	d := newDesk(t)
	record := d.engine.State().Parties["desk"]
	p := must[protocol.Party](t)(protocol.ParseParty(record))
	p.Retired = true
	order := d.encode(d.request(protocol.KindAgent, protocol.Enrolment{Replaces: protocol.DigestOf(record), Party: must[[]byte](t)(cose.Marshal(p))}))
	challenge := must[[]byte](t)(d.engine.Challenge())
	raw := d.encode(d.pc("0001"))
	issued := d.logged(auditlog.Issued)
	d.process(d.seal(group(order, d.approve(d.officers[0], challenge, nil, order), d.approve(d.officers[1], challenge, nil, order)), d.approved(raw, d.alp)))
	if r := d.read(d.responsePath(d.sequence)); r.of(t, order).result.Outcome != protocol.OutcomeDone {
		t.Errorf("%+v", r.of(t, order).result)
	}
	if n := d.logged(auditlog.Issued); n != issued {
		t.Errorf("%d certificates for a retired agent", n-issued)
	}
}
