package issue

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"

	"coldseal/protocol"
)

// CRLHead is what a CRL has besides its entries.
type CRLHead struct {
	Number     uint64
	ThisUpdate int64    // unix seconds
	NextUpdate int64    // unix seconds
	Points     []string // of one shard: the URLs that its certificates name (policy.URL); none if the CRL is whole
	Entries    int      // how many will be added, if known; saves memory
}

// Revoked is one entry of a CRL.
type Revoked struct {
	Serial []byte
	Time   int64           // unix seconds
	Reason protocol.Reason // certificateHold for what is held; unspecified is left out
	Since  int64           // unix seconds: invalidityDate; 0 is none
}

// CRL is a CRL being made. Entries are added in order, then TBS is called once. It holds 40 to 80 octets an entry.
type CRL struct {
	ca      *CA
	head    CRLHead
	entries []byte
	last    []byte
}

// usualEntry is the room that an entry with a reason takes.
const usualEntry = 2 + 22 + 15 + 14

// maxEntries bounds the entries of a CRL in octets: some 1.2 million. Beyond, the CRL needs shards.
const maxEntries = protocol.MaxCRL - 8<<10

// NewCRL begins a CRL (RFC 5280 section 5).
func NewCRL(ca *CA, head CRLHead) (*CRL, error) {
	switch {
	case ca.self:
		return nil, fmt.Errorf("CRL of %s: it has no certificate yet", ca.Label)
	case head.Number == 0:
		return nil, fmt.Errorf("CRL of %s: no number", ca.Label)
	case head.ThisUpdate < 0 || head.NextUpdate <= head.ThisUpdate || head.NextUpdate > maxTime:
		return nil, fmt.Errorf("CRL of %s: updates at %d and %d are not in order", ca.Label, head.ThisUpdate, head.NextUpdate)
	case head.Entries < 0:
		return nil, fmt.Errorf("CRL of %s: %d entries", ca.Label, head.Entries)
	}
	return &CRL{ca: ca, head: head, entries: make([]byte, 0, min(head.Entries, maxEntries/usualEntry)*usualEntry)}, nil
}

// Fixed parts of entries (RFC 5280 section 5.3): Extension with reasonCode, an ENUMERATED, and with invalidityDate, a
// GeneralizedTime, each but for the value.
const (
	reasonExtension     = "\x30\x0a\x06\x03" + oidReasonCode + "\x04\x03\x0a\x01"
	invalidityExtension = "\x30\x18\x06\x03" + oidInvalidityDate + "\x04\x11"
)

// Add adds an entry; serials ascend bytewise, so none is there twice. A revocation dated after the CRL, as when the
// clock was set back since, counts from the CRL on.
func (c *CRL) Add(r Revoked) error {
	switch {
	case len(c.entries) > maxEntries-100:
		return fmt.Errorf("CRL entry %x: the entries before it fill %d octets, the CRL needs shards", r.Serial, len(c.entries))
	case !validSerial(r.Serial):
		return fmt.Errorf("CRL entry %x: the serial is not a positive number of at most 20 octets", r.Serial)
	case c.last != nil && bytes.Compare(c.last, r.Serial) >= 0:
		return fmt.Errorf("CRL entry %x: not after %x", r.Serial, c.last)
	case r.Time < 0 || r.Since < 0 || r.Since > maxTime:
		return fmt.Errorf("CRL entry %x: its times are not times", r.Serial)
	case r.Reason > protocol.ReasonPrivilegeWithdrawn || r.Reason == 7 || r.Reason == 8:
		return fmt.Errorf("CRL entry %x: reason %d is not one that is used", r.Serial, uint64(r.Reason))
	}
	c.last = append(c.last[:0], r.Serial...)

	// An entry is at most 22+17+2+12+26 octets, so each of its lengths is one octet.
	start := len(c.entries)
	e := append(c.entries, 0x30, 0, 0x02, byte(len(r.Serial)))
	e = append(e, r.Serial...)
	e = appendTime(e, min(r.Time, c.head.ThisUpdate))
	if r.Reason != protocol.ReasonUnspecified || r.Since != 0 {
		list := len(e)
		e = append(e, 0x30, 0)
		if r.Reason != protocol.ReasonUnspecified {
			e = append(append(e, reasonExtension...), byte(r.Reason))
		}
		if r.Since != 0 {
			e = appendGeneralizedTime(append(e, invalidityExtension...), r.Since)
		}
		e[list+1] = byte(len(e) - list - 2)
	}
	e[start+1] = byte(len(e) - start - 2)
	c.entries = e
	return nil
}

// TBS makes the bytes to be signed and lets go of the entries.
func (c *CRL) TBS() ([]byte, error) {
	if c.entries == nil {
		return nil, errors.New("CRL: its bytes were made already")
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, len(c.entries)+1024+len(c.ca.SubjectRaw)))
	b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1) // version 2
		b.AddBytes(c.ca.AlgorithmRaw)
		b.AddBytes(c.ca.SubjectRaw)
		b.AddBytes(appendTime(appendTime(nil, c.head.ThisUpdate), c.head.NextUpdate))
		if len(c.entries) > 0 { // absent, not empty (section 5.1.2.6)
			b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(c.entries) })
		}
		b.AddASN1(tag.Tag(0xa0), func(b *cryptobyte.Builder) {
			b.AddASN1(tag.SEQUENCE, c.addExtensions)
		})
	})
	c.entries = nil
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("CRL of %s: %w", c.ca.Label, err)
	}
	return der, nil
}

func (c *CRL) addExtensions(b *cryptobyte.Builder) {
	addAuthorityKeyID(b, c.ca.SubjectKeyID)
	addExtension(b, oidCRLNumber, false, func(b *cryptobyte.Builder) { b.AddASN1Uint64(c.head.Number) })
	if len(c.head.Points) > 0 {
		addExtension(b, oidIssuingPoint, true, func(b *cryptobyte.Builder) {
			b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) { addPoint(b, c.head.Points) })
		})
	}
}
