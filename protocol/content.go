package protocol

import (
	"errors"
	"fmt"

	"coldseal/protocol/cose"
)

// Origin says who vouches that a key belongs to its subject (law 2).
type Origin uint64

// The origins of a key.
const (
	OriginAttested Origin = 1 // a device attests it under an enrolled vendor root
	OriginStation  Origin = 2 // an enrolled station signs key, card serial and subject together
	OriginCurrent  Origin = 3 // the key of the certificate being renewed signs
	OriginHolder   Origin = 4 // approvers state that its fingerprint matched the one on the holder's device
	OriginAgent    Origin = 5 // the agent made it: machines only
)

var originNames = [...]string{OriginAttested: "attested", OriginStation: "station", OriginCurrent: "current", OriginHolder: "holder", OriginAgent: "agent"}

// String is the origin's name in policies.
func (o Origin) String() string {
	if o >= 1 && int(o) < len(originNames) {
		return originNames[o]
	}
	return fmt.Sprintf("origin-%d", uint64(o))
}

// ParseOrigin is the inverse of String.
func ParseOrigin(name string) (Origin, bool) {
	for o, n := range originNames {
		if n == name && n != "" {
			return Origin(o), true
		}
	}
	return 0, false
}

// CertificateID names a certificate: the id of the key that issued it, and its serial, big-endian without leading zeros.
type CertificateID struct {
	_      struct{} `cbor:",toarray"`
	Issuer Digest
	Serial []byte
}

// Issuance is the content of issue and renew.
type Issuance struct {
	CSR       []byte            `cbor:"1,keyasint"`           // PKCS#10, DER: proves possession; its names count for nothing
	Fields    map[string]string `cbor:"2,keyasint,omitempty"` // values of the profile's fields
	NotBefore int64             `cbor:"3,keyasint,omitempty"` // unix seconds; absent: when it is signed
	NotAfter  int64             `cbor:"4,keyasint,omitempty"` // unix seconds, inclusive; absent: the profile's usual term
	Origin    Origin            `cbor:"5,keyasint"`           //
	Evidence  []byte            `cbor:"6,keyasint,omitempty"` // station: COSE_Sign1 of a KeyStatement; attested: as the vendor's format says
	Scopes    []Scope           `cbor:"7,keyasint,omitempty"` // what the holder may approve; approver profiles only; sorted
	Renews    *CertificateID    `cbor:"8,keyasint,omitempty"` // renew only
}

// KeyStatement is what an enrolled station signs about a card (origin station).
type KeyStatement struct {
	Appliance  Digest `cbor:"1,keyasint"`
	Key        Digest `cbor:"2,keyasint"` // SHA-256 of the SubjectPublicKeyInfo
	CardSerial string `cbor:"3,keyasint"`
	Subject    string `cbor:"4,keyasint"` // the request's
}

// Revocation is the content of revoke and hold (a hold has no reason but its own).
type Revocation struct {
	Serial []byte `cbor:"1,keyasint"`
	Reason Reason `cbor:"2,keyasint,omitempty"`
	Since  int64  `cbor:"3,keyasint,omitempty"` // unix seconds: invalidityDate (RFC 5280 section 5.3.2)

	// Certificate is the certificate itself, DER, where the log does not know it: revoke only. One that a key of ours signed is
	// revoked whether or not it was logged: an entry may have been lost with a disk.
	Certificate []byte `cbor:"4,keyasint,omitempty"`
}

// MaxCertificate bounds a certificate of ours, in bytes.
const MaxCertificate = 16 << 10

// Reason is a CRLReason (RFC 5280 section 5.3.1).
type Reason uint64

// The reasons that may be asked for; certificateHold is set by hold, removeFromCRL and aACompromise are never used.
const (
	ReasonUnspecified          Reason = 0
	ReasonKeyCompromise        Reason = 1
	ReasonCACompromise         Reason = 2
	ReasonAffiliationChanged   Reason = 3
	ReasonSuperseded           Reason = 4
	ReasonCessationOfOperation Reason = 5
	ReasonCertificateHold      Reason = 6
	ReasonPrivilegeWithdrawn   Reason = 9
)

var reasonNames = map[Reason]string{
	ReasonUnspecified: "unspecified", ReasonKeyCompromise: "keyCompromise", ReasonCACompromise: "cACompromise",
	ReasonAffiliationChanged: "affiliationChanged", ReasonSuperseded: "superseded",
	ReasonCessationOfOperation: "cessationOfOperation", ReasonCertificateHold: "certificateHold",
	ReasonPrivilegeWithdrawn: "privilegeWithdrawn",
}

// String is the reason's name in RFC 5280.
func (r Reason) String() string {
	if name, ok := reasonNames[r]; ok {
		return name
	}
	return fmt.Sprintf("reason-%d", uint64(r))
}

// ParseReason is the inverse of String.
func ParseReason(name string) (Reason, bool) {
	for r, n := range reasonNames {
		if n == name {
			return r, true
		}
	}
	return 0, false
}

// Release is the content of release: it ends one hold and no later one.
type Release struct {
	Serial []byte `cbor:"1,keyasint"`
	Hold   uint64 `cbor:"2,keyasint"` // log index of the hold
}

// Withdrawal is the content of withdraw.
type Withdrawal struct {
	Request Digest `cbor:"1,keyasint"`
}

// Issuance decodes the content of issue and renew.
func (r *Request) Issuance() (Issuance, *Refusal) {
	c, refusal := content[Issuance](r, KindIssue, KindRenew)
	if refusal != nil {
		return c, refusal
	}
	vouched := c.Origin == OriginAttested || c.Origin == OriginStation
	switch {
	case (r.Kind == KindRenew) != (c.Renews != nil):
		return c, Malformed("request", fmt.Errorf("%s: the certificate it renews is missing or out of place", r.Kind))
	case c.Renews != nil && (!validSerial(c.Renews.Serial) || c.Renews.Issuer.IsZero()):
		return c, Malformed("request", fmt.Errorf("issuer %s and serial %x name no certificate", c.Renews.Issuer, c.Renews.Serial))
	case c.Origin < OriginAttested || c.Origin > OriginAgent:
		return c, Malformed("request", fmt.Errorf("origin %d is not known", uint64(c.Origin)))
	case !vouched && len(c.Evidence) != 0:
		return c, Malformed("request", fmt.Errorf("evidence is out of place: a key of origin %s has none", c.Origin))
	case len(c.CSR) == 0:
		return c, Malformed("request", errors.New("there is no CSR"))
	}
	if err := checkTerm(c.Fields, c.NotBefore, c.NotAfter); err != nil {
		return c, Malformed("request", err)
	}
	if err := checkScopes(c.Scopes); err != nil {
		return c, Malformed("request", err)
	}
	return c, nil
}

// checkTerm checks what issuance and sign-ca have in common: values of fields, and a term.
func checkTerm(fields map[string]string, notBefore, notAfter int64) error {
	if len(fields) > MaxFields {
		return fmt.Errorf("%d fields, at most %d", len(fields), MaxFields)
	}
	for name, value := range fields {
		if !ValidName(name) || value == "" || len(value) > MaxText {
			return fmt.Errorf("field %q has a bad name, no value or more than %d bytes", name, MaxText)
		}
	}
	if notBefore < 0 || notAfter < 0 || notBefore > MaxTime || notAfter > MaxTime || notAfter != 0 && notAfter < notBefore {
		return fmt.Errorf("validity %d to %d is not in order", notBefore, notAfter)
	}
	return nil
}

// Revocation decodes the content of revoke and hold.
func (r *Request) Revocation() (Revocation, *Refusal) {
	c, refusal := content[Revocation](r, KindRevoke, KindHold)
	if refusal != nil {
		return c, refusal
	}
	if err := checkRevocation(c.Serial, c.Reason, c.Since); err != nil {
		return c, Malformed("request", err)
	}
	if r.Kind == KindHold && (c.Reason != 0 || c.Since != 0 || c.Certificate != nil) {
		return c, Malformed("request", errors.New("hold: a reason, date or certificate is out of place"))
	}
	if len(c.Certificate) > MaxCertificate {
		return c, Malformed("request", fmt.Errorf("certificate of %d bytes, at most %d", len(c.Certificate), MaxCertificate))
	}
	return c, nil
}

// checkRevocation checks what revoke and revoke-ca have in common.
func checkRevocation(serial []byte, reason Reason, since int64) error {
	_, known := reasonNames[reason]
	switch {
	case !validSerial(serial):
		return fmt.Errorf("serial %x is not one", serial)
	case !known || reason == ReasonCertificateHold:
		return fmt.Errorf("reason %d cannot be asked for", uint64(reason))
	case since < 0 || since > MaxTime:
		return fmt.Errorf("date %d is not one", since)
	}
	return nil
}

// Release decodes the content of release.
func (r *Request) Release() (Release, *Refusal) {
	c, refusal := content[Release](r, KindRelease)
	if refusal == nil && (!validSerial(c.Serial) || c.Hold == 0) {
		refusal = Malformed("request", fmt.Errorf("serial %x and log index %d name no hold", c.Serial, c.Hold))
	}
	return c, refusal
}

// Withdrawal decodes the content of withdraw.
func (r *Request) Withdrawal() (Withdrawal, *Refusal) {
	c, refusal := content[Withdrawal](r, KindWithdraw)
	if refusal == nil && c.Request.IsZero() {
		refusal = Malformed("request", errors.New("withdraw: no request is named"))
	}
	return c, refusal
}

// About gives issuer and serial of the certificate that a request renews, takes away or releases; nothing if it names none.
func (r *Request) About() (issuer Digest, serial []byte) {
	switch r.Kind {
	case KindRenew:
		if c, refusal := r.Issuance(); refusal == nil && c.Renews != nil {
			return c.Renews.Issuer, c.Renews.Serial
		}
	case KindRevoke, KindHold:
		if c, refusal := r.Revocation(); refusal == nil {
			return r.Issuer, c.Serial
		}
	case KindRelease:
		if c, refusal := r.Release(); refusal == nil {
			return r.Issuer, c.Serial
		}
	}
	return Digest{}, nil
}

// CheckContent tells whether the content has the form that the kind wants.
func (r *Request) CheckContent() (refusal *Refusal) {
	switch r.Kind {
	case KindIssue, KindRenew:
		_, refusal = r.Issuance()
	case KindRevoke, KindHold:
		_, refusal = r.Revocation()
	case KindRelease:
		_, refusal = r.Release()
	case KindWithdraw:
		_, refusal = r.Withdrawal()
	case KindCreateKey:
		_, refusal = r.CreateKey()
	case KindSignCA:
		_, refusal = r.SignCA()
	case KindRoster, KindPolicy:
		_, refusal = r.Replacement()
	case KindAgent, KindStation:
		_, _, refusal = r.Enrolment()
	case KindSetTime:
		_, refusal = r.SetTime()
	case KindCRL:
		_, refusal = r.CRLOrder()
	case KindRestore:
		_, refusal = r.Restoration()
	case KindDestroyKey:
		_, refusal = r.DestroyKey()
	case KindForeignCA:
		_, _, refusal = r.ForeignEnrolment()
	case KindRecovery:
		_, refusal = r.Recovery()
	case KindCrossCertify:
		_, refusal = r.CrossCertification()
	case KindSuspend:
		_, refusal = r.Suspension()
	case KindRevokeCA:
		_, refusal = r.CARevocation()
	case KindRotateKey:
		_, refusal = r.Rotation()
	default:
		refusal = Malformed("request", fmt.Errorf("content of %s is not known", r.Kind))
	}
	return refusal
}

// content decodes the content of a request, which must be of one of the kinds.
func content[T any](r *Request, kinds ...Kind) (T, *Refusal) {
	var c T
	for _, k := range kinds {
		if r.Kind == k {
			if err := cose.Unmarshal(r.Content, &c); err != nil {
				return c, Malformed("request", err)
			}
			return c, nil
		}
	}
	return c, Malformed("request", fmt.Errorf("content of %s read as %T", r.Kind, c))
}

// validSerial: 1 to 20 bytes, positive, no leading zero (RFC 5280 section 4.1.2.2).
func validSerial(serial []byte) bool {
	return len(serial) >= 1 && len(serial) <= 20 && serial[0] != 0 && serial[0] < 0x80
}
