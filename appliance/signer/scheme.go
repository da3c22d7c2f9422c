package signer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	_ "crypto/sha256" // the hashes that schemes name
	_ "crypto/sha512"
	"fmt"
)

// Scheme is how a signature is made. Inputs are digests of the hash it names, or for Ed25519 the message itself.
type Scheme string

// The signature schemes. An elliptic curve goes with one hash, as in COSE and the CA/Browser Forum's profile.
const (
	ECDSASHA256    Scheme = "ecdsa-sha256"     // P-256; ASN.1 DER, RFC 5480 and RFC 5758
	ECDSASHA384    Scheme = "ecdsa-sha384"     // P-384
	PKCS1SHA256    Scheme = "rsa-pkcs1-sha256" // RFC 8017 section 8.2
	PKCS1SHA384    Scheme = "rsa-pkcs1-sha384"
	PKCS1SHA512    Scheme = "rsa-pkcs1-sha512"
	PSSSHA256      Scheme = "rsa-pss-sha256" // RFC 8017 section 8.1, salt as long as the hash
	PSSSHA384      Scheme = "rsa-pss-sha384"
	PSSSHA512      Scheme = "rsa-pss-sha512"
	Ed25519Message Scheme = "ed25519" // RFC 8032, over the message
)

// Options are the crypto.SignerOpts a crypto.Signer is to be given for the scheme; nil if there is no such scheme.
func (s Scheme) Options() crypto.SignerOpts {
	switch s {
	case ECDSASHA256, PKCS1SHA256:
		return crypto.SHA256
	case ECDSASHA384, PKCS1SHA384:
		return crypto.SHA384
	case PKCS1SHA512:
		return crypto.SHA512
	case PSSSHA256:
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	case PSSSHA384:
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA384}
	case PSSSHA512:
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA512}
	case Ed25519Message:
		return crypto.Hash(0)
	}
	return nil
}

// Fits tells whether keys of algorithm a sign by this scheme.
func (s Scheme) Fits(a Algorithm) bool {
	switch s {
	case ECDSASHA256:
		return a == P256
	case ECDSASHA384:
		return a == P384
	case PKCS1SHA256, PKCS1SHA384, PKCS1SHA512, PSSSHA256, PSSSHA384, PSSSHA512:
		return a == RSA3072 || a == RSA4096
	case Ed25519Message:
		return a == Ed25519
	}
	return false
}

// SchemeFor translates what crypto.Signer is called with.
func SchemeFor(a Algorithm, opts crypto.SignerOpts) (Scheme, error) {
	if opts == nil {
		return "", fmt.Errorf("sign with a %s key: no hash given", a)
	}
	for _, s := range []Scheme{ECDSASHA256, ECDSASHA384, PKCS1SHA256, PKCS1SHA384, PKCS1SHA512, PSSSHA256, PSSSHA384, PSSSHA512, Ed25519Message} {
		own, pss := s.Options().(*rsa.PSSOptions)
		asked, wantPSS := opts.(*rsa.PSSOptions)
		if !s.Fits(a) || pss != wantPSS || s.Options().HashFunc() != opts.HashFunc() {
			continue
		}
		if pss && asked.SaltLength != own.SaltLength && asked.SaltLength != own.Hash.Size() {
			return "", fmt.Errorf("sign with a %s key: PSS salt length %d is not that of the hash", a, asked.SaltLength)
		}
		return s, nil
	}
	return "", fmt.Errorf("sign with a %s key: no scheme for %T with hash %d", a, opts, opts.HashFunc())
}

// verify tells whether signature is one by public over input.
func (s Scheme) verify(public crypto.PublicKey, input, signature []byte) bool {
	opts := s.Options()
	if opts == nil {
		return false
	}
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(p, input, signature)
	case ed25519.PublicKey:
		return ed25519.Verify(p, input, signature)
	case *rsa.PublicKey:
		if pss, ok := opts.(*rsa.PSSOptions); ok {
			return rsa.VerifyPSS(p, pss.Hash, input, signature, pss) == nil
		}
		return rsa.VerifyPKCS1v15(p, opts.HashFunc(), input, signature) == nil
	}
	return false
}
