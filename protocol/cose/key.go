package cose

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
)

// Algorithm is a COSE algorithm identifier (RFC 9053 section 2, RFC 8230 section 2).
type Algorithm int64

// The algorithms of enrolled keys. There is one for each kind of key, so a key names its algorithm.
const (
	ES256 Algorithm = -7  // P-256 with SHA-256
	EdDSA Algorithm = -8  // Ed25519
	ES384 Algorithm = -35 // P-384 with SHA-384
	PS256 Algorithm = -37 // RSASSA-PSS with SHA-256, MGF1 with SHA-256, and a salt of 32 bytes
)

// Key is an enrolled verification key.
type Key struct {
	public    crypto.PublicKey
	algorithm Algorithm
	spki      []byte
	id        [32]byte
}

// NewKey makes a Key of a public key: P-256, P-384, Ed25519, or RSA of 2,048, 3,072 or 4,096 bits with the exponent
// 65537; any other is refused. It does not look for RSA moduli that are easy to factor: whoever enrols a key does.
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
	case *rsa.PublicKey:
		switch bits := p.N.BitLen(); {
		case bits != 2048 && bits != 3072 && bits != 4096:
			return Key{}, fmt.Errorf("RSA key of %d bits, want 2048, 3072 or 4096", bits)
		case p.E != 65537:
			return Key{}, fmt.Errorf("RSA key with the exponent %d, want 65537", p.E)
		}
		k.algorithm = PS256
	default:
		return Key{}, fmt.Errorf("key type %T is not one of P-256, P-384, Ed25519, RSA", public)
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
