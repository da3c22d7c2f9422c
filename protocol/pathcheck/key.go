package pathcheck

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"

	"coldseal/protocol/x690"
)

// Sizes of RSA keys: 2048 by NIST SP 800-57 part 1, and what verifying costs grows with the square.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// parseKey reads a SubjectPublicKeyInfo in its one encoding.
func parseKey(spki []byte) (crypto.PublicKey, error) {
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, errors.New("public key cannot be read") // the cause may quote the input
	}
	switch k := public.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < minRSABits || n > maxRSABits || k.N.Bit(0) == 0 {
			return nil, fmt.Errorf("RSA key of %d bits, odd and from %d to %d are accepted", n, minRSABits, maxRSABits)
		}
		if k.E < 3 || k.E&1 == 0 {
			return nil, fmt.Errorf("RSA key with exponent %d", k.E)
		}
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return nil, errors.New("EC key that is neither on P-256 nor on P-384")
		}
	case ed25519.PublicKey:
	default:
		return nil, errors.New("public key of a kind that is not accepted")
	}
	if again, err := x509.MarshalPKIXPublicKey(public); err != nil || !bytes.Equal(again, spki) {
		return nil, errors.New("public key is not in its canonical encoding")
	}
	return public, nil
}

type kind int

const (
	kindECDSA kind = iota + 1
	kindPKCS1
	kindPSS
	kindEd25519
)

// scheme is how something is signed; zero is one that is not accepted.
type scheme struct {
	kind kind
	hash crypto.Hash
}

// Object identifiers, as elements, and what RSASSA-PSS is made of (RFC 4055 section 3.1): hash, mask and salt length,
// which is the hash's, each in the one encoding with hash parameters NULL or all without, both of which RFC 4055 section
// 2.1 wants accepted. Other lengths of salt are not.
const (
	hashSHA256 = "\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01"
	hashSHA384 = "\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02"
	hashSHA512 = "\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03"

	oidPSS  = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a"
	oidMGF1 = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08"

	pssBare = "\x30\x3d" + oidPSS + "\x30\x30\xa0\x0d\x30\x0b"
	pssNull = "\x30\x41" + oidPSS + "\x30\x34\xa0\x0f\x30\x0d"
	mgfBare = "\xa1\x1a\x30\x18" + oidMGF1 + "\x30\x0b"
	mgfNull = "\x05\x00\xa1\x1c\x30\x1a" + oidMGF1 + "\x30\x0d"
	salt    = "\xa2\x03\x02\x01"
)

// parseScheme recognises an AlgorithmIdentifier, a whole element: RFC 5758 section 3.2, RFC 4055, RFC 8410 section 3.
// Each has one encoding, so the parameters are compared with it.
func parseScheme(element []byte) (scheme, bool) {
	switch string(element) {
	case "\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02":
		return scheme{kindECDSA, crypto.SHA256}, true
	case "\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03":
		return scheme{kindECDSA, crypto.SHA384}, true
	case "\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00":
		return scheme{kindPKCS1, crypto.SHA256}, true
	case "\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c\x05\x00":
		return scheme{kindPKCS1, crypto.SHA384}, true
	case "\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d\x05\x00":
		return scheme{kindPKCS1, crypto.SHA512}, true
	case pssBare + hashSHA256 + mgfBare + hashSHA256 + salt + "\x20", pssNull + hashSHA256 + mgfNull + hashSHA256 + "\x05\x00" + salt + "\x20":
		return scheme{kindPSS, crypto.SHA256}, true
	case pssBare + hashSHA384 + mgfBare + hashSHA384 + salt + "\x30", pssNull + hashSHA384 + mgfNull + hashSHA384 + "\x05\x00" + salt + "\x30":
		return scheme{kindPSS, crypto.SHA384}, true
	case pssBare + hashSHA512 + mgfBare + hashSHA512 + salt + "\x40", pssNull + hashSHA512 + mgfNull + hashSHA512 + "\x05\x00" + salt + "\x40":
		return scheme{kindPSS, crypto.SHA512}, true
	case "\x30\x05\x06\x03\x2b\x65\x70":
		return scheme{kind: kindEd25519}, true
	}
	return scheme{}, false
}

// verify reports whether signature is the key's over signed. A scheme of another kind of key verifies nothing.
func (s scheme) verify(key crypto.PublicKey, signed, signature []byte) bool {
	switch key := key.(type) {
	case ed25519.PublicKey:
		return s.kind == kindEd25519 && ed25519.Verify(key, signed, signature)
	case *ecdsa.PublicKey:
		return s.kind == kindECDSA && ecdsa.VerifyASN1(key, x690.Digest(s.hash, signed), signature)
	case *rsa.PublicKey:
		switch s.kind {
		case kindPKCS1:
			return rsa.VerifyPKCS1v15(key, s.hash, x690.Digest(s.hash, signed), signature) == nil
		case kindPSS:
			return rsa.VerifyPSS(key, s.hash, x690.Digest(s.hash, signed), signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
	}
	return false
}
