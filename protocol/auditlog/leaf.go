// Package auditlog is the appliance's log as both sides of the gap see it: its leaves, the Merkle tree over them
// (RFC 6962), signed checkpoints (C2SP tlog-checkpoint) and proofs.
//
// The ledger is a fold of this log, and agents, auditors and witnesses hold the appliance to it: nothing can be taken
// out, put in or altered below a checkpoint that somebody has seen. The format is specified in protocol/log.md.
//
// It stores nothing, reads no clock and knows no body of a leaf: bodies and salts lie beside the log and can be erased,
// so a leaf itself carries no personal data. Hashes are kept by the caller in the layout of golang.org/x/mod/sumdb/tlog.
package auditlog

import (
	"crypto/sha256"
	"fmt"

	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// maxTime is 9999-12-31T23:59:59Z, the last second that a certificate can name (RFC 5280 section 4.1.2.5).
const maxTime = 253402300799

// maxSerial is the length in octets of the longest serial number (RFC 5280 section 4.1.2.2).
const maxSerial = 20

// Kind tells what a leaf records. Number 13 (OCSP) is reserved.
type Kind uint64

// The kinds of leaves. Which fields each carries is in Leaf.
const (
	Genesis   Kind = 1  // the appliance began; always leaf 0 and never another
	Bundle    Kind = 2  // a bundle's sequence was used
	Intents   Kind = 3  // a batch is going to be signed
	Step      Kind = 4  // the counter moves; the last leaf under every checkpoint
	Issued    Kind = 5  // a certificate
	Changed   Kind = 6  // a certificate was revoked, held or released
	Burned    Kind = 7  // a serial whose signing was interrupted, recorded as revoked
	CRL       Kind = 8  // a CRL
	Order     Kind = 9  // an order was carried out
	Refused   Kind = 10 // a request was refused for good
	Withdrawn Kind = 11 // a request was withdrawn before it was done
	Restored  Kind = 12 // the appliance was restored from a backup, by order, and goes on from what was known of the log
)

// String is the kind's name in listings.
func (k Kind) String() string {
	switch k {
	case Genesis:
		return "genesis"
	case Bundle:
		return "bundle"
	case Intents:
		return "intents"
	case Step:
		return "step"
	case Issued:
		return "issued"
	case Changed:
		return "changed"
	case Burned:
		return "burned"
	case CRL:
		return "crl"
	case Order:
		return "order"
	case Refused:
		return "refused"
	case Withdrawn:
		return "withdrawn"
	case Restored:
		return "restored"
	}
	return fmt.Sprintf("kind-%d", uint64(k))
}

// Status is what a certificate is from this leaf on.
type Status uint64

// The statuses; None is that of a leaf which is not about a certificate.
const (
	None    Status = 0
	Active  Status = 1
	Held    Status = 2
	Revoked Status = 3
)

// String is the status's name in listings.
func (s Status) String() string {
	switch s {
	case None:
		return "none"
	case Active:
		return "active"
	case Held:
		return "held"
	case Revoked:
		return "revoked"
	}
	return fmt.Sprintf("status-%d", uint64(s))
}

// Leaf is one entry of the log. A field that its kind does not carry is empty or zero:
//
//	Genesis, Order, Refused, Withdrawn   Body
//	Bundle                               Number (sequence), Body
//	Intents                              Number (items), Body
//	Step                                 Number (the counter's value after the step)
//	Issued                               Issuer, Serial, Status Active, Profile, Body
//	Changed                              Issuer, Serial, Status, Body
//	Burned                               Issuer, Serial, Status Revoked, Profile, Body
//	CRL                                  Issuer, Number (CRL number), Body
//	Restored                             Number (the counter's value that steps go on from), Body
type Leaf struct {
	_       struct{} `cbor:",toarray"`
	Kind    Kind
	Time    int64    // seconds since 1970-01-01T00:00:00Z
	Issuer  []byte   // key id of the CA (SHA-256 of its SubjectPublicKeyInfo), 32 bytes or none
	Serial  []byte   // 1 to 20 bytes, big-endian, no leading zero, or none
	Status  Status   //
	Profile string   // name of the profile
	Number  uint64   // at least 1 where it is carried
	Body    [32]byte // BodyDigest
}

// BodyDigest is what a leaf holds of its body: SHA-256(salt ‖ body). The salt is random and kept, and erased, with the
// body, so that nobody can guess an erased body from the digest.
func BodyDigest(salt [16]byte, body []byte) [32]byte {
	h := sha256.New()
	h.Write(salt[:])
	h.Write(body)
	return [32]byte(h.Sum(nil))
}

// Encode gives the bytes that are hashed into the tree; it refuses a leaf that ParseLeaf would refuse.
func (l Leaf) Encode() ([]byte, error) {
	if err := l.check(); err != nil {
		return nil, fmt.Errorf("encode %s leaf: %w", l.Kind, err)
	}
	return cose.Marshal(l)
}

// ParseLeaf reads exactly one leaf of at most protocol.MaxLeaf bytes. It refuses another encoding of the same leaf, unknown
// kinds, and fields that are missing from, or foreign to, the leaf's kind.
func ParseLeaf(data []byte) (Leaf, error) {
	if len(data) > protocol.MaxLeaf {
		return Leaf{}, fmt.Errorf("parse leaf: %d bytes, at most %d", len(data), protocol.MaxLeaf)
	}
	var l Leaf
	if err := cose.Unmarshal(data, &l); err != nil {
		return Leaf{}, fmt.Errorf("parse leaf: %w", err)
	}
	if err := l.check(); err != nil {
		return Leaf{}, fmt.Errorf("parse %s leaf: %w", l.Kind, err)
	}
	return l, nil
}

// fields are those that a kind carries; Time is in all.
type fields struct {
	issuer, serial, profile, number, body bool
	lowest, highest                       Status
}

func (k Kind) fields() (f fields, known bool) {
	switch k {
	case Genesis, Order, Refused, Withdrawn:
		return fields{body: true}, true
	case Bundle, Intents, Restored:
		return fields{number: true, body: true}, true
	case Step:
		return fields{number: true}, true
	case Issued:
		return fields{issuer: true, serial: true, profile: true, body: true, lowest: Active, highest: Active}, true
	case Changed:
		return fields{issuer: true, serial: true, body: true, lowest: Active, highest: Revoked}, true
	case Burned:
		return fields{issuer: true, serial: true, profile: true, body: true, lowest: Revoked, highest: Revoked}, true
	case CRL:
		return fields{issuer: true, number: true, body: true}, true
	}
	return fields{}, false
}

func (l Leaf) check() error {
	f, known := l.Kind.fields()
	if !known {
		return fmt.Errorf("kind %d is unknown", uint64(l.Kind))
	}
	if l.Time < 0 || l.Time > maxTime {
		return fmt.Errorf("time %d is not in 0…%d", l.Time, int64(maxTime))
	}
	for _, field := range []struct {
		name             string
		carried, present bool
	}{
		{"issuer", f.issuer, len(l.Issuer) > 0},
		{"serial", f.serial, len(l.Serial) > 0},
		{"profile", f.profile, l.Profile != ""},
		{"number", f.number, l.Number != 0},
		{"body", f.body, l.Body != [32]byte{}},
	} {
		if field.carried && !field.present {
			return fmt.Errorf("%s is missing", field.name)
		}
		if !field.carried && field.present {
			return fmt.Errorf("%s does not belong there", field.name)
		}
	}
	if l.Status < f.lowest || l.Status > f.highest {
		return fmt.Errorf("status %s does not belong there", l.Status)
	}
	if f.issuer && len(l.Issuer) != 32 {
		return fmt.Errorf("issuer of %d bytes, want 32", len(l.Issuer))
	}
	if f.serial {
		// A set high bit of 20 bytes would take 21 octets in DER.
		if len(l.Serial) > maxSerial || len(l.Serial) == maxSerial && l.Serial[0]&0x80 != 0 {
			return fmt.Errorf("serial %x takes more than %d octets", l.Serial, maxSerial)
		}
		if l.Serial[0] == 0 {
			return fmt.Errorf("serial %x has a leading zero", l.Serial)
		}
	}
	if f.profile && !protocol.ValidName(l.Profile) {
		return fmt.Errorf("profile %q is not a name", l.Profile)
	}
	return nil
}
