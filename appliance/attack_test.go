package appliance_test

import (
	"bytes"
	"testing"

	"coldseal/protocol"
	"coldseal/protocol/cose"
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
