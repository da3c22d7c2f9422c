package appliance_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"testing"
	"time"

	"coldseal/protocol"
	"coldseal/protocol/policy"
)

// renewing is a certificate with its key, to be renewed.
type renewing struct {
	made protocol.Request
	key  *ecdsa.PrivateKey
	id   protocol.CertificateID
	end  time.Time
}

func (d *desk) renewable(number string) renewing {
	d.t.Helper()
	key := newKey(d.t)
	r := renewing{made: d.workstation(d.issuing, unit, number, key), key: key}
	result := d.issued(r.made, d.alp)
	r.id = protocol.CertificateID{Issuer: result.Issuer, Serial: result.Serial}
	r.end = must[*x509.Certificate](d.t)(x509.ParseCertificate(result.Certificate)).NotAfter
	return r
}

// renewal asks for a successor with a new key. If signer is not nil, it signs as the current key.
func (d *desk) renewal(of renewing, signer crypto.Signer, change func(*protocol.Request, *protocol.Issuance)) ([]byte, protocol.Group, *ecdsa.PrivateKey) {
	d.t.Helper()
	key := newKey(d.t)
	id := of.id
	c := protocol.Issuance{
		CSR: csrFor(d.t, key), Fields: map[string]string{"number": of.made.Subject[len(of.made.Subject)-4:]}, Origin: protocol.OriginCurrent, Renews: &id,
	}
	r := of.made
	if change != nil {
		change(&r, &c)
	}
	made := d.request(protocol.KindRenew, c)
	made.Issuer, made.Profile, made.ProfileDigest, made.Body, made.Subject = r.Issuer, r.Profile, d.digestOf(r.Profile), r.Body, r.Subject
	raw := d.encode(made)
	it := protocol.Item{Request: raw}
	if signer != nil {
		it.Current = must[[]byte](d.t)(protocol.SignID(signer, protocol.ContextCurrentKey, protocol.ID(raw)))
	}
	return raw, d.item(it), key
}

func with(g protocol.Group, approvals ...[]byte) protocol.Group {
	g.Approvals = approvals
	return g
}

// By the current key alone: active, in its last days, one successor, and not for ever without persons (law 4).
func TestRenewalByTheCurrentKey(t *testing.T) {
	d := newDesk(t)
	pc := d.renewable("0001")
	raw, g, _ := d.renewal(pc, pc.key, nil)
	d.refused(raw, protocol.CodeRenewalWindow, g)
	d.pass(pc.end.Add(-60 * day))
	d.refused(raw, protocol.CodeRequestExpired, g)

	raw, g, next := d.renewal(pc, pc.key, nil)
	d.refused(raw, protocol.CodeRenewalWindow, g) // a second before the window
	d.now = d.now.Add(time.Second)
	stranger, foreign, _ := d.renewal(pc, newKey(t), nil)
	d.refused(stranger, protocol.CodeKeyNotVouched, foreign)
	unsigned, bare, _ := d.renewal(pc, nil, nil)
	d.refused(unsigned, protocol.CodeKeyNotVouched, bare)
	holder, ofHolder, _ := d.renewal(pc, pc.key, func(_ *protocol.Request, c *protocol.Issuance) { c.Origin = protocol.OriginHolder })
	d.refused(holder, protocol.CodeApprovalsMissing, ofHolder)
	renamed, other, _ := d.renewal(pc, pc.key, func(r *protocol.Request, c *protocol.Issuance) {
		r.Subject, c.Fields["number"] = "058091-PC-0002", "0002"
	})
	d.refused(renamed, protocol.CodeSubjectMismatch, other)
	profile, server, _ := d.renewal(pc, pc.key, func(r *protocol.Request, _ *protocol.Issuance) {
		r.Profile, r.Subject = "it-server", "058091-CO-0001"
	})
	d.refused(profile, protocol.CodeSubjectMismatch, server)
	nobodys, none, _ := d.renewal(pc, pc.key, func(_ *protocol.Request, c *protocol.Issuance) { c.Renews.Serial = []byte{1} })
	d.refused(nobodys, protocol.CodeNotOurs, none)

	twin, second, _ := d.renewal(pc, pc.key, nil)
	r := d.answer(g, second)
	a := r.of(t, raw)
	if a.result.Outcome != protocol.OutcomeIssued {
		t.Fatalf("in the window: %+v", a.result.Refusal)
	}
	wants(t, r.of(t, twin).result.Refusal, protocol.CodeAlreadyRenewed)
	late, third, _ := d.renewal(pc, pc.key, nil)
	d.refused(late, protocol.CodeAlreadyRenewed, third)
	successor := renewing{pc.made, next, protocol.CertificateID{Issuer: a.result.Issuer, Serial: a.result.Serial}, must[*x509.Certificate](t)(x509.ParseCertificate(a.result.Certificate)).NotAfter}

	t.Run("old and new overlap, and nothing third beside them", func(t *testing.T) {
		fresh := d.encode(d.pc("0001"))
		d.refused(fresh, protocol.CodeNameActive, d.approved(fresh, d.alp))
		again, g, _ := d.renewal(successor, nil, func(_ *protocol.Request, c *protocol.Issuance) { c.Origin = protocol.OriginHolder })
		d.refused(again, protocol.CodeNameActive, with(g, d.approve(d.alp, nil, fingerprint, again)))
		revoke := d.encode(d.about(protocol.KindRevoke, pc.made, protocol.Revocation{Serial: successor.id.Serial, Reason: protocol.ReasonSuperseded}))
		d.answer(d.taken(revoke, d.alp))
		d.refused(fresh, protocol.CodeNameActive, d.approved(fresh, d.alp)) // the old one is still valid
	})
	t.Run("revoked", func(t *testing.T) {
		raw, g, _ := d.renewal(successor, successor.key, nil)
		d.refused(raw, protocol.CodeNotActive, g)
	})
	t.Run("expired", func(t *testing.T) {
		d.pass(pc.end.Add(time.Second))
		raw, g, _ := d.renewal(pc, pc.key, nil)
		d.refused(raw, protocol.CodeNotActive, g)
		alp := d.approver(d.issuing, "it:BRTSRA60A01F205X", scope("it-workstation"))
		if fresh := d.issued(d.pc("0001"), alp); len(fresh.Serial) == 0 {
			t.Error("the name did not get free")
		}
	})
	d.reopen()
}

// Persons may have a certificate renewed at any time, and what the key alone may do counts from then.
func TestRenewalWithApprovals(t *testing.T) {
	d := newDesk(t)
	pc := d.renewable("0001")
	raw, g, _ := d.renewal(pc, pc.key, nil)
	alone := d.approve(d.alp, nil, nil, raw) // origin current: nobody has to compare a fingerprint
	if a := d.answer(with(g, alone)).of(t, raw); a.result.Outcome != protocol.OutcomeIssued {
		t.Fatalf("approved: %+v", a.result.Refusal)
	}
	held := d.renewable("0002")
	hold := d.encode(d.about(protocol.KindHold, held.made, protocol.Revocation{Serial: held.id.Serial}))
	raw, g, _ = d.renewal(held, held.key, nil)
	g.Approvals = [][]byte{d.approve(d.alp, nil, nil, raw)}
	d.answer(d.taken(hold, d.alp))
	d.refused(raw, protocol.CodeNotActive, g)
	t.Run("what failed takes nothing from another in its batch", func(t *testing.T) {
		pc := d.renewable("0003")
		bad, first, _ := d.renewal(pc, pc.key, func(_ *protocol.Request, c *protocol.Issuance) { c.CSR = csrFor(t, d.officers[0].key) })
		good, second, _ := d.renewal(pc, pc.key, nil)
		r := d.answer(with(first, d.approve(d.alp, nil, nil, bad)), with(second, d.approve(d.alp, nil, nil, good)))
		wants(t, r.of(t, bad).result.Refusal, protocol.CodeKeyKnown)
		if r.of(t, good).result.Outcome != protocol.OutcomeIssued {
			t.Errorf("%+v", r.of(t, good).result.Refusal)
		}
	})
	d.reopen()
}

// The current key alone renews no longer than the policy says since persons last approved.
func TestRenewalTooLongWithoutPersons(t *testing.T) {
	p := deskPolicy(t)
	for i := range p.Profiles {
		if p.Profiles[i].Name == "it-workstation" {
			p.Profiles[i].Renew = policy.Renewal{WindowDays: 60, SinceDays: 800}
		}
	}
	d := &desk{world: newWorldUnder(t, time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC), p), requests: map[string]protocol.Request{}}
	d.root, d.issuing = d.cas()
	d.enrol()
	d.alp = d.approver(d.issuing, "it:RSSCRL70A41H501X", scope("it-workstation"))
	pc := d.renewable("0001")
	d.pass(pc.end.Add(-30 * day))
	raw, g, key := d.renewal(pc, pc.key, nil)
	a := d.answer(g).of(t, raw)
	if a.result.Outcome != protocol.OutcomeIssued {
		t.Fatalf("the first: %+v", a.result.Refusal)
	}
	pc = renewing{pc.made, key, protocol.CertificateID{Issuer: a.result.Issuer, Serial: a.result.Serial}, must[*x509.Certificate](t)(x509.ParseCertificate(a.result.Certificate)).NotAfter}
	d.pass(pc.end.Add(-30 * day))
	raw, g, _ = d.renewal(pc, pc.key, nil)
	d.refused(raw, protocol.CodeRenewalTooOld, g)
	alp := d.approver(d.issuing, "it:BRTSRA60A01F205X", scope("it-workstation"))
	if a := d.answer(with(g, d.approve(alp, nil, nil, raw))).of(t, raw); a.result.Outcome != protocol.OutcomeIssued {
		t.Errorf("with an approval: %+v", a.result.Refusal)
	}
	d.reopen()
}
