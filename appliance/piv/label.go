package piv

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"

	"coldseal/appliance/signer"
)

// What the organization in a certificate says of a slot.
const (
	labelled = "coldseal key"
	reserved = "coldseal reservation"
)

// label is what stands in the certificate object of a slot.
type label struct {
	name     string
	purpose  signer.Purpose
	reserved bool   // a key was to be made, and is not there, or was destroyed
	spki     []byte // of the key that is labelled
}

// labelOf reads a label; a certificate that is none has nothing to do with us.
func labelOf(c *x509.Certificate) (label, bool) {
	if c == nil || len(c.Subject.Organization) != 1 || len(c.Subject.OrganizationalUnit) != 1 {
		return label{}, false
	}
	what := c.Subject.Organization[0]
	l := label{c.Subject.CommonName, signer.Purpose(c.Subject.OrganizationalUnit[0]), what == reserved, c.RawSubjectPublicKeyInfo}
	return l, what == labelled || what == reserved
}

// of tells whether the label is that of the key.
func (l label) of(public crypto.PublicKey) bool {
	spki, err := x509.MarshalPKIXPublicKey(public)
	return err == nil && !l.reserved && bytes.Equal(spki, l.spki)
}

// The times in a label say nothing: it has no end (RFC 5280 section 4.1.2.5).
var (
	anyTime = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	endless = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// certificate makes a label for a key, or for none: a reservation. Whoever signed it is forgotten at once: a key of a CA
// signs what was approved, and never its own label.
func certificate(name string, purpose signer.Purpose, key crypto.PublicKey) (*x509.Certificate, error) {
	forgotten, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make label %s: %w", name, err)
	}
	what := labelled
	if key == nil {
		what, key = reserved, forgotten.Public()
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: anyTime, NotAfter: endless,
		Subject: pkix.Name{CommonName: name, Organization: []string{what}, OrganizationalUnit: []string{string(purpose)}},
	}
	issuer := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "nobody"}}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key, forgotten)
	if err != nil {
		return nil, fmt.Errorf("make label %s: %w", name, err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make label %s: %w", name, err)
	}
	if l, ours := labelOf(c); !ours || l.name != name || l.purpose != purpose {
		return nil, errors.New("make label " + name + ": it reads back otherwise")
	}
	return c, nil
}
