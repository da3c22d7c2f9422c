package signer

import (
	"crypto/ecdh"
	"fmt"
	"time"
)

const (
	// Patience is how long a device may take for one thing, less than the appliance waits for the signer. A library that
	// hangs can't be stopped from outside; the signer says so and ends.
	Patience = 8 * time.Second
	// patienceForCreate is for two RSA primes, which may take very long to find.
	patienceForCreate = 2 * time.Minute
)

// Watch gives a place whose device answers within patience or is in trouble.
func Watch(p Place, patience time.Duration) Place {
	return Place{p.Locator, watched{p, patience}}
}

// WatchAnchor does the same for the counter of a device.
func WatchAnchor(l Locator, a Anchor, patience time.Duration) Anchor {
	return watchedAnchor{l, a, patience}
}

// within runs f, and leaves it running where it does not come back.
func within[T any](l Locator, patience time.Duration, what string, f func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	answered := make(chan answer, 1)
	go func() {
		value, err := f()
		answered <- answer{value, err}
	}()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case a := <-answered:
		return a.value, a.err
	case <-timer.C:
		var none T
		return none, NewTrouble(DeviceHangs, l, fmt.Sprintf("no answer within %v: %s", patience, what))
	}
}

type watched struct {
	Place
	patience time.Duration
}

func (w watched) Keys() ([]KeyInfo, error) {
	return within(w.Locator, w.patience, "list keys", w.Device.Keys)
}

func (w watched) Objects() ([]Object, error) {
	return within(w.Locator, w.patience, "list objects", w.Device.Objects)
}

func (w watched) Create(label string, purpose Purpose, algorithm Algorithm) (KeyInfo, *Attestation, error) {
	type made struct {
		key         KeyInfo
		attestation *Attestation
	}
	m, err := within(w.Locator, w.patience+patienceForCreate, "make key "+label, func() (made, error) {
		key, attestation, err := w.Device.Create(label, purpose, algorithm)
		return made{key, attestation}, err
	})
	return m.key, m.attestation, err
}

func (w watched) Sign(id [32]byte, scheme Scheme, input []byte) ([]byte, error) {
	return within(w.Locator, w.patience, "sign", func() ([]byte, error) { return w.Device.Sign(id, scheme, input) })
}

func (w watched) ECDH(id [32]byte, peer *ecdh.PublicKey) ([]byte, error) {
	return within(w.Locator, w.patience, "agree on a key", func() ([]byte, error) { return w.Device.ECDH(id, peer) })
}

func (w watched) Destroy(id [32]byte) error {
	_, err := within(w.Locator, w.patience, "destroy a key", func() (struct{}, error) { return struct{}{}, w.Device.Destroy(id) })
	return err
}

type watchedAnchor struct {
	locator  Locator
	anchor   Anchor
	patience time.Duration
}

func (w watchedAnchor) Counter() (uint64, error) {
	return within(w.locator, w.patience, "read the counter", w.anchor.Counter)
}

func (w watchedAnchor) Advance(to uint64) error {
	_, err := within(w.locator, w.patience, "advance the counter", func() (struct{}, error) { return struct{}{}, w.anchor.Advance(to) })
	return err
}

func (w watchedAnchor) Pinned() ([32]byte, error) {
	return within(w.locator, w.patience, "read the genesis digest", w.anchor.Pinned)
}

func (w watchedAnchor) Pin(digest [32]byte) error {
	_, err := within(w.locator, w.patience, "pin the genesis digest", func() (struct{}, error) { return struct{}{}, w.anchor.Pin(digest) })
	return err
}
