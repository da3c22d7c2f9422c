package protocol

import (
	"errors"
	"fmt"

	"coldseal/protocol/cose"
)

// Orders about keys and CAs that stand.

// DestroyKey is the content of destroy-key. The signer destroys the key after the order is in the log.
type DestroyKey struct {
	Key Digest `cbor:"1,keyasint"` // id of a key made by create-key, or of one of the appliance's own that was replaced
}

// Rotation is the content of rotate-key: one of the appliance's own keys is replaced by a new one, which the signer makes.
type Rotation struct {
	Use      Use    `cbor:"1,keyasint"`
	Replaces Digest `cbor:"2,keyasint"` // id of the key that stands
}

// CrossCertification is the content of cross-certify: the request's issuer certifies the key and name of another CA.
type CrossCertification struct {
	Certificate []byte `cbor:"1,keyasint"`           // DER: that CA's certificate, signed by itself or one of ours
	NotBefore   int64  `cbor:"2,keyasint,omitempty"` // unix seconds; absent: when it is signed
	NotAfter    int64  `cbor:"3,keyasint,omitempty"` // unix seconds, inclusive; absent: the profile's usual term
}

// CARevocation is the content of revoke-ca: a certificate that the request's issuer made by order is revoked.
type CARevocation struct {
	Serial []byte `cbor:"1,keyasint"`
	Reason Reason `cbor:"2,keyasint,omitempty"`
	Since  int64  `cbor:"3,keyasint,omitempty"` // unix seconds: invalidityDate
}

// ForeignEnrolment is the content of foreign-ca.
type ForeignEnrolment struct {
	Replaces Digest `cbor:"1,keyasint,omitzero"` // SHA-256 of the record of the same name; absent for a new one
	CA       []byte `cbor:"2,keyasint"`          // ForeignCA
}

// ForeignCA is a CA that is not ours, whose certificates say who somebody is.
type ForeignCA struct {
	Version     uint64 `cbor:"1,keyasint"`
	Name        string `cbor:"2,keyasint"`
	Certificate []byte `cbor:"3,keyasint"`           // DER
	Retired     bool   `cbor:"4,keyasint,omitempty"` // its certificates say nothing any more
}

// ParseForeignCA decodes a record. Whether the certificate is that of a CA is the caller's to ask.
func ParseForeignCA(data []byte) (ForeignCA, error) {
	var ca ForeignCA
	if err := cose.Unmarshal(data, &ca); err != nil {
		return ca, err
	}
	switch {
	case ca.Version != Version:
		return ForeignCA{}, fmt.Errorf("foreign CA: version %d is not %d", ca.Version, Version)
	case !ValidName(ca.Name):
		return ForeignCA{}, fmt.Errorf("foreign CA: name %q is not one", cut(ca.Name))
	case len(ca.Certificate) == 0:
		return ForeignCA{}, errors.New("foreign CA: there is no certificate")
	}
	return ca, nil
}

// DestroyKey decodes the content of destroy-key.
func (r *Request) DestroyKey() (DestroyKey, *Refusal) {
	c, refusal := content[DestroyKey](r, KindDestroyKey)
	if refusal == nil && c.Key.IsZero() {
		refusal = Malformed("request", errors.New("destroy-key: no key is named"))
	}
	return c, refusal
}

// Rotation decodes the content of rotate-key.
func (r *Request) Rotation() (Rotation, *Refusal) {
	c, refusal := content[Rotation](r, KindRotateKey)
	if refusal == nil && (c.Use < UseLog || c.Use > UseSeal || c.Replaces.IsZero()) {
		refusal = Malformed("request", fmt.Errorf("rotate-key: use %d is not known, or no key is named that it replaces", uint64(c.Use)))
	}
	return c, refusal
}

// CrossCertification decodes the content of cross-certify.
func (r *Request) CrossCertification() (CrossCertification, *Refusal) {
	c, refusal := content[CrossCertification](r, KindCrossCertify)
	if refusal != nil {
		return c, refusal
	}
	if len(c.Certificate) == 0 {
		return c, Malformed("request", errors.New("cross-certify: there is no certificate"))
	}
	if err := checkTerm(nil, c.NotBefore, c.NotAfter); err != nil {
		return c, Malformed("request", err)
	}
	return c, nil
}

// CARevocation decodes the content of revoke-ca.
func (r *Request) CARevocation() (CARevocation, *Refusal) {
	c, refusal := content[CARevocation](r, KindRevokeCA)
	if refusal == nil {
		if err := checkRevocation(c.Serial, c.Reason, c.Since); err != nil {
			refusal = Malformed("request", err)
		}
	}
	return c, refusal
}

// ForeignEnrolment decodes the content of foreign-ca, and the record in it.
func (r *Request) ForeignEnrolment() (ForeignEnrolment, ForeignCA, *Refusal) {
	c, refusal := content[ForeignEnrolment](r, KindForeignCA)
	if refusal != nil {
		return c, ForeignCA{}, refusal
	}
	ca, err := ParseForeignCA(c.CA)
	if err != nil {
		return c, ca, Malformed("request", err)
	}
	return c, ca, nil
}
