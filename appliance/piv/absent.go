//go:build !cgo

package piv

import "coldseal/appliance/signer"

// Open says that this program was built without PC/SC.
func Open(l signer.Locator, _ []byte) (signer.Device, error) {
	return nil, signer.NewTrouble(signer.NotBuilt, l, "PC/SC needs cgo")
}
