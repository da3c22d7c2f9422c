package protocol

import (
	"bytes"
	"crypto"
	"fmt"

	"coldseal/protocol/cose"
)

// Item is a request on its way, with the signatures that are not approvals.
type Item struct {
	Request   []byte `cbor:"1,keyasint"`
	Current   []byte `cbor:"2,keyasint,omitempty"` // COSE_Sign1 over the id by the key of the certificate being renewed
	Requester []byte `cbor:"3,keyasint,omitempty"` // COSE_Sign1 over the id by a person who asks; they may not approve it
}

// ParseItem decodes an item; its request is still bytes.
func ParseItem(data []byte) (Item, *Refusal) {
	var it Item
	if len(data) > MaxItem {
		return it, Malformed("item", fmt.Errorf("%d bytes, at most %d", len(data), MaxItem))
	}
	if err := cose.Unmarshal(data, &it); err != nil {
		return it, Malformed("item", err)
	}
	return it, nil
}

// SignID signs a request's id for one of the purposes of Item.
func SignID(signer crypto.Signer, context string, id Digest) ([]byte, error) {
	return cose.Sign(signer, context, id[:])
}

// VerifyID tells whether the key signed this id for this purpose.
func VerifyID(message []byte, context string, key cose.Key, id Digest) error {
	payload, err := cose.Verify(message, context, key)
	if err != nil {
		return err
	}
	if !bytes.Equal(payload, id[:]) {
		return fmt.Errorf("verify %s: it is over another request: %w", context, cose.ErrSignature)
	}
	return nil
}
