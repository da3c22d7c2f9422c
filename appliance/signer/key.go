package signer

import (
	"crypto"
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
