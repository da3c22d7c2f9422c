package appliance_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"coldseal/appliance"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
)

// FuzzProcess has hostile requests approved by everybody there is, and brings them as an agent and as nobody known:
// whatever is in them, the engine answers, without a fault, and the ledger stays a fold of its log.
func FuzzProcess(f *testing.F) {
	d := newDesk(f)
	pc, robot := d.pc("0001"), d.robot("0001", newKey(f), nil)
	serial := d.issued(pc, d.alp).Serial
	hold := d.about(protocol.KindHold, pc, protocol.Revocation{Serial: serial})
	renewal := d.pc("0001")
	c, _ := renewal.Issuance()
	c.Renews = &protocol.CertificateID{Issuer: d.issuing, Serial: serial}
	renewal.Kind, renewal.Content = protocol.KindRenew, must[[]byte](f)(cose.Marshal(c))
	withdraw := d.request(protocol.KindWithdraw, protocol.Withdrawal{Request: protocol.Digest{1}})
	withdraw.Body = unit
	approver := d.issue(d.issuing, "approver", unit, "it:FUZZED", protocol.Issuance{
		CSR: csrFor(f, newKey(f)), Fields: d.approverFields(), Origin: protocol.OriginHolder, Scopes: []protocol.Scope{scope("it-server")},
	})
	crl := d.request(protocol.KindCRL, protocol.CRLOrder{})
	crl.Issuer = d.root
	ca := d.request(protocol.KindSignCA, protocol.SignCA{Key: d.issuing, Fields: d.caFields("issuing-ca")})
	ca.Issuer, ca.Profile, ca.ProfileDigest = d.root, "issuing-ca", d.digestOf("issuing-ca")
	for _, r := range []protocol.Request{
		d.pc("0002"), robot, renewal, hold, withdraw, approver, crl, ca,
		d.about(protocol.KindRevoke, pc, protocol.Revocation{Serial: serial, Reason: protocol.ReasonKeyCompromise, Since: 1}),
		d.about(protocol.KindRelease, pc, protocol.Release{Serial: serial, Hold: 7}),
		d.request(protocol.KindCreateKey, protocol.CreateKey{Label: "more", Algorithm: "Ed25519"}),
		d.request(protocol.KindAgent, protocol.Enrolment{Party: d.engine.State().Parties["desk"]}),
	} {
		f.Add(d.encode(r), uint16(r.Kind), uint64(0))
	}
	d.limit(1e9, 1e9)
	for seed := range uint64(100) {
		r := d.pc("0002")
		if seed%3 == 0 {
			r = approver
		}
		f.Add(d.encode(r), uint16(seed), seed)
	}
	approvers := []*person{d.officers[0], d.officers[1], d.officers[2], d.alp, d.rao}
	process := func(t *testing.T, bundle []byte) appliance.Outcome {
		out, err := d.engine.Process(spool{bytes.NewReader(bundle)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	n := 0
	f.Fuzz(func(t *testing.T, raw []byte, bits uint16, seed uint64) {
		d.t = t
		defer func() { d.t = f }()
		var group protocol.Group
		r, refusal := protocol.ParseRequest(raw)
		if refusal == nil && seed != 0 {
			change(&r, rand.New(rand.NewPCG(seed, 0)))
			if p, found := d.policy.Profile(r.Profile); found && r.Kind.NamesProfile() {
				r.ProfileDigest = must[protocol.Digest](t)(p.Digest())
			}
			raw = must[[]byte](t)(cose.Marshal(r))
			_, refusal = protocol.ParseRequest(raw)
		}
		if refusal == nil {
			if r.Kind == protocol.KindRoster || r.Kind == protocol.KindPolicy || r.Kind == protocol.KindSetTime {
				return // they would end the world that the others need
			}
			group.Section = protocol.SectionOf(r.Kind)
			var challenge []byte
			if r.Kind.IsOrder() {
				challenge = must[[]byte](t)(d.engine.Challenge())
			}
			for _, p := range approvers {
				group.Approvals = append(group.Approvals, d.approve(p, challenge, both, raw))
			}
			if r.Kind.IsOrder() && bits&1 == 0 {
				if _, err := d.engine.Order(raw, group.Approvals); err != nil {
					t.Fatal(err)
				}
				return
			}
		} else {
			group.Section = protocol.Section(1 + bits%3)
			group.Approvals = [][]byte{raw}
		}
		item := protocol.Item{Request: raw}
		if bits&2 != 0 {
			item.Current = must[[]byte](t)(protocol.SignID(d.alp.key, protocol.ContextCurrentKey, protocol.ID(raw)))
		}
		if bits&4 != 0 {
			item.Requester = must[[]byte](t)(protocol.SignID(d.rao.key, protocol.ContextRequester, protocol.ID(raw)))
		}
		data := must[[]byte](t)(cose.Marshal(item))
		if len(data) > protocol.MaxItem {
			return
		}
		group.Items = [][]byte{data, raw[:min(len(raw), protocol.MaxItem)], data}
		if bits&8 != 0 {
			process(t, d.sealBy(d.officers[0].key, func(*protocol.BundleHeader) {}, group))
		}
		issued := d.logged(auditlog.Issued)
		if out := process(t, d.seal(group)); out.Refusal != nil {
			t.Fatal(out.Refusal.Words())
		}
		if got := d.logged(auditlog.Issued); got > issued+1 {
			t.Fatalf("%d certificates for one request", got-issued)
		}
		d.response(d.sequence)
		if n++; n%64 == 0 {
			d.reopen()
		}
	})
}

// change changes some of a request in ways that its form allows.
func change(r *protocol.Request, random *rand.Rand) {
	texts := []string{"", "x", "it", unit, "it/058091/x", "058091-PC-0002", "it:X", "it:OFFICER1", "058091-PC-0001", "\u202e", "a\x00b", "K", "\u212a", "ſ", "xn--a", "0002",
		"\xff", "*", "🂡", "a b", " a", "é", "e\u0301", string(bytes.Repeat([]byte("ä"), 128))}
	text := func() string { return texts[random.IntN(len(texts))] }
	times := []int64{-1, 0, 1, r.Created - 86400*400, r.Created, r.Created + 86400*29, r.Created + 86400*800, protocol.MaxTime, 1<<63 - 1}
	at := func() int64 { return times[random.IntN(len(times))] }
	for range 1 + random.IntN(3) {
		switch random.IntN(9) {
		case 0:
			r.Body = text()
		case 1:
			r.Subject = text()
		case 2:
			r.Profile = []string{"it-workstation", "it-server", "approver", "root", "station", "gr-public-servant", "ocsp-responder"}[random.IntN(7)]
		case 3:
			r.Issuer[random.IntN(32)] ^= 1
		case 4:
			r.Created, r.Expires = at(), at()
		case 5:
			r.Kind = protocol.Kind(1 + random.IntN(24))
		case 6:
			if len(r.Content) > 0 {
				r.Content = bytes.Clone(r.Content)
				r.Content[random.IntN(len(r.Content))] ^= byte(1 + random.IntN(255))
			}
		default:
			c, refusal := r.Issuance()
			if refusal != nil {
				continue
			}
			switch random.IntN(7) {
			case 0:
				c.Fields = map[string]string{text(): text(), "number": text(), "name": text()}
			case 1:
				c.NotBefore = at()
			case 2:
				c.NotAfter = at()
			case 3:
				c.Origin = protocol.Origin(random.IntN(7))
			case 4:
				c.Scopes = append(c.Scopes, protocol.Scope{Profile: text(), Body: text()})
			case 5:
				c.Evidence = []byte(text())
			case 6:
				c.CSR = bytes.Clone(c.CSR)
				c.CSR[random.IntN(len(c.CSR))] ^= byte(1 << random.IntN(8))
			}
			r.Content, _ = cose.Marshal(c)
		}
	}
}
