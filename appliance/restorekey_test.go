package appliance_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"coldseal/protocol"
)

// TestRestoreLosesACertificateOfACA restores a box whose backup has the key of a CA and not yet its certificate, which was
// made since, and with it CRLs. The order is lost; given again, its CRLs go on above those that were seen.
func TestRestoreLosesACertificateOfACA(t *testing.T) {
	d := newDesk(t)
	o := d.outside()
	o.send()
	d.under("issuing-2")
	second := protocol.DigestOf(d.mustOrder(d.request(protocol.KindCreateKey, protocol.CreateKey{Label: "issuing-2", Algorithm: "P-256"})).Key)
	s := d.backup()
	d.certified(second, "issuing-2", d.root, "issuing-ca")
	pc := d.workstation(second, unit, "0001", newKey(t))
	serial := d.issued(pc, d.alp).Serial
	revoke := d.encode(d.about(protocol.KindRevoke, pc, protocol.Revocation{Serial: serial}))
	o.send(d.taken(revoke, d.alp))
	seen := d.newest("issuing-2").Number
	d.die()

	d.later(time.Hour)
	n := d.unpacked(s)
	if _, err := n.bring(map[string][]byte{"desk": o.file(3, withItems)}); err != nil {
		t.Fatal(err)
	}
	if r := n.revive(); r.Refusal != nil {
		t.Fatal(r.Refusal.Words())
	}
	n.reopen()
	n.later(time.Hour)
	n.certified(second, "issuing-2", n.root, "issuing-ca")
	crl := n.newest("issuing-2")
	if crl.Number.Cmp(seen) <= 0 {
		t.Errorf("CRL %s after %s", crl.Number, seen)
	}
	if _, listed := reason(crl, serial); !listed {
		t.Error("what was revoked before is not listed")
	}
	n.reopen()
}

// TestKeyThatOutlivedItsOrder restores a box whose devices still have a key that was made since the backup, by an order
// that nobody brought. It signed what the ledger knows nothing of: no order takes it over for a new one.
func TestKeyThatOutlivedItsOrder(t *testing.T) {
	d := newDesk(t)
	o := d.outside()
	o.send()
	d.under("issuing-2")
	s := d.backup()
	d.newCA("issuing-2", d.root, "issuing-ca")
	o.send()
	keys, err := os.ReadFile(filepath.Join(d.dir, "keys", "keystore"))
	if err != nil {
		t.Fatal(err)
	}
	d.die()

	d.later(time.Hour)
	n := d.unpacked(s)
	n.stop()
	if err := os.WriteFile(filepath.Join(n.dir, "keys", "keystore"), keys, 0o600); err != nil {
		t.Fatal(err)
	}
	n.start()
	n.open()
	if _, err := n.bring(map[string][]byte{"desk": o.file(3, withItems)}); err != nil {
		t.Fatal(err)
	}
	if r := n.revive(); r.Refusal != nil {
		t.Fatal(r.Refusal.Words())
	}
	n.later(time.Hour)
	n.refusedOrder(n.request(protocol.KindCreateKey, protocol.CreateKey{Label: "issuing-2", Algorithm: "P-256"}), protocol.CodeKeyExists)
	n.reopen()
}
