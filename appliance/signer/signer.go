// Package signer is both ends of what the appliance and its signer process say to each other (signer.md), and the rules
// by which keys are used.
//
// Keys live in a process of their own, which parses no medium, so that a mistake in a parser costs no key, and so that
// a key device that hangs, dies or lies is a fault of a child process and never a wrong certificate. The client verifies
// every signature before it returns it. The rules (a key signs for its own purpose only, the log key signs checkpoints
// only, the counter moves by one) stand in the server, once, whatever keeps the keys.
//
// The package keeps no key, knows no certificate and restarts nothing: after a fault (wire.ErrFault) the client is dead,
// and whoever owns it starts another.
package signer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
)

const (
	// Version of the messages; both ends are of one release, so a difference is a wrong installation.
	Version = 1
	// MaxBatch is the most inputs of one call, what one group of a bundle holds.
	MaxBatch = 1024
	// MaxKeys bounds what a backend may hold: 60 CAs with a generation or two each.
	MaxKeys = 256
	// MaxLabel is the longest label in bytes; PKCS#11 tokens take that much everywhere.
	MaxLabel = 64
)

// Purpose is the one thing a key is for. It is fixed when the key is made and named again at every use.
type Purpose string

// The purposes of keys.
const (
	CA       Purpose = "ca"       // certificates, CRLs, OCSP answers
	Seal     Purpose = "seal"     // responses
	Log      Purpose = "log"      // checkpoints, nothing else
	Receiver Purpose = "receiver" // key agreement for opening bundles; signs nothing
)

// Algorithm is the kind of a key.
type Algorithm string

// The kinds of keys.
const (
	P256    Algorithm = "P-256"
	P384    Algorithm = "P-384"
	RSA3072 Algorithm = "RSA-3072"
	RSA4096 Algorithm = "RSA-4096"
	Ed25519 Algorithm = "Ed25519"
)

// Allows tells whether a key for this purpose may be of the algorithm. Responses are COSE messages, whose keys are never
// RSA; checkpoints are Ed25519 by their format; bundles are encrypted to P-256.
func (p Purpose) Allows(a Algorithm) bool {
	switch p {
	case CA:
		return slices.Contains([]Algorithm{P256, P384, RSA3072, RSA4096, Ed25519}, a)
	case Seal:
		return slices.Contains([]Algorithm{P256, P384, Ed25519}, a)
	case Log:
		return a == Ed25519
	case Receiver:
		return a == P256
	}
	return false
}

// AlgorithmOf names the kind of a public key; kinds this product makes no keys of are an error.
func AlgorithmOf(public crypto.PublicKey) (Algorithm, error) {
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		switch p.Curve {
		case elliptic.P256():
			return P256, nil
		case elliptic.P384():
			return P384, nil
		}
	case *rsa.PublicKey:
		switch p.N.BitLen() {
		case 3072:
			return RSA3072, nil
		case 4096:
			return RSA4096, nil
		}
	case ed25519.PublicKey:
		return Ed25519, nil
	}
	return "", fmt.Errorf("public key (%T) of a kind this signer has none of", public)
}

// KeyInfo is what may be known about a key.
type KeyInfo struct {
	Label     string    `cbor:"1,keyasint"`
	Purpose   Purpose   `cbor:"2,keyasint"`
	Algorithm Algorithm `cbor:"3,keyasint"`
	SPKI      []byte    `cbor:"4,keyasint"` // SubjectPublicKeyInfo, DER (RFC 5280 section 4.1.2.7)
}

// ID is the SHA-256 of the SPKI, by which keys are named.
func (k KeyInfo) ID() [32]byte { return sha256.Sum256(k.SPKI) }

// Check tells whether the parts of k agree with each other and gives the public key.
func (k KeyInfo) Check() (crypto.PublicKey, error) {
	if !validLabel(k.Label) {
		return nil, fmt.Errorf("key label %q: want 1 to %d letters, digits and ._/:- beginning with a letter or digit", k.Label, MaxLabel)
	}
	if !k.Purpose.Allows(k.Algorithm) {
		return nil, fmt.Errorf("key %s: purpose %q does not go with algorithm %q", k.Label, k.Purpose, k.Algorithm)
	}
	public, err := x509.ParsePKIXPublicKey(k.SPKI)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", k.Label, err)
	}
	if a, err := AlgorithmOf(public); err != nil || a != k.Algorithm {
		return nil, fmt.Errorf("key %s: its public key is not of algorithm %s", k.Label, k.Algorithm)
	}
	return public, nil
}

func validLabel(label string) bool {
	if len(label) == 0 || len(label) > MaxLabel {
		return false
	}
	for i, c := range []byte(label) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || c != '.' && c != '_' && c != '/' && c != ':' && c != '-') {
			return false
		}
	}
	return true
}
