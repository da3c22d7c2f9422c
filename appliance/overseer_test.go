package appliance_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"coldseal/appliance/signer"
	"coldseal/appliance/softkey"
	"coldseal/appliance/store"
	"coldseal/appliance/wire"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
)

// overseer is the name under which this test's program is the signer process: the real one, but before it moves the
// counter it looks into the ledger's file, which holds then what a crash would leave, and before it signs with a CA's key it
// asks whether it saw that announced there. What is out of order ends it, which the appliance takes for a fault.
const overseer = "overseer"

func runOverseer() error {
	flags := flag.NewFlagSet(overseer, flag.ContinueOnError)
	dir := flags.String("dir", "", "")
	secretFile := flags.String("secret-file", "", "")
	if err := flags.Parse(os.Args[1:]); err != nil {
		return err
	}
	secret, err := softkey.ReadSecretFile(*secretFile)
	if err != nil {
		return err
	}
	keys, err := softkey.Open(*dir, secret)
	if err != nil {
		return err
	}
	o := &overseen{Store: keys, state: filepath.Dir(*dir)}
	return signer.Serve(wire.Descriptor, o, signer.Hello{Backend: "softkey", Capabilities: map[string]string{"counter": "file"}})
}

type overseen struct {
	*softkey.Store
	state     string
	mu        sync.Mutex
	announced map[[32]byte]bool // digests that the ledger said would be signed when the counter last moved
}

func (o *overseen) Advance(to uint64) error {
	counter, announced, err := o.look()
	if err == nil && counter != to {
		err = fmt.Errorf("the counter is to be %d while the ledger on the disk is at step %d", to, counter)
	}
	if err != nil {
		return err
	}
	o.mu.Lock()
	o.announced = announced
	o.mu.Unlock()
	return o.Store.Advance(to)
}

func (o *overseen) Sign(id [32]byte, scheme signer.Scheme, input []byte) ([]byte, error) {
	keys, err := o.Keys()
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	announced := len(input) == 32 && o.announced[[32]byte(input)] // CAs of these tests are on P-256
	o.mu.Unlock()
	for _, key := range keys {
		if key.ID() == id && key.Purpose == signer.CA && !announced {
			return nil, errors.New("a CA's key is to sign what was not announced, or not counted")
		}
	}
	return o.Store.Sign(id, scheme, input)
}

// look reads a copy of the ledger: the engine has the file open, and waits for us.
func (o *overseen) look() (counter uint64, announced map[[32]byte]bool, err error) {
	dir, err := os.MkdirTemp(o.state, "overseer-")
	if err != nil {
		return 0, nil, err
	}
	defer os.RemoveAll(dir)
	data, err := os.ReadFile(filepath.Join(o.state, "ledger.db"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "ledger.db"), data, 0o600)
	}
	if err != nil {
		return 0, nil, err
	}
	ledger, err := store.Open(dir)
	if err != nil {
		return 0, nil, err
	}
	announced = map[[32]byte]bool{}
	err = ledger.View(func(tx *store.Tx) error {
		m, err := tx.Meta()
		if err != nil {
			return err
		}
		intents, err := tx.Intents()
		for _, in := range intents {
			announced[in.TBS] = true
		}
		counter = m.Counter
		return err
	})
	return counter, announced, errors.Join(err, ledger.Close())
}

// Intents are in the ledger, and the counter moved over them, before anything is signed; the counter moves over nothing
// that the ledger does not hold (law 7). So it is with certificates, two batches of them, CRLs and CA certificates.
func TestOrderOfThings(t *testing.T) {
	d := newDesk(t)
	pc := d.pc("9000")
	hold := d.encode(d.about(protocol.KindHold, pc, protocol.Revocation{Serial: d.issued(pc, d.alp).Serial}))
	raws, groups := d.many(1, 1100)
	d.overseen = true
	d.restart()
	out, err := d.engine.Process(spool{bytes.NewReader(d.seal(append([]protocol.Group{d.taken(hold, d.alp)}, groups...)...))}, nil)
	if err != nil || out.Refusal != nil || out.Items != 1101 {
		t.Fatalf("%+v, %v", out, err)
	}
	if n := d.logged(auditlog.CRL); n < 2 {
		t.Errorf("%d CRLs", n)
	}
	d.complete(raws, func() response {
		r := d.read(d.responsePath(d.sequence))
		r.answers = r.answers[1:] // to the hold
		return r
	}())
	made := d.mustOrder(d.request(protocol.KindCreateKey, protocol.CreateKey{Label: "second", Algorithm: "P-256"}))
	r := d.request(protocol.KindSignCA, protocol.SignCA{Key: protocol.DigestOf(made.Key), Fields: d.caFields("issuing-ca")})
	r.Issuer, r.Profile, r.ProfileDigest = d.root, "issuing-ca", d.digestOf("issuing-ca")
	d.mustOrder(r)
	d.reopen()
}
