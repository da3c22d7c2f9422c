package signer

import (
	"crypto/ecdh"

	"coldseal/protocol/cose"
)

// Device keeps keys in one place: a token, a TPM, a card, a file. Its methods are called from several goroutines, those
// that change something one at a time. What is asked of it has passed the rules of this package; its errors are faults,
// best a *Trouble, which says what mends it.
//
// A device whose session is lost opens it again, once for each call, and makes sure that it is the same device; only
// then does it fail.
type Device interface {
	// Holds tells whether keys of this kind can be made there.
	Holds(purpose Purpose, algorithm Algorithm) bool
	// Keys lists our keys: whole ones of which the label is there once. What else is there is among the Objects.
	Keys() ([]KeyInfo, error)
	// Create makes a key in the device that never leaves it and is durable before it returns. The attestation proves
	// that; it is nil where the device makes none.
	Create(label string, purpose Purpose, algorithm Algorithm) (key KeyInfo, attestation *Attestation, err error)
	// Sign signs a digest, or for Ed25519 a message; ECDSA signatures are ASN.1 DER.
	Sign(id [32]byte, scheme Scheme, input []byte) ([]byte, error)
	// ECDH gives the x coordinate that the key and peer share, 32 bytes (SEC 1 section 3.3.1).
	ECDH(id [32]byte, peer *ecdh.PublicKey) ([]byte, error)
	// Destroy removes a key for good, durably.
	Destroy(id [32]byte) error
	// Objects lists all that is there, ours or not.
	Objects() ([]Object, error)
	// Parallel is how many signatures it makes at a time with a key; more asked at once only wait.
	Parallel(id [32]byte) int
	Close() error
}

// Anchor keeps what must never go back: the counter of law 7 and the genesis digest.
type Anchor interface {
	Counter() (uint64, error)
	// Advance makes the counter to, which is one more than it was, durably.
	Advance(to uint64) error
	// Pinned gives the genesis digest, zero if there is none yet; Pin sets it durably.
	Pinned() ([32]byte, error)
	Pin(digest [32]byte) error
}

// Backend is all that a server answers from.
type Backend interface {
	Device
	Anchor
}

// Object is one thing on a device, for the inventory.
type Object struct {
	Device string   `cbor:"1,keyasint"`           // where: a locator
	Class  string   `cbor:"2,keyasint"`           // one of the classes, or the device's own word
	Label  string   `cbor:"3,keyasint"`           // as it is on the device, valid UTF-8 of at most 255 bytes
	Handle string   `cbor:"4,keyasint"`           // what the device's own tools call it: CKA_ID in hexadecimal, an NV index, a slot, a file
	Key    [32]byte `cbor:"5,keyasint,omitzero"`  // id of the key, where it is known
	Note   string   `cbor:"6,keyasint,omitempty"` // what is odd about it: "no public key", ...
	Ours   bool     `cbor:"7,keyasint,omitzero"`  // made by this product, or claims to be
}

// The classes of objects that somebody else than the device knows.
const (
	ClassPrivateKey = "private key"
	ClassKeyFile    = "key file" // a private key, wrapped by the device
	ClassCounter    = "NV index" // of counter and genesis digest
)

// Attestation is a device's own proof that a key was made in it and can't leave it.
type Attestation struct {
	Format string   `cbor:"1,keyasint"`
	Parts  [][]byte `cbor:"2,keyasint"`
}

// The formats of attestations.
const (
	// AttestationTPM has: TPMT_PUBLIC of the key, TPMS_ATTEST of TPM2_Certify, TPMT_SIGNATURE over it, TPMT_PUBLIC of the
	// attestation key.
	AttestationTPM = "tpm2-certify"
	// AttestationPIV has X.509 certificates: that of the slot, then that of the card which signs it.
	AttestationPIV = "yubikey-piv"
)

// Encode gives the bytes that go into the log; nil of nil.
func (a *Attestation) Encode() ([]byte, error) {
	if a == nil {
		return nil, nil
	}
	return cose.Marshal(*a)
}
