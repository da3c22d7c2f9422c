package protocol

import (
	"errors"
	"fmt"
)

// Orders about officers that no quorum of the roster decides.

// Recovery is the content of recovery: it announces a new roster, which those whom the roster names for recovery may put
// in the place of the one that stands when the days that the roster says have passed.
type Recovery struct {
	Replaces Digest `cbor:"1,keyasint"` // SHA-256 of the roster that stands
	New      Digest `cbor:"2,keyasint"` // SHA-256 of the new one
}

// Suspension is the content of suspend. The person suspends themself, and nobody else can.
type Suspension struct {
	Replaces Digest `cbor:"1,keyasint"` // SHA-256 of the roster that stands
	Person   string `cbor:"2,keyasint"`
}

// Recovery decodes the content of recovery.
func (r *Request) Recovery() (Recovery, *Refusal) {
	c, refusal := content[Recovery](r, KindRecovery)
	if refusal == nil && (c.Replaces.IsZero() || c.New.IsZero() || c.Replaces == c.New) {
		refusal = Malformed("request", errors.New("recovery: the old or the new roster is missing, or they are the same"))
	}
	return c, refusal
}

// Suspension decodes the content of suspend.
func (r *Request) Suspension() (Suspension, *Refusal) {
	c, refusal := content[Suspension](r, KindSuspend)
	if refusal == nil && (c.Replaces.IsZero() || !ValidPerson(c.Person)) {
		refusal = Malformed("request", fmt.Errorf("suspend: the roster is missing, or %q is not a person", cut(c.Person)))
	}
	return c, refusal
}
