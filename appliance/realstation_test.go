package appliance_test

import (
	"slices"
	"testing"

	"coldseal/protocol"
	"coldseal/protocol/cose"
	"coldseal/protocol/csr"
)

// TestStationVouches has an enrolled station state whose card a key is on (law 2), and every statement that must not
// count, about the same request.
func TestStationVouches(t *testing.T) {
	t.Parallel()
	w := newRealWorld(t, "P-256", bearers(2))
	desk, stranger, away := newKey(t), newKey(t), newKey(t)
	enrol := func(name string, party protocol.Party, replaces []byte) []byte {
		t.Helper()
		party.Version, party.Name, party.Role = 1, name, protocol.RoleStation
		record := must[[]byte](t)(cose.Marshal(party))
		order := protocol.Enrolment{Party: record}
		if replaces != nil {
			order.Replaces = protocol.DigestOf(replaces)
		}
		w.mustOrder(w.request(protocol.KindStation, order))
		return record
	}
	record := enrol("counter", protocol.Party{Seal: spki(t, desk), Bodies: []string{unit}}, nil)
	enrol("elsewhere", protocol.Party{Seal: spki(t, away), Bodies: []string{"gr"}}, nil)

	approver := usages()[0]
	x := &wish{usage: approver, n: 1, bearer: bearers(2), key: "P-384", file: "keytool-p384-plain.csr"}
	key := must[*csr.Request](t)(csr.Check(readCSR(t, x.file)))
	good := protocol.KeyStatement{Appliance: w.engine.Appliance(), Key: protocol.DigestOf(key.SPKI), CardSerial: "0011223344", Subject: x.subject(x.n)}
	evidence := func(by *person, context string, change func(*protocol.KeyStatement)) []byte {
		t.Helper()
		s := good
		if change != nil {
			change(&s)
		}
		return must[[]byte](t)(cose.Sign(by.key, context, must[[]byte](t)(cose.Marshal(s))))
	}
	counter, context := &person{key: desk}, protocol.ContextKeyStatement
	flipped := slices.Clone(evidence(counter, context, nil))
	flipped[len(flipped)-1] ^= 1
	send := func(evidence []byte) protocol.Result {
		t.Helper()
		c := protocol.Issuance{
			CSR: readCSR(t, x.file), Fields: x.fields(x.n, x.bearer), Origin: protocol.OriginStation, Evidence: evidence,
			Scopes: []protocol.Scope{{Profile: "it-workstation", Body: unit}},
		}
		raw := w.encode(w.issue(w.issuing, x.profile, x.body, x.subject(x.n), c))
		return w.send(group(raw, w.approve(w.officers[0], nil, both, raw), w.approve(w.officers[1], nil, both, raw)))[protocol.ID(raw)]
	}
	refused := func(what string, evidence []byte) {
		t.Helper()
		if r := send(evidence); r.Refusal == nil || r.Refusal.Code != protocol.CodeKeyNotVouched {
			t.Errorf("%s: %s, %v", what, r.Outcome, r.Refusal)
		}
	}
	refused("no statement", nil)
	refused("not a statement", []byte{0x80})
	refused("a station that is not enrolled", evidence(&person{key: stranger}, context, nil))
	refused("a station of other bodies", evidence(&person{key: away}, context, nil))
	refused("an officer", evidence(w.officers[0], context, nil))
	refused("the agent", evidence(&person{key: w.agent}, context, nil))
	refused("a flipped bit", flipped)
	refused("another purpose", evidence(counter, protocol.ContextApproval, nil))
	refused("another appliance", evidence(counter, context, func(s *protocol.KeyStatement) { s.Appliance[0] ^= 1 }))
	refused("another key", evidence(counter, context, func(s *protocol.KeyStatement) { s.Key[31] ^= 1 }))
	refused("another subject", evidence(counter, context, func(s *protocol.KeyStatement) { s.Subject = "it:SOMEBODYELSE" }))

	x.result = send(evidence(counter, context, nil))
	x.check(t)
	j := newTrial(t, "P-256", w.caCertificates())
	j.addCRLs(w.crls())
	j.add(x)
	j.all()

	enrol("counter", protocol.Party{Seal: spki(t, desk), Bodies: []string{unit}, Retired: true}, record)
	x = &wish{usage: approver, n: 2, bearer: bearers(1), key: "P-256", file: "certutil-p256-plain.csr"}
	key = must[*csr.Request](t)(csr.Check(readCSR(t, x.file)))
	good.Key, good.Subject = protocol.DigestOf(key.SPKI), x.subject(x.n)
	refused("a retired station", evidence(counter, context, nil))
}
