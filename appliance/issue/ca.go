// Package issue shapes certificates and CRLs: from a CA, a compiled profile and values it makes the exact bytes that
// are linted, logged and then signed.
//
// It is apart so that what is signed can be read in one place. It is pure: it knows no clock, ledger, key or policy
// decision; serials, times and names come evaluated from the engine, signatures from the signer process. Input that
// came from a request is refused with a code; anything else that is wrong is an error, a fault of ours.
//
// The form is that of RFC 5280, with extensions in one order so that the same input gives the same bytes.
package issue

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"

	"coldseal/protocol"
	"coldseal/protocol/policy"
)

// MaxCertificate bounds a certificate; a response's answer has room for it.
const MaxCertificate = 16 << 10

// The signature schemes, as the signer process names them.
const (
	schemeECDSASHA256 = "ecdsa-sha256"
	schemeECDSASHA384 = "ecdsa-sha384"
	schemePKCS1SHA256 = "rsa-pkcs1-sha256"
	schemeEd25519     = "ed25519"
)

// AlgorithmIdentifiers of signatures: RFC 5758 section 3.2, RFC 4055 section 5, RFC 8410 section 3.
const (
	algorithmECDSASHA256 = "\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02"
	algorithmECDSASHA384 = "\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03"
	algorithmPKCS1SHA256 = "\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00"
	algorithmEd25519     = "\x30\x05\x06\x03\x2b\x65\x70"
)

// CA is a key that signs, under its name. It is not changed once made.
type CA struct {
	Label        string          // names it in profiles and URLs
	KeyID        protocol.Digest // SHA-256 of its SubjectPublicKeyInfo
	SubjectRaw   []byte          // DER of its name, copied into what it issues
	SubjectKeyID []byte
	NotBefore    int64 // unix seconds; nothing it issues is valid outside of these
	NotAfter     int64 // inclusive
	PathLen      int   // CAs that may follow it; -1 is any number
	Public       crypto.PublicKey
	Scheme       string // ecdsa-sha256, ecdsa-sha384, rsa-pkcs1-sha256, ed25519
	AlgorithmRaw []byte // DER AlgorithmIdentifier of its signatures
	SignatureLen int    // octets of its longest signature

	spki []byte
	self bool // made by NewSelf: it may sign itself and nothing else
}

// NewCA reads the certificate of one of our own CAs.
func NewCA(label string, certificate []byte) (*CA, error) {
	c, err := x509.ParseCertificate(certificate)
	if err != nil {
		return nil, fmt.Errorf("CA %s: %w", label, err)
	}
	const usage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	switch {
	case !c.BasicConstraintsValid || !c.IsCA || c.KeyUsage&usage != usage:
		return nil, fmt.Errorf("CA %s: the certificate is not that of a CA that signs certificates and CRLs", label)
	case len(c.SubjectKeyId) == 0 || len(c.Subject.Names) == 0:
		return nil, fmt.Errorf("CA %s: the certificate has no subject or no subject key identifier", label)
	}
	ca, err := newCA(label, c.RawSubjectPublicKeyInfo, c.RawSubject)
	if err != nil {
		return nil, err
	}
	ca.SubjectKeyID = c.SubjectKeyId
	ca.NotBefore, ca.NotAfter = c.NotBefore.Unix(), c.NotAfter.Unix()
	if c.MaxPathLen > 0 || c.MaxPathLenZero {
		ca.PathLen = c.MaxPathLen
	}
	return ca, nil
}

// NewSelf is a CA without a certificate yet, to make its self-signed one.
func NewSelf(label string, spki []byte, subject []policy.Attribute) (*CA, error) {
	name, err := encodeName(subject)
	if err != nil {
		return nil, fmt.Errorf("CA %s: %w", label, err)
	}
	if len(subject) == 0 {
		return nil, fmt.Errorf("CA %s: no subject", label)
	}
	ca, err := newCA(label, spki, name)
	if err != nil {
		return nil, err
	}
	k, err := parseKey(spki)
	if err != nil {
		return nil, fmt.Errorf("CA %s: %w", label, err)
	}
	ca.SubjectKeyID, ca.NotAfter, ca.self = k.id[:], maxTime, true
	return ca, nil
}

func newCA(label string, spki, subject []byte) (*CA, error) {
	if !protocol.ValidName(label) {
		return nil, fmt.Errorf("CA %q: the label is not a name", label)
	}
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, fmt.Errorf("CA %s: %w", label, err)
	}
	ca := &CA{
		Label: label, KeyID: protocol.DigestOf(spki), SubjectRaw: bytes.Clone(subject), PathLen: -1, Public: public,
		spki: bytes.Clone(spki),
	}
	algorithm := ""
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			ca.Scheme, algorithm, ca.SignatureLen = schemeECDSASHA256, algorithmECDSASHA256, 72
		case elliptic.P384():
			ca.Scheme, algorithm, ca.SignatureLen = schemeECDSASHA384, algorithmECDSASHA384, 104
		}
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits == 3072 || bits == 4096 {
			ca.Scheme, algorithm, ca.SignatureLen = schemePKCS1SHA256, algorithmPKCS1SHA256, bits/8
		}
	case ed25519.PublicKey:
		ca.Scheme, algorithm, ca.SignatureLen = schemeEd25519, algorithmEd25519, ed25519.SignatureSize
	}
	if algorithm == "" {
		return nil, fmt.Errorf("CA %s: its key is not of type P-256, P-384, RSA-3072, RSA-4096 or Ed25519", label)
	}
	ca.AlgorithmRaw = []byte(algorithm)
	return ca, nil
}

// Input gives what the signer signs: the digest, or for Ed25519 the bytes themselves.
func (ca *CA) Input(tbs []byte) []byte {
	switch ca.Scheme {
	case schemeEd25519:
		return tbs
	case schemeECDSASHA384:
		d := sha512.Sum384(tbs)
		return d[:]
	}
	d := sha256.Sum256(tbs)
	return d[:]
}

// Verify tells whether signature is the CA's over tbs.
func (ca *CA) Verify(tbs, signature []byte) error {
	input, valid := ca.Input(tbs), false
	switch k := ca.Public.(type) {
	case *ecdsa.PublicKey:
		valid = ecdsa.VerifyASN1(k, input, signature)
	case *rsa.PublicKey:
		valid = rsa.VerifyPKCS1v15(k, crypto.SHA256, input, signature) == nil
	case ed25519.PublicKey:
		valid = ed25519.Verify(k, input, signature)
	}
	if !valid {
		return fmt.Errorf("the signature is not by CA %s over these %d bytes", ca.Label, len(tbs))
	}
	return nil
}

// Assemble makes the certificate or CRL (RFC 5280 sections 4.1 and 5.1) from its bytes and the CA's signature.
func (ca *CA) Assemble(tbs, signature []byte) ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, len(tbs)+len(ca.AlgorithmRaw)+len(signature)+32))
	b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddBytes(ca.AlgorithmRaw)
		b.AddASN1BitString(signature)
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("assemble: %w", err)
	}
	return der, nil
}
