package appliance_test

import (
	"bytes"
	"time"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
)

// approveChanged is approve with something else than what the person was shown.
func (w *world) approveChanged(p *person, change func(*protocol.Approval), statements []protocol.Statement, requests ...[]byte) []byte {
	w.t.Helper()
	message := w.approve(p, nil, statements, requests...)
	a, refusal := protocol.OpenApproval(message, must[cose.Key](w.t)(cose.NewKey(p.key.Public())))
	if refusal != nil {
		w.t.Fatal(refusal.Words())
	}
	change(&a)
	return must[[]byte](w.t)(cose.Sign(p.key, protocol.ContextApproval, must[[]byte](w.t)(cose.Marshal(a))))
}

// approverBy is an approver certificate that two persons approve, refused in one place and then approved by officers
// who may.
func (d *desk) approverBy(id string, statements []protocol.Statement, granted protocol.Scope, people ...*person) wrong {
	d.t.Helper()
	c := protocol.Issuance{CSR: csrFor(d.t, newKey(d.t)), Fields: d.approverFields(), Origin: protocol.OriginHolder}
	if granted.Profile != "" {
		c.Scopes = []protocol.Scope{granted}
	}
	raw := d.encode(d.issue(d.issuing, "approver", unit, id, c))
	by := func(statements []protocol.Statement, people ...*person) []protocol.Group {
		return one(group(raw, d.approve(people[0], nil, statements, raw), d.approve(people[1], nil, statements, raw)))
	}
	w := wrong{raw: raw, groups: by(statements, people...), mended: by(both, d.officers[1], d.officers[2])}
	if granted.Profile == "" {
		w.mended = nil
	}
	return w
}

// takeApprover takes an approver's certificate away.
func (d *desk) takeApprover(p *person, kind protocol.Kind) {
	d.t.Helper()
	r := d.request(kind, protocol.Revocation{Serial: p.serial})
	r.Issuer, r.Profile, r.Body, r.Subject = d.issuing, "approver", unit, p.id
	raw := d.encode(r)
	if a := d.answer(d.taken(raw, d.officers[0])).of(d.t, raw); a.result.Refusal != nil {
		d.t.Fatal(a.result.Refusal.Words())
	}
}

// made gives the latest request for a workstation with this number; serial gives what was issued to it.
func (d *desk) made(number string) protocol.Request {
	d.t.Helper()
	r, found := d.requests["058091-PC-"+number]
	if !found {
		d.t.Fatalf("no workstation %s was asked for", number)
	}
	return r
}

func (d *desk) serial(r protocol.Request) (serial []byte) {
	d.t.Helper()
	id := protocol.ID(d.encode(r))
	if err := d.engine.EachLeaf(0, func(_ uint64, data, salted []byte) error {
		leaf, err := auditlog.ParseLeaf(data)
		if err != nil || leaf.Kind != auditlog.Issued {
			return err
		}
		if result, err := protocol.ParseResult(salted[16:]); err == nil && result.ID == id {
			serial = bytes.Clone(leaf.Serial)
		}
		return nil
	}); err != nil {
		d.t.Fatal(err)
	}
	if serial == nil {
		d.t.Fatalf("nothing was issued to %s", r.Subject)
	}
	return serial
}

// party orders a change of the agent's record.
func (d *desk) party(change func(*protocol.Party)) {
	d.t.Helper()
	record := d.engine.State().Parties["desk"]
	p := must[protocol.Party](d.t)(protocol.ParseParty(record))
	change(&p)
	d.mustOrder(d.request(protocol.KindAgent, protocol.Enrolment{Replaces: protocol.DigestOf(record), Party: must[[]byte](d.t)(cose.Marshal(p))}))
}

func (d *desk) limit(bundles, items uint64) {
	d.t.Helper()
	d.party(func(p *protocol.Party) { p.BundlesPerDay, p.ItemsPerDay = bundles, items })
}

func (d *desk) retire() {
	d.t.Helper()
	d.party(func(p *protocol.Party) { p.Retired = true })
}

// pass lets time pass, with a bundle now and then: the gate does not believe a clock that jumps.
func (d *desk) pass(to time.Time) {
	d.t.Helper()
	for d.now.Before(to) {
		d.now = d.now.Add(min(300*day, to.Sub(d.now)))
		d.answer()
	}
}
