package protocol

import (
	"fmt"

	"coldseal/protocol/cose"
)

// Kind is what a request wishes. Numbers from 16 on are orders: requests about the CA itself.
type Kind uint64

// The kinds of requests. 28 sealed CRL series is reserved (request.md).
const (
	KindIssue        Kind = 1
	KindRenew        Kind = 2
	KindRevoke       Kind = 3
	KindHold         Kind = 4
	KindRelease      Kind = 5
	KindWithdraw     Kind = 6
	KindCreateKey    Kind = 16
	KindSignCA       Kind = 17
	KindRoster       Kind = 18
	KindPolicy       Kind = 19
	KindAgent        Kind = 20
	KindStation      Kind = 21
	KindSetTime      Kind = 22
	KindCRL          Kind = 23
	KindRestore      Kind = 24
	KindDestroyKey   Kind = 25
	KindForeignCA    Kind = 26
	KindRecovery     Kind = 27
	KindCrossCertify Kind = 29
	KindSuspend      Kind = 30
	KindRevokeCA     Kind = 31
	KindRotateKey    Kind = 32
)

// form says which fields of a request its kind has; each is there if and only if the kind has it.
type form struct {
	name    string
	issuer  bool // the CA whose certificates it concerns
	profile bool
	digest  bool // of the compiled profile: a certificate is made by it
	body    bool
	subject bool
}

var kinds = map[Kind]form{
	KindIssue:        {name: "issue", issuer: true, profile: true, digest: true, body: true, subject: true},
	KindRenew:        {name: "renew", issuer: true, profile: true, digest: true, body: true, subject: true},
	KindRevoke:       {name: "revoke", issuer: true, profile: true, body: true, subject: true},
	KindHold:         {name: "hold", issuer: true, profile: true, body: true, subject: true},
	KindRelease:      {name: "release", issuer: true, profile: true, body: true, subject: true},
	KindWithdraw:     {name: "withdraw", body: true},
	KindCreateKey:    {name: "create-key"},
	KindSignCA:       {name: "sign-ca", issuer: true, profile: true, digest: true},
	KindRoster:       {name: "roster"},
	KindPolicy:       {name: "policy"},
	KindAgent:        {name: "agent"},
	KindStation:      {name: "station"},
	KindSetTime:      {name: "set-time"},
	KindCRL:          {name: "crl", issuer: true},
	KindRestore:      {name: "restore"},
	KindDestroyKey:   {name: "destroy-key"},
	KindForeignCA:    {name: "foreign-ca"},
	KindRecovery:     {name: "recovery"},
	KindCrossCertify: {name: "cross-certify", issuer: true, profile: true, digest: true},
	KindSuspend:      {name: "suspend"},
	KindRevokeCA:     {name: "revoke-ca", issuer: true},
	KindRotateKey:    {name: "rotate-key"},
}

// String is the kind's name in commands, rules and documents.
func (k Kind) String() string {
	if f, ok := kinds[k]; ok {
		return f.name
	}
	return fmt.Sprintf("kind-%d", uint64(k))
}

// ParseKind is the inverse of String.
func ParseKind(name string) (Kind, bool) {
	for k, f := range kinds {
		if f.name == name {
			return k, true
		}
	}
	return 0, false
}

// IsOrder tells whether the request is about the CA itself.
func (k Kind) IsOrder() bool { return k >= KindCreateKey }

// RuledOrders lists the kinds of orders for which a roster says how many officers have to approve them, ascending. Of the
// others, a recovery is for those whom the roster names for that, and an officer suspends nobody but themself.
func RuledOrders() []Kind {
	return []Kind{KindCreateKey, KindSignCA, KindRoster, KindPolicy, KindAgent, KindStation, KindSetTime, KindCRL,
		KindRestore, KindDestroyKey, KindForeignCA, KindCrossCertify, KindRevokeCA, KindRotateKey}
}

// TakesAway tells whether the request needs nobody's leave but its approvers' (law 6).
func (k Kind) TakesAway() bool { return k == KindRevoke || k == KindHold }

// NamesProfile tells whether the request's bytes bind the digest of a compiled profile.
func (k Kind) NamesProfile() bool { return kinds[k].digest }

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
	has, known := kinds[r.Kind]
	switch {
	case r.Version != Version:
		return fmt.Errorf("version %d is not %d", r.Version, Version)
	case !known:
		return fmt.Errorf("kind %d is not known", uint64(r.Kind))
	case r.Created <= 0 || r.Expires <= r.Created || r.Expires > MaxTime:
		return fmt.Errorf("created %d and expires %d are not in order", r.Created, r.Expires)
	case has.issuer == r.Issuer.IsZero():
		return fmt.Errorf("%s: issuer is missing or out of place", r.Kind)
	case has.profile != (r.Profile != ""):
		return fmt.Errorf("%s: profile is missing or out of place", r.Kind)
	case has.profile && !ValidName(r.Profile):
		return fmt.Errorf("profile %q is not a name", r.Profile)
	case has.digest == r.ProfileDigest.IsZero():
		return fmt.Errorf("%s: profile digest is missing or out of place", r.Kind)
	case has.body != (r.Body != ""):
		return fmt.Errorf("%s: body is missing or out of place", r.Kind)
	case has.body && !ValidBody(r.Body):
		return fmt.Errorf("body %q is not like it/058091", r.Body)
	case has.subject != (r.Subject != ""):
		return fmt.Errorf("%s: subject is missing or out of place", r.Kind)
	case len(r.Subject) > MaxText:
		return fmt.Errorf("subject of %d bytes, at most %d", len(r.Subject), MaxText)
	}
	return nil
}
