// Package csr decides whether one PKCS#10 certificate request (RFC 2986) may be worked with: it has one strict form,
// its key is one we accept, and whoever made it held the private key. The appliance and the agent call the same Check,
// so a request refused on one side is refused on the other for the same reason.
//
// A request is parsed once, by this package, and what Check returns has been proved. It doesn't judge what the request
// asks for: subject, extensions and names are handed on, and the caller's profile uses, drops or refuses them. It can't
// see that a key is known elsewhere, shared, or was made by a poor random generator without a known fingerprint.
package csr

import (
	"bytes"
	"crypto"
	"crypto/x509/pkix"
	"fmt"

	"coldseal/protocol/x690"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// MaxSize is the largest request in bytes. An RSA-8192 request is about 2 KiB without extensions; what is left holds
// hundreds of names, and a batch of a thousand at this size still fits in memory.
const MaxSize = 16 << 10

// Request is what a request proved and what it asks for. Nothing in it shares memory with the bytes given to Check.
type Request struct {
	SPKI       []byte           // SubjectPublicKeyInfo, DER
	PublicKey  crypto.PublicKey // *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
	KeyType    string           // "P-256", "P-384", "Ed25519", "RSA-2048", "RSA-3072", … by modulus bits
	Subject    []byte           // Name, DER; an empty SEQUENCE where none was asked for
	Extensions []pkix.Extension // as asked for, in order, no two alike; subjectAltName among them
	Names      Names            // subjectAltName as asked for
}

// Reason says why a request was refused. The values are stable: refusal codes are mapped from them.
type Reason string

// Checks run in this order, and the first that fails is the reason.
const (
	Form       Reason = "form"       // not one strictly encoded PKCS#10 request of version 0 with attributes we know
	KeyType    Reason = "key-type"   // a well-formed key of a kind we don't issue for
	WeakKey    Reason = "weak-key"   // a key that can be broken, or is no key at all
	WeakHash   Reason = "weak-hash"  // signed over a hash that can be collided
	Possession Reason = "possession" // the signature isn't by the key inside
)

// Error is the only type of error this package returns.
type Error struct {
	Reason Reason
	Detail string // one line for the operator; never text taken from the request
}

func (e *Error) Error() string { return "certificate request: " + string(e.Reason) + ": " + e.Detail }

func refuse(reason Reason, format string, args ...any) *Error {
	return &Error{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// Check parses der as one CertificationRequest (RFC 2986 section 4.2) and proves it. The error is always an *Error.
func Check(der []byte) (*Request, error) {
	if len(der) > MaxSize {
		return nil, refuse(Form, "%d bytes, at most %d are accepted", len(der), MaxSize)
	}
	input := cryptobyte.String(bytes.Clone(der))
	var request, signed, algorithm cryptobyte.String
	var signature []byte
	if !input.ReadASN1(&request, asn1.SEQUENCE) {
		return nil, refuse(Form, "not a DER sequence, or cut off")
	}
	if !input.Empty() {
		return nil, refuse(Form, "%d bytes after the request", len(input))
	}
	if !x690.WellFormed(request) {
		return nil, refuse(Form, "not DER")
	}
	if !request.ReadASN1Element(&signed, asn1.SEQUENCE) ||
		!request.ReadASN1(&algorithm, asn1.SEQUENCE) ||
		!request.ReadASN1BitStringAsBytes(&signature) || !request.Empty() {
		return nil, refuse(Form, "not one CertificationRequest")
	}
	r, err := parseInfo(signed)
	if err != nil {
		return nil, err
	}
	scheme, err := parseScheme(algorithm)
	if err != nil {
		return nil, err
	}
	if !scheme.verify(r.PublicKey, signed, signature) {
		return nil, refuse(Possession, "the signature does not verify with the %s key inside", r.KeyType)
	}
	return r, nil
}

// parseInfo reads CertificationRequestInfo. The attributes field is required even when empty, as RFC 2986 has it and
// every tool in testdata/csr writes it.
func parseInfo(element cryptobyte.String) (*Request, *Error) {
	var info, subject, spki, attributes cryptobyte.String
	var version int
	if !element.ReadASN1(&info, asn1.SEQUENCE) || !info.ReadASN1Integer(&version) {
		return nil, refuse(Form, "version missing")
	}
	if version != 0 {
		return nil, refuse(Form, "version %d, only 0 exists", version)
	}
	if !info.ReadASN1Element(&subject, asn1.SEQUENCE) ||
		!info.ReadASN1Element(&spki, asn1.SEQUENCE) ||
		!info.ReadASN1(&attributes, asn1.Tag(0).ContextSpecific().Constructed()) || !info.Empty() {
		return nil, refuse(Form, "not one CertificationRequestInfo")
	}
	r := &Request{SPKI: spki, Subject: subject}
	if err := checkSubject(subject); err != nil {
		return nil, err
	}
	if err := r.parseAttributes(attributes); err != nil {
		return nil, err
	}
	if err := r.parseKey(spki); err != nil {
		return nil, err
	}
	return r, nil
}
