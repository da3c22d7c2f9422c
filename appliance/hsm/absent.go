//go:build !cgo

package hsm

import "coldseal/appliance/signer"

// Open says that this program was built without PKCS#11.
func Open(l signer.Locator, _ []byte) (signer.Device, error) {
	return nil, signer.NewTrouble(signer.NotBuilt, l, "PKCS#11 needs cgo")
}
