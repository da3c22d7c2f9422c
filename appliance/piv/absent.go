//go:build !cgo

package piv

import "coldseal/appliance/signer"

// Open says that this program was built without PC/SC.
func Open(l signer.Locator, _ []byte) (signer.Device, error) {
	return nil, signer.NewTrouble(signer.NotBuilt, l, "PC/SC needs cgo")
}

// Share says the same.
func Share(l signer.Locator, _, _, _ []byte) ([][]byte, bool, error) {
	return nil, false, signer.NewTrouble(signer.NotBuilt, l, "PC/SC needs cgo")
}
