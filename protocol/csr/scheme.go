package csr

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"

	"coldseal/protocol/x690"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// Contents of signature and hash OIDs.
const (
	oidPSS         = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a" // 1.2.840.113549.1.1.10, RFC 4055 section 3.1
	oidMGF1        = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08" // 1.2.840.113549.1.1.8, RFC 4055 section 2.2
	oidRSAMD2      = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x02" // 1.2.840.113549.1.1.2, RFC 3279 section 2.2.1
	oidRSAMD5      = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04"
	oidRSASHA1     = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05"
	oidRSASHA256   = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b" // RFC 4055 section 5
	oidRSASHA384   = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c"
	oidRSASHA512   = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d"
	oidRSASHA224   = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0e"
	oidECDSASHA1   = "\x2a\x86\x48\xce\x3d\x04\x01"     // 1.2.840.10045.4.1, RFC 3279 section 2.2.3
	oidECDSASHA224 = "\x2a\x86\x48\xce\x3d\x04\x03\x01" // 1.2.840.10045.4.3.1, RFC 5758 section 3.2
	oidECDSASHA256 = "\x2a\x86\x48\xce\x3d\x04\x03\x02"
	oidECDSASHA384 = "\x2a\x86\x48\xce\x3d\x04\x03\x03"
	oidECDSASHA512 = "\x2a\x86\x48\xce\x3d\x04\x03\x04"

	oidMD5    = "\x2a\x86\x48\x86\xf7\x0d\x02\x05"     // 1.2.840.113549.2.5
	oidSHA1   = "\x2b\x0e\x03\x02\x1a"                 // 1.3.14.3.2.26
	oidSHA256 = "\x60\x86\x48\x01\x65\x03\x04\x02\x01" // 2.16.840.1.101.3.4.2.1
	oidSHA384 = "\x60\x86\x48\x01\x65\x03\x04\x02\x02"
	oidSHA512 = "\x60\x86\x48\x01\x65\x03\x04\x02\x03"
	oidSHA224 = "\x60\x86\x48\x01\x65\x03\x04\x02\x04"
)

type padding int

const (
	pkcs1 padding = iota
	pss
	ecdsaASN1
	ed25519Pure
)

// scheme is how the request says it is signed.
type scheme struct {
	padding padding
	hash    crypto.Hash
	salt    int // bytes, with pss
}

// parseScheme reads the contents of the signature's AlgorithmIdentifier.
func parseScheme(algorithm cryptobyte.String) (scheme, *Error) {
	var oid cryptobyte.String
	if !algorithm.ReadASN1(&oid, tag.OBJECT_IDENTIFIER) {
		return scheme{}, refuse(Form, "signature algorithm without a type")
	}
	var s scheme
	parameters := ""
	switch string(oid) {
	case oidPSS:
		return parsePSS(algorithm)
	case oidRSASHA256:
		s, parameters = scheme{padding: pkcs1, hash: crypto.SHA256}, "\x05\x00"
	case oidRSASHA384:
		s, parameters = scheme{padding: pkcs1, hash: crypto.SHA384}, "\x05\x00"
	case oidRSASHA512:
		s, parameters = scheme{padding: pkcs1, hash: crypto.SHA512}, "\x05\x00"
	case oidECDSASHA256:
		s = scheme{padding: ecdsaASN1, hash: crypto.SHA256}
	case oidECDSASHA384:
		s = scheme{padding: ecdsaASN1, hash: crypto.SHA384}
	case oidECDSASHA512:
		s = scheme{padding: ecdsaASN1, hash: crypto.SHA512}
	case oidEd25519:
		s = scheme{padding: ed25519Pure}
	case oidRSAMD2, oidRSAMD5, oidRSASHA1, oidRSASHA224, oidECDSASHA1, oidECDSASHA224:
		return s, refuse(WeakHash, "signature algorithm %s, its hash is weaker than SHA-256", x690.OID(oid))
	default:
		return s, refuse(Form, "signature algorithm %s is not accepted", x690.OID(oid))
	}
	if string(algorithm) != parameters {
		return s, refuse(Form, "signature algorithm %s with wrong parameters", x690.OID(oid))
	}
	return s, nil
}

// parsePSS reads RSASSA-PSS-params. Every field has a DEFAULT, which DER leaves out: SHA-1, MGF1 with SHA-1, a salt of
// 20, trailer 1. The salt's length is the signer's choice (openssl takes the longest that fits).
func parsePSS(parameters cryptobyte.String) (scheme, *Error) {
	var hash, mask, salt cryptobyte.String
	var hasHash, hasMask, hasSalt bool
	fields, ok := x690.One(parameters, tag.SEQUENCE)
	if !ok || !fields.ReadOptionalASN1(&hash, &hasHash, tag.Tag(0).ContextSpecific().Constructed()) ||
		!fields.ReadOptionalASN1(&mask, &hasMask, tag.Tag(1).ContextSpecific().Constructed()) ||
		!fields.ReadOptionalASN1(&salt, &hasSalt, tag.Tag(2).ContextSpecific().Constructed()) || !fields.Empty() {
		return scheme{}, refuse(Form, "not RSASSA-PSS parameters")
	}
	if !hasHash || !hasMask {
		return scheme{}, refuse(WeakHash, "RSASSA-PSS with SHA-1, its default")
	}
	mgf, ok := x690.One(mask, tag.SEQUENCE)
	var mgfType cryptobyte.String
	if !ok || !mgf.ReadASN1(&mgfType, tag.OBJECT_IDENTIFIER) || string(mgfType) != oidMGF1 {
		return scheme{}, refuse(Form, "RSASSA-PSS with a mask that is not MGF1")
	}
	h, err := parseHash(hash)
	if err != nil {
		return scheme{}, err
	}
	maskHash, err := parseHash(mgf)
	if err != nil {
		return scheme{}, err
	}
	if h != maskHash {
		return scheme{}, refuse(Form, "RSASSA-PSS with different hashes for message and mask")
	}
	length := 20
	if hasSalt && (!salt.ReadASN1Integer(&length) || !salt.Empty() || length == 20) {
		return scheme{}, refuse(Form, "RSASSA-PSS salt length is not a number or the default written out")
	}
	// Go reads 0 as "find it out", and no accepted modulus has room for more than its own length.
	if length < 1 || length > maxRSABits/8 {
		return scheme{}, refuse(Form, "RSASSA-PSS with a salt of %d bytes", length)
	}
	return scheme{padding: pss, hash: h, salt: length}, nil
}

// parseHash reads one hash AlgorithmIdentifier; RFC 4055 section 2.1 has parameters NULL or absent mean the same.
func parseHash(element cryptobyte.String) (crypto.Hash, *Error) {
	var oid cryptobyte.String
	algorithm, ok := x690.One(element, tag.SEQUENCE)
	if !ok || !algorithm.ReadASN1(&oid, tag.OBJECT_IDENTIFIER) ||
		!algorithm.Empty() && string(algorithm) != "\x05\x00" {
		return 0, refuse(Form, "not a hash algorithm")
	}
	switch string(oid) {
	case oidSHA256:
		return crypto.SHA256, nil
	case oidSHA384:
		return crypto.SHA384, nil
	case oidSHA512:
		return crypto.SHA512, nil
	case oidMD5, oidSHA1, oidSHA224:
		return 0, refuse(WeakHash, "hash %s is weaker than SHA-256", x690.OID(oid))
	}
	return 0, refuse(Form, "hash %s is not accepted", x690.OID(oid))
}

// verify reports whether signature is the key's over signed. A scheme of another kind of key proves nothing about it.
func (s scheme) verify(key crypto.PublicKey, signed, signature []byte) bool {
	switch key := key.(type) {
	case ed25519.PublicKey:
		return s.padding == ed25519Pure && ed25519.Verify(key, signed, signature)
	case *ecdsa.PublicKey:
		return s.padding == ecdsaASN1 && ecdsa.VerifyASN1(key, x690.Digest(s.hash, signed), signature)
	case *rsa.PublicKey:
		switch s.padding {
		case pkcs1:
			return rsa.VerifyPKCS1v15(key, s.hash, x690.Digest(s.hash, signed), signature) == nil
		case pss:
			return rsa.VerifyPSS(key, s.hash, x690.Digest(s.hash, signed), signature, &rsa.PSSOptions{SaltLength: s.salt}) == nil
		}
	}
	return false
}
