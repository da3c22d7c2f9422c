package store

import (
	"fmt"

	"coldseal/protocol"
)

// Approval is an approval file that was attached.
type Approval struct {
	Key     protocol.Digest `cbor:"1,keyasint"`           // id of the key it claims
	Person  string          `cbor:"2,keyasint,omitempty"` // who signed; absent if the key is not known here: then nothing was verified
	Expires int64           `cbor:"3,keyasint"`           // unix seconds, exclusive
	Line    uint64          `cbor:"4,keyasint"`
	Entries uint64          `cbor:"5,keyasint"` // requests it covers, here or elsewhere
	Message []byte          `cbor:"6,keyasint"` // COSE_Sign1
}

// Approver is the holder of an approver certificate that was imported.
type Approver struct {
	Person   string           `cbor:"1,keyasint"`
	Scopes   []protocol.Scope `cbor:"2,keyasint"`
	NotAfter int64            `cbor:"3,keyasint"` // unix seconds
	SPKI     []byte           `cbor:"4,keyasint"`
	Issuer   protocol.Digest  `cbor:"5,keyasint"`
	Serial   []byte           `cbor:"6,keyasint"`
}

// AddApproval stores an approval and returns its number. m.Approvals is advanced; the caller writes m.
func (t *Tx) AddApproval(m *Meta, a Approval) (uint64, error) {
	m.Approvals++
	digest := protocol.DigestOf(a.Message)
	if err := t.putBytes(bucketMessages, digest[:], number(m.Approvals)); err != nil {
		return 0, err
	}
	return m.Approvals, t.put(bucketApprovals, number(m.Approvals), a)
}

// Approval reads an approval that is known to be there.
func (t *Tx) Approval(n uint64) (Approval, error) {
	a, found, err := get[Approval](t, bucketApprovals, number(n))
	if err == nil && !found {
		err = fmt.Errorf("read approval %d: it is missing", n)
	}
	return a, err
}

// ApprovalNumber finds an approval by its bytes; 0 if it was not attached.
func (t *Tx) ApprovalNumber(message []byte) uint64 {
	digest := protocol.DigestOf(message)
	if n := t.tx.Bucket(bucketMessages).Get(digest[:]); n != nil {
		return toNumber(n)
	}
	return 0
}

// PutApprover records who holds a key.
func (t *Tx) PutApprover(key protocol.Digest, a Approver) error {
	return t.put(bucketApprovers, key[:], a)
}

// Approver finds who holds a key.
func (t *Tx) Approver(key protocol.Digest) (Approver, bool, error) {
	return get[Approver](t, bucketApprovers, key[:])
}
