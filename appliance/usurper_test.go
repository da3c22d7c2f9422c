package appliance_test

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"coldseal/appliance"
	"coldseal/appliance/signer"
	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
)

// usurp writes an order into log and ledger behind the back of the engine, which is closed. Who holds the disk and the
// secret of the keys can do that: leaf, step, tree, checkpoint and counter are as if the engine had carried it out. The
// checkpoint is what head makes of the one before and the text of the new one.
func (d *desk) usurp(request []byte, approvals [][]byte, challenge []byte, head func(old, text []byte) []byte, effect func(*store.Tx) error) {
	d.t.Helper()
	result := must[[]byte](d.t)(cose.Marshal(protocol.Result{ID: protocol.ID(request), Outcome: protocol.OutcomeDone}))
	body := must[[]byte](d.t)(cose.Marshal(auditlog.OrderBody{Request: request, Approvals: approvals, Challenge: challenge, Result: result}))
	salted := append(make([]byte, store.SaltSize), body...)
	var counter uint64
	d.closed(func(tx *store.Tx) error {
		m := must[store.Meta](d.t)(tx.Meta())
		tree := auditlog.NewAppender(must[auditlog.Range](d.t)(auditlog.NewRange(int64(m.Size), m.Edge)))
		if err := errors.Join(effect(tx), tx.PutDone(protocol.ID(request), m.Size)); err != nil {
			return err
		}
		m.Counter++
		for _, leaf := range []auditlog.Leaf{
			{Kind: auditlog.Order, Time: d.now.Unix(), Body: auditlog.BodyDigest([16]byte(salted), body)},
			{Kind: auditlog.Step, Time: d.now.Unix(), Number: m.Counter},
		} {
			encoded := must[[]byte](d.t)(leaf.Encode())
			first, hashes := tree.Append(encoded)
			if err := tx.PutLeaf(m.Size, encoded, salted, first, hashes); err != nil {
				return err
			}
			m.Size, salted = m.Size+1, nil
		}
		edge := tree.Edge()
		m.Edge, m.Clock, counter = edge.Hashes(), max(m.Clock, d.now.Unix()), m.Counter
		m.Checkpoint = head(m.Checkpoint, auditlog.CheckpointText(auditlog.Origin(d.engine.Appliance()), edge.Size(), edge.Root()))
		return tx.PutMeta(m)
	})
	if err := d.config.Signer.Advance(counter); err != nil {
		d.t.Fatal(err)
	}
}

// Start decides all orders in the log again, and asks for a checkpoint over them by the log key. Not even who holds the
// disk and the keys enrols an agent without the officers, and who holds the disk alone has no checkpoint.
func TestStartDecidesOrdersAgain(t *testing.T) {
	d := newDesk(t)
	signed := func(text []byte, key crypto.Signer) []byte {
		return must[[]byte](t)(auditlog.SignCheckpoint(text, auditlog.Origin(d.engine.Appliance()), key))
	}
	good := func(_, text []byte) []byte {
		return signed(text, must[*signer.Key](t)(d.config.Signer.KeyLabelled("log", signer.Log)))
	}
	_, stranger, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	record := must[[]byte](t)(cose.Marshal(protocol.Party{
		Version: 1, Name: "mine", Role: protocol.RoleAgent, Seal: spki(t, newKey(t)), Receiver: spki(t, newKey(t)),
		Bodies: []string{"it"}, BundlesPerDay: 1, ItemsPerDay: 1,
	}))
	raw, challenge := d.encode(d.request(protocol.KindAgent, protocol.Enrolment{Party: record})), make([]byte, 16)
	if err := d.engine.Close(); err != nil {
		t.Fatal(err)
	}
	ledger, keys := contents(t, filepath.Join(d.dir, "ledger.db")), contents(t, filepath.Join(d.dir, "keys"))
	for _, test := range []struct {
		name     string
		officers int
		head     func(old, text []byte) []byte
		want     string
	}{
		{"approved by nobody", 0, good, "does not stand"},
		{"by one of two", 1, good, "does not stand"},
		{"by two, under the last checkpoint", 2, func(old, _ []byte) []byte { return old }, "not those under the last checkpoint"},
		{"by two, under a checkpoint by another key", 2, func(_, text []byte) []byte { return signed(text, stranger) }, "no signature of"},
		{"by two", 2, good, ""}, // so that what is refused above is not the form of the forgery
	} {
		t.Run(test.name, func(t *testing.T) {
			d.usurp(raw, d.by(raw, d.officers[:test.officers]...)(challenge), challenge, test.head,
				func(tx *store.Tx) error { return tx.PutParty("mine", record) })
			e, err := appliance.Open(d.config)
			switch {
			case test.want == "" && err != nil:
				t.Fatal(err)
			case test.want == "":
				d.engine = e
				return
			case err == nil:
				t.Error(errors.Join(errors.New("it started"), e.Close()))
			case !errors.Is(err, appliance.ErrFault) || !strings.Contains(err.Error(), test.want):
				t.Errorf("error %q does not say %q", err, test.want)
			}
			if err := d.config.Signer.Close(); err != nil {
				t.Error(err)
			}
			restoreTo(t, ledger)
			restoreTo(t, keys)
			if err := d.config.Lint.Close(); err != nil {
				t.Error(err)
			}
			d.start()
		})
	}
}
