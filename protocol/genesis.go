package protocol

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"fmt"

	"coldseal/protocol/cose"
)

// Genesis is the first leaf of an appliance's log. Its SHA-256 is the appliance's identity: the one digest that is
// typed into agents, stations and auditors' tools. Nothing else is ever trusted on first use.
type Genesis struct {
	Version  uint64   `cbor:"1,keyasint"`
	Name     string   `cbor:"2,keyasint"`
	Nonce    [16]byte `cbor:"3,keyasint"`
	Created  int64    `cbor:"4,keyasint"`
	Log      []byte   `cbor:"5,keyasint"` // SubjectPublicKeyInfo, Ed25519: signs checkpoints
	Receiver []byte   `cbor:"6,keyasint"` // SubjectPublicKeyInfo, P-256: bundles are encrypted to it
	Seal     []byte   `cbor:"7,keyasint"` // SubjectPublicKeyInfo: signs responses, receipts and introductions
	Roster   []byte   `cbor:"8,keyasint"` // encoded by protocol/policy
	Policy   []byte   `cbor:"9,keyasint"` // encoded by protocol/policy
}

// ParseGenesis decodes a genesis whose digest somebody typed. There is no other way to one.
func ParseGenesis(data []byte, typed Digest) (Genesis, error) {
	var g Genesis
	if DigestOf(data) != typed {
		return g, fmt.Errorf("genesis digest is %s, typed was %s", DigestOf(data), typed)
	}
	if err := cose.Unmarshal(data, &g); err != nil {
		return g, err
	}
	if g.Version != Version || !ValidName(g.Name) {
		return g, fmt.Errorf("genesis: version %d or name %q is not valid", g.Version, g.Name)
	}
	if _, err := g.LogKey(); err != nil {
		return g, err
	}
	if _, err := ReceiverKey(g.Receiver); err != nil {
		return g, fmt.Errorf("genesis: %w", err)
	}
	if _, err := g.SealKey(); err != nil {
		return g, err
	}
	return g, nil
}

// LogKey is the key that verifies checkpoints.
func (g Genesis) LogKey() (ed25519.PublicKey, error) {
	k, err := cose.ParseKey(g.Log)
	if err != nil {
		return nil, fmt.Errorf("genesis: log key: %w", err)
	}
	public, ok := k.Public().(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("genesis: log key is not Ed25519")
	}
	return public, nil
}

// SealKey is the key that verifies responses.
func (g Genesis) SealKey() (cose.Key, error) {
	k, err := cose.ParseKey(g.Seal)
	if err != nil {
		return k, fmt.Errorf("genesis: seal key: %w", err)
	}
	return k, nil
}

// State is what requests are made from: it changes by orders and travels in introductions and responses.
type State struct {
	Policy []byte   `cbor:"1,keyasint"` // encoded by protocol/policy
	Roster []byte   `cbor:"2,keyasint"` // encoded by protocol/policy
	CAs    [][]byte `cbor:"3,keyasint"` // certificates of all CAs, DER, roots first
}

// introduction is what first contact carries.
type introduction struct {
	_       struct{} `cbor:",toarray"`
	Genesis []byte
	Signed  []byte // COSE_Sign1 of State by the seal key in Genesis
}

// MaxIntroduction bounds an introduction: a policy, a roster and 64 certificates.
const MaxIntroduction = 1 << 20

// MakeIntroduction signs the state of an appliance for those who know its genesis digest.
func MakeIntroduction(genesis []byte, state State, seal crypto.Signer) ([]byte, error) {
	payload, err := cose.Marshal(state)
	if err != nil {
		return nil, err
	}
	signed, err := cose.Sign(seal, ContextIntroduction, payload)
	if err != nil {
		return nil, fmt.Errorf("make introduction: %w", err)
	}
	return cose.Marshal(introduction{Genesis: genesis, Signed: signed})
}

// OpenIntroduction returns the genesis (and its bytes) and the state of the appliance whose digest was typed.
func OpenIntroduction(data []byte, typed Digest) (Genesis, []byte, State, error) {
	var in introduction
	var state State
	if len(data) > MaxIntroduction {
		return Genesis{}, nil, state, fmt.Errorf("introduction of %d bytes, at most %d", len(data), MaxIntroduction)
	}
	if err := cose.Unmarshal(data, &in); err != nil {
		return Genesis{}, nil, state, err
	}
	g, err := ParseGenesis(in.Genesis, typed)
	if err != nil {
		return Genesis{}, nil, state, err
	}
	seal, err := g.SealKey()
	if err != nil {
		return Genesis{}, nil, state, err
	}
	payload, err := cose.Verify(in.Signed, ContextIntroduction, seal)
	if err != nil {
		return Genesis{}, nil, state, fmt.Errorf("open introduction: %w", err)
	}
	if err := cose.Unmarshal(payload, &state); err != nil {
		return Genesis{}, nil, state, err
	}
	return g, bytes.Clone(in.Genesis), state, nil
}
