package protocol

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"

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
	if digest := DigestOf(data); digest != typed {
		return Genesis{}, fmt.Errorf("genesis digest is %s, typed was %s", digest, typed)
	}
	var g Genesis
	if err := cose.Unmarshal(data, &g); err != nil {
		return Genesis{}, err
	}
	if err := g.check(); err != nil {
		return Genesis{}, fmt.Errorf("genesis: %w", err)
	}
	return g, nil
}

func (g *Genesis) check() error {
	switch {
	case g.Version != Version:
		return fmt.Errorf("version %d is not %d", g.Version, Version)
	case !ValidName(g.Name):
		return fmt.Errorf("name %q is not one", cut(g.Name))
	case g.Created <= 0 || g.Created > MaxTime:
		return fmt.Errorf("created %d is not a time", g.Created)
	case bytes.Equal(g.Log, g.Seal), bytes.Equal(g.Receiver, g.Seal):
		return errors.New("log, receiver and seal are not three keys")
	}
	if _, err := g.LogKey(); err != nil {
		return err
	}
	if _, err := g.SealKey(); err != nil {
		return err
	}
	_, err := ReceiverKey(g.Receiver)
	return err
}

// LogKey is the key that verifies checkpoints.
func (g Genesis) LogKey() (ed25519.PublicKey, error) {
	k, err := cose.ParseKey(g.Log)
	if err != nil {
		return nil, fmt.Errorf("log key: %w", err)
	}
	public, ok := k.Public().(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("log key is not Ed25519")
	}
	return public, nil
}

// SealKey is the key that verifies responses.
func (g Genesis) SealKey() (cose.Key, error) {
	k, err := sealKey(g.Seal)
	if err != nil {
		return k, fmt.Errorf("seal key: %w", err)
	}
	return k, nil
}

// sealKey reads a key that seals messages. RSA is for people alone: its signatures differ each time, and what is sealed
// twice has to be the same bytes.
func sealKey(spki []byte) (cose.Key, error) {
	k, err := cose.ParseKey(spki)
	if err == nil && k.Algorithm() == cose.PS256 {
		return cose.Key{}, errors.New("an RSA key seals nothing")
	}
	return k, err
}

// State is what requests are made from: it changes by orders and travels in introductions and responses.
type State struct {
	Policy []byte   `cbor:"1,keyasint"` // encoded by protocol/policy
	Roster []byte   `cbor:"2,keyasint"` // encoded by protocol/policy
	CAs    [][]byte `cbor:"3,keyasint"` // certificates of all CAs, DER, roots first
	Labels []string `cbor:"4,keyasint"` // of the CAs, one for each certificate, in the same order: policies and addresses name CAs by them
}

func (s *State) check() error {
	switch {
	case len(s.CAs) > MaxCAs:
		return fmt.Errorf("state: %d CA certificates, at most %d", len(s.CAs), MaxCAs)
	case len(s.Labels) != len(s.CAs):
		return fmt.Errorf("state: %d labels for %d CA certificates", len(s.Labels), len(s.CAs))
	}
	for i, label := range s.Labels {
		if !ValidName(label) {
			return fmt.Errorf("state: label %q of a CA is not a name", cut(label))
		}
		if slices.Contains(s.Labels[:i], label) {
			return fmt.Errorf("state: two CAs have the label %s", label)
		}
	}
	return nil
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
	if err := state.check(); err != nil {
		return nil, fmt.Errorf("make introduction: %w", err)
	}
	payload, err := cose.Marshal(state)
	if err != nil {
		return nil, err
	}
	signed, err := cose.Sign(seal, ContextIntroduction, payload)
	if err != nil {
		return nil, fmt.Errorf("make introduction: %w", err)
	}
	data, err := cose.Marshal(introduction{Genesis: genesis, Signed: signed})
	if err == nil && len(data) > MaxIntroduction {
		return nil, fmt.Errorf("make introduction: %d bytes, at most %d", len(data), MaxIntroduction)
	}
	return data, err
}

// OpenIntroduction returns the genesis (and its bytes) and the state of the appliance whose digest was typed.
func OpenIntroduction(data []byte, typed Digest) (Genesis, []byte, State, error) {
	g, genesis, state, err := openIntroduction(data, typed)
	if err != nil {
		return Genesis{}, nil, State{}, fmt.Errorf("open introduction: %w", err)
	}
	return g, genesis, state, nil
}

func openIntroduction(data []byte, typed Digest) (g Genesis, genesis []byte, state State, err error) {
	if len(data) > MaxIntroduction {
		return g, nil, state, fmt.Errorf("%d bytes, at most %d", len(data), MaxIntroduction)
	}
	var in introduction
	if err := cose.Unmarshal(data, &in); err != nil {
		return g, nil, state, err
	}
	if g, err = ParseGenesis(in.Genesis, typed); err != nil {
		return g, nil, state, err
	}
	seal, err := g.SealKey()
	if err != nil {
		return g, nil, state, err
	}
	payload, err := cose.Verify(in.Signed, ContextIntroduction, seal)
	if err != nil {
		return g, nil, state, err
	}
	if err := cose.Unmarshal(payload, &state); err != nil {
		return g, nil, state, err
	}
	return g, in.Genesis, state, state.check()
}
