package protocol

import (
	"crypto/x509"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"coldseal/protocol/cose"
)

// Arc is where our own object identifiers lie: ISO's arc for examples (X.660 section 7.9), until one is assigned.
const Arc = "2.999"

// ScopeOID is the extension by which an approver certificate says what its holder may approve.
const ScopeOID = Arc + ".1"

// MaxScope bounds the value of the scope extension: some 150 scopes.
const MaxScope = 8 << 10

// ApproverScope is who the holder of an approver certificate is and what they may approve. It stands in the certificate
// for the eyes of agents and people; the appliance decides by its own ledger.
type ApproverScope struct {
	Person string  `cbor:"1,keyasint"`
	Scopes []Scope `cbor:"2,keyasint"` // at least one; strictly ascending by profile, then body
}

func (a ApproverScope) check() error {
	if !ValidPerson(a.Person) {
		return fmt.Errorf("person %q is not a scheme, a colon and a value", cut(a.Person))
	}
	if len(a.Scopes) == 0 {
		return fmt.Errorf("%s has no scope", a.Person)
	}
	return checkScopes(a.Scopes)
}

// checkScopes wants scopes without Any, strictly ascending by profile, then body.
func checkScopes(scopes []Scope) error {
	for i, s := range scopes {
		if !ValidName(s.Profile) || !ValidBody(s.Body) || i > 0 && !scopeLess(scopes[i-1], s) {
			return fmt.Errorf("scope %d is not valid or not in order", i)
		}
	}
	return nil
}

func scopeLess(a, b Scope) bool {
	return a.Profile < b.Profile || a.Profile == b.Profile && a.Body < b.Body
}

// Encode gives the extension's value: an OCTET STRING, since RFC 5280 section 4.1 wants DER there, of deterministic CBOR.
func (a ApproverScope) Encode() ([]byte, error) {
	if err := a.check(); err != nil {
		return nil, fmt.Errorf("make scope extension: %w", err)
	}
	value, err := cose.Marshal(a)
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1OctetString(value)
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("make scope extension: %w", err)
	}
	if len(der) > MaxScope {
		return nil, fmt.Errorf("make scope extension: %d bytes, at most %d", len(der), MaxScope)
	}
	return der, nil
}

// ParseScope decodes the value of a scope extension; it accepts what Encode makes and nothing else.
func ParseScope(der []byte) (ApproverScope, error) {
	var a ApproverScope
	var value cryptobyte.String
	s := cryptobyte.String(der)
	if len(der) > MaxScope {
		return a, fmt.Errorf("scope extension of %d bytes, at most %d", len(der), MaxScope)
	}
	if !s.ReadASN1(&value, asn1.OCTET_STRING) || !s.Empty() {
		return a, fmt.Errorf("scope extension: not one OCTET STRING")
	}
	if err := cose.Unmarshal(value, &a); err != nil {
		return ApproverScope{}, fmt.Errorf("scope extension: %w", err)
	}
	if err := a.check(); err != nil {
		return ApproverScope{}, fmt.Errorf("scope extension: %w", err)
	}
	return a, nil
}

// ScopeOf reads the scope extension of a certificate; found is false if it has none. The certificate must have been
// verified.
func ScopeOf(certificate *x509.Certificate) (scope ApproverScope, found bool, err error) {
	for _, e := range certificate.Extensions {
		if e.Id.String() == ScopeOID {
			scope, err = ParseScope(e.Value)
			return scope, true, err
		}
	}
	return scope, false, nil
}
