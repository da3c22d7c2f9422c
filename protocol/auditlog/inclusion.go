package auditlog

import (
	"fmt"

	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// InclusionProof is a leaf with all that it takes to believe it (log.md): a file for somebody who has the genesis digest
// and not the log. Nothing in it is to be believed before OpenInclusionProof.
type InclusionProof struct {
	Index      uint64   `cbor:"1,keyasint"`
	Leaf       []byte   `cbor:"2,keyasint"`           // encoded
	Proof      [][]byte `cbor:"3,keyasint"`           // what ProveInclusion makes
	Checkpoint []byte   `cbor:"4,keyasint"`           // signed note
	Genesis    []byte   `cbor:"5,keyasint"`           // the first log key is in it
	Salted     []byte   `cbor:"6,keyasint,omitempty"` // salt ‖ body, if the body is to be shown
	Handovers  [][]byte `cbor:"7,keyasint,omitempty"` // from the keys of the genesis to the one that signed the checkpoint
}

// MaxBody bounds salt and body of a leaf: the intents of a group hold its requests and approvals, and digests beside
// them. MaxInclusionProof bounds the file.
const (
	MaxBody           = 2*protocol.MaxGroupBytes + protocol.MaxGroupApprovals*protocol.MaxApproval
	MaxInclusionProof = MaxBody + protocol.MaxIntroduction
)

const saltSize = 16

// Proved is a leaf that was proved to be in the log.
type Proved struct {
	Leaf       Leaf
	Index      int64
	Checkpoint Checkpoint // under which it was proved
	Body       []byte     // nil if it was not shown
}

// Encode gives the bytes of the file.
func (p InclusionProof) Encode() ([]byte, error) {
	data, err := cose.Marshal(p)
	if err == nil && len(data) > MaxInclusionProof {
		return nil, fmt.Errorf("inclusion proof of %d bytes, at most %d", len(data), MaxInclusionProof)
	}
	return data, err
}

// OpenInclusionProof returns the leaf, once it is proved to be in the log of the appliance whose genesis digest was
// typed. Errors wrap ErrCheckpoint or ErrProof where the signature or the hashes are wrong.
func OpenInclusionProof(data []byte, typed protocol.Digest) (Proved, error) {
	proved, err := openInclusionProof(data, typed)
	if err != nil {
		return Proved{}, fmt.Errorf("inclusion proof: %w", err)
	}
	return proved, nil
}

func openInclusionProof(data []byte, typed protocol.Digest) (proved Proved, err error) {
	var p InclusionProof
	if len(data) > MaxInclusionProof {
		return proved, fmt.Errorf("%d bytes, at most %d", len(data), MaxInclusionProof)
	}
	if err := cose.Unmarshal(data, &p); err != nil {
		return proved, err
	}
	genesis, err := protocol.ParseGenesis(p.Genesis, typed)
	if err != nil {
		return proved, err
	}
	keys, err := genesis.Keys(typed)
	if err != nil {
		return proved, err
	}
	if keys, err = keys.Walk(p.Handovers); err != nil {
		return proved, err
	}
	if proved.Checkpoint, err = OpenCheckpoint(p.Checkpoint, keys); err != nil {
		return proved, err
	}
	if p.Index >= MaxSize {
		return proved, fmt.Errorf("leaf %d: there are no so large logs: %w", p.Index, ErrProof)
	}
	proved.Index = int64(p.Index)
	if proved.Leaf, err = CheckInclusion(p.Proof, proved.Checkpoint, proved.Index, p.Leaf); err != nil {
		return proved, err
	}
	if len(p.Salted) == 0 {
		return proved, nil
	}
	if len(p.Salted) < saltSize || BodyDigest([saltSize]byte(p.Salted[:saltSize]), p.Salted[saltSize:]) != proved.Leaf.Body {
		return proved, fmt.Errorf("the body is not the one that was logged: %w", ErrProof)
	}
	proved.Body = p.Salted[saltSize:]
	return proved, nil
}
