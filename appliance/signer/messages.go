package signer

import (
	"fmt"

	"coldseal/protocol/cose"
)

// The operations (signer.md).
const (
	opHello uint64 = iota + 1
	opKeys
	opCreate
	opSign
	opECDH
	opCounter
	opAdvance
	opPin
	opDestroy
	opObjects
	opShare
)

// The codes of refusals. A refusal is the caller's mistake, not the signer's: nothing was done and the signer lives on.
// Beside these there are the codes of troubles with a device (Troubles).
const (
	RefusedVersion    = "version"
	RefusedKey        = "unknown-key"
	RefusedPurpose    = "wrong-purpose"
	RefusedScheme     = "wrong-scheme"
	RefusedBatch      = "batch-size"
	RefusedInput      = "bad-input"
	RefusedCheckpoint = "not-a-checkpoint"
	RefusedPoint      = "bad-point"
	RefusedLabel      = "bad-label"
	RefusedDuplicate  = "label-taken"
	RefusedAlgorithm  = "wrong-algorithm"
	RefusedFull       = "too-many-keys"
	RefusedCounter    = "counter-jump"
	RefusedPin        = "pinned-otherwise"
	RefusedDevice     = "no-device"
)

type nothing struct{}

type helloRequest struct {
	Version uint64 `cbor:"1,keyasint"`
}

// Hello is what the signer says about itself. Capabilities are for `doctor`: "counter" says what keeps the counter
// ("file": whoever can write the disk can wind it back), "memory" whether it can be swapped out.
type Hello struct {
	Version      uint64            `cbor:"1,keyasint"`
	Backend      string            `cbor:"2,keyasint"`
	Capabilities map[string]string `cbor:"3,keyasint"`
	Devices      []DeviceInfo      `cbor:"4,keyasint,omitempty"` // in the order in which a new key is offered to them
	Pace         uint64            `cbor:"5,keyasint,omitzero"`  // milliseconds that a signature may take; 20 if it is not there
}

// DeviceInfo says which keys a device takes: "ca P-256" and so on.
type DeviceInfo struct {
	Locator string   `cbor:"1,keyasint"`
	Holds   []string `cbor:"2,keyasint"`
}

type keysReply struct {
	Keys []KeyInfo `cbor:"1,keyasint"`
}

type createRequest struct {
	Label     string    `cbor:"1,keyasint"`
	Purpose   Purpose   `cbor:"2,keyasint"`
	Algorithm Algorithm `cbor:"3,keyasint"`
}

type createReply struct {
	Key         KeyInfo      `cbor:"1,keyasint"`
	Attestation *Attestation `cbor:"2,keyasint,omitempty"`
}

type destroyRequest struct {
	Key     [32]byte `cbor:"1,keyasint"`
	Purpose Purpose  `cbor:"2,keyasint"`
}

type objectsReply struct {
	Objects []Object `cbor:"1,keyasint"`
}

type signRequest struct {
	Key     [32]byte `cbor:"1,keyasint"`
	Purpose Purpose  `cbor:"2,keyasint"`
	Scheme  Scheme   `cbor:"3,keyasint"`
	Inputs  [][]byte `cbor:"4,keyasint"`
}

type signReply struct {
	Signatures [][]byte `cbor:"1,keyasint"`
}

type ecdhRequest struct {
	Key   [32]byte `cbor:"1,keyasint"`
	Point []byte   `cbor:"2,keyasint"`
}

type ecdhReply struct {
	Shared [32]byte `cbor:"1,keyasint"`
}

type counterMessage struct {
	Value uint64 `cbor:"1,keyasint"`
}

// pinMessage without a digest asks, or answers that there is none.
type pinMessage struct {
	Digest [32]byte `cbor:"1,keyasint,omitzero"`
}

// decodeRequest gives the body of operation op, a pointer to one of the types above.
func decodeRequest(op uint64, body []byte) (any, error) {
	var request any
	switch op {
	case opHello:
		request = new(helloRequest)
	case opKeys, opCounter, opObjects:
		request = new(nothing)
	case opCreate:
		request = new(createRequest)
	case opSign:
		request = new(signRequest)
	case opECDH:
		request = new(ecdhRequest)
	case opAdvance:
		request = new(counterMessage)
	case opPin:
		request = new(pinMessage)
	case opDestroy:
		request = new(destroyRequest)
	case opShare:
		request = new(shareRequest)
	default:
		return nil, fmt.Errorf("no operation %d", op)
	}
	if err := cose.Unmarshal(body, request); err != nil {
		return nil, err
	}
	return request, nil
}

// newReply gives a pointer to what operation op answers with, nil if there is no such operation.
func newReply(op uint64) any {
	switch op {
	case opHello:
		return new(Hello)
	case opKeys:
		return new(keysReply)
	case opCreate:
		return new(createReply)
	case opSign:
		return new(signReply)
	case opECDH:
		return new(ecdhReply)
	case opCounter, opAdvance:
		return new(counterMessage)
	case opPin:
		return new(pinMessage)
	case opDestroy:
		return new(nothing)
	case opObjects:
		return new(objectsReply)
	case opShare:
		return new(shareReply)
	}
	return nil
}
