package cose

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
)

// Algorithm is a COSE algorithm identifier (RFC 9053 section 2).
type Algorithm int64

// The algorithms of enrolled keys. There is one for each kind of key, so a key names its algorithm.
const (
	ES256 Algorithm = -7  // P-256 with SHA-256
	EdDSA Algorithm = -8  // Ed25519
	ES384 Algorithm = -35 // P-384 with SHA-384
)

// ErrSignature is returned when a message does not verify, for whatever reason; the reason is wrapped beside it.
var ErrSignature = errors.New("signature does not verify")

// Key is an enrolled verification key.
type Key struct {
	public    crypto.PublicKey
	algorithm Algorithm
	spki      []byte
	id        [32]byte
}

// NewKey makes a Key of a P-256, P-384 or Ed25519 public key; any other is refused.
func NewKey(public crypto.PublicKey) (Key, error) {
	k := Key{public: public}
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		switch p.Curve {
		case elliptic.P256():
			k.algorithm = ES256
		case elliptic.P384():
			k.algorithm = ES384
		default:
			return Key{}, fmt.Errorf("elliptic curve %s is not one of P-256, P-384", p.Params().Name)
		}
	case ed25519.PublicKey:
		k.algorithm = EdDSA
	default:
		return Key{}, fmt.Errorf("key type %T is not one of P-256, P-384, Ed25519", public)
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return Key{}, fmt.Errorf("encode public key: %w", err)
	}
	k.spki, k.id = spki, sha256.Sum256(spki)
	return k, nil
}

// ParseKey reads a SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7) and refuses any encoding but the canonical one.
func ParseKey(spki []byte) (Key, error) {
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return Key{}, fmt.Errorf("parse public key: %w", err)
	}
	k, err := NewKey(public)
	if err != nil {
		return Key{}, err
	}
	if !bytes.Equal(k.spki, spki) {
		return Key{}, errors.New("parse public key: encoding is not canonical")
	}
	return k, nil
}

// ID is the SHA-256 of the SubjectPublicKeyInfo.
func (k Key) ID() [32]byte { return k.id }

// SPKI is the SubjectPublicKeyInfo; callers do not change it.
func (k Key) SPKI() []byte { return k.spki }

// Public is the key as crypto/* know it.
func (k Key) Public() crypto.PublicKey { return k.public }

// Algorithm is the one algorithm this key is used with.
func (k Key) Algorithm() Algorithm { return k.algorithm }

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

func (k Key) hash() crypto.Hash {
	switch k.algorithm {
	case ES256:
		return crypto.SHA256
	case ES384:
		return crypto.SHA384
	}
	return 0
}

// sign asks for a deterministic signature (RFC 6979): rand is nil. A device that can't sign so ignores rand.
func (k Key) sign(signer crypto.Signer, message []byte) ([]byte, error) {
	public, ok := k.public.(*ecdsa.PublicKey)
	if !ok {
		return signer.Sign(nil, message, crypto.Hash(0))
	}
	h := k.hash()
	digest := h.New()
	digest.Write(message)
	der, err := signer.Sign(nil, digest.Sum(nil), h)
	if err != nil {
		return nil, err
	}
	var rs struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &rs); err != nil || len(rest) != 0 {
		return nil, errors.New("signer returned a malformed ECDSA signature")
	}
	order := public.Params().N
	if rs.R.Sign() <= 0 || rs.S.Sign() <= 0 || rs.R.Cmp(order) >= 0 || rs.S.Cmp(order) >= 0 {
		return nil, errors.New("signer returned an ECDSA signature out of range")
	}
	if highS(rs.S, order) {
		rs.S.Sub(order, rs.S)
	}
	n := (public.Params().BitSize + 7) / 8
	out := make([]byte, 2*n)
	rs.R.FillBytes(out[:n])
	rs.S.FillBytes(out[n:])
	return out, nil
}

// verify takes r‖s of fixed length with low S (RFC 9053 section 2.1), or an Ed25519 signature.
func (k Key) verify(message, signature []byte) error {
	public, ok := k.public.(*ecdsa.PublicKey)
	if !ok {
		if !ed25519.Verify(k.public.(ed25519.PublicKey), message, signature) {
			return ErrSignature
		}
		return nil
	}
	n := (public.Params().BitSize + 7) / 8
	if len(signature) != 2*n {
		return fmt.Errorf("signature of %d bytes, want %d: %w", len(signature), 2*n, ErrSignature)
	}
	r, s := new(big.Int).SetBytes(signature[:n]), new(big.Int).SetBytes(signature[n:])
	if highS(s, public.Params().N) {
		return fmt.Errorf("high S: %w", ErrSignature)
	}
	digest := k.hash().New()
	digest.Write(message)
	if !ecdsa.Verify(public, digest.Sum(nil), r, s) {
		return ErrSignature
	}
	return nil
}

func highS(s, order *big.Int) bool { return s.Cmp(new(big.Int).Rsh(order, 1)) > 0 }
