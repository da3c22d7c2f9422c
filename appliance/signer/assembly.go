package signer

import (
	"crypto/ecdh"
	"errors"
	"fmt"
	"sync"
)

// Place is a device and the locator that names it.
type Place struct {
	Locator
	Device
}

// Assembly makes one backend of several devices. A new key goes to the first that is for its purpose and holds its kind;
// so a TPM or an HSM, which have no Ed25519, leave the log key to the key store, which comes last. Counter and pin are in
// the anchor.
type Assembly struct {
	Anchor
	places []Place

	mu    sync.RWMutex
	where map[[32]byte]Place
}

// Assemble puts devices together, in the order in which they are tried for a new key.
func Assemble(anchor Anchor, places ...Place) *Assembly {
	return &Assembly{Anchor: anchor, places: places, where: make(map[[32]byte]Place)}
}

// place finds the device for new keys of a kind.
func (a *Assembly) place(purpose Purpose, algorithm Algorithm) (Place, bool) {
	for _, p := range a.places {
		if p.Uses(purpose) && p.Holds(purpose, algorithm) {
			return p, true
		}
	}
	return Place{}, false
}

// Holds tells whether one of the devices makes keys of this kind.
func (a *Assembly) Holds(purpose Purpose, algorithm Algorithm) bool {
	_, found := a.place(purpose, algorithm)
	return found
}

// Keys lists the keys of all devices. A key that is in two of them is used in the first.
func (a *Assembly) Keys() (all []KeyInfo, err error) {
	where := make(map[[32]byte]Place)
	for _, p := range a.places {
		keys, err := p.Keys()
		if err != nil {
			return nil, err
		}
		for _, key := range keys {
			if _, twice := where[key.ID()]; !twice {
				where[key.ID()] = p
				all = append(all, key)
			}
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.where = where
	return all, nil
}

// Create makes a key in the first device that is for it.
func (a *Assembly) Create(label string, purpose Purpose, algorithm Algorithm) (KeyInfo, *Attestation, error) {
	p, found := a.place(purpose, algorithm)
	if !found {
		return KeyInfo{}, nil, fmt.Errorf("no device holds %s keys for %s", algorithm, purpose)
	}
	key, attestation, err := p.Create(label, purpose, algorithm)
	if err != nil {
		return KeyInfo{}, nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.where[key.ID()] = p
	return key, attestation, nil
}

func (a *Assembly) find(id [32]byte) (Place, error) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	if p, found := a.where[id]; found {
		return p, nil
	}
	return Place{}, fmt.Errorf("no key %x", id)
}

// Sign signs where the key is.
func (a *Assembly) Sign(id [32]byte, scheme Scheme, input []byte) ([]byte, error) {
	p, err := a.find(id)
	if err != nil {
		return nil, err
	}
	return p.Sign(id, scheme, input)
}

// ECDH agrees where the key is.
func (a *Assembly) ECDH(id [32]byte, peer *ecdh.PublicKey) ([]byte, error) {
	p, err := a.find(id)
	if err != nil {
		return nil, err
	}
	return p.ECDH(id, peer)
}

// Destroy removes a key where it is.
func (a *Assembly) Destroy(id [32]byte) error {
	p, err := a.find(id)
	if err != nil {
		return err
	}
	if err := p.Destroy(id); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.where, id)
	return nil
}

// Objects lists all that is on all devices.
func (a *Assembly) Objects() (all []Object, err error) {
	for _, p := range a.places {
		objects, err := p.Objects()
		if err != nil {
			return nil, err
		}
		for _, o := range objects {
			o.Device = p.String()
			all = append(all, o)
		}
	}
	return all, nil
}

// Parallel is that of the device where the key is.
func (a *Assembly) Parallel(id [32]byte) int {
	p, err := a.find(id)
	if err != nil {
		return 1 // and signing will say why
	}
	return p.Parallel(id)
}

// Describe says for each device which keys it takes, for the hello.
func (a *Assembly) Describe() []DeviceInfo {
	var all []DeviceInfo
	for _, p := range a.places {
		info := DeviceInfo{Locator: p.String()}
		for _, purpose := range []Purpose{CA, Seal, Log, Receiver} {
			for _, algorithm := range []Algorithm{P256, P384, RSA3072, RSA4096, Ed25519} {
				if first, found := a.place(purpose, algorithm); found && purpose.Allows(algorithm) && first.String() == p.String() {
					info.Holds = append(info.Holds, string(purpose)+" "+string(algorithm))
				}
			}
		}
		all = append(all, info)
	}
	return all
}

// Close closes all devices.
func (a *Assembly) Close() error {
	var err error
	for _, p := range a.places {
		err = errors.Join(err, p.Close())
	}
	return err
}
