package cose

import (
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
)

// ErrSignature is returned when a message does not verify, for whatever reason; the reason is wrapped beside it.
var ErrSignature = errors.New("signature does not verify")

// tagSign1 is the initial byte of CBOR tag 18, COSE_Sign1.
const tagSign1 = 0xd2

type sign1 struct {
	_           struct{} `cbor:",toarray"`
	Protected   []byte
	Unprotected struct{}
	Payload     []byte
	Signature   []byte
}

type protectedHeader struct {
	Algorithm Algorithm `cbor:"1,keyasint"`
	KeyID     []byte    `cbor:"4,keyasint"`
}

// toBeSigned is Sig_structure of RFC 9052 section 4.4.
type toBeSigned struct {
	_         struct{} `cbor:",toarray"`
	Context   string
	Protected []byte
	External  []byte
	Payload   []byte
}

// Sign makes a tagged COSE_Sign1 over payload. The context string is the external_aad: it keeps a signature made for
// one purpose from counting for another.
func Sign(signer crypto.Signer, context string, payload []byte) ([]byte, error) {
	key, err := NewKey(signer.Public())
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", context, err)
	}
	protected, err := Marshal(protectedHeader{key.algorithm, key.id[:]})
	if err != nil {
		return nil, err
	}
	message, err := Marshal(toBeSigned{Context: "Signature1", Protected: protected, External: []byte(context), Payload: payload})
	if err != nil {
		return nil, err
	}
	signature, err := key.sign(signer, message)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", context, err)
	}
	body, err := Marshal(sign1{Protected: protected, Payload: payload, Signature: signature})
	if err != nil {
		return nil, err
	}
	return append([]byte{tagSign1}, body...), nil
}

// KeyID returns the id of the key that the message claims to be signed with. It is a claim, good for a look-up only.
func KeyID(message []byte) ([32]byte, error) {
	m, err := parse(message)
	if err != nil {
		return [32]byte{}, err
	}
	return [32]byte(m.header.KeyID), nil
}

// Verify returns the payload of a COSE_Sign1 that the key signed for this context. There is no other way to the payload.
func Verify(message []byte, context string, key Key) ([]byte, error) {
	m, err := parse(message)
	if err != nil {
		return nil, err
	}
	if m.header.Algorithm != key.algorithm || [32]byte(m.header.KeyID) != key.id {
		return nil, fmt.Errorf("verify %s: message names another key or algorithm: %w", context, ErrSignature)
	}
	signed, err := Marshal(toBeSigned{Context: "Signature1", Protected: m.Protected, External: []byte(context), Payload: m.Payload})
	if err != nil {
		return nil, err
	}
	if err := key.verify(signed, m.Signature); err != nil {
		return nil, fmt.Errorf("verify %s: %w", context, err)
	}
	return m.Payload, nil
}

type parsed struct {
	sign1
	header protectedHeader
}

func parse(message []byte) (parsed, error) {
	var m parsed
	if len(message) == 0 || message[0] != tagSign1 {
		return m, errors.New("decode COSE_Sign1: tag 18 is missing")
	}
	if err := Unmarshal(message[1:], &m.sign1); err != nil {
		return m, err
	}
	if err := Unmarshal(m.Protected, &m.header); err != nil {
		return m, err
	}
	if len(m.header.KeyID) != sha256.Size {
		return m, fmt.Errorf("decode COSE_Sign1: key id of %d bytes, want %d", len(m.header.KeyID), sha256.Size)
	}
	return m, nil
}
