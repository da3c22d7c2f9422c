package main

import (
	"testing"
	"time"

	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// A receipt counts for the one request that it is about, and only from the appliance.
func TestVerifyReceipt(t *testing.T) {
	s := newSite(t)
	issuer, serial, now := protocol.Digest{4}, []byte{0x17}, time.Now().Unix()
	ask := func(name string, kind protocol.Kind, serial []byte) protocol.Digest {
		raw := marshal(t, protocol.Request{Version: 1, Appliance: s.digest, Kind: kind, Issuer: issuer, Profile: "it-workstation", Body: "it/058091", Subject: "PC",
			Created: now, Expires: now + 1, Content: marshal(t, protocol.Revocation{Serial: serial})})
		s.write(name, raw)
		return protocol.ID(raw)
	}
	revoke, hold := ask("revoke", protocol.KindRevoke, serial), ask("hold", protocol.KindHold, serial)
	ask("other", protocol.KindRevoke, []byte{0x18})
	s.write("issue", s.issue("it-workstation", "it/058091", "PC", ecKey(t, 40), nil))
	good := protocol.Receipt{Appliance: s.digest, Request: revoke, Outcome: protocol.OutcomeRevoked, Issuer: issuer, Serial: serial, Time: now}
	say := func(name string, change func(r *protocol.Receipt)) {
		r := good
		change(&r)
		s.write(name, must[[]byte](t)(cose.Sign(s.seal, protocol.ContextReceipt, marshal(t, r))))
	}
	say("good", func(*protocol.Receipt) {})
	say("held", func(r *protocol.Receipt) { r.Request, r.Outcome = hold, protocol.OutcomeHeld })
	say("appliance", func(r *protocol.Receipt) { r.Appliance[0] ^= 1 })
	say("request", func(r *protocol.Receipt) { r.Request[0] ^= 1 })
	say("outcome", func(r *protocol.Receipt) { r.Outcome = protocol.OutcomeHeld })
	say("issuer", func(r *protocol.Receipt) { r.Issuer[0] ^= 1 })
	say("serial", func(r *protocol.Receipt) { r.Serial = []byte{0x18} })
	say("issued", func(r *protocol.Receipt) { r.Outcome = protocol.OutcomeIssued })
	s.write("forged", must[[]byte](t)(cose.Sign(s.officers[0], protocol.ContextReceipt, marshal(t, good))))
	s.write("purpose", must[[]byte](t)(cose.Sign(s.seal, protocol.ContextResponse, marshal(t, good))))
	s.write("damaged", s.read("good")[1:])

	const revoked = "verify receipt $KNOWN --request @revoke "
	s.decide([]decided{
		{revoked + "@good", ""},
		{"verify receipt $KNOWN --request @hold @held", ""},
		{"verify receipt $KNOWN --request @hold @good", "receipt"},
		{"verify receipt $KNOWN --request @other @good", "receipt"},
		{revoked + "@appliance", "receipt"},
		{revoked + "@request", "receipt"},
		{revoked + "@outcome", "receipt"},
		{revoked + "@issuer", "receipt"},
		{revoked + "@serial", "receipt"},
		{revoked + "@issued", "receipt"},
		{revoked + "@forged", "signature"},
		{revoked + "@purpose", "signature"},
		{revoked + "@damaged", "receipt"},
		{revoked + "@missing", "input"},
		{"verify receipt $KNOWN --request @issue @good", "malformed"},
		{"verify receipt $KNOWN --request @damaged @good", "malformed"},
		{"verify receipt --introduction @damaged --digest $DIGEST --request @revoke @good", "introduction"},
		{"verify receipt $KNOWN @good", "usage"},
		{"verify receipt --request @revoke @good", "usage"},
		{"verify receipt $KNOWN --request - -", "usage"},
	})
}
