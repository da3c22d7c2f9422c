// Package policy decides whether something may be done: profiles say what a certificate of a kind is and whose approval
// it needs, the roster says who the officers are, quorums count persons.
//
// A policy is written as strict YAML, compiled to deterministic CBOR, and changed only by order; requests bind the
// digest of the compiled profile they were made under. The package is pure: it knows no clock, disk, ledger or
// signature. Callers resolve signatures to approvers first.
package policy

import (
	"fmt"
	"strings"

	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// Policy is the compiled policy.
type Policy struct {
	Version    uint64    `cbor:"1,keyasint"`
	Name       string    `cbor:"2,keyasint"`
	ClockAhead int64     `cbor:"3,keyasint"` // seconds the clock may be ahead of the last log entry
	Profiles   []Profile `cbor:"4,keyasint"` // strictly ascending by name
}

// Use is what a profile's certificates are for.
type Use uint64

// The uses.
const (
	UseMachine  Use = 1
	UsePerson   Use = 2
	UseApprover Use = 3 // a person's certificate with a scope: its key approves requests and does nothing else
	UseStation  Use = 4
	UseOCSP     Use = 5
	UseIssuing  Use = 6 // CA certificates are made by order only
	UseRoot     Use = 7
	UseCross    Use = 8 // certificates over keys and names of other CAs
)

// IsCA tells whether certificates of this use are CA certificates.
func (u Use) IsCA() bool { return u == UseIssuing || u == UseRoot || u == UseCross }

// IsPerson tells whether the request's subject is a person (protocol.ValidPerson).
func (u Use) IsPerson() bool { return u == UsePerson || u == UseApprover }

// Profile is all about a kind of certificate (DESIGN section 2).
type Profile struct {
	Name       string            `cbor:"1,keyasint"`
	Use        Use               `cbor:"2,keyasint"`
	Issuers    []string          `cbor:"3,keyasint"`           // labels of the CA keys that may sign it; ascending
	Bodies     []string          `cbor:"4,keyasint,omitempty"` // bodies it is for, with all below them; protocol.Any is all; empty in CA profiles
	Subject    []Attribute       `cbor:"5,keyasint"`           // RDNs in order
	Names      []AltName         `cbor:"6,keyasint,omitempty"` // subjectAltName, in order
	Fields     []Field           `cbor:"7,keyasint,omitempty"` // what a request gives; ascending by name
	Machine    string            `cbor:"8,keyasint,omitempty"` // template that the request's subject equals; machines, stations and OCSP
	Unique     string            `cbor:"9,keyasint,omitempty"` // template of the uniqueness key; empty in CA profiles
	Keys       []string          `cbor:"10,keyasint"`          // key types as protocol/csr names them; ascending
	Origins    []protocol.Origin `cbor:"11,keyasint,omitempty"`
	DropExtras bool              `cbor:"12,keyasint,omitempty"` // what a CSR asks for beyond the profile is dropped; otherwise refused
	Days       int64             `cbor:"13,keyasint"`           // usual term
	MaxDays    int64             `cbor:"14,keyasint"`           // longest term
	AheadDays  int64             `cbor:"15,keyasint,omitempty"` // how far ahead notBefore may lie
	KeyUsage   []string          `cbor:"16,keyasint"`           // names of RFC 5280 section 4.2.1.3; ascending
	ExtUsage   []string          `cbor:"17,keyasint,omitempty"` // names or dotted OIDs; ascending
	Policies   []string          `cbor:"18,keyasint,omitempty"` // certificatePolicies, dotted OIDs; ascending
	PathLen    int64             `cbor:"19,keyasint,omitempty"` // CA profiles: pathLenConstraint plus one; 0 is none
	CRLURL     string            `cbor:"20,keyasint,omitempty"` // template with {ca} and {shard}
	IssuerURL  string            `cbor:"21,keyasint,omitempty"` // template with {ca}
	OCSPURL    string            `cbor:"22,keyasint,omitempty"`
	CRLShards  uint64            `cbor:"23,keyasint,omitempty"` // CA profiles: shards of the CA's CRL; 1 for now
	CRLDays    int64             `cbor:"24,keyasint,omitempty"` // CA profiles: nextUpdate of the CA's CRLs
	Lint       []string          `cbor:"25,keyasint"`           // lint sets; ascending
	LintIgnore []string          `cbor:"26,keyasint,omitempty"` // lints that are not asked; ascending
	Approve    Rule              `cbor:"27,keyasint,omitzero"`  // issue and renew, and withdraw of such; absent in CA profiles
	TakeAway   Rule              `cbor:"28,keyasint,omitzero"`  // revoke and hold; absent in CA profiles
	Release    Rule              `cbor:"29,keyasint,omitzero"`  // absent in CA profiles
	Renew      Renewal           `cbor:"30,keyasint,omitzero"`  // by the current key alone
	Segments   uint64            `cbor:"31,keyasint,omitempty"` // bodies have exactly so many segments; 0 is any number
	Scheme     string            `cbor:"32,keyasint,omitempty"` // persons' identifiers have this scheme; empty is any
}

// Attribute is one RDN of the subject: a short name (CN, O, OU, C, L, ST, SN, GN, serialNumber, organizationIdentifier,
// title, E) and a template.
type Attribute struct {
	_     struct{} `cbor:",toarray"`
	Type  string
	Value string
}

// AltName is one subjectAltName: dns, email, ip, uri or upn, and a template. An optional one is left out when a field in
// it is absent.
type AltName struct {
	_        struct{} `cbor:",toarray"`
	Type     string
	Value    string
	Optional bool
}

// Field is a value that a request gives. {name} in a template stands for it; {body} stands for the last segment of the
// request's body, {body-path} for all of it, {person} for the value of the person's identifier without its scheme,
// {scheme} for that scheme.
type Field struct {
	_        struct{} `cbor:",toarray"`
	Name     string
	Pattern  string // RE2, matched against the whole value
	Max      uint64 // characters
	Optional bool
}

// Rule is whose approval is needed.
type Rule struct {
	Persons    uint64               `cbor:"1,keyasint"`           // how many different persons
	Roles      []string             `cbor:"2,keyasint"`           // any of these: roles of the roster, or "approver" for holders of approver certificates; ascending
	Statements []protocol.Statement `cbor:"3,keyasint,omitempty"` // what each of them states; ascending
	Alone      bool                 `cbor:"4,keyasint,omitempty"` // approved one at a time
}

// RoleApprover is the role of holders of approver certificates; no officer has it.
const RoleApprover = "approver"

// Renewal allows renewal by the current key without an approval.
type Renewal struct {
	WindowDays int64 `cbor:"1,keyasint"` // before notAfter; 0 is not at all
	SinceDays  int64 `cbor:"2,keyasint"` // at most this long after persons last approved
}

// Roster is the officers and how many of them orders need.
type Roster struct {
	Version  uint64      `cbor:"1,keyasint"`
	Officers []Officer   `cbor:"2,keyasint"` // strictly ascending by person
	Orders   []OrderRule `cbor:"3,keyasint"` // strictly ascending by kind; every kind of protocol.RuledOrders has one
	Recovery *Recovery   `cbor:"4,keyasint,omitempty"`
}

// Recovery is who may replace a roster whose officers are lost, and nothing else, after so many days in which everybody
// could read of it in the log.
type Recovery struct {
	Holders []Holder `cbor:"1,keyasint"` // strictly ascending by person
	Persons uint64   `cbor:"2,keyasint"`
	Days    int64    `cbor:"3,keyasint"`
}

// Holder is a person with recovery keys.
type Holder struct {
	Person string   `cbor:"1,keyasint"`
	Name   string   `cbor:"2,keyasint"` // for eyes only
	Keys   [][]byte `cbor:"3,keyasint"` // SubjectPublicKeyInfo; ascending
}

// Officer is a person with approval keys.
type Officer struct {
	Person    string           `cbor:"1,keyasint"`
	Name      string           `cbor:"2,keyasint"` // for eyes only
	Keys      [][]byte         `cbor:"3,keyasint"` // SubjectPublicKeyInfo; approving is all they are for; ascending
	Roles     []string         `cbor:"4,keyasint"` // ascending
	Scopes    []protocol.Scope `cbor:"5,keyasint"` // what requests they may approve; ascending
	Suspended bool             `cbor:"6,keyasint,omitempty"`
}

// OrderRule is the quorum of one kind of order.
type OrderRule struct {
	_       struct{} `cbor:",toarray"`
	Kind    protocol.Kind
	Persons uint64
	Role    string
}

// Profile finds a profile by name.
func (p *Policy) Profile(name string) (*Profile, bool) {
	for i := range p.Profiles {
		if p.Profiles[i].Name == name {
			return &p.Profiles[i], true
		}
	}
	return nil, false
}

// AllowsBody tells whether the profile is for the body. CA profiles are for none.
func (p *Profile) AllowsBody(body string) bool {
	if p.Segments != 0 && uint64(strings.Count(body, "/"))+1 != p.Segments {
		return false
	}
	for _, b := range p.Bodies {
		if b == protocol.Any || protocol.BodyContains(b, body) {
			return true
		}
	}
	return false
}

// Digest is what requests bind: the SHA-256 of the compiled profile.
func (p *Profile) Digest() (protocol.Digest, error) {
	data, err := cose.Marshal(p)
	if err != nil {
		return protocol.Digest{}, fmt.Errorf("digest of profile %s: %w", p.Name, err)
	}
	return protocol.DigestOf(data), nil
}
