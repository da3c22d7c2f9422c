package appliance_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"coldseal/appliance"
	"coldseal/appliance/signer"
	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
)

// closed runs f on the ledger of an engine that is closed.
func (w *world) closed(f func(*store.Tx) error) {
	w.t.Helper()
	ledger := must[*store.Store](w.t)(store.Open(w.dir))
	if err := errors.Join(ledger.Update(f), ledger.Close()); err != nil {
		w.t.Fatal(err)
	}
}

// The ledger is a fold of the log (law 9): whatever is changed in it, or in the log, stops the start.
func TestStartRefusesALedgerThatIsNoFold(t *testing.T) {
	d := newDesk(t)
	pc, held := d.pc("0001"), d.pc("0002")
	serial, heldSerial := d.issued(pc, d.alp).Serial, d.issued(held, d.alp).Serial
	hold := d.encode(d.about(protocol.KindHold, held, protocol.Revocation{Serial: heldSerial}))
	holdIndex := d.answer(d.taken(hold, d.alp)).of(t, hold).Index
	late := d.pc("0003")
	late.Created, late.Expires = late.Created-100, d.now.Unix()
	refused := d.encode(late)
	refusedIndex := d.answer(group(refused)).of(t, refused).Index
	withdraw := d.request(protocol.KindWithdraw, protocol.Withdrawal{Request: protocol.Digest{1}})
	withdraw.Body = unit
	d.answer(group(d.encode(withdraw)))
	if err := d.engine.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(d.dir, "ledger.db")
	good := must[[]byte](t)(os.ReadFile(path))
	restore := func() {
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	meta := func(change func(*store.Meta)) func(*store.Tx) error {
		return func(tx *store.Tx) error {
			m, err := tx.Meta()
			if err != nil {
				return err
			}
			change(&m)
			return tx.PutMeta(m)
		}
	}
	certificate := func(change func(*store.Certificate)) func(*store.Tx) error {
		return func(tx *store.Tx) error {
			c, _, err := tx.Certificate(d.issuing, serial)
			if err != nil {
				return err
			}
			change(&c)
			return tx.PutCertificate(d.issuing, serial, c)
		}
	}
	ca := func(change func(*store.CA)) func(*store.Tx) error {
		return func(tx *store.Tx) error {
			c, _, err := tx.CA(d.issuing)
			if err != nil {
				return err
			}
			change(&c)
			return tx.PutCA(d.issuing, c)
		}
	}
	crl := func(change func(*store.CRL)) func(*store.Tx) error {
		return func(tx *store.Tx) error {
			c, _, err := tx.CRL(d.issuing, 0)
			if err != nil {
				return err
			}
			change(&c)
			return tx.PutCRL(d.issuing, 0, c)
		}
	}
	leaf := func(change func(leaf, body []byte) ([]byte, []byte)) func(*store.Tx) error {
		return func(tx *store.Tx) error {
			encoded, err := tx.Leaf(refusedIndex)
			if err != nil {
				return err
			}
			salt, body, err := tx.Body(refusedIndex)
			if err != nil {
				return err
			}
			encoded, body = change(encoded, append(salt, body...))
			return tx.PutLeaf(refusedIndex, encoded, body, 0, nil)
		}
	}
	keyID := protocol.DigestOf(spki(t, d.alp.key))
	approver := func(change func(*store.Approver)) func(*store.Tx) error {
		return func(tx *store.Tx) error {
			a, _, err := tx.Approver(keyID)
			if err != nil {
				return err
			}
			change(&a)
			return tx.PutApprover(keyID, a)
		}
	}
	for name, edit := range map[string]func(*store.Tx) error{
		"roster":           meta(func(m *store.Meta) { m.Roster = bytes.Clone(m.Roster[:len(m.Roster)-1]) }),
		"policy":           meta(func(m *store.Meta) { m.Policy = append(bytes.Clone(m.Policy), 0) }),
		"genesis":          meta(func(m *store.Meta) { m.Genesis = bytes.Clone(m.Genesis); m.Genesis[40] ^= 1 }),
		"counter":          meta(func(m *store.Meta) { m.Counter++ }),
		"time":             meta(func(m *store.Meta) { m.Clock-- }),
		"size":             meta(func(m *store.Meta) { m.Size-- }),
		"edge":             meta(func(m *store.Meta) { m.Edge[0] = bytes.Repeat([]byte{1}, 32) }),
		"checkpoint":       meta(func(m *store.Meta) { m.Checkpoint = bytes.Clone(m.Checkpoint[:len(m.Checkpoint)-4]) }),
		"layout":           meta(func(m *store.Meta) { m.Schema = 2 }),
		"agent":            func(tx *store.Tx) error { return tx.PutParty("desk", []byte{0xa0}) },
		"another agent":    func(tx *store.Tx) error { return tx.PutParty("disk", d.engine.State().Parties["desk"]) },
		"CA's label":       ca(func(c *store.CA) { c.Label = "other" }),
		"CA's certificate": ca(func(c *store.CA) { c.Certificate = d.engine.PublicState().CAs[0] }),
		"CA's profile":     ca(func(c *store.CA) { c.Profile = "root" }),
		"CA's last change": ca(func(c *store.CA) { c.Changed-- }),
		"another CA":       func(tx *store.Tx) error { return tx.PutCA(protocol.Digest{1}, store.CA{Label: "mine"}) },
		"status":           certificate(func(c *store.Certificate) { c.Status = auditlog.Revoked }),
		"profile":          certificate(func(c *store.Certificate) { c.Profile = "it-server" }),
		"issued elsewhere": certificate(func(c *store.Certificate) { c.Issued-- }),
		"changed before":   certificate(func(c *store.Certificate) { c.Changed-- }),
		"changed later":    certificate(func(c *store.Certificate) { c.Changed++; c.Status = auditlog.Revoked }),
		"no certificate":   func(tx *store.Tx) error { return tx.PutCertificate(d.issuing, []byte{0x40, 1}, store.Certificate{}) },
		"held, then active": func(tx *store.Tx) error {
			return tx.PutCertificate(d.issuing, heldSerial, store.Certificate{Status: auditlog.Active, Profile: "it-workstation", Issued: 1, Changed: holdIndex})
		},
		"not on the CRL": func(tx *store.Tx) error { return tx.DeleteRevoked(d.issuing, 0, heldSerial) },
		"on the CRL":     func(tx *store.Tx) error { return tx.PutRevoked(d.issuing, 0, serial, store.Revoked{Time: 1, Index: 7}) },
		"done elsewhere": func(tx *store.Tx) error { return tx.PutDone(protocol.ID(refused), refusedIndex+1) },
		"done by nobody": func(tx *store.Tx) error { return tx.PutDone(protocol.Digest{7}, refusedIndex) },
		"CRL's number":   crl(func(c *store.CRL) { c.Number++ }),
		"CRL":            crl(func(c *store.CRL) { c.DER = bytes.Clone(c.DER); c.DER[20] ^= 1 }),
		"CRL's leaf":     crl(func(c *store.CRL) { c.Index-- }),
		"leaf":           leaf(func(leaf, body []byte) ([]byte, []byte) { leaf[5] ^= 1; return leaf, body }),
		"body":           leaf(func(leaf, body []byte) ([]byte, []byte) { body[len(body)-1] ^= 1; return leaf, body }),
		"salt":           leaf(func(leaf, body []byte) ([]byte, []byte) { body[0] ^= 1; return leaf, body }),
		"no body":        leaf(func(leaf, body []byte) ([]byte, []byte) { return leaf, []byte{} }),
		"another leaf":   func(tx *store.Tx) error { return tx.PutLeaf(1_000_000, []byte{1}, nil, 0, nil) },
		"hash of the tree": func(tx *store.Tx) error {
			return tx.PutLeaf(refusedIndex, must[[]byte](t)(tx.Leaf(refusedIndex)), nil, 9, []tlog.Hash{{1}})
		},
		"bundle":            func(tx *store.Tx) error { return tx.PutBundle("desk", 1, store.Bundle{Digest: protocol.Digest{1}}) },
		"approver's scope":  approver(func(a *store.Approver) { a.Scopes[0].Body = "it/058092" }),
		"approver's person": approver(func(a *store.Approver) { a.Person = "it:OFFICER1" }),
		"another approver": func(tx *store.Tx) error {
			return tx.PutApprover(protocol.Digest{1}, store.Approver{Issuer: d.issuing, Serial: serial, Person: "it:EVIL", SPKI: spki(t, newKey(t))})
		},
		"signing under way": func(tx *store.Tx) error { return tx.PutIntents([]store.Intent{{Issuer: d.issuing, Serial: serial}}) },
	} {
		t.Run(name, func(t *testing.T) {
			restore()
			d.closed(edit)
			e, err := appliance.Open(d.config)
			if err == nil {
				t.Fatal(errors.Join(errors.New("it started"), e.Close()))
			}
			if name != "layout" && !errors.Is(err, appliance.ErrFault) {
				t.Errorf("not a fault: %v", err)
			}
		})
	}
	restore()
	d.open()
	if got := d.issued(d.pc("0009"), d.alp); len(got.Certificate) == 0 {
		t.Error("the good one does not work")
	}
}

// An older copy of the ledger beside the counter is a rollback; one step that the counter did not make is made now.
func TestStartRefusesARollback(t *testing.T) {
	d := newDesk(t)
	ledger, keys := filepath.Join(d.dir, "ledger.db"), filepath.Join(d.dir, "keys")
	type copied struct{ ledger, keys map[string][]byte }
	take := func() copied { return copied{contents(t, ledger), contents(t, keys)} }
	stop := func() {
		if err := errors.Join(d.engine.Close(), d.config.Signer.Close(), d.config.Lint.Close()); err != nil {
			t.Fatal(err)
		}
	}
	// One refusal for good is one step.
	step := func(number string) {
		r := d.request(protocol.KindCreateKey, protocol.CreateKey{Label: "issuing", Algorithm: "P-256"})
		d.refusedOrder(r, protocol.CodeKeyExists)
	}
	stop()
	first := take()
	d.start()
	d.open()
	step("1")
	stop()
	second := take()
	d.start()
	d.open()
	step("2")
	stop()
	third := take()
	for name, test := range map[string]struct {
		ledger, keys copied
		starts       bool
	}{
		"as it was":                            {third, third, true},
		"the ledger is a step ahead":           {third, second, true},
		"the ledger is two steps ahead":        {third, first, false},
		"the ledger is a step behind":          {second, third, false},
		"the ledger is two steps behind":       {first, third, false},
		"ledger and counter are both put back": {first, first, true}, // nothing in the box can tell; a witness can
	} {
		t.Run(name, func(t *testing.T) {
			restoreTo(t, test.ledger.ledger)
			restoreTo(t, test.keys.keys)
			d.start()
			e, err := appliance.Open(d.config)
			switch {
			case test.starts && err != nil:
				t.Error(err)
			case !test.starts && !errors.Is(err, appliance.ErrRollback):
				t.Errorf("got %v, want a rollback", err)
			}
			if err == nil {
				if err := e.Close(); err != nil {
					t.Error(err)
				}
			}
			if err := errors.Join(d.config.Signer.Close(), d.config.Lint.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	restoreTo(t, third.ledger)
	restoreTo(t, third.keys)
	d.start()
	d.open()
}

// contents reads a file, or all files of a folder.
func contents(t *testing.T, path string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(path, func(p string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		files[p], err = os.ReadFile(p)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func restoreTo(t *testing.T, files map[string][]byte) {
	t.Helper()
	for path, data := range files {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Genesis is held once; interrupted, it goes on with what it had decided; and a ledger that is in use is not removed.
func TestGenesisAgain(t *testing.T) {
	w := newWorld(t)
	roster := w.engine.State().CurrentRoster()
	if digest, err := appliance.Genesis(w.config, "again", roster, w.policy); !errors.Is(err, appliance.ErrBegun) || digest != w.engine.Appliance() {
		t.Errorf("a second genesis: %s, %v", digest, err)
	}
	if err := w.config.Signer.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(w.dir, "keys")); err != nil {
		t.Fatal(err)
	}
	w.start()
	if _, err := appliance.Genesis(w.config, "again", roster, w.policy); err == nil || errors.Is(err, appliance.ErrBegun) {
		t.Errorf("with other keys, while the ledger is in use: %v", err)
	}
	if _, err := os.Stat(filepath.Join(w.dir, "ledger.db")); err != nil {
		t.Error(err)
	}
}

// TestGenesisOnKeysOfAnother holds genesis on a device that has the keys of an appliance: they are not taken for its own.
func TestGenesisOnKeysOfAnother(t *testing.T) {
	w := newWorld(t)
	n := *w
	n.dir = filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(n.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	n.config = n.configuration()
	n.start()
	t.Cleanup(func() {
		if err := errors.Join(n.config.Lint.Close(), n.config.Signer.Close()); err != nil {
			t.Error(err)
		}
	})
	if _, err := n.config.Signer.CreateKey("seal", signer.Seal, signer.P256); err != nil {
		t.Fatal(err)
	}
	roster := w.engine.State().CurrentRoster()
	if digest, err := appliance.Genesis(n.config, "other", roster, w.policy); !errors.Is(err, appliance.ErrUsed) || !digest.IsZero() {
		t.Errorf("%s, %v", digest, err)
	}
	if _, pinned, err := n.config.Signer.Pinned(); err != nil || pinned {
		t.Errorf("pinned %v, %v", pinned, err)
	}
}
