package protocol

import (
	"bytes"
	"errors"
	"fmt"

	"coldseal/protocol/cose"
)

// Restoration is the content of restore: from where on the appliance goes on that was opened from a backup. It is made by
// the appliance itself, from the backup and what was brought to it; officers decide whether that is all there is.
type Restoration struct {
	From uint64     `cbor:"1,keyasint"`           // leaves that the backup has
	Size uint64     `cbor:"2,keyasint"`           // leaves of the log with those that were brought
	Root Digest     `cbor:"3,keyasint"`           // of the tree of these
	Lost uint64     `cbor:"4,keyasint,omitempty"` // orders among those brought of which only the leaf is known: what they ordered is lost
	CRLs []CRLFloor `cbor:"5,keyasint,omitempty"` // strictly ascending by issuer
}

// CRLFloor says which numbers a CA's CRLs may have been given: the next one is above.
type CRLFloor struct {
	_      struct{} `cbor:",toarray"`
	Issuer Digest
	Number uint64
}

// MaxCRLNumber bounds the numbers of CRLs, so that they are exact in JSON: a CRL a second for 285 million years.
const MaxCRLNumber = 1 << 53

// Restoration decodes the content of restore.
func (r *Request) Restoration() (Restoration, *Refusal) {
	c, refusal := content[Restoration](r, KindRestore)
	if refusal != nil {
		return c, refusal
	}
	if err := c.check(); err != nil {
		return c, Malformed("request", err)
	}
	return c, nil
}

func (c *Restoration) check() error {
	switch {
	case c.From == 0 || c.Size < c.From || c.Size > MaxLeaves || c.Root.IsZero():
		return fmt.Errorf("restore: a log of %d leaves from %d on is none", c.Size, c.From)
	case c.Lost > c.Size-c.From:
		return fmt.Errorf("restore: %d orders lost of %d leaves", c.Lost, c.Size-c.From)
	case len(c.CRLs) > MaxCAs:
		return fmt.Errorf("restore: CRLs of %d CAs, at most %d", len(c.CRLs), MaxCAs)
	}
	for i, f := range c.CRLs {
		if f.Issuer.IsZero() || f.Number == 0 || f.Number > MaxCRLNumber || i > 0 && bytes.Compare(c.CRLs[i-1].Issuer[:], f.Issuer[:]) >= 0 {
			return errors.New("restore: numbers of CRLs are not in order or out of range")
		}
	}
	return nil
}

// Floor is the number that the CRLs of a CA begin above, 0 if none is said.
func (c *Restoration) Floor(issuer Digest) uint64 {
	for _, f := range c.CRLs {
		if f.Issuer == issuer {
			return f.Number
		}
	}
	return 0
}

// Encode checks the form and returns the content of a request.
func (c *Restoration) Encode() ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	return cose.Marshal(c)
}
