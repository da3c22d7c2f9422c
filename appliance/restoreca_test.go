package appliance_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"coldseal/appliance"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
)

// TestCAsSinceTheBackup restores a log in which officers took CAs away and certified others after the backup. What the
// leaves say of it holds, whether or not the orders came back: what is revoked stays so, what is known by nothing but its
// serial can be revoked.
func TestCAsSinceTheBackup(t *testing.T) {
	d := newDesk(t)
	o := d.outside()
	d.under("issuing-2")
	second := d.newCA("issuing-2", d.root, "issuing-ca")
	cross := func() []byte {
		t.Helper()
		return d.mustOrder(d.crossing(d.root, d.foreignCA(newKey(t), nil).Raw, nil)).Serial
	}
	revoking := func(d *desk, serial []byte) protocol.Request {
		r := d.request(protocol.KindRevokeCA, protocol.CARevocation{Serial: serial, Reason: protocol.ReasonCACompromise})
		r.Issuer = d.root
		return r
	}
	old := cross()
	o.send()
	s := d.backup()
	from := s.backup.Size

	intermediate := d.certificateOf(second).SerialNumber.Bytes()
	d.mustOrder(revoking(d, intermediate))
	d.mustOrder(revoking(d, old))
	gone, kept, other := cross(), cross(), cross()
	d.mustOrder(revoking(d, gone))
	before := d.newest("root")
	o.send()
	export := d.exported()
	d.die()

	for name, c := range map[string]struct {
		lost   uint64
		reason int
		take   func(n *desk) error
	}{
		"leaves": {6, 0, func(n *desk) error {
			_, err := n.bring(map[string][]byte{"desk": o.file(from, withItems)})
			return err
		}},
		"export": {0, int(protocol.ReasonCACompromise), func(n *desk) error {
			src := must[appliance.Source](t)(n.engine.ExportedLog("export", bytes.NewReader(export)))
			defer src.Close()
			_, err := n.engine.TakeLeaves([]appliance.Source{src}, nil)
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			n := d.unpacked(s)
			n.t, n.world.t = t, t
			n.later(time.Hour)
			if err := c.take(n); err != nil {
				t.Fatal(err)
			}
			raw := n.restoreOrder()
			if got := restoration(t, raw); got.Lost != c.lost {
				t.Errorf("%d orders are lost, want %d", got.Lost, c.lost)
			}
			if r := n.consoled(raw, n.officers[0], n.officers[1]); r.Refusal != nil {
				t.Fatal(r.Refusal.Words())
			}
			n.reopen()
			crl := n.newest("root")
			if crl.Number.Cmp(before.Number) <= 0 {
				t.Errorf("CRL %s of the root after %s", crl.Number, before.Number)
			}
			for _, serial := range [][]byte{intermediate, old, gone} {
				if why, listed := reason(crl, serial); !listed || why != c.reason {
					t.Errorf("%x: listed %v with reason %d, want %d", serial, listed, why, c.reason)
				}
			}
			n.later(time.Minute)
			late := n.encode(n.workstation(second, unit, "0002", newKey(t)))
			n.refused(late, protocol.CodeCARevoked, n.approved(late, n.alp))
			n.refusedOrder(revoking(n, intermediate), protocol.CodeSuperseded)
			n.refusedOrder(revoking(n, old), protocol.CodeNotOurs)

			var stand [][]byte
			for _, cross := range n.engine.State().Crosses {
				stand = append(stand, cross.Serial)
				if (cross.Certificate == nil) != (c.lost > 0) {
					t.Errorf("%x: its certificate has %d bytes", cross.Serial, len(cross.Certificate))
				}
			}
			if !slices.EqualFunc(stand, [][]byte{kept, other}, bytes.Equal) {
				t.Errorf("%x stand, want %x and %x", stand, kept, other)
			}
			if status := must[appliance.Status](t)(n.engine.Status()); len(status.Crosses) != 2 || (status.Crosses[0].Subject == "") != (c.lost > 0) {
				t.Errorf("%+v", status.Crosses)
			}
			if err := n.engine.Clear(medium(t, t.TempDir())); err != nil {
				t.Error(err)
			}
			n.mustOrder(revoking(n, kept))
			if why, listed := reason(n.newest("root"), kept); !listed || why != int(protocol.ReasonCACompromise) {
				t.Errorf("what was certified since the backup: listed %v with reason %d", listed, why)
			}
			if c.lost > 0 { // nobody knows whose it is: anybody who may approve takes it away
				r := n.request(protocol.KindRevoke, protocol.Revocation{Serial: other})
				r.Issuer, r.Profile, r.Body, r.Subject = n.root, "cross", unit, "a foreign CA"
				raw := n.encode(r)
				if got := n.answer(n.taken(raw, n.officers[0])).of(t, raw).result; got.Outcome != protocol.OutcomeRevoked {
					t.Fatalf("%+v", got.Refusal)
				}
			} else {
				n.mustOrder(revoking(n, other))
			}
			n.refusedOrder(revoking(n, other), protocol.CodeNotOurs)
			n.reopen()
			if stand := n.engine.State().Crosses; len(stand) != 0 || n.logged(auditlog.Restored) != 1 {
				t.Errorf("%d stand yet", len(stand))
			}
		})
	}
}
