package fire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
)

// ledgerParts are what an edit needs to name.
type ledgerParts struct {
	issuer          protocol.Digest // of the certificates
	active, revoked []byte          // serials
	done            protocol.Digest // id of a request that has its result
	doneAt          uint64
}

// edits are what somebody may change who can write the disk. Each would let something be signed that nobody approved, be
// done twice, or be believed that is not so.
var edits = map[string]func(tx *store.Tx, l ledgerParts) error{
	"roster": editMeta(func(m *store.Meta) {
		m.Roster = bytes.Replace(m.Roster, []byte("SMPBRN79S03F205N"), []byte("SMPBRN79S03F205X"), 1)
	}),
	"policy": editMeta(func(m *store.Meta) {
		m.Policy = bytes.Replace(m.Policy, []byte("it-workstation"), []byte("it-workstatiom"), 1)
	}),
	"counter":             editMeta(func(m *store.Meta) { m.Counter-- }),
	"clock":               editMeta(func(m *store.Meta) { m.Clock -= 3600 }),
	"status, to active":   editStatus(func(l ledgerParts) []byte { return l.revoked }, auditlog.Active),
	"status, to revoked":  editStatus(func(l ledgerParts) []byte { return l.active }, auditlog.Revoked),
	"not on the CRL":      func(tx *store.Tx, l ledgerParts) error { return tx.DeleteRevoked(l.issuer, 0, l.revoked) },
	"done, what was not":  func(tx *store.Tx, l ledgerParts) error { return tx.PutDone(protocol.Digest{1}, l.doneAt) },
	"done, another thing": func(tx *store.Tx, l ledgerParts) error { return tx.PutDone(l.done, l.doneAt-2) },
	"CRL number, higher":  editCRL(func(c *store.CRL) { c.Number++ }),
	"CRL number, lower":   editCRL(func(c *store.CRL) { c.Number-- }),
	"CRL":                 editCRL(func(c *store.CRL) { c.DER[len(c.DER)/2] ^= 1 }),
	"agent": func(tx *store.Tx, _ ledgerParts) error {
		return tx.EachParty(func(name string, record []byte) error {
			return tx.PutParty(name, bytes.Replace(record, []byte("it"), []byte("ua"), 1))
		})
	},
}

func editMeta(change func(*store.Meta)) func(*store.Tx, ledgerParts) error {
	return func(tx *store.Tx, _ ledgerParts) error {
		m, err := tx.Meta()
		if err != nil {
			return err
		}
		change(&m)
		return tx.PutMeta(m)
	}
}

func editStatus(which func(ledgerParts) []byte, status auditlog.Status) func(*store.Tx, ledgerParts) error {
	return func(tx *store.Tx, l ledgerParts) error {
		c, found, err := tx.Certificate(l.issuer, which(l))
		if err != nil || !found {
			return errors.Join(err, errors.New("there is no such certificate"))
		}
		c.Status = status
		return tx.PutCertificate(l.issuer, which(l), c)
	}
}

func editCRL(change func(*store.CRL)) func(*store.Tx, ledgerParts) error {
	return func(tx *store.Tx, l ledgerParts) error {
		c, found, err := tx.CRL(l.issuer, 0)
		if err != nil || !found {
			return errors.Join(err, errors.New("there is no CRL"))
		}
		c.DER = bytes.Clone(c.DER)
		change(&c)
		return tx.PutCRL(l.issuer, 0, c)
	}
}

// forget removes all results: what was done could be done again.
func forget(path string) error {
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range []string{"done", "done-runs"} {
			if err := tx.DeleteBucket([]byte(name)); err != nil {
				return err
			}
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, db.Close())
}

// TestEditedLedger changes the ledger by hand, with a bundle waiting on the stick. The appliance finds it at start, whatever
// it is started for, signs nothing and says what to do; with the ledger as it was it goes on.
func TestEditedLedger(t *testing.T) {
	base := travelled(t, faultItems, 3).copy(t)
	again := []string{"agent", "request", "revoke", "--serial", base.serial(t, "0001"), "--reason", "superseded"}
	id := base.must(t, again...)
	base.approve(t, "local.key", "", base.load.open...)
	base.must(t, journey[0]...)
	parts := base.ledgerParts(t)
	good, err := os.ReadFile(base.path("appliance", "ledger.db"))
	if err != nil {
		t.Fatal(err)
	}
	try := func(name string, edit func(t *testing.T, w *world)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := base.copy(t)
			edit(t, w)
			if changed := readAll(t, w.path("appliance", "ledger.db")); bytes.Equal(changed, good) {
				t.Fatal("nothing was changed")
			}
			asked := len(w.asked(t))
			for line, code := range map[string]int{"process --media stick": 1, "status": 1, "log verify": 7, "console order --request order --officer 1.key --officer 2.key --yes": 1} {
				o := w.try(t, append([]string{"appliance"}, strings.Fields(line)...)...)
				if o.code != code || !strings.Contains(o.words, "nothing is signed on a ledger that does not agree with its log") || !strings.Contains(o.words, "hint: ") {
					t.Errorf("%s: exit %d\n%s%s", line, o.code, o.out, o.words)
				}
			}
			if n := len(w.asked(t)); n != asked {
				t.Errorf("%d signatures were asked for", n-asked)
			}
			if released := w.glob(t, "stick/coldseal/*/to-agent/desk/0000000005.response"); len(released) != 0 {
				t.Errorf("%v was released", released)
			}
			if err := os.WriteFile(w.path("appliance", "ledger.db"), good, 0o600); err != nil {
				t.Fatal(err)
			}
			w.must(t, journey[1]...)
			w.must(t, journey[2]...)
			if log := w.audit(t); log.outcomes[id] != protocol.OutcomeRevoked {
				t.Errorf("the log says %s", log.outcomes[id])
			}
		})
	}
	for name, edit := range edits {
		try(name, func(t *testing.T, w *world) {
			s, err := store.Open(w.path("appliance"))
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(s.Update(func(tx *store.Tx) error { return edit(tx, parts) }), s.Close()); err != nil {
				t.Fatal(err)
			}
		})
	}
	try("done, forgotten", func(t *testing.T, w *world) {
		if err := forget(w.path("appliance", "ledger.db")); err != nil {
			t.Fatal(err)
		}
	})
}

// ledgerParts finds what there is in the ledger of a world.
func (w *world) ledgerParts(t *testing.T) (l ledgerParts) {
	t.Helper()
	for serial, into := range map[string]*[]byte{w.serial(t, "0002"): &l.active, w.load.listed[0]: &l.revoked} {
		var err error
		if *into, err = hex.DecodeString(serial); err != nil {
			t.Fatal(err)
		}
	}
	id, err := hex.DecodeString(w.load.issue[0])
	if err != nil {
		t.Fatal(err)
	}
	l.done = protocol.Digest(id)
	s, err := store.Open(w.path("appliance"))
	if err != nil {
		t.Fatal(err)
	}
	err = s.View(func(tx *store.Tx) error {
		l.doneAt, _ = tx.Done(l.done)
		return tx.EachCA(func(id protocol.Digest, ca store.CA) error {
			if ca.Label == "issuing" {
				l.issuer = id
			}
			return nil
		})
	})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	return l
}
