package auditlog

import (
	"errors"
	"fmt"

	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// Intent is one thing that is going to be done (log.md), with what it is done for: a certificate or CRL signed, or a
// certificate's status changed, or a request withdrawn.
type Intent struct {
	_      struct{}        `cbor:",toarray"`
	Item   []byte          // encoding of the protocol.Item as it came; of an order, its request alone; empty for a CRL
	Issuer protocol.Digest // zero for a withdrawal
	Serial []byte          // empty for a CRL or a withdrawal
	TBS    protocol.Digest // SHA-256 of the TBSCertificate or TBSCertList; zero where nothing is signed
}

// IntentsBody is the body of an intents leaf: an auditor finds here the requests, whole, and the approvals they came
// with, and decides them again.
type IntentsBody struct {
	Intents   []Intent `cbor:"1,keyasint"`
	Approvals [][]byte `cbor:"2,keyasint,omitempty"`
}

// ParseIntents decodes the body of an intents leaf. The items and approvals in it are still bytes.
func ParseIntents(body []byte) (IntentsBody, error) {
	var b IntentsBody
	if err := cose.Unmarshal(body, &b); err != nil {
		return b, fmt.Errorf("parse intents: %w", err)
	}
	if len(b.Intents) == 0 {
		return b, errors.New("parse intents: there are none")
	}
	for i, in := range b.Intents {
		switch [4]bool{len(in.Item) != 0, !in.Issuer.IsZero(), len(in.Serial) != 0, !in.TBS.IsZero()} {
		case [4]bool{true, true, true, true}, // a certificate
			[4]bool{false, true, false, true},  // a CRL
			[4]bool{true, true, true, false},   // a change
			[4]bool{true, false, false, false}: // a withdrawal
		default:
			return b, fmt.Errorf("parse intents: intent %d has fields missing or out of place", i)
		}
	}
	return b, nil
}

// StatusAfter is the status that a request to revoke, hold or release leaves its certificate in; None for other kinds.
func StatusAfter(kind protocol.Kind) Status {
	switch kind {
	case protocol.KindRevoke, protocol.KindRevokeCA:
		return Revoked
	case protocol.KindHold:
		return Held
	case protocol.KindRelease:
		return Active
	}
	return None
}

// CRLBody is the body of a CRL's leaf.
type CRLBody struct {
	CRL   protocol.Digest `cbor:"1,keyasint"` // SHA-256 of the DER
	Shard uint64          `cbor:"2,keyasint,omitempty"`
}

// BundleBody is the body of a bundle's leaf.
type BundleBody struct {
	From     string          `cbor:"1,keyasint"` // the agent's name
	Sequence uint64          `cbor:"2,keyasint"`
	Bundle   protocol.Digest `cbor:"3,keyasint"` // SHA-256 of the bundle
}
