package protocol

import (
	"fmt"

	"coldseal/protocol/cose"
)

// Kind is what a request wishes. Numbers from 16 on are orders: requests about the CA itself.
type Kind uint64

// The kinds of requests. 24 restore, 25 destroy key, 26 foreign CA, 27 recovery roster and 28 sealed CRL series are
// reserved (request.md).
const (
	KindIssue     Kind = 1
	KindRenew     Kind = 2
	KindRevoke    Kind = 3
	KindHold      Kind = 4
	KindRelease   Kind = 5
	KindWithdraw  Kind = 6
	KindCreateKey Kind = 16
	KindSignCA    Kind = 17
	KindRoster    Kind = 18
	KindPolicy    Kind = 19
	KindAgent     Kind = 20
	KindStation   Kind = 21
	KindSetTime   Kind = 22
	KindCRL       Kind = 23
)

var kindNames = map[Kind]string{
	KindIssue: "issue", KindRenew: "renew", KindRevoke: "revoke", KindHold: "hold", KindRelease: "release",
	KindWithdraw: "withdraw", KindCreateKey: "create-key", KindSignCA: "sign-ca", KindRoster: "roster",
	KindPolicy: "policy", KindAgent: "agent", KindStation: "station", KindSetTime: "set-time", KindCRL: "crl",
}

// String is the kind's name in commands, rules and documents.
func (k Kind) String() string {
	if name, ok := kindNames[k]; ok {
		return name
	}
	return fmt.Sprintf("kind-%d", uint64(k))
}

// ParseKind is the inverse of String.
func ParseKind(name string) (Kind, bool) {
	for k, n := range kindNames {
		if n == name {
			return k, true
		}
	}
	return 0, false
}

// IsOrder tells whether the request is about the CA itself.
func (k Kind) IsOrder() bool { return k >= KindCreateKey }

// TakesAway tells whether the request needs nobody's leave but its approvers' (law 6).
func (k Kind) TakesAway() bool { return k == KindRevoke || k == KindHold }

// NamesProfile tells whether the request's bytes bind the digest of a compiled profile.
func (k Kind) NamesProfile() bool { return k == KindIssue || k == KindRenew || k == KindSignCA }

// Request is one wish (request.md). Its id is the SHA-256 of its bytes as received; approvals are over that id.
type Request struct {
	Version       uint64   `cbor:"1,keyasint"`
	Appliance     Digest   `cbor:"2,keyasint"`           // genesis digest of the appliance it is for
	Kind          Kind     `cbor:"3,keyasint"`           //
	Issuer        Digest   `cbor:"4,keyasint,omitzero"`  // id of the issuing CA's key; absent where the kind concerns none
	Profile       string   `cbor:"5,keyasint,omitempty"` // of the certificate made or changed; absent in most orders
	ProfileDigest Digest   `cbor:"6,keyasint,omitzero"`  // SHA-256 of the compiled profile; issue, renew, sign-ca
	Body          string   `cbor:"7,keyasint,omitempty"` // absent in orders
	Subject       string   `cbor:"8,keyasint,omitempty"` // the person, or the machine's name
	Nonce         [16]byte `cbor:"9,keyasint"`           //
	Created       int64    `cbor:"10,keyasint"`          // unix seconds
	Expires       int64    `cbor:"11,keyasint"`          // unix seconds, exclusive
	Content       []byte   `cbor:"12,keyasint"`          // one of the types below, as the kind says
}

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
}

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

// ID is the id of a request with these bytes.
func ID(request []byte) Digest { return DigestOf(request) }

// ParseRequest decodes a request and checks its form: which fields its kind has, and their sizes. Whether it may be
// done is not asked here. The content is decoded by the function for its kind.
func ParseRequest(data []byte) (Request, *Refusal) {
	var r Request
	if len(data) > MaxRequest {
		return r, Malformed("request", fmt.Errorf("%d bytes, at most %d", len(data), MaxRequest))
	}
	if err := cose.Unmarshal(data, &r); err != nil {
		return r, Malformed("request", err)
	}
	if err := r.check(); err != nil {
		return r, Malformed("request", err)
	}
	return r, nil
}

func (r *Request) check() error {
	_, known := kindNames[r.Kind]
	concernsCertificate := !r.Kind.IsOrder() && r.Kind != KindWithdraw
	switch {
	case r.Version != Version:
		return fmt.Errorf("version %d is not %d", r.Version, Version)
	case !known:
		return fmt.Errorf("kind %d is not known", uint64(r.Kind))
	case r.Created <= 0 || r.Expires <= r.Created:
		return fmt.Errorf("created %d and expires %d are not in order", r.Created, r.Expires)
	case concernsCertificate && r.Issuer.IsZero(), (r.Kind == KindSignCA || r.Kind == KindCRL) == r.Issuer.IsZero() && r.Kind.IsOrder():
		return fmt.Errorf("%s: issuer is missing or out of place", r.Kind)
	case (concernsCertificate || r.Kind == KindSignCA) != (r.Profile != ""):
		return fmt.Errorf("%s: profile is missing or out of place", r.Kind)
	case r.Profile != "" && !ValidName(r.Profile):
		return fmt.Errorf("profile %q is not a name", r.Profile)
	case r.Kind.NamesProfile() == r.ProfileDigest.IsZero():
		return fmt.Errorf("%s: profile digest is missing or out of place", r.Kind)
	case r.Kind.IsOrder() != (r.Body == ""):
		return fmt.Errorf("%s: body is missing or out of place", r.Kind)
	case r.Body != "" && !ValidBody(r.Body):
		return fmt.Errorf("body %q is not like it/058091", r.Body)
	case concernsCertificate != (r.Subject != ""):
		return fmt.Errorf("%s: subject is missing or out of place", r.Kind)
	case len(r.Subject) > MaxText:
		return fmt.Errorf("subject of %d bytes, at most %d", len(r.Subject), MaxText)
	}
	return nil
}

// Issuance decodes the content of issue and renew.
func (r *Request) Issuance() (Issuance, *Refusal) {
	c, refusal := content[Issuance](r, KindIssue, KindRenew)
	if refusal != nil {
		return c, refusal
	}
	switch {
	case (r.Kind == KindRenew) != (c.Renews != nil):
		return c, Malformed("request", fmt.Errorf("%s: the certificate it renews is missing or out of place", r.Kind))
	case c.Renews != nil && !validSerial(c.Renews.Serial):
		return c, Malformed("request", fmt.Errorf("serial %x is not one", c.Renews.Serial))
	case c.Origin < OriginAttested || c.Origin > OriginAgent:
		return c, Malformed("request", fmt.Errorf("origin %d is not known", uint64(c.Origin)))
	case len(c.Fields) > MaxFields:
		return c, Malformed("request", fmt.Errorf("%d fields, at most %d", len(c.Fields), MaxFields))
	case c.NotBefore < 0 || c.NotAfter < 0 || c.NotAfter != 0 && c.NotAfter < c.NotBefore:
		return c, Malformed("request", fmt.Errorf("validity %d to %d is not in order", c.NotBefore, c.NotAfter))
	}
	for name, value := range c.Fields {
		if !ValidName(name) || value == "" || len(value) > MaxText {
			return c, Malformed("request", fmt.Errorf("field %q has a bad name, no value or more than %d bytes", name, MaxText))
		}
	}
	for i, s := range c.Scopes {
		if !ValidName(s.Profile) || !ValidBody(s.Body) || i > 0 && !scopeLess(c.Scopes[i-1], s) {
			return c, Malformed("request", fmt.Errorf("scope %d is not valid or not in order", i))
		}
	}
	return c, nil
}

// Revocation decodes the content of revoke and hold.
func (r *Request) Revocation() (Revocation, *Refusal) {
	c, refusal := content[Revocation](r, KindRevoke, KindHold)
	if refusal != nil {
		return c, refusal
	}
	_, known := reasonNames[c.Reason]
	if !validSerial(c.Serial) || !known || c.Reason == ReasonCertificateHold || c.Since < 0 || r.Kind == KindHold && (c.Reason != 0 || c.Since != 0) {
		return c, Malformed("request", fmt.Errorf("%s: serial %x, reason %d or date is out of place", r.Kind, c.Serial, uint64(c.Reason)))
	}
	return c, nil
}

// Release decodes the content of release.
func (r *Request) Release() (Release, *Refusal) {
	c, refusal := content[Release](r, KindRelease)
	if refusal == nil && !validSerial(c.Serial) {
		refusal = Malformed("request", fmt.Errorf("serial %x is not one", c.Serial))
	}
	return c, refusal
}

// Withdrawal decodes the content of withdraw.
func (r *Request) Withdrawal() (Withdrawal, *Refusal) {
	return content[Withdrawal](r, KindWithdraw)
}

// content decodes the content of a request of one of the kinds; asking for another kind is a mistake of the caller.
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

func scopeLess(a, b Scope) bool {
	return a.Profile < b.Profile || a.Profile == b.Profile && a.Body < b.Body
}
