package protocol

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"slices"
	"strings"

	"coldseal/protocol/cose"
)

// CreateKey is the content of create-key. The key is made by the signer; its SubjectPublicKeyInfo is in the result.
type CreateKey struct {
	Label     string `cbor:"1,keyasint"` // names the CA in profiles and commands
	Algorithm string `cbor:"2,keyasint"` // one of caAlgorithms
}

// SignCA is the content of sign-ca: a root when the request's issuer is the key itself.
type SignCA struct {
	Key       Digest            `cbor:"1,keyasint"` // id of a key made by create-key
	Fields    map[string]string `cbor:"2,keyasint,omitempty"`
	NotBefore int64             `cbor:"3,keyasint,omitempty"`
	NotAfter  int64             `cbor:"4,keyasint,omitempty"`
}

// Replacement is the content of roster and policy: it replaces one known thing.
type Replacement struct {
	Replaces   Digest   `cbor:"1,keyasint"`           // SHA-256 of what stands now
	New        []byte   `cbor:"2,keyasint"`           // encoded by protocol/policy
	Possession [][]byte `cbor:"3,keyasint,omitempty"` // roster: COSE_Sign1 over SHA-256(New) by each key that is new
}

// Enrolment is the content of agent and station.
type Enrolment struct {
	Replaces Digest `cbor:"1,keyasint,omitzero"` // SHA-256 of the record of the same name; absent for a new one
	Party    []byte `cbor:"2,keyasint"`          // Party
}

// SetTime is the content of set-time.
type SetTime struct {
	Time int64 `cbor:"1,keyasint"` // unix seconds; what the officers' watches show
}

// CRLOrder is the content of crl: a CRL of the request's issuer now, whatever its state.
type CRLOrder struct {
	Replaces Digest `cbor:"1,keyasint,omitzero"` // SHA-256 of the CRL that stands; absent when there is none
}

// caAlgorithms are the keys that a CA may have.
var caAlgorithms = [...]string{"P-256", "P-384", "RSA-3072", "RSA-4096", "Ed25519"}

// CreateKey decodes the content of create-key.
func (r *Request) CreateKey() (CreateKey, *Refusal) {
	c, refusal := content[CreateKey](r, KindCreateKey)
	switch {
	case refusal != nil:
	case !ValidName(c.Label):
		refusal = Malformed("request", fmt.Errorf("label %q is not a name", cut(c.Label)))
	case !slices.Contains(caAlgorithms[:], c.Algorithm):
		refusal = Malformed("request", fmt.Errorf("algorithm %q is not one of %s", cut(c.Algorithm), strings.Join(caAlgorithms[:], ", ")))
	}
	return c, refusal
}

// SignCA decodes the content of sign-ca.
func (r *Request) SignCA() (SignCA, *Refusal) {
	c, refusal := content[SignCA](r, KindSignCA)
	if refusal != nil {
		return c, refusal
	}
	if c.Key.IsZero() {
		return c, Malformed("request", errors.New("sign-ca: no key is named"))
	}
	if err := checkTerm(c.Fields, c.NotBefore, c.NotAfter); err != nil {
		return c, Malformed("request", err)
	}
	return c, nil
}

// Replacement decodes the content of roster and policy.
func (r *Request) Replacement() (Replacement, *Refusal) {
	c, refusal := content[Replacement](r, KindRoster, KindPolicy)
	if refusal == nil && (c.Replaces.IsZero() || len(c.New) == 0 || r.Kind == KindPolicy && len(c.Possession) != 0) {
		refusal = Malformed("request", fmt.Errorf("%s: what it replaces, what it brings or a proof of possession is missing or out of place", r.Kind))
	}
	return c, refusal
}

// Enrolment decodes the content of agent and station, and the party in it.
func (r *Request) Enrolment() (Enrolment, Party, *Refusal) {
	c, refusal := content[Enrolment](r, KindAgent, KindStation)
	if refusal != nil {
		return c, Party{}, refusal
	}
	p, err := ParseParty(c.Party)
	if err != nil {
		return c, p, Malformed("request", err)
	}
	if (r.Kind == KindAgent) != (p.Role == RoleAgent) {
		return c, p, Malformed("request", fmt.Errorf("%s: the role in the record is %s", r.Kind, p.Role))
	}
	return c, p, nil
}

// SetTime decodes the content of set-time.
func (r *Request) SetTime() (SetTime, *Refusal) {
	c, refusal := content[SetTime](r, KindSetTime)
	if refusal == nil && (c.Time <= 0 || c.Time > MaxTime) {
		refusal = Malformed("request", fmt.Errorf("time %d is not one", c.Time))
	}
	return c, refusal
}

// CRLOrder decodes the content of crl.
func (r *Request) CRLOrder() (CRLOrder, *Refusal) { return content[CRLOrder](r, KindCRL) }

// PartyRole is what an enrolled party does.
type PartyRole uint64

// The roles of parties.
const (
	RoleAgent   PartyRole = 1 // seals bundles, receives responses
	RoleStation PartyRole = 2 // signs key statements
)

// String is the role's name.
func (r PartyRole) String() string {
	switch r {
	case RoleAgent:
		return "agent"
	case RoleStation:
		return "station"
	}
	return fmt.Sprintf("role-%d", uint64(r))
}

// Party is an enrolled agent or station.
type Party struct {
	Version       uint64    `cbor:"1,keyasint"`
	Name          string    `cbor:"2,keyasint"`
	Role          PartyRole `cbor:"3,keyasint"`
	Seal          []byte    `cbor:"4,keyasint"`           // SubjectPublicKeyInfo of the key that signs its messages
	Receiver      []byte    `cbor:"5,keyasint,omitempty"` // SubjectPublicKeyInfo, P-256: responses are encrypted to it; agents only
	Bodies        []string  `cbor:"6,keyasint"`           // whose requests it may bring, with all below them; sorted
	BundlesPerDay uint64    `cbor:"7,keyasint,omitempty"` // agents only
	ItemsPerDay   uint64    `cbor:"8,keyasint,omitempty"` // agents only
	Retired       bool      `cbor:"9,keyasint,omitempty"` // nothing from it is processed but what takes away
}

// ParseParty decodes a record and checks its keys.
func ParseParty(data []byte) (Party, error) {
	var p Party
	if err := cose.Unmarshal(data, &p); err != nil {
		return p, err
	}
	if err := p.check(); err != nil {
		return Party{}, fmt.Errorf("party %q: %w", cut(p.Name), err)
	}
	return p, nil
}

func (p *Party) check() error {
	agent := p.Role == RoleAgent
	switch {
	case p.Version != Version:
		return fmt.Errorf("version %d is not %d", p.Version, Version)
	case !ValidName(p.Name):
		return errors.New("the name is not one")
	case !agent && p.Role != RoleStation:
		return fmt.Errorf("role %d is not known", uint64(p.Role))
	case len(p.Bodies) > MaxBodies:
		return fmt.Errorf("%d bodies, at most %d", len(p.Bodies), MaxBodies)
	case agent != (p.BundlesPerDay != 0), agent != (p.ItemsPerDay != 0), agent != (len(p.Receiver) != 0):
		return errors.New("a receiver key and daily limits are for agents, who have all three")
	case bytes.Equal(p.Seal, p.Receiver):
		return errors.New("one key is for signing, another for receiving")
	}
	for i, b := range p.Bodies {
		if b != Any && !ValidBody(b) || i > 0 && p.Bodies[i-1] >= b {
			return fmt.Errorf("body %q is not valid or not in order", cut(b))
		}
	}
	if _, err := p.SealKey(); err != nil {
		return fmt.Errorf("seal key: %w", err)
	}
	if agent {
		if _, err := ReceiverKey(p.Receiver); err != nil {
			return err
		}
	}
	return nil
}

// SealKey is the key that verifies the party's messages.
func (p Party) SealKey() (cose.Key, error) { return sealKey(p.Seal) }

// Serves tells whether the party may bring requests of the body.
func (p Party) Serves(body string) bool {
	for _, b := range p.Bodies {
		if (Scope{Profile: Any, Body: b}).Contains(Scope{Profile: Any, Body: body}) {
			return true
		}
	}
	return false
}

// ReceiverKey reads a P-256 SubjectPublicKeyInfo that messages are encrypted to.
func ReceiverKey(spki []byte) (*ecdh.PublicKey, error) {
	k, err := cose.ParseKey(spki)
	if err != nil {
		return nil, fmt.Errorf("receiver key: %w", err)
	}
	public, ok := k.Public().(*ecdsa.PublicKey)
	if !ok || k.Algorithm() != cose.ES256 {
		return nil, errors.New("receiver key: not on P-256")
	}
	return public.ECDH()
}
