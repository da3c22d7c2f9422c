package appliance_test

import (
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"coldseal/appliance"
	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
)

// Whoever writes the disk gains nothing by what the ledger says of certificates, names, keys, CRLs and withdrawals: each
// of these edits would let somebody have, or keep, what nobody approved.
func TestStartDerivesTheLedger(t *testing.T) {
	d := newDesk(t)
	pc := d.pc("0001")
	serial := d.issued(pc, d.alp).Serial
	renewed := d.pc("0001")
	c, _ := renewed.Issuance()
	c.Renews = &protocol.CertificateID{Issuer: d.issuing, Serial: serial}
	renewed.Kind, renewed.Content = protocol.KindRenew, must[[]byte](t)(cose.Marshal(c))
	d.now = d.now.Add(day)
	successor := d.issued(renewed, d.alp)
	gone := d.pc("0002")
	goneSerial := d.issued(gone, d.alp).Serial
	revoke := d.encode(d.about(protocol.KindRevoke, gone, protocol.Revocation{Serial: goneSerial, Reason: protocol.ReasonKeyCompromise, Since: 5}))
	if a := d.answer(d.taken(revoke, d.alp)).of(t, revoke); a.result.Refusal != nil {
		t.Fatal(a.result.Refusal.Words())
	}
	never := d.encode(d.pc("0003"))
	withdraw := d.request(protocol.KindWithdraw, protocol.Withdrawal{Request: protocol.ID(never)})
	withdraw.Body = unit
	d.answer(group(d.encode(withdraw)))
	if err := d.engine.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(d.dir, "ledger.db")
	good := must[[]byte](t)(os.ReadFile(path))
	of := func(serial []byte, change func(*store.Certificate)) func(*store.Tx) error {
		return func(tx *store.Tx) error {
			c, _, err := tx.Certificate(d.issuing, serial)
			if err != nil {
				return err
			}
			change(&c)
			return tx.PutCertificate(d.issuing, serial, c)
		}
	}
	entry := func(change func(*store.Revoked)) func(*store.Tx) error {
		return func(tx *store.Tx) error {
			r, _, err := tx.Revoked(d.issuing, 0, goneSerial)
			if err != nil {
				return err
			}
			change(&r)
			return tx.PutRevoked(d.issuing, 0, goneSerial, r)
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
	name, free := store.NameKey("058091-pc-0001"), store.NameKey("058091-pc-0009")
	key := func(made protocol.Request) protocol.Digest {
		c, _ := made.Issuance()
		return protocol.DigestOf(must[[]byte](t)(spkiOf(c.CSR)))
	}
	for what, edit := range map[string]func(*store.Tx) error{
		"an approver who never expires":  of(d.alp.serial, func(c *store.Certificate) { c.NotAfter = protocol.MaxTime }),
		"an approver from the beginning": of(d.alp.serial, func(c *store.Certificate) { c.NotBefore = 1 }),
		"a name that gets free":          of(successor.Serial, func(c *store.Certificate) { c.NotAfter = 1 }),
		"another name":                   of(successor.Serial, func(c *store.Certificate) { c.Name = free }),
		"a certificate of another body":  of(serial, func(c *store.Certificate) { c.Body = "it/058092" }),
		"a certificate of somebody else": of(serial, func(c *store.Certificate) { c.Subject = "058091-PC-0009" }),
		"another key":                    of(serial, func(c *store.Certificate) { c.Key = protocol.Digest{1} }),
		"approved for ever":              of(successor.Serial, func(c *store.Certificate) { c.Approved = protocol.MaxTime }),
		"a second successor":             of(serial, func(c *store.Certificate) { c.Renewed = false }),
		"a successor that never was":     of(successor.Serial, func(c *store.Certificate) { c.Renewed = true }),
		"a predecessor forgotten":        of(successor.Serial, func(c *store.Certificate) { c.Renews = nil }),
		"expired, and off the CRL":       entry(func(r *store.Revoked) { r.NotAfter = 1 }),
		"revoked for nothing much":       entry(func(r *store.Revoked) { r.Reason = protocol.ReasonUnspecified }),
		"revoked later":                  entry(func(r *store.Revoked) { r.Time++ }),
		"good until later":               entry(func(r *store.Revoked) { r.Since = 0 }),
		"a CRL that never gets old":      crl(func(c *store.CRL) { c.NextUpdate = protocol.MaxTime }),
		"a CRL of tomorrow":              crl(func(c *store.CRL) { c.ThisUpdate += 86400 }),
		"a CRL of the root":              func(tx *store.Tx) error { return tx.PutCRL(d.root, 0, store.CRL{Number: 1, DER: []byte{1}}) },
		"a bundle that never came":       func(tx *store.Tx) error { return tx.PutBundle("desk", 99, store.Bundle{Digest: protocol.Digest{1}}) },
		"a name held by another":         func(tx *store.Tx) error { return tx.PutName(name, d.issuing, goneSerial) },
		"a name held by the one before":  func(tx *store.Tx) error { return tx.PutName(name, d.issuing, serial) },
		"a name nobody asked for":        func(tx *store.Tx) error { return tx.PutName(free, d.issuing, serial) },
		"a key for another":              func(tx *store.Tx) error { return tx.PutKeyUse(key(pc), store.KeyUse{Name: free}) },
		"a key that was not compromised": func(tx *store.Tx) error {
			return tx.PutKeyUse(key(gone), store.KeyUse{Name: store.NameKey("058091-pc-0002")})
		},
		"a status of a CA's": func(tx *store.Tx) error { return editCA(tx, d.root) },
	} {
		t.Run(what, func(t *testing.T) {
			if err := os.WriteFile(path, good, 0o600); err != nil {
				t.Fatal(err)
			}
			d.closed(edit)
			e, err := appliance.Open(d.config)
			if err == nil {
				t.Fatal(errors.Join(errors.New("it started"), e.Close()))
			}
			if !errors.Is(err, appliance.ErrFault) {
				t.Errorf("not a fault: %v", err)
			}
		})
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	d.open()
}

// editCA gives a CA's own certificate to an end.
func editCA(tx *store.Tx, root protocol.Digest) error {
	return tx.EachCertificate(root, func(serial []byte, c store.Certificate) error {
		c.Status, c.NotAfter = auditlog.Active, 1
		return tx.PutCertificate(root, serial, c)
	})
}

// spkiOf is the public key of a CSR.
func spkiOf(der []byte) ([]byte, error) {
	c, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, err
	}
	return c.RawSubjectPublicKeyInfo, nil
}
