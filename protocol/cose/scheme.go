package cose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
)

// hash is what is signed instead of the message; Ed25519 signs the message itself.
func (k Key) hash() crypto.Hash {
	switch k.algorithm {
	case ES256, PS256:
		return crypto.SHA256
	case ES384:
		return crypto.SHA384
	}
	return 0
}

func (k Key) digest(message []byte) []byte {
	h := k.hash().New()
	h.Write(message)
	return h.Sum(nil)
}

func pss() *rsa.PSSOptions {
	return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
}

// sign asks for a deterministic signature where there is one (RFC 6979, RFC 8032): rand is nil. A device that can't sign
// so ignores rand.
func (k Key) sign(signer crypto.Signer, message []byte) ([]byte, error) {
	switch public := k.public.(type) {
	case *ecdsa.PublicKey:
		der, err := signer.Sign(nil, k.digest(message), k.hash())
		if err != nil {
			return nil, err
		}
		return fixed(public, der)
	case *rsa.PublicKey:
		signature, err := signer.Sign(rand.Reader, k.digest(message), pss())
		if err == nil && len(signature) != public.Size() {
			err = fmt.Errorf("signer returned an RSA signature of %d bytes, want %d", len(signature), public.Size())
		}
		return signature, err
	}
	return signer.Sign(nil, message, crypto.Hash(0))
}

// fixed makes r‖s with low S (RFC 9053 section 2.1) of an ECDSA signature in DER.
func fixed(public *ecdsa.PublicKey, der []byte) ([]byte, error) {
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

// verify takes r‖s of fixed length with low S (RFC 9053 section 2.1), an RSA signature as long as the modulus whose salt
// has 32 bytes (RFC 8230 section 2), or an Ed25519 signature.
func (k Key) verify(message, signature []byte) error {
	switch public := k.public.(type) {
	case *ecdsa.PublicKey:
		return verifyECDSA(public, k.digest(message), signature)
	case *rsa.PublicKey:
		if rsa.VerifyPSS(public, crypto.SHA256, k.digest(message), signature, pss()) != nil {
			return ErrSignature
		}
		return nil
	}
	if !ed25519.Verify(k.public.(ed25519.PublicKey), message, signature) {
		return ErrSignature
	}
	return nil
}

func verifyECDSA(public *ecdsa.PublicKey, digest, signature []byte) error {
	n := (public.Params().BitSize + 7) / 8
	if len(signature) != 2*n {
		return fmt.Errorf("signature of %d bytes, want %d: %w", len(signature), 2*n, ErrSignature)
	}
	r, s := new(big.Int).SetBytes(signature[:n]), new(big.Int).SetBytes(signature[n:])
	if highS(s, public.Params().N) {
		return fmt.Errorf("high S: %w", ErrSignature)
	}
	if !ecdsa.Verify(public, digest, r, s) {
		return ErrSignature
	}
	return nil
}

func highS(s, order *big.Int) bool { return s.Cmp(new(big.Int).Rsh(order, 1)) > 0 }
