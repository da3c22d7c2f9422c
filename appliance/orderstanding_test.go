package appliance_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"maps"
	"math/big"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"coldseal/appliance/signer"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/policy"
)

// under makes a policy in which a CA of this label stands beside root or issuing, and a profile for cross-certificates.
func (d *desk) under(label string) {
	d.t.Helper()
	next := *d.policy
	next.Profiles = slices.Clone(d.policy.Profiles)
	beside, _, _ := strings.Cut(label, "-")
	for i := range next.Profiles {
		if p := &next.Profiles[i]; slices.Contains(p.Issuers, beside) {
			p.Issuers = []string{beside, label}
		}
	}
	roots := []string{"root"}
	if beside == "root" {
		roots = append(roots, label)
	}
	next.Profiles = append(next.Profiles, policy.Profile{
		Name: "cross", Use: policy.UseCross, Issuers: roots,
		Keys: []string{"P-256"}, Days: 365, MaxDays: 3650, KeyUsage: []string{"cRLSign", "keyCertSign"},
		CRLURL: "http://pki.example/{ca}.crl", Lint: []string{"rfc5280"},
	})
	slices.SortFunc(next.Profiles, func(a, b policy.Profile) int { return strings.Compare(a.Name, b.Name) })
	d.mustOrder(d.replacePolicy(&next))
	d.policy = &next
}

// newCA makes a key and a certificate over it, and gives the key's id.
func (d *desk) newCA(label string, issuer protocol.Digest, profile string) protocol.Digest {
	d.t.Helper()
	id := protocol.DigestOf(d.mustOrder(d.request(protocol.KindCreateKey, protocol.CreateKey{Label: label, Algorithm: "P-256"})).Key)
	if issuer.IsZero() {
		issuer = id
	}
	d.certified(id, label, issuer, profile)
	return id
}

// certified has an issuer certify the key of a CA.
func (d *desk) certified(id protocol.Digest, label string, issuer protocol.Digest, profile string) {
	d.t.Helper()
	fields := maps.Clone(d.caFields(profile))
	fields["name"] = "CA " + label
	r := d.request(protocol.KindSignCA, protocol.SignCA{Key: id, Fields: fields})
	r.Issuer, r.Profile, r.ProfileDigest = issuer, profile, d.digestOf(profile)
	d.mustOrder(r)
}

func (d *desk) certificateOf(id protocol.Digest) *x509.Certificate {
	d.t.Helper()
	return must[*x509.Certificate](d.t)(x509.ParseCertificate(d.engine.State().CAs[id].Certificate))
}

func (d *desk) crossing(issuer protocol.Digest, other []byte, change func(*protocol.CrossCertification)) protocol.Request {
	d.t.Helper()
	c := protocol.CrossCertification{Certificate: other}
	if change != nil {
		change(&c)
	}
	r := d.request(protocol.KindCrossCertify, c)
	r.Issuer, r.Profile, r.ProfileDigest = issuer, "cross", d.digestOf("cross")
	return r
}

// foreignCA is a CA that is not ours; parent nil signs itself.
func (d *desk) foreignCA(key crypto.Signer, change func(*x509.Certificate)) *x509.Certificate {
	d.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "Foreign Root"}, NotBefore: d.now.Add(-day), NotAfter: d.now.Add(1000 * day),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte("the key of a foreign CA"),
	}
	if change != nil {
		change(template)
	}
	der := must[[]byte](d.t)(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	return must[*x509.Certificate](d.t)(x509.ParseCertificate(der))
}

// A key is destroyed when nothing under it lives, once and for all.
func TestDestroyKey(t *testing.T) {
	d := newDesk(t)
	destroy := func(id protocol.Digest) protocol.Request {
		return d.request(protocol.KindDestroyKey, protocol.DestroyKey{Key: id})
	}
	d.refusedOrder(destroy(protocol.Digest{1}), protocol.CodeKeyUnknown)
	d.under("issuing-2")
	second := d.newCA("issuing-2", d.root, "issuing-ca")
	d.refusedOrder(destroy(d.root), protocol.CodeKeyInUse)
	d.refusedOrder(destroy(d.issuing), protocol.CodeKeyInUse)
	pc := d.workstation(second, unit, "0001", newKey(t))
	serial := d.issued(pc, d.alp).Serial
	d.refusedOrder(destroy(second), protocol.CodeKeyInUse)
	hold := d.encode(d.about(protocol.KindHold, pc, protocol.Revocation{Serial: serial}))
	d.answer(d.taken(hold, d.alp))
	d.refusedOrder(destroy(second), protocol.CodeKeyInUse)
	revoke := d.encode(d.about(protocol.KindRevoke, pc, protocol.Revocation{Serial: serial}))
	d.answer(d.taken(revoke, d.alp))

	keystore := contents(t, filepath.Join(d.dir, "keys", "keystore"))
	d.mustOrder(destroy(second))
	if _, err := d.config.Signer.Key(second, signer.CA); err == nil {
		t.Error("the signer still has the key")
	}
	d.refusedOrder(destroy(second), protocol.CodeKeyUnknown)
	d.refusedOrder(d.request(protocol.KindCreateKey, protocol.CreateKey{Label: "issuing-2", Algorithm: "P-256"}), protocol.CodeKeyExists)
	crl := d.request(protocol.KindCRL, protocol.CRLOrder{Replaces: protocol.DigestOf(d.newest("issuing-2").Raw)})
	crl.Issuer = second
	d.refusedOrder(crl, protocol.CodeIssuerUnknown)
	late := d.encode(d.workstation(second, unit, "0002", newKey(t)))
	d.refused(late, protocol.CodeIssuerUnknown, d.approved(late, d.alp))
	d.reopen()
	t.Run("interrupted before the signer did it", func(t *testing.T) {
		d.world.t = t
		d.stop()
		restoreTo(t, keystore)
		d.start()
		if _, err := d.config.Signer.Key(second, signer.CA); err != nil {
			t.Fatalf("the key was not put back: %v", err)
		}
		d.open()
		if _, err := d.config.Signer.Key(second, signer.CA); err == nil {
			t.Error("the signer still has the key")
		}
	})
	d.world.t = t
	t.Run("when all has ended", func(t *testing.T) {
		d.world.t = t
		d.pass(d.certificateOf(d.issuing).NotAfter.Add(time.Second))
		d.mustOrder(destroy(d.issuing))
		d.mustOrder(destroy(d.root))
	})
	d.world.t = t
	d.reopen()
}

// namesakes are CAs of somebody else that call themselves like one of ours, or nearly.
func (d *desk) namesakes(key crypto.Signer) map[string]*x509.Certificate {
	d.t.Helper()
	ours := d.certificateOf(d.issuing).Subject
	other := ours
	other.CommonName = "  " + strings.ToUpper(strings.ReplaceAll(ours.CommonName, " ", "   "))
	all := map[string]*x509.Certificate{}
	for name, subject := range map[string]pkix.Name{"the same": ours, "in capitals, with spaces": other} {
		all[name] = d.foreignCA(key, func(c *x509.Certificate) { c.Subject = subject })
	}
	return all
}

// A CA of somebody else gets a certificate by ours, with its own name and key identifier, so that what it issues is
// valid under our root.
func TestCrossCertify(t *testing.T) {
	d := newDesk(t)
	d.under("root-2")
	key := newKey(t)
	foreign := d.foreignCA(key, nil)
	d.mustOrder(d.crossing(d.root, foreign.Raw, nil))
	made := d.engine.State().Crosses
	if len(made) != 1 {
		t.Fatalf("there are %d cross-certificates", len(made))
	}
	cross := must[*x509.Certificate](t)(x509.ParseCertificate(made[0].Certificate))
	if string(cross.RawSubject) != string(foreign.RawSubject) || string(cross.SubjectKeyId) != string(foreign.SubjectKeyId) || !cross.IsCA {
		t.Errorf("it is %+v", cross.Subject)
	}
	leafKey := newKey(t)
	leaf := must[[]byte](t)(x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(9), Subject: pkix.Name{CommonName: "foreign.example"}, NotBefore: d.now, NotAfter: d.now.Add(day),
	}, foreign, leafKey.Public(), key))
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(d.certificateOf(d.root))
	between.AddCert(cross)
	if _, err := must[*x509.Certificate](t)(x509.ParseCertificate(leaf)).Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: d.now.Add(time.Hour), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}); err != nil {
		t.Errorf("what the other CA issued: %v", err)
	}
	t.Run("refused", func(t *testing.T) {
		d.world.t = t
		d.refusedOrder(d.crossing(d.root, []byte{0x30, 0}, nil), protocol.CodeCAInvalid)
		d.refusedOrder(d.crossing(d.root, d.foreignCA(key, func(c *x509.Certificate) { c.IsCA = false }).Raw, nil), protocol.CodeCAInvalid)
		d.refusedOrder(d.crossing(d.root, d.foreignCA(key, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }).Raw, nil), protocol.CodeCAInvalid)
		d.refusedOrder(d.crossing(d.root, cross.Raw, nil), protocol.CodeCAInvalid) // signed by another
		d.refusedOrder(d.crossing(d.root, d.certificateOf(d.root).Raw, nil), protocol.CodeCAInvalid)
		d.refusedOrder(d.crossing(protocol.Digest{1}, foreign.Raw, nil), protocol.CodeIssuerUnknown)
		for name, c := range d.namesakes(key) {
			if r := d.order(d.crossing(d.root, c.Raw, nil)); r.Refusal == nil || !strings.Contains(r.Refusal.Words(), "name of our CA issuing") {
				t.Errorf("%s: %+v", name, r)
			}
		}
		other := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
		d.refusedOrder(d.crossing(d.root, d.foreignCA(other, nil).Raw, nil), protocol.CodeKeyType)
		d.refusedOrder(d.crossing(d.root, foreign.Raw, func(c *protocol.CrossCertification) { c.NotAfter = d.now.Add(2000 * day).Unix() }), protocol.CodeValidityOutside)
		r := d.crossing(d.root, foreign.Raw, nil)
		r.Profile, r.ProfileDigest = "issuing-ca", d.digestOf("issuing-ca")
		d.refusedOrder(r, protocol.CodeProfileUnknown)
		r = d.crossing(d.root, foreign.Raw, nil)
		r.ProfileDigest[0]++
		d.refusedOrder(r, protocol.CodeProfileChanged)
	})
	d.world.t = t
	d.reopen()
	t.Run("a new root, with the old one behind it", func(t *testing.T) {
		d.world.t = t
		next := d.newCA("root-2", protocol.Digest{}, "root")
		d.mustOrder(d.crossing(d.root, d.certificateOf(next).Raw, nil))
		d.mustOrder(d.crossing(next, d.certificateOf(d.root).Raw, nil))
		if n := len(d.engine.State().Crosses); n != 3 {
			t.Errorf("there are %d cross-certificates", n)
		}
		for _, id := range []protocol.Digest{d.root, next} {
			crl := d.request(protocol.KindCRL, protocol.CRLOrder{})
			crl.Issuer = id
			d.mustOrder(crl)
		}
		d.newest("root")
		d.newest("root-2")
	})
	d.world.t = t
	d.reopen()
}

// Under a new issuing CA things go on; the old one issues nothing more, and both have CRLs.
func TestRollover(t *testing.T) {
	d := newDesk(t)
	old := d.pc("0001")
	serial := d.issued(old, d.alp).Serial
	d.under("issuing-2")
	second := d.newCA("issuing-2", d.root, "issuing-ca")
	next := *d.policy
	next.Profiles = slices.Clone(d.policy.Profiles)
	for i := range next.Profiles {
		if slices.Contains(next.Profiles[i].Issuers, "issuing") {
			next.Profiles[i].Issuers = []string{"issuing-2"}
		}
	}
	d.mustOrder(d.replacePolicy(&next))
	d.policy = &next
	late := d.encode(d.pc("0002"))
	d.refused(late, protocol.CodeProfileUnknown, d.approved(late, d.alp))
	d.issued(d.workstation(second, unit, "0002", newKey(t)), d.alp)
	revoke := d.encode(d.about(protocol.KindRevoke, old, protocol.Revocation{Serial: serial}))
	d.answer(d.taken(revoke, d.alp))
	if _, listed := reason(d.newest("issuing"), serial); !listed {
		t.Error("the old CA's CRL does not list what was revoked")
	}
	first := d.newest("issuing-2").Number
	d.pass(d.now.Add(20 * day))
	d.answer()
	if again := d.newest("issuing-2").Number; again.Cmp(first) <= 0 {
		t.Errorf("the new CA's CRL is %v after %v", again, first)
	}
	if crl := d.newest("issuing"); crl.ThisUpdate.Unix() != d.now.Unix() {
		t.Errorf("the old CA's CRL is of %v", crl.ThisUpdate)
	}
	d.reopen()
}

// A CA's certificate is revoked by order: nothing more is issued under it, and its issuer's CRL says so at once.
func TestRevokeCA(t *testing.T) {
	d := newDesk(t)
	d.under("issuing-2")
	second := d.newCA("issuing-2", d.root, "issuing-ca")
	revoke := func(issuer protocol.Digest, serial []byte) protocol.Request {
		r := d.request(protocol.KindRevokeCA, protocol.CARevocation{Serial: serial, Reason: protocol.ReasonCACompromise, Since: d.now.Add(-time.Hour).Unix()})
		r.Issuer = issuer
		return r
	}
	serial := d.certificateOf(second).SerialNumber.Bytes()
	d.refusedOrder(revoke(d.root, []byte{1}), protocol.CodeNotOurs)
	d.refusedOrder(revoke(d.issuing, serial), protocol.CodeNotOurs)
	d.refusedOrder(revoke(protocol.Digest{1}, serial), protocol.CodeIssuerUnknown)
	d.refusedOrder(revoke(d.root, d.certificateOf(d.root).SerialNumber.Bytes()), protocol.CodeCAInvalid)
	pc := d.workstation(second, unit, "0001", newKey(t))
	issued := d.issued(pc, d.alp)
	done := d.mustOrder(revoke(d.root, serial))
	if done.Outcome != protocol.OutcomeRevoked || len(done.Receipt) == 0 {
		t.Errorf("%+v", done)
	}
	if why, listed := reason(d.newest("root"), serial); !listed || why != int(protocol.ReasonCACompromise) {
		t.Errorf("on the root's CRL: %v, reason %d", listed, why)
	}
	d.refusedOrder(revoke(d.root, serial), protocol.CodeSuperseded)
	late := d.encode(d.workstation(second, unit, "0002", newKey(t)))
	d.refused(late, protocol.CodeCARevoked, d.approved(late, d.alp))
	t.Run("what it issued can still be revoked", func(t *testing.T) {
		d.world.t = t
		raw := d.encode(d.about(protocol.KindRevoke, pc, protocol.Revocation{Serial: issued.Serial}))
		d.answer(d.taken(raw, d.alp))
		if _, listed := reason(d.newest("issuing-2"), issued.Serial); !listed {
			t.Error("its CRL does not list it")
		}
	})
	d.world.t = t
	t.Run("a cross-certificate", func(t *testing.T) {
		d.world.t = t
		d.mustOrder(d.crossing(d.root, d.foreignCA(newKey(t), nil).Raw, nil))
		cross := must[*x509.Certificate](t)(x509.ParseCertificate(d.engine.State().Crosses[0].Certificate))
		d.mustOrder(revoke(d.root, cross.SerialNumber.Bytes()))
		if len(d.engine.State().Crosses) != 0 {
			t.Error("it still stands")
		}
		if _, listed := reason(d.newest("root"), cross.SerialNumber.Bytes()); !listed {
			t.Error("the root's CRL does not list it")
		}
		d.refusedOrder(revoke(d.root, cross.SerialNumber.Bytes()), protocol.CodeNotOurs)
	})
	d.world.t = t
	d.reopen()
}

// withRecovery orders a roster that names three holders, of whom two recover after ten days.
func (d *desk) withRecovery() (holders []*person) {
	d.t.Helper()
	next := *d.engine.State().CurrentRoster()
	next.Recovery = &policy.Recovery{Persons: 2, Days: 10}
	for _, id := range []string{"it:HOLDER1", "it:HOLDER2", "it:HOLDER3"} {
		p := &person{id: id, key: newKey(d.t)}
		holders = append(holders, p)
		next.Recovery.Holders = append(next.Recovery.Holders, policy.Holder{Person: id, Name: id, Keys: [][]byte{spki(d.t, p.key)}})
	}
	d.mustOrder(d.roster(&next, holders...))
	return holders
}

// Officers who are lost are replaced by those whom the roster names for that, after days in which all could see it.
func TestRecovery(t *testing.T) {
	d := newDesk(t)
	announce := func(next *policy.Roster) protocol.Request {
		return d.request(protocol.KindRecovery, protocol.Recovery{
			Replaces: protocol.DigestOf(d.engine.State().Roster), New: protocol.DigestOf(must[[]byte](t)(policy.EncodeRoster(next))),
		})
	}
	fresh := []*person{{id: "it:NEW1", key: newKey(t)}, {id: "it:NEW2", key: newKey(t)}, {id: "it:NEW3", key: newKey(t)}}
	renewed := func() *policy.Roster {
		standing := d.engine.State().CurrentRoster()
		next := &policy.Roster{Version: 1, Orders: standing.Orders, Recovery: standing.Recovery}
		for _, p := range fresh {
			next.Officers = append(next.Officers, officer(t, p))
		}
		return next
	}
	d.refusedOrder(announce(renewed()), protocol.CodeRosterInvalid) // nobody is named
	holders := d.withRecovery()
	next := renewed()
	raw := d.encode(announce(next))
	for name, people := range map[string][]*person{"officers": d.officers[:2], "one holder": holders[:1], "a holder and an officer": {holders[0], d.officers[0]}} {
		if got := d.ordered(raw, d.by(raw, people...)); got.Refusal == nil || got.Refusal.Code != protocol.CodeApprovalsMissing {
			t.Errorf("%s: %+v", name, got.Refusal)
		}
	}
	create := d.encode(d.request(protocol.KindCreateKey, protocol.CreateKey{Label: "theirs", Algorithm: "P-256"}))
	wants(t, d.ordered(create, d.by(create, holders...)).Refusal, protocol.CodeApprovalsMissing) // nothing else is theirs
	roster := d.encode(d.roster(next, fresh...))
	recovering := append(slices.Clone(holders[:2]), fresh[:2]...)
	wants(t, d.ordered(roster, d.by(roster, recovering...)).Refusal, protocol.CodeApprovalsMissing) // not announced
	if done := d.ordered(raw, d.by(raw, holders[:2]...)); done.Outcome != protocol.OutcomeDone {
		t.Fatalf("announced: %+v", done.Refusal)
	}
	again := d.encode(announce(next))
	wants(t, d.ordered(again, d.by(again, holders[1:]...)).Refusal, protocol.CodeSuperseded)
	wants(t, d.ordered(roster, d.by(roster, recovering...)).Refusal, protocol.CodeRecoveryWaits)
	d.reopen()
	t.Run("officers who are still there answer it", func(t *testing.T) {
		d.world.t = t
		standing := *d.engine.State().CurrentRoster()
		standing.Officers = slices.Clone(standing.Officers)
		standing.Officers[3].Suspended = false
		d.mustOrder(d.roster(&standing))
		if d.engine.State().Announced != (auditlog.Announcement{}) {
			t.Error("the announcement still stands")
		}
		next = renewed()
		raw = d.encode(announce(next))
		d.ordered(raw, d.by(raw, holders[1:]...))
	})
	d.world.t = t
	d.pass(d.now.Add(10*day - time.Second))
	roster = d.encode(d.roster(next, fresh...))
	wants(t, d.ordered(roster, d.by(roster, recovering...)).Refusal, protocol.CodeRecoveryWaits)
	d.pass(d.now.Add(time.Second))
	wants(t, d.ordered(roster, d.by(roster, holders...)).Refusal, protocol.CodeApprovalsMissing) // the new officers decide as well
	wants(t, d.ordered(roster, d.by(roster, holders[0], fresh[0], fresh[1])).Refusal, protocol.CodeApprovalsMissing)
	other := *next
	other.Officers = other.Officers[:3]
	other.Officers[0].Name = "Somebody else"
	strange := d.encode(d.roster(&other, fresh...))
	wants(t, d.ordered(strange, d.by(strange, recovering...)).Refusal, protocol.CodeApprovalsMissing)
	next.Officers[0].Name = "it:NEW1"
	if done := d.ordered(roster, d.by(roster, recovering...)); done.Outcome != protocol.OutcomeDone {
		t.Fatalf("recovered: %+v", done.Refusal)
	}
	create = d.encode(d.request(protocol.KindCreateKey, protocol.CreateKey{Label: "theirs", Algorithm: "P-256"}))
	wants(t, d.ordered(create, d.by(create, d.officers[:2]...)).Refusal, protocol.CodeApprovalsMissing)
	if done := d.ordered(create, d.by(create, fresh[:2]...)); done.Outcome != protocol.OutcomeDone {
		t.Errorf("the new officers: %+v", done.Refusal)
	}
	d.reopen()
}

// A recovery puts others in the place of officers, not of those who recover.
func TestRecoveryKeepsHolders(t *testing.T) {
	d := newDesk(t)
	holders := d.withRecovery()
	next := *d.engine.State().CurrentRoster()
	changed := *next.Recovery
	changed.Days = 1
	next.Recovery = &changed
	raw := d.encode(d.request(protocol.KindRecovery, protocol.Recovery{
		Replaces: protocol.DigestOf(d.engine.State().Roster), New: protocol.DigestOf(must[[]byte](t)(policy.EncodeRoster(&next))),
	}))
	d.ordered(raw, d.by(raw, holders[:2]...))
	d.pass(d.now.Add(11 * day))
	roster := d.encode(d.roster(&next))
	wants(t, d.ordered(roster, d.by(roster, append(slices.Clone(holders[:2]), d.officers[0])...)).Refusal, protocol.CodeRosterInvalid)
	taken := &person{id: "it:OFFICER6", key: holders[0].key}
	thief := *d.engine.State().CurrentRoster()
	thief.Officers = append(slices.Clone(thief.Officers), officer(t, taken))
	d.refusedOrder(d.roster(&thief, taken), protocol.CodeRosterInvalid)
	pc := d.encode(d.workstation(d.issuing, unit, "0007", holders[0].key))
	d.refused(pc, protocol.CodeKeyKnown, d.approved(pc, d.alp)) // approving is all that the key is for
}

// An officer suspends themself, and nobody else.
func TestSuspendOneself(t *testing.T) {
	d := newDesk(t)
	suspend := func(who string) []byte {
		return d.encode(d.request(protocol.KindSuspend, protocol.Suspension{Replaces: protocol.DigestOf(d.engine.State().Roster), Person: who}))
	}
	a, b := d.officers[0], d.officers[1]
	raw := suspend(a.id)
	wants(t, d.ordered(raw, d.by(raw, b, d.officers[2])).Refusal, protocol.CodeApprovalsMissing)
	stranger := suspend("it:NOBODY")
	wants(t, d.ordered(stranger, d.by(stranger, a, b)).Refusal, protocol.CodeApprovalsMissing)
	if done := d.ordered(raw, d.by(raw, a)); done.Outcome != protocol.OutcomeDone {
		t.Fatalf("%+v", done.Refusal)
	}
	create := d.encode(d.request(protocol.KindCreateKey, protocol.CreateKey{Label: "second", Algorithm: "P-256"}))
	wants(t, d.ordered(create, d.by(create, a, b)).Refusal, protocol.CodeApproverSuspended)
	again := suspend(a.id)
	wants(t, d.ordered(again, d.by(again, a)).Refusal, protocol.CodeApproverSuspended)
	// Five are in the roster: one was suspended, one is now. Two of three are left, then none may go.
	raw = suspend(b.id)
	if done := d.ordered(raw, d.by(raw, b)); done.Outcome != protocol.OutcomeDone {
		t.Fatalf("%+v", done.Refusal)
	}
	last := suspend(d.officers[2].id)
	wants(t, d.ordered(last, d.by(last, d.officers[2])).Refusal, protocol.CodeRosterInvalid)
	d.reopen()
}

// A foreign CA is enrolled, changed and retired by its name.
func TestForeignCA(t *testing.T) {
	d := newDesk(t)
	enrol := func(name string, certificate []byte, replaces []byte, retired bool) protocol.Request {
		c := protocol.ForeignEnrolment{CA: must[[]byte](t)(cose.Marshal(protocol.ForeignCA{Version: 1, Name: name, Certificate: certificate, Retired: retired}))}
		if replaces != nil {
			c.Replaces = protocol.DigestOf(replaces)
		}
		return d.request(protocol.KindForeignCA, c)
	}
	key := newKey(t)
	foreign := d.foreignCA(key, nil).Raw
	d.refusedOrder(enrol("ministry", []byte{1}, nil, false), protocol.CodeCAInvalid)
	d.refusedOrder(enrol("ministry", d.foreignCA(key, func(c *x509.Certificate) { c.IsCA = false }).Raw, nil, false), protocol.CodeCAInvalid)
	d.refusedOrder(enrol("ministry", d.certificateOf(d.issuing).Raw, nil, false), protocol.CodeCAInvalid)
	d.refusedOrder(enrol("ministry", foreign, []byte("nothing"), false), protocol.CodeSuperseded)
	for _, c := range d.namesakes(key) {
		d.refusedOrder(enrol("ministry", c.Raw, nil, false), protocol.CodeCAInvalid)
	}
	ours := &x509.Certificate{SerialNumber: big.NewInt(8), Subject: pkix.Name{CommonName: "Another name"}, NotBefore: d.now, NotAfter: d.now.Add(day),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: []byte("the key of a CA of ours")}
	renamed := must[[]byte](t)(x509.CreateCertificate(rand.Reader, ours, ours, d.certificateOf(d.issuing).PublicKey, key))
	d.refusedOrder(enrol("ministry", renamed, nil, false), protocol.CodeCAInvalid)
	d.mustOrder(enrol("ministry", foreign, nil, false))
	record := d.engine.State().Foreign["ministry"]
	d.refusedOrder(enrol("ministry", foreign, nil, true), protocol.CodeSuperseded)
	d.mustOrder(enrol("ministry", foreign, record, true))
	d.reopen()
	ca := must[protocol.ForeignCA](t)(protocol.ParseForeignCA(d.engine.State().Foreign["ministry"]))
	if !ca.Retired || string(ca.Certificate) != string(foreign) {
		t.Errorf("%+v", ca)
	}
}
