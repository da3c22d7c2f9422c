//go:build cgo

package piv

import (
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/go-piv/piv-go/v2/piv"

	"coldseal/appliance/signer"
)

var algorithms = map[signer.Algorithm]piv.Algorithm{
	signer.P256: piv.AlgorithmEC256, signer.P384: piv.AlgorithmEC384, signer.RSA3072: piv.AlgorithmRSA3072, signer.RSA4096: piv.AlgorithmRSA4096,
}

// management is the management key, which lies under the PIN.
func (t *Token) management(card *piv.YubiKey) ([]byte, error) {
	m, err := card.Metadata(t.pin)
	if err != nil {
		return nil, err
	}
	if m.ManagementKey == nil {
		return nil, trouble(t.locator, signer.DeviceDenied, "the card's management key is not under its PIN")
	}
	return *m.ManagementKey, nil
}

// Create makes a key in a free slot. A slot that was reserved before and never got its key is taken again; a key that was
// finished when the card was pulled, so that nobody heard of it, is the one that is asked for.
func (t *Token) Create(name string, purpose signer.Purpose, algorithm signer.Algorithm) (info signer.KeyInfo, attestation *signer.Attestation, err error) {
	what := "make key " + name
	if !t.Holds(purpose, algorithm) {
		return info, nil, trouble(t.locator, signer.MechanismMissing, "%s: no %s keys for %s", what, algorithm, purpose)
	}
	all, err := t.contents(what)
	if err != nil {
		return info, nil, err
	}
	var public crypto.PublicKey
	slot, finished, err := t.room(all, name, purpose, algorithm)
	if err != nil {
		return info, nil, err
	}
	err = t.do(what, func(card *piv.YubiKey) (err error) {
		if public = finished; public != nil {
			attestation, err = attest(card, slot, public)
		} else {
			public, attestation, err = t.create(card, slot, name, purpose, algorithm)
		}
		return err
	})
	if err != nil {
		return info, nil, err
	}
	info = signer.KeyInfo{Label: name, Purpose: purpose, Algorithm: algorithm}
	if info.SPKI, err = x509.MarshalPKIXPublicKey(public); err == nil {
		_, err = info.Check()
	}
	if err != nil {
		return info, nil, trouble(t.locator, signer.DeviceFails, "%s: %v", what, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.keys == nil {
		t.keys = map[[32]byte]key{}
	}
	t.keys[info.ID()] = key{slot, public}
	return info, attestation, nil
}

// room finds the slot for a key: where it is already, or one that is free.
func (t *Token) room(all []content, name string, purpose signer.Purpose, algorithm signer.Algorithm) (slot piv.Slot, finished crypto.PublicKey, err error) {
	for i := range all {
		k, why := all[i].info()
		if why != "" || k.Label != name {
			continue
		}
		if finished != nil || k.Purpose != purpose || k.Algorithm != algorithm {
			return slot, nil, trouble(t.locator, signer.KeyWrong, "slot %s holds another key labelled %s", all[i].slot, name)
		}
		slot, finished = all[i].slot, all[i].key.PublicKey
	}
	if finished != nil {
		return slot, finished, nil
	}
	free := sorted(all, purpose)
	if len(free) == 0 {
		return slot, nil, trouble(t.locator, signer.DeviceFails, "no slot is free for key %s", name)
	}
	return free[0].slot, nil, nil
}

// create reserves the slot, makes the key, has the card attest it, and labels it.
func (t *Token) create(card *piv.YubiKey, slot piv.Slot, name string, purpose signer.Purpose, algorithm signer.Algorithm) (crypto.PublicKey, *signer.Attestation, error) {
	management, err := t.management(card)
	if err != nil {
		return nil, nil, err
	}
	reservation, err := certificate(name, purpose, nil)
	if err != nil {
		return nil, nil, err
	}
	if err := card.SetCertificate(management, slot, reservation); err != nil {
		return nil, nil, err
	}
	public, err := card.GenerateKey(management, slot, piv.Key{Algorithm: algorithms[algorithm], PINPolicy: piv.PINPolicyOnce, TouchPolicy: piv.TouchPolicyNever})
	if err != nil {
		return nil, nil, err
	}
	attestation, err := attest(card, slot, public)
	if err != nil {
		return nil, nil, err
	}
	label, err := certificate(name, purpose, public)
	if err != nil {
		return nil, nil, err
	}
	if err := card.SetCertificate(management, slot, label); err != nil {
		return nil, nil, err
	}
	c, err := read(card, slot)
	if err != nil {
		return nil, nil, err
	}
	if _, why := c.info(); why != "" {
		return nil, nil, trouble(t.locator, signer.DeviceFails, "slot %s reads back otherwise: %s", slot, why)
	}
	return public, attestation, nil
}

// attest has the card prove that the key was made there; a card without an attestation key proves nothing.
func attest(card *piv.YubiKey, slot piv.Slot, public crypto.PublicKey) (*signer.Attestation, error) {
	own, err := card.AttestationCertificate()
	if errors.Is(err, piv.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	attested, err := card.Attest(slot)
	if err != nil {
		return nil, err
	}
	if k, ok := public.(interface{ Equal(crypto.PublicKey) bool }); !ok || !k.Equal(attested.PublicKey) {
		return nil, errors.New("the card attests another key")
	}
	return &signer.Attestation{Format: signer.AttestationPIV, Parts: [][]byte{attested.Raw, own.Raw}}, nil
}

// Destroy makes another key in the slot, which ends the one there was, and gives the slot free.
func (t *Token) Destroy(id [32]byte) error {
	what := fmt.Sprintf("destroy key %x", id)
	all, err := t.contents(what)
	if err != nil {
		return err
	}
	for i := range all {
		c := &all[i]
		// The label is asked, not the key: where destroying was interrupted, the key is another one already.
		if c.certificate == nil || !c.ours || c.label.reserved || (signer.KeyInfo{SPKI: c.label.spki}).ID() != id {
			continue
		}
		return t.do(what, func(card *piv.YubiKey) error { return t.destroy(card, c) })
	}
	return trouble(t.locator, signer.KeyMissing, "%s: it is not on the card", what)
}

func (t *Token) destroy(card *piv.YubiKey, c *content) error {
	management, err := t.management(card)
	if err != nil {
		return err
	}
	other := piv.Key{Algorithm: piv.AlgorithmEC256, PINPolicy: piv.PINPolicyOnce, TouchPolicy: piv.TouchPolicyNever}
	if _, err := card.GenerateKey(management, c.slot, other); err != nil {
		return err
	}
	reservation, err := certificate(c.label.name, c.label.purpose, nil)
	if err != nil {
		return err
	}
	if err := card.SetCertificate(management, c.slot, reservation); err != nil {
		return err
	}
	delete(t.keys, (signer.KeyInfo{SPKI: c.label.spki}).ID())
	return nil
}

// use finds a key and has f do something with it. The PIN was verified when the card was opened.
func (t *Token) use(what string, id [32]byte, f func(private crypto.PrivateKey) error) error {
	return t.do(what, func(card *piv.YubiKey) error {
		k, known := t.keys[id]
		if !known {
			return trouble(t.locator, signer.KeyMissing, "%s: no key %x", what, id)
		}
		private, err := card.PrivateKey(k.slot, k.public, piv.KeyAuth{PINPolicy: piv.PINPolicyNever})
		if err != nil {
			return err
		}
		return f(private)
	})
}

// Sign signs a digest on the card.
func (t *Token) Sign(id [32]byte, scheme signer.Scheme, input []byte) (signature []byte, err error) {
	err = t.use("sign", id, func(private crypto.PrivateKey) (err error) {
		s, ok := private.(crypto.Signer)
		if !ok {
			return trouble(t.locator, signer.KeyWrong, "key %x does not sign", id)
		}
		signature, err = s.Sign(rand.Reader, input, scheme.Options())
		return err
	})
	return signature, err
}

// ECDH agrees on the card.
func (t *Token) ECDH(id [32]byte, peer *ecdh.PublicKey) (shared []byte, err error) {
	err = t.use("agree", id, func(private crypto.PrivateKey) (err error) {
		e, ok := private.(*piv.ECDSAPrivateKey)
		if !ok {
			return trouble(t.locator, signer.KeyWrong, "key %x is for no agreement", id)
		}
		shared, err = e.ECDH(peer)
		return err
	})
	return shared, err
}
