package appliance_test

import (
	"flag"
	"os"
	"sync/atomic"

	"coldseal/appliance/signer"
	"coldseal/appliance/softkey"
	"coldseal/appliance/wire"
)

// mortal is the name under which this test's program is the signer process: the real one, but it ends in the middle of
// its n-th act, n from 0: before it where n is even, after it where n is odd, as a device does whose cable is pulled.
const mortal = "mortal-signer"

func runMortal() error {
	flags := flag.NewFlagSet(mortal, flag.ContinueOnError)
	dir := flags.String("dir", "", "")
	secretFile := flags.String("secret-file", "", "")
	life := flags.Int64("life", 0, "")
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
	m := &mortalStore{Store: keys}
	m.left.Store(*life)
	return signer.Serve(wire.Descriptor, m, signer.Hello{Backend: "softkey", Capabilities: map[string]string{"counter": "file"}})
}

type mortalStore struct {
	*softkey.Store
	left atomic.Int64
}

// act does one thing of those that it may die of.
func (m *mortalStore) act(do func() error) error {
	left := m.left.Add(-2) + 2 // what was left before this one
	if left == 0 {
		os.Exit(1)
	}
	err := do()
	if left == 1 {
		os.Exit(1)
	}
	return err
}

func (m *mortalStore) Create(label string, purpose signer.Purpose, algorithm signer.Algorithm) (key signer.KeyInfo, a *signer.Attestation, err error) {
	err = m.act(func() error {
		key, a, err = m.Store.Create(label, purpose, algorithm)
		return err
	})
	return key, a, err
}

func (m *mortalStore) Sign(id [32]byte, scheme signer.Scheme, input []byte) (signature []byte, err error) {
	err = m.act(func() error {
		signature, err = m.Store.Sign(id, scheme, input)
		return err
	})
	return signature, err
}

func (m *mortalStore) Advance(to uint64) error {
	return m.act(func() error { return m.Store.Advance(to) })
}

func (m *mortalStore) Destroy(id [32]byte) error {
	return m.act(func() error { return m.Store.Destroy(id) })
}
