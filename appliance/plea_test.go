package appliance_test

import (
	"fmt"

	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// plea is a request as it stands in a bundle, with what came with it.
type plea struct {
	section   protocol.Section
	items     [][]byte
	approvals [][]byte
}

func (p plea) group() protocol.Group {
	return protocol.Group{Section: p.section, Approvals: p.approvals, Items: p.items}
}

func pleaOf(g protocol.Group) plea { return plea{g.Section, g.Items, g.Approvals} }

// pleas makes requests with approvals, good ones and others, new ones every time. Of withdrawals there are none: they
// need no approval.
type pleas struct {
	*watch
	number    int                // of machines and persons
	standing  []protocol.Request // issued, and free to be taken away
	held      []protocol.Request // holds that were approved in the last wave
	challenge []byte

	ended, onHold, once *person // approvers: revoked, on hold, of whom a single officer approved
	stationed           *person // a station's key
	elsewhere           protocol.Digest
}

// newPleas has the people that are needed made, and begins to watch.
func newPleas(d *desk) *pleas {
	p := &pleas{watch: newWatch(d), elsewhere: protocol.DigestOf([]byte("another appliance"))}
	p.ended = d.approver(d.issuing, "it:NRIFNC60A01F205X", scope("it-robot"), scope("it-workstation"))
	d.takeApprover(p.ended, protocol.KindRevoke)
	p.onHold = d.approver(d.issuing, "it:GLLMRA60A01F205X", scope("it-robot"), scope("it-workstation"))
	d.takeApprover(p.onHold, protocol.KindHold)
	p.once = &person{id: "it:VRDGPP60A01F205X", key: newKey(d.t)}
	p.stationed = &person{id: "station", key: newKey(d.t)}
	d.mustOrder(d.request(protocol.KindStation, protocol.Enrolment{Party: must[[]byte](d.t)(cose.Marshal(protocol.Party{
		Version: 1, Name: "station", Role: protocol.RoleStation, Seal: spki(d.t, p.stationed.key), Bodies: []string{"it"},
	}))}))
	raw := p.approverRequest(p.once, scope("it-workstation"))
	if a := d.answer(group(raw, d.approve(d.officers[0], nil, both, raw))).of(d.t, raw); a.result.Outcome != protocol.OutcomeRefused {
		d.t.Fatal("one officer made an approver")
	}
	p.watch = newWatch(d)
	return p
}

func (p *pleas) next() string {
	p.number++
	return fmt.Sprintf("%04d", p.number%10000)
}

func (p *pleas) workstation() []byte { return p.encode(p.pc(p.next())) }

func (p *pleas) approverRequest(who *person, scopes ...protocol.Scope) []byte {
	c := protocol.Issuance{CSR: csrFor(p.t, who.key), Fields: p.approverFields(), Origin: protocol.OriginHolder, Scopes: scopes}
	return p.encode(p.issue(p.issuing, "approver", unit, who.id, c))
}

func (p *pleas) stranger() *person {
	p.number++
	return &person{id: fmt.Sprintf("it:STRANGER%d", p.number), key: newKey(p.t)}
}

// stationRobot is a robot whose key a station vouches for; about is what the station says the subject is.
func (p *pleas) stationRobot(about string) []byte {
	number, key := p.next(), newKey(p.t)
	return p.encode(p.robot(number, key, func(c *protocol.Issuance) {
		statement := protocol.KeyStatement{Appliance: p.engine.Appliance(), Key: protocol.DigestOf(spki(p.t, key)), CardSerial: "1", Subject: about + number}
		c.Origin = protocol.OriginStation
		c.Evidence = must[[]byte](p.t)(cose.Sign(p.stationed.key, protocol.ContextKeyStatement, must[[]byte](p.t)(cose.Marshal(statement))))
	}))
}

const robotName = "058091-RB-"

// good makes a wave of what is approved, and so has to be done: of each kind some.
func (p *pleas) good() (all []plea) {
	add := func(raw []byte, what string, g protocol.Group) {
		p.must(raw, what)
		all = append(all, pleaOf(g))
	}
	for range 20 {
		raw := p.workstation()
		add(raw, "workstation", p.desk.approved(raw, p.alp))
	}
	var raws [][]byte
	several := plea{section: protocol.SectionRequests}
	for range 4 {
		raw := p.workstation()
		p.must(raw, "workstation among others")
		raws, several.items = append(raws, raw), append(several.items, group(raw).Items...)
	}
	several.approvals = [][]byte{p.approve(p.alp, nil, fingerprint, raws...)}
	all = append(all, several)
	for range 3 {
		raw := p.encode(p.robot(p.next(), newKey(p.t), nil))
		add(raw, "robot", p.desk.approved(raw, p.alp, p.rao))
	}
	raw := p.stationRobot(robotName)
	add(raw, "robot of a station", p.desk.approved(raw, p.alp, p.rao))
	raw = p.approverRequest(p.stranger(), scope("it-workstation"))
	add(raw, "approver", group(raw, p.approve(p.officers[0], nil, both, raw), p.approve(p.officers[1], nil, both, raw)))
	p.challenge = must[[]byte](p.t)(p.engine.Challenge())
	var stands protocol.CRLOrder
	if err := p.engine.CRLs(func(label string, _ uint16, crl store.CRL) error {
		if label == "root" {
			stands.Replaces = protocol.DigestOf(crl.DER)
		}
		return nil
	}); err != nil {
		p.t.Fatal(err)
	}
	order := p.request(protocol.KindCRL, stands)
	order.Issuer = p.root
	raw = p.encode(order)
	add(raw, "order", group(raw, p.by(raw, p.officers[0], p.officers[1])(p.challenge)...))
	return append(all, p.changes()...)
}

// changes are about what was issued in the wave before: some are renewed, some taken away, and a hold ends.
func (p *pleas) changes() (all []plea) {
	add := func(raw []byte, what string) {
		p.must(raw, what)
		g := p.taken(raw, p.alp)
		if r, _ := protocol.ParseRequest(raw); r.Kind == protocol.KindRenew {
			g = p.desk.approved(raw, p.alp)
		}
		all = append(all, pleaOf(g))
	}
	for _, hold := range p.held {
		content, _ := hold.Revocation()
		add(p.encode(p.about(protocol.KindRelease, hold, protocol.Release{Serial: content.Serial, Hold: p.places[protocol.ID(p.encode(hold))]})), "release")
	}
	p.held = nil
	for i, made := range p.standing {
		serial := p.serials[protocol.ID(p.encode(made))]
		switch {
		case i < 2:
			c, _ := made.Issuance()
			c.CSR, c.Renews = csrFor(p.t, newKey(p.t)), &protocol.CertificateID{Issuer: p.issuing, Serial: serial}
			r := made
			r.Kind, r.Content = protocol.KindRenew, must[[]byte](p.t)(cose.Marshal(c))
			add(p.encode(r), "renewal")
		case i < 4:
			add(p.encode(p.about(protocol.KindRevoke, made, protocol.Revocation{Serial: serial, Reason: protocol.ReasonSuperseded})), "revocation")
		default:
			hold := p.about(protocol.KindHold, made, protocol.Revocation{Serial: serial})
			add(p.encode(hold), "hold")
			p.held = append(p.held, hold)
		}
	}
	return all
}

// bad are validly signed, every one, and not enough: none of it may be done, nor anything that is made of it.
func (p *pleas) bad() (all []plea) {
	d := p.desk
	add := func(g protocol.Group) { all = append(all, pleaOf(g)) }
	pc := func(make func(raw []byte) [][]byte) {
		raw := p.workstation()
		add(group(raw, make(raw)...))
	}
	by := func(who *person) {
		pc(func(raw []byte) [][]byte { return [][]byte{d.approve(who, nil, fingerprint, raw)} })
	}
	changed := func(change func(*protocol.Approval)) {
		pc(func(raw []byte) [][]byte { return [][]byte{d.approveChanged(d.alp, change, fingerprint, raw)} })
	}
	for _, who := range []*person{d.rao, d.suspended, d.narrow, d.officers[0], p.ended, p.onHold, p.once, p.stationed, {id: d.alp.id, key: d.agent}, p.stranger()} {
		by(who)
	}
	changed(func(a *protocol.Approval) { a.Appliance = p.elsewhere })
	changed(func(a *protocol.Approval) { a.Created, a.Expires = a.Created-100, a.Created-1 })
	changed(func(a *protocol.Approval) { a.Created += 1000 })
	changed(func(a *protocol.Approval) { a.Entries[0].Statements = nil })
	changed(func(a *protocol.Approval) { a.Manifest[0].Profile = "it-server" })
	changed(func(a *protocol.Approval) { a.Entries[0].ID[0] ^= 1 })
	for _, context := range []string{protocol.ContextRequester, protocol.ContextCurrentKey, protocol.ContextPossession, protocol.ContextBundle, protocol.ContextKeyStatement} {
		pc(func(raw []byte) [][]byte {
			a, refusal := protocol.OpenApproval(d.approve(d.alp, nil, fingerprint, raw), must[cose.Key](d.t)(cose.NewKey(d.alp.key.Public())))
			if refusal != nil {
				d.t.Fatal(refusal.Words())
			}
			payload := must[[]byte](d.t)(a.Encode())
			return [][]byte{must[[]byte](d.t)(cose.Sign(d.alp.key, context, payload)), must[[]byte](d.t)(protocol.SignID(d.alp.key, context, protocol.ID(raw)))}
		})
	}
	pc(func([]byte) [][]byte { return nil })
	robot := func(people ...*person) {
		raw := p.encode(p.robot(p.next(), newKey(p.t), nil))
		add(d.approved(raw, people...))
	}
	robot(d.alp)
	robot(d.alp, d.alp)
	robot(d.alp, d.suspended, p.ended)
	raw := p.stationRobot("058091-RB-9")
	add(d.approved(raw, d.alp, d.rao))
	raw = p.encode(p.robot(p.next(), newKey(p.t), func(c *protocol.Issuance) { c.Origin = protocol.OriginAttested }))
	add(d.approved(raw, d.alp, d.rao))
	raw = p.approverRequest(p.stranger(), scope("it-workstation"))
	add(group(raw, d.approve(d.officers[0], nil, both, raw)))
	raw = p.approverRequest(p.stranger(), scope("it-workstation"))
	add(group(raw, d.approve(d.officers[0], nil, both, raw), d.approve(d.narrow, nil, presence, raw)))
	r := p.pc(p.next())
	r.ProfileDigest[0] ^= 1
	raw = p.encode(r)
	add(d.approved(raw, d.alp))
	r = p.pc(p.next())
	r.Appliance = p.elsewhere
	raw = p.encode(r)
	add(group(raw, d.approveChanged(d.alp, func(a *protocol.Approval) { a.Appliance = p.elsewhere }, fingerprint, raw)))
	for _, made := range p.standing {
		serial := p.serials[protocol.ID(p.encode(made))]
		raw = d.encode(d.about(protocol.KindRevoke, made, protocol.Revocation{Serial: serial}))
		add(d.taken(raw, d.rao))
		raw = d.encode(d.about(protocol.KindHold, made, protocol.Revocation{Serial: serial}))
		add(group(raw, d.approveChanged(d.alp, func(a *protocol.Approval) { a.Appliance = p.elsewhere }, nil, raw)))
	}
	create := d.encode(d.request(protocol.KindCreateKey, protocol.CreateKey{Label: "more", Algorithm: "P-256"}))
	add(group(create, d.by(create, d.officers[0], d.officers[1])(nil)...))
	create = d.encode(d.request(protocol.KindCreateKey, protocol.CreateKey{Label: "more", Algorithm: "P-256"}))
	add(group(create, d.by(create, d.officers[0], d.alp)(p.challenge)...))
	agent := d.encode(d.request(protocol.KindAgent, protocol.Enrolment{Party: d.engine.State().Parties["desk"]}))
	add(group(agent, d.by(agent, d.officers[0], d.officers[0])(p.challenge)...))
	return all
}

// presence is the statement of an approver who did not compare fingerprints.
var presence = []protocol.Statement{protocol.StatementPresence}

// keep remembers some of what a wave issued, for the changes of the next.
func (p *pleas) keep(wave []plea) {
	p.standing = nil
	for _, one := range wave[:5] {
		item, _ := protocol.ParseItem(one.items[0])
		made, _ := protocol.ParseRequest(item.Request)
		p.standing = append(p.standing, made)
	}
}
