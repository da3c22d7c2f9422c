package signer

import "fmt"

// Anchors keeps the counter in one anchor and the genesis digest in that one and in the key store, each of which may be
// exchanged for another without the other.
func Anchors(counter, store Anchor) Anchor { return anchors{counter, store} }

type anchors struct {
	Anchor
	store Anchor
}

// Pin pins the store last: as long as it has no digest, nobody was told that there is one.
func (a anchors) Pin(digest [32]byte) error {
	if err := a.Anchor.Pin(digest); err != nil {
		return err
	}
	return a.store.Pin(digest)
}

// Pinned gives the digest if both have it. One that only the first has is from a Pin that was interrupted, and is pinned
// again.
func (a anchors) Pinned() ([32]byte, error) {
	first, err := a.Anchor.Pinned()
	if err != nil {
		return first, err
	}
	second, err := a.store.Pinned()
	if err != nil || first == second || second == [32]byte{} {
		return second, err
	}
	return first, fmt.Errorf("the key store belongs to the appliance with genesis %x, the device of its counter to %x", second, first)
}
