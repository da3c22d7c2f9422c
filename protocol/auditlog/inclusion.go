package auditlog

import (
	"crypto/ed25519"
	"fmt"

	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// InclusionProof is a file by which anybody who knows the appliance can see that a leaf is in its log (log.md). Nothing
// in it is to be believed before OpenInclusionProof.
type InclusionProof struct {
	Checkpoint []byte   `cbor:"1,keyasint"` // signed note
	Index      uint64   `cbor:"2,keyasint"`
	Leaf       []byte   `cbor:"3,keyasint"` // encoded
	Proof      [][]byte `cbor:"4,keyasint"` // what ProveInclusion makes
}

// MaxInclusionProof bounds the file in bytes: its parts at their largest, and their heads.
const MaxInclusionProof = MaxCheckpoint + protocol.MaxLeaf + maxProof*34 + 64

// Encode gives the bytes of the file.
func (p InclusionProof) Encode() ([]byte, error) {
	data, err := cose.Marshal(p)
	if err == nil && len(data) > MaxInclusionProof {
		return nil, fmt.Errorf("inclusion proof of %d bytes, at most %d", len(data), MaxInclusionProof)
	}
	return data, err
}

// Proved is a leaf that was proved to be in the log.
type Proved struct {
	Leaf       Leaf
	Index      int64
	Checkpoint Checkpoint // under which it was proved
}

// OpenInclusionProof returns the leaf, once it is proved to be in the log named origin whose checkpoint logKey signed.
// Errors wrap ErrCheckpoint or ErrProof where the signature or the hashes are wrong.
func OpenInclusionProof(data []byte, origin string, logKey ed25519.PublicKey) (Proved, error) {
	var p InclusionProof
	if len(data) > MaxInclusionProof {
		return Proved{}, fmt.Errorf("inclusion proof of %d bytes, at most %d", len(data), MaxInclusionProof)
	}
	if err := cose.Unmarshal(data, &p); err != nil {
		return Proved{}, err
	}
	if p.Index >= MaxSize {
		return Proved{}, fmt.Errorf("inclusion proof of leaf %d: there are no so large logs: %w", p.Index, ErrProof)
	}
	under, err := OpenCheckpoint(p.Checkpoint, origin, logKey)
	if err != nil {
		return Proved{}, err
	}
	leaf, err := CheckInclusion(p.Proof, under, int64(p.Index), p.Leaf)
	if err != nil {
		return Proved{}, err
	}
	return Proved{Leaf: leaf, Index: int64(p.Index), Checkpoint: under}, nil
}
