package signer

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"io"
)

// Key is a key in the signer process, as crypto.Signer.
type Key struct {
	client *Client
	info   KeyInfo
	id     [32]byte
	public crypto.PublicKey

	attestation []byte
}

var _ crypto.Signer = (*Key)(nil)

// Info is what is known about the key.
func (k *Key) Info() KeyInfo { return k.info }

// ID is the SHA-256 of the key's SPKI.
func (k *Key) ID() [32]byte { return k.id }

// Attestation is the device's proof that the key was made in it and can't leave it (Attestation, encoded), right after
// the key was made; nil where the device gives none.
func (k *Key) Attestation() []byte { return k.attestation }

// Public is an *ecdsa.PublicKey, *rsa.PublicKey or ed25519.PublicKey.
func (k *Key) Public() crypto.PublicKey { return k.public }

// Sign signs one digest (or for Ed25519, one message) and verifies the signature; the source of randomness is ignored.
// Many inputs are cheaper with Client.SignBatch.
func (k *Key) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	scheme, err := SchemeFor(k.info.Algorithm, opts)
	if err != nil {
		return nil, err
	}
	signatures, err := k.client.SignBatch(k.id, k.info.Purpose, scheme, [][]byte{digest})
	if err != nil {
		return nil, err
	}
	return signatures[0], nil
}

// KeyExchanger gives a receiver key as HPKE takes it.
func (k *Key) KeyExchanger() (ecdh.KeyExchanger, error) {
	public, ok := k.public.(*ecdsa.PublicKey)
	if !ok || k.info.Purpose != Receiver {
		return nil, fmt.Errorf("key %s is for %s, not for key agreement", k.info.Label, k.info.Purpose)
	}
	point, err := public.ECDH()
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", k.info.Label, err)
	}
	return &exchanger{key: k, public: point}, nil
}

type exchanger struct {
	key    *Key
	public *ecdh.PublicKey
}

func (e *exchanger) PublicKey() *ecdh.PublicKey { return e.public }
func (e *exchanger) Curve() ecdh.Curve          { return ecdh.P256() }

func (e *exchanger) ECDH(peer *ecdh.PublicKey) ([]byte, error) {
	if peer.Curve() != ecdh.P256() {
		return nil, errors.New("key agreement with a point of another curve than P-256")
	}
	shared, err := e.key.client.ECDH(e.key.id, peer.Bytes())
	if err != nil {
		return nil, err
	}
	return shared[:], nil
}
