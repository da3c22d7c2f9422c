package protocol

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"slices"

	"coldseal/protocol/cose"
)

// Genesis is the first leaf of an appliance's log. Its SHA-256 is the appliance's identity: the one digest that is
// typed into agents, stations and auditors' tools. Nothing else is ever trusted on first use. Its keys are the first ones
// (Keys).
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
	_, err := g.Keys(Digest{})
	return err
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
	_         struct{} `cbor:",toarray"`
	Genesis   []byte
	Handovers [][]byte
	Signed    []byte // COSE_Sign1 of State by the seal key to which they lead
}

// MaxIntroduction bounds an introduction: a policy, a roster, 64 certificates and the handovers.
const MaxIntroduction = 1 << 20

// MakeIntroduction signs the state of an appliance, with the newest of its seal keys, for those who know its genesis
// digest.
func MakeIntroduction(genesis []byte, handovers [][]byte, state State, seal crypto.Signer) ([]byte, error) {
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
	data, err := cose.Marshal(introduction{Genesis: genesis, Handovers: handovers, Signed: signed})
	if err == nil && len(data) > MaxIntroduction {
		return nil, fmt.Errorf("make introduction: %d bytes, at most %d", len(data), MaxIntroduction)
	}
	return data, err
}

// Introduced is what an introduction says of the appliance whose digest was typed.
type Introduced struct {
	Genesis Genesis
	Bytes   []byte // of the genesis
	Keys    *Keys
	State   State
}

// OpenIntroduction returns what the appliance says of itself whose digest was typed.
func OpenIntroduction(data []byte, typed Digest) (Introduced, error) {
	in, err := openIntroduction(data, typed)
	if err != nil {
		return Introduced{}, fmt.Errorf("open introduction: %w", err)
	}
	return in, nil
}

func openIntroduction(data []byte, typed Digest) (in Introduced, err error) {
	if len(data) > MaxIntroduction {
		return in, fmt.Errorf("%d bytes, at most %d", len(data), MaxIntroduction)
	}
	var carried introduction
	if err := cose.Unmarshal(data, &carried); err != nil {
		return in, err
	}
	in.Bytes = carried.Genesis
	if in.Genesis, err = ParseGenesis(carried.Genesis, typed); err != nil {
		return in, err
	}
	if in.Keys, err = in.Genesis.Keys(typed); err != nil {
		return in, err
	}
	if in.Keys, err = in.Keys.Walk(carried.Handovers); err != nil {
		return in, err
	}
	payload, err := cose.Verify(carried.Signed, ContextIntroduction, in.Keys.Now().Seal)
	if err != nil {
		return in, err
	}
	if err := cose.Unmarshal(payload, &in.State); err != nil {
		return in, err
	}
	return in, in.State.check()
}
