package protocol

import (
	"bufio"
	"crypto"
	"errors"
	"fmt"
	"io"

	"coldseal/protocol/cose"
)

// ResponseHeader opens a response (response.md). It is signed; everything after it is bound by Rest.
type ResponseHeader struct {
	Version     uint64   `cbor:"1,keyasint"`
	From        Digest   `cbor:"2,keyasint"`            // the appliance's genesis digest
	To          string   `cbor:"3,keyasint"`            // the agent's name
	Answers     uint64   `cbor:"4,keyasint"`            // number of the bundle
	Bundle      Digest   `cbor:"5,keyasint"`            // SHA-256 of that bundle
	Created     int64    `cbor:"6,keyasint"`            // unix seconds
	Last        uint64   `cbor:"7,keyasint"`            // highest number used by this agent
	Missing     []uint64 `cbor:"8,keyasint,omitempty"`  // lower numbers not used yet; ascending, the first 64
	Pending     []uint64 `cbor:"9,keyasint,omitempty"`  // bundles whose responses were not acknowledged; ascending
	Refusal     *Refusal `cbor:"10,keyasint,omitempty"` // of the bundle as a whole: it has no results then
	Results     uint64   `cbor:"11,keyasint,omitempty"`
	FirstLeaf   uint64   `cbor:"12,keyasint,omitempty"` // index of the first leaf: the size of the checkpoint that the agent knew
	Leaves      uint64   `cbor:"13,keyasint,omitempty"`
	CRLs        uint64   `cbor:"14,keyasint,omitempty"`
	Checkpoint  []byte   `cbor:"15,keyasint"`           // signed note (log.md)
	Range       [][]byte `cbor:"16,keyasint,omitempty"` // proves that the leaves extend the tree the agent knew (log.md)
	Consistency [][]byte `cbor:"17,keyasint,omitempty"` // RFC 6962 section 2.1.2
	State       State    `cbor:"18,keyasint"`
	Rest        Digest   `cbor:"19,keyasint"` // SHA-256 of all bytes after the header
}

// MaxResponseHeader bounds a header: the state (a policy, a roster, 64 CA certificates), proofs and a checkpoint.
const MaxResponseHeader = 1 << 20

// MaxPending is how many unacknowledged responses a header names, and MaxMissing how many unused numbers.
const (
	MaxPending = 1024
	MaxMissing = 64
)

// Outcome is what became of a request.
type Outcome uint64

// The outcomes.
const (
	OutcomeIssued    Outcome = 1 // issue, renew, sign-ca: the certificate is in the result
	OutcomeRevoked   Outcome = 2
	OutcomeHeld      Outcome = 3
	OutcomeReleased  Outcome = 4
	OutcomeWithdrawn Outcome = 5
	OutcomeDone      Outcome = 6 // any other order
	OutcomeRefused   Outcome = 7
)

var outcomeNames = [...]string{OutcomeIssued: "issued", OutcomeRevoked: "revoked", OutcomeHeld: "held", OutcomeReleased: "released", OutcomeWithdrawn: "withdrawn", OutcomeDone: "done", OutcomeRefused: "refused"}

// String is the outcome's name.
func (o Outcome) String() string {
	if o >= 1 && int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return fmt.Sprintf("outcome-%d", uint64(o))
}

// Result is what became of one request. Its bytes are also the body of the log leaf that records it.
type Result struct {
	ID          Digest   `cbor:"1,keyasint"` // SHA-256 of the request's bytes
	Outcome     Outcome  `cbor:"2,keyasint"`
	Issuer      Digest   `cbor:"3,keyasint,omitzero"`
	Serial      []byte   `cbor:"4,keyasint,omitempty"`
	Certificate []byte   `cbor:"5,keyasint,omitempty"` // DER; issued only
	Key         []byte   `cbor:"6,keyasint,omitempty"` // SubjectPublicKeyInfo; create-key only
	Receipt     []byte   `cbor:"7,keyasint,omitempty"` // COSE_Sign1 of a Receipt; revoked and held
	Refusal     *Refusal `cbor:"8,keyasint,omitempty"` // refused only
}

// Answer is a result on its way, with its place in the log. Refusals that may be tried again have none.
type Answer struct {
	Body  []byte `cbor:"1,keyasint"` // encoding of a Result
	Index uint64 `cbor:"2,keyasint,omitempty"`
	Salt  []byte `cbor:"3,keyasint,omitempty"` // 16 bytes; the leaf holds SHA-256(salt‖body)
}

// ParseAnswer decodes an answer and the result in it.
func ParseAnswer(data []byte) (Answer, Result, error) {
	var a Answer
	var r Result
	if err := cose.Unmarshal(data, &a); err != nil {
		return a, r, err
	}
	if (a.Index == 0) != (len(a.Salt) == 0) || len(a.Salt) != 0 && len(a.Salt) != 16 {
		return a, r, errors.New("answer: index and salt go together")
	}
	r, err := ParseResult(a.Body)
	return a, r, err
}

// ParseResult decodes a result.
func ParseResult(data []byte) (Result, error) {
	var r Result
	if err := cose.Unmarshal(data, &r); err != nil {
		return r, err
	}
	if r.Outcome < OutcomeIssued || r.Outcome > OutcomeRefused || (r.Outcome == OutcomeRefused) != (r.Refusal != nil) ||
		(r.Outcome == OutcomeIssued) != (len(r.Certificate) != 0) {
		return r, fmt.Errorf("result %s: outcome %s does not fit what it holds", r.ID, r.Outcome)
	}
	return r, nil
}

// Receipt shows the one who took away that it was done (law 6).
type Receipt struct {
	Appliance Digest  `cbor:"1,keyasint"`
	Request   Digest  `cbor:"2,keyasint"`
	Outcome   Outcome `cbor:"3,keyasint"`
	Issuer    Digest  `cbor:"4,keyasint"`
	Serial    []byte  `cbor:"5,keyasint"`
	Time      int64   `cbor:"6,keyasint"`
}

// OpenReceipt returns the receipt that the appliance's seal key signed.
func OpenReceipt(message []byte, seal cose.Key) (Receipt, error) {
	var r Receipt
	payload, err := cose.Verify(message, ContextReceipt, seal)
	if err != nil {
		return r, err
	}
	return r, cose.Unmarshal(payload, &r)
}

// MaxAnswer bounds one answer: a certificate of at most 16 KiB, or a receipt. MaxLeaf and MaxCRL bound the others.
const (
	MaxAnswer = 32 << 10
	MaxLeaf   = 256
	MaxCRL    = 64 << 20 // a million entries of some 40 bytes, and room
)

// WriteResponseHeader signs and writes the header; the answers, leaves and CRLs follow it as they were hashed.
func WriteResponseHeader(w io.Writer, h ResponseHeader, seal crypto.Signer) error {
	return writeSigned(w, h, ContextResponse, seal)
}

// Response is a response whose seal was verified.
type Response struct {
	Header ResponseHeader
	reader *bufio.Reader
	read   uint64
}

// OpenResponse verifies the seal over the whole spool, and that it is from the appliance to the agent.
func OpenResponse(spool Spool, appliance Digest, seal cose.Key, agent string) (*Response, *Refusal, error) {
	size, err := sizeOf(spool)
	if err != nil {
		return nil, nil, err
	}
	message, rest, _, refusal, err := readSealed(spool, size, MaxResponseHeader, "response")
	if refusal != nil || err != nil {
		return nil, refusal, err
	}
	payload, err := cose.Verify(message, ContextResponse, seal)
	if err != nil {
		return nil, Refuse(CodeBadSeal, "reason", err.Error()), nil
	}
	var h ResponseHeader
	if err := cose.Unmarshal(payload, &h); err != nil {
		return nil, Malformed("response", err), nil
	}
	switch {
	case h.From != appliance:
		return nil, Refuse(CodeWrongAppliance, "appliance", h.From.String()), nil
	case h.To != agent:
		return nil, Refuse(CodeNotForAgent, "name", h.To), nil
	case h.Rest != rest:
		return nil, Refuse(CodeBadSeal, "reason", "the contents are not those that were sealed"), nil
	case h.Version != Version, h.Results > MaxItems, h.Refusal != nil && h.Results != 0:
		return nil, Malformed("response", errors.New("a header field is not valid")), nil
	}
	r := &Response{Header: h, reader: bufio.NewReaderSize(io.NewSectionReader(spool, 0, size), 1<<16)}
	if _, err := ReadString(r.reader, MaxResponseHeader); err != nil {
		return nil, nil, fmt.Errorf("read spooled response again: %w", err)
	}
	return r, nil, nil
}

// Part says what Next returned.
type Part int

// The parts of a response, in their order.
const (
	PartAnswer Part = iota
	PartLeaf
	PartCRL
)

// Next returns the next part, or io.EOF after the last.
func (r *Response) Next() (Part, []byte, error) {
	part, limit := PartCRL, MaxCRL
	h := r.Header
	switch {
	case r.read < h.Results:
		part, limit = PartAnswer, MaxAnswer
	case r.read < h.Results+h.Leaves:
		part, limit = PartLeaf, MaxLeaf
	case r.read == h.Results+h.Leaves+h.CRLs:
		if _, err := r.reader.ReadByte(); err != io.EOF {
			return part, nil, errors.New("response: bytes after the last part")
		}
		return part, nil, io.EOF
	}
	data, err := ReadString(r.reader, limit)
	if err != nil {
		return part, nil, fmt.Errorf("response: part %d: %w", r.read, unexpected(err))
	}
	r.read++
	return part, data, nil
}
