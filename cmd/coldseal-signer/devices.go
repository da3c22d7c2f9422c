package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"coldseal/appliance/hsm"
	"coldseal/appliance/piv"
	"coldseal/appliance/signer"
	"coldseal/appliance/softkey"
	"coldseal/appliance/tpm"
)

// slowest is what a signature may take on a card or a small HSM with RSA-4096, in milliseconds.
const slowest = 1000

const maxPIN = 255

// assemble opens all devices and puts them together. The key store is always there: for keys that no device holds, the
// log's above all, and for counter and genesis digest where there is no TPM. Keys of CAs are only made in it if --keys
// says so, or there is no device at all.
func assemble(o options) (_ *signer.Assembly, hello signer.Hello, err error) {
	var opened []signer.Place
	defer func() {
		if err != nil {
			for _, p := range opened {
				err = errors.Join(err, p.Close())
			}
		}
	}()
	store, err := openStore(o)
	if err != nil {
		return nil, hello, storeTrouble(err)
	}
	opened = append(opened, signer.Place{Device: store})
	rest, err := signer.ParseLocator("softkey:")
	if len(o.places) > 0 {
		rest, err = signer.ParseLocator("softkey:?use=seal,log,receiver")
	}
	if err != nil {
		return nil, hello, err
	}
	var places []signer.Place
	var kinds []string
	var anchor signer.Anchor = store
	hello.Capabilities = map[string]string{"counter": "file"}
	for _, p := range o.places {
		kinds = append(kinds, p.Scheme())
		if p.Scheme() == signer.Softkey {
			rest = p.Locator
			continue
		}
		place, counter, err := p.open(o.dir)
		if err != nil {
			return nil, hello, err
		}
		opened = append(opened, place)
		places = append(places, signer.Watch(place, signer.Patience))
		hello.Pace = slowest
		if counter != nil && hello.Capabilities["counter"] == "file" {
			anchor = signer.Anchors(signer.WatchAnchor(p.Locator, counter, signer.Patience), store)
			hello.Capabilities["counter"] = p.Scheme()
		}
	}
	if !slices.Contains(kinds, signer.Softkey) {
		kinds = append(kinds, signer.Softkey)
	}
	assembly := signer.Assemble(anchor, append(places, signer.Place{Locator: rest, Device: store})...)
	hello.Backend = strings.Join(slices.Compact(kinds), "+")
	hello.Devices = assembly.Describe()
	return assembly, hello, nil
}

// open opens the device; it has a counter or that is nil.
func (p place) open(dir string) (signer.Place, signer.Anchor, error) {
	pin, err := p.readPIN()
	if err != nil {
		return signer.Place{}, nil, err
	}
	defer clear(pin)
	var device signer.Device
	switch p.Scheme() {
	case signer.PKCS11:
		device, err = hsm.Open(p.Locator, pin)
	case signer.PIV:
		device, err = piv.Open(p.Locator, pin)
	case signer.TPM:
		machine, err := tpm.Open(p.Locator, pin, dir)
		return signer.Place{Locator: p.Locator, Device: machine}, machine, err
	default:
		err = signer.NewTrouble(signer.NotBuilt, p.Locator, "no "+p.Scheme())
	}
	return signer.Place{Locator: p.Locator, Device: device}, nil, err
}

// readPIN reads the PIN to the end of its descriptor; one line ending is not part of it.
func (p place) readPIN() ([]byte, error) {
	if p.pin < 0 {
		if p.NeedsPIN() {
			return nil, signer.NewTrouble(signer.PINNeeded, p.Locator, "no --pin-fd")
		}
		return nil, nil
	}
	f := os.NewFile(uintptr(p.pin), "PIN")
	if f == nil {
		return nil, fmt.Errorf("no descriptor %d to read the PIN from", p.pin)
	}
	defer f.Close()
	pin := make([]byte, maxPIN+3)
	n, err := io.ReadFull(f, pin)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("read PIN: %w", err)
	}
	pin = pin[:n]
	for _, end := range []byte("\n\r") {
		if len(pin) > 0 && pin[len(pin)-1] == end {
			pin = pin[:len(pin)-1]
		}
	}
	if len(pin) == 0 || len(pin) > maxPIN {
		return nil, fmt.Errorf("read PIN of %s: want 1 to %d bytes", p, maxPIN)
	}
	return pin, nil
}

func openStore(o options) (*softkey.Store, error) {
	secret, err := readSecret(o)
	if err != nil {
		return nil, err
	}
	defer secret.Clear()
	return softkey.Open(o.dir, secret)
}

// storeTrouble says of a key store that can't be used what is the matter with it.
func storeTrouble(err error) error {
	locator, bad := signer.ParseLocator(signer.Softkey + ":")
	if bad != nil {
		return bad
	}
	code := signer.StoreClosed
	if errors.Is(err, softkey.ErrBusy) {
		code = signer.StoreBusy
	}
	return signer.NewTrouble(code, locator, err.Error())
}

func readSecret(o options) (softkey.Secret, error) {
	if o.secretFile != "" {
		return softkey.ReadSecretFile(o.secretFile)
	}
	f := os.NewFile(uintptr(o.passphrase), "passphrase")
	if f == nil {
		return softkey.Secret{}, fmt.Errorf("no descriptor %d to read the passphrase from", o.passphrase)
	}
	defer f.Close()
	return softkey.ReadPassphrase(f)
}
