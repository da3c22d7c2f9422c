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
	Answers     uint64   `cbor:"4,keyasint"`            // number of the bundle it answers
	Bundle      Digest   `cbor:"5,keyasint"`            // SHA-256 of that bundle
	Created     int64    `cbor:"6,keyasint"`            // unix seconds
	Last        uint64   `cbor:"7,keyasint"`            // highest number used by this agent
	Missing     []uint64 `cbor:"8,keyasint,omitempty"`  // lower numbers not used yet; ascending, the first 64
	Pending     []uint64 `cbor:"9,keyasint,omitempty"`  // bundles whose responses were not acknowledged; ascending
	Refusal     *Refusal `cbor:"10,keyasint,omitempty"` // of the bundle as a whole: only what takes away was done then
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

// MaxPending is how many unacknowledged responses a header names, MaxMissing how many unused numbers; MaxLeaves is how
// many leaves a log has (log.md), MaxCRLs how many CRLs a response brings.
const (
	MaxPending = 1024
	MaxMissing = 64
	MaxLeaves  = 1 << 53
	MaxCRLs    = 1 << 16
)

func (h *ResponseHeader) check() error {
	switch {
	case h.Version != Version:
		return fmt.Errorf("version %d is not %d", h.Version, Version)
	case !ValidName(h.To):
		return fmt.Errorf("receiver %q is not a name", cut(h.To))
	case h.Answers == 0:
		return errors.New("the number of the bundle is 0")
	case h.Created <= 0 || h.Created > MaxTime:
		return fmt.Errorf("created %d is not a time", h.Created)
	case !ascending(h.Missing, MaxMissing) || len(h.Missing) != 0 && h.Missing[len(h.Missing)-1] >= h.Last:
		return errors.New("the missing numbers are not in order, too many or above the last")
	case !ascending(h.Pending, MaxPending) || len(h.Pending) != 0 && h.Pending[len(h.Pending)-1] > h.Last:
		return errors.New("the pending numbers are not in order, too many or above the last")
	case h.Results > MaxItems || h.FirstLeaf > MaxLeaves || h.Leaves > MaxLeaves || h.CRLs > MaxCRLs:
		return fmt.Errorf("%d results, %d leaves from %d and %d CRLs are too many", h.Results, h.Leaves, h.FirstLeaf, h.CRLs)
	}
	if err := h.State.check(); err != nil {
		return err
	}
	if h.Refusal != nil {
		return h.Refusal.check()
	}
	return nil
}

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
	Certificate []byte   `cbor:"5,keyasint,omitempty"`  // DER; issued only
	Key         []byte   `cbor:"6,keyasint,omitempty"`  // SubjectPublicKeyInfo; create-key and rotate-key
	Receipt     []byte   `cbor:"7,keyasint,omitempty"`  // COSE_Sign1 of a Receipt; revoked and held
	Refusal     *Refusal `cbor:"8,keyasint,omitempty"`  // refused only
	Attestation []byte   `cbor:"9,keyasint,omitempty"`  // beside the key: its device's proof that it can't leave; not verified here
	Handover    []byte   `cbor:"10,keyasint,omitempty"` // rotate-key only, beside the key: as in Keys
}

// MaxAttestation bounds an attestation in bytes.
const MaxAttestation = 16 << 10

// Answer is a result on its way, with its place in the log. Refusals that may be tried again have none.
type Answer struct {
	Body  []byte `cbor:"1,keyasint"` // encoding of a Result
	Index uint64 `cbor:"2,keyasint,omitempty"`
	Salt  []byte `cbor:"3,keyasint,omitempty"` // 16 bytes; the leaf holds SHA-256(salt‖body)
}

// ParseAnswer decodes an answer and the result in it.
func ParseAnswer(data []byte) (Answer, Result, error) {
	var a Answer
	if err := cose.Unmarshal(data, &a); err != nil {
		return Answer{}, Result{}, err
	}
	if (a.Index == 0) != (len(a.Salt) == 0) || len(a.Salt) != 0 && len(a.Salt) != 16 {
		return Answer{}, Result{}, errors.New("answer: index and salt of 16 bytes go together")
	}
	r, err := ParseResult(a.Body)
	if err != nil {
		return Answer{}, Result{}, err
	}
	return a, r, nil
}

// ParseResult decodes a result, and checks that it holds what its outcome has and nothing else.
func ParseResult(data []byte) (Result, error) {
	var r Result
	if err := cose.Unmarshal(data, &r); err != nil {
		return Result{}, err
	}
	if err := r.check(); err != nil {
		return Result{}, fmt.Errorf("result of %s: %w", r.ID, err)
	}
	return r, nil
}

func (r *Result) check() error {
	o := r.Outcome
	takesAway := o == OutcomeRevoked || o == OutcomeHeld
	changesCertificate := takesAway || o == OutcomeIssued || o == OutcomeReleased
	switch {
	case o < OutcomeIssued || o > OutcomeRefused:
		return fmt.Errorf("outcome %d is not known", uint64(o))
	case changesCertificate == r.Issuer.IsZero(), changesCertificate != (len(r.Serial) != 0), changesCertificate && !validSerial(r.Serial):
		return fmt.Errorf("%s: issuer or serial is missing or out of place", o)
	case (o == OutcomeIssued) != (len(r.Certificate) != 0):
		return fmt.Errorf("%s: a certificate is missing or out of place", o)
	case o != OutcomeDone && len(r.Key) != 0:
		return fmt.Errorf("%s: a key is out of place", o)
	case len(r.Key) == 0 && len(r.Attestation) != 0, len(r.Attestation) > MaxAttestation:
		return fmt.Errorf("%s: an attestation is out of place, or of %d bytes", o, len(r.Attestation))
	case len(r.Key) == 0 && len(r.Handover) != 0, len(r.Handover) > MaxHandover:
		return fmt.Errorf("%s: a handover is out of place, or of %d bytes", o, len(r.Handover))
	case takesAway != (len(r.Receipt) != 0):
		return fmt.Errorf("%s: a receipt is missing or out of place", o)
	case (o == OutcomeRefused) != (r.Refusal != nil):
		return fmt.Errorf("%s: a refusal is missing or out of place", o)
	case r.Refusal != nil:
		return r.Refusal.check()
	}
	return nil
}

// Receipt shows the one who took away that it was done (law 6).
type Receipt struct {
	Appliance Digest  `cbor:"1,keyasint"`
	Request   Digest  `cbor:"2,keyasint"`
	Outcome   Outcome `cbor:"3,keyasint"`
	Issuer    Digest  `cbor:"4,keyasint"`
	Serial    []byte  `cbor:"5,keyasint"`
	Time      int64   `cbor:"6,keyasint"`
	Size      uint64  `cbor:"7,keyasint"` // leaves that the log had: the seal key that stood then signs it
}

// OpenReceipt returns the receipt that the appliance's seal key signed.
func OpenReceipt(message []byte, keys *Keys) (Receipt, error) {
	payload, seal, err := keys.open(message, ContextReceipt)
	if err != nil {
		return Receipt{}, err
	}
	var r Receipt
	if err := cose.Unmarshal(payload, &r); err != nil {
		return Receipt{}, err
	}
	if r.Outcome != OutcomeRevoked && r.Outcome != OutcomeHeld || !validSerial(r.Serial) || r.Size > MaxLeaves {
		return Receipt{}, fmt.Errorf("receipt for %s: outcome %s, serial %x or size %d of the log is not valid", r.Request, r.Outcome, r.Serial, r.Size)
	}
	if err := keys.stoodAt(seal, r.Size); err != nil {
		return Receipt{}, fmt.Errorf("receipt for %s: %w", r.Request, err)
	}
	return r, nil
}

// MaxAnswer bounds one answer: a certificate of at most 16 KiB, or a receipt. MaxLeaf and MaxCRL bound the others.
const (
	MaxAnswer = 32 << 10
	MaxLeaf   = 256
	MaxCRL    = 64 << 20 // a million entries of some 40 bytes, and room
)

// Size is how many leaves the log has under the checkpoint.
func (h *ResponseHeader) Size() uint64 { return h.FirstLeaf + h.Leaves }

// WriteResponseHeader writes the handovers of the appliance's keys, and signs and writes the header; the answers, leaves
// and CRLs follow it as they were hashed. It refuses what OpenResponse would refuse.
func WriteResponseHeader(w io.Writer, h ResponseHeader, handovers [][]byte, seal crypto.Signer) error {
	if err := h.check(); err != nil {
		return fmt.Errorf("write response: %w", err)
	}
	encoded, err := encodeHandovers(handovers)
	if err != nil {
		return err
	}
	if err := WriteString(w, encoded); err != nil {
		return fmt.Errorf("write handovers: %w", err)
	}
	return writeSigned(w, h, MaxResponseHeader, ContextResponse, seal)
}

// Response is a response whose seal was verified.
type Response struct {
	Header ResponseHeader
	Keys   *Keys // of the appliance, with the handovers that the response brought
	reader *bufio.Reader
	read   uint64
}

// OpenResponse verifies the seal over the whole spool, and that it is from the appliance to the agent. Keys are those known
// of the appliance; the response may bring handovers that lead on. An error is a fault of the spool.
func OpenResponse(spool Spool, keys *Keys, agent string) (*Response, *Refusal, error) {
	var handovers [][]byte
	s, refusal, err := readSealed(spool, MaxResponseHeader, "response", func(r *bufio.Reader) (err error) {
		handovers, err = ReadHandovers(r)
		return err
	})
	if refusal != nil || err != nil {
		return nil, refusal, err
	}
	if keys, err = keys.Walk(handovers); err != nil {
		return nil, Refuse(CodeBadSeal, "reason", err.Error()), nil
	}
	payload, seal, err := keys.open(s.message, ContextResponse)
	if err != nil {
		return nil, Refuse(CodeBadSeal, "reason", err.Error()), nil
	}
	var h ResponseHeader
	if err := cose.Unmarshal(payload, &h); err != nil {
		return nil, Malformed("response", err), nil
	}
	if err := h.check(); err != nil {
		return nil, Malformed("response", err), nil
	}
	if err := keys.stoodAt(seal, h.Size()); err != nil {
		return nil, Refuse(CodeBadSeal, "reason", err.Error()), nil
	}
	switch {
	case h.From != keys.Appliance():
		return nil, Refuse(CodeWrongAppliance, "appliance", h.From.String()), nil
	case h.To != agent:
		return nil, Refuse(CodeNotForAgent, "name", h.To), nil
	case h.Rest != s.rest:
		return nil, Refuse(CodeBadSeal, "reason", "the contents are not those that were sealed"), nil
	}
	return &Response{Header: h, Keys: keys, reader: s.contents}, nil, nil
}

// Part says what Next returned.
type Part int

// The parts of a response, in their order.
const (
	PartAnswer Part = iota
	PartLeaf
	PartCRL
)

// Next returns the next part, or io.EOF after the last. Errors about the bytes wrap ErrSequence; any other is a fault of
// the spool.
func (r *Response) Next() (Part, []byte, error) {
	h := &r.Header
	part, limit := PartCRL, MaxCRL
	switch {
	case r.read < h.Results:
		part, limit = PartAnswer, MaxAnswer
	case r.read < h.Results+h.Leaves:
		part, limit = PartLeaf, MaxLeaf
	case r.read == h.Results+h.Leaves+h.CRLs:
		switch _, err := r.reader.ReadByte(); err {
		case io.EOF:
			return part, nil, io.EOF
		case nil:
			return part, nil, fmt.Errorf("response: bytes after the last part: %w", ErrSequence)
		default:
			return part, nil, fmt.Errorf("read spooled response: %w", err)
		}
	}
	data, err := ReadString(r.reader, limit)
	if err != nil {
		return part, nil, fmt.Errorf("response: part %d: %w", r.read, truncated(err))
	}
	r.read++
	return part, data, nil
}
