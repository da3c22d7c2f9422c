package coldseal

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"os"
	"slices"

	"github.com/rogpeppe/go-internal/testscript"

	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// record NAME FILE writes the record that a station makes of itself, with a new key, to be enrolled.
func record(ts *testscript.TestScript, _ bool, args []string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	seal, err := x509.MarshalPKIXPublicKey(key.Public())
	ts.Check(err)
	data, err := cose.Marshal(protocol.Party{
		Version: protocol.Version, Name: args[0], Role: protocol.RoleStation, Seal: seal, Bodies: []string{"it/058091"},
	})
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), data, 0o644))
}

// undo DIR opens a ledger as somebody could who can write the disk, and forgets all revocations of one CA or the other.
func undo(ts *testscript.TestScript, _ bool, args []string) {
	s, err := store.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	forgotten := 0
	err = s.Update(func(tx *store.Tx) error {
		var issuers []protocol.Digest
		err := tx.EachCA(func(id protocol.Digest, _ store.CA) error {
			issuers = append(issuers, id)
			return nil
		})
		if err != nil {
			return err
		}
		for _, issuer := range issuers {
			var serials [][]byte
			err := tx.EachRevoked(issuer, 0, func(serial []byte, _ store.Revoked) error {
				serials = append(serials, slices.Clone(serial))
				return nil
			})
			if err != nil {
				return err
			}
			for _, serial := range serials {
				if err := tx.DeleteRevoked(issuer, 0, serial); err != nil {
					return err
				}
				forgotten++
			}
		}
		return nil
	})
	ts.Check(err)
	ts.Check(s.Close())
	if forgotten == 0 {
		ts.Fatalf("there is no revocation to undo")
	}
}
