package tpm

import (
	"bytes"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"coldseal/appliance/signer"
	"coldseal/protocol/cose"
)

// FuzzKeyFile reads what somebody wrote to the disk in place of a key file.
func FuzzKeyFile(f *testing.F) {
	public := template(signer.CA, signer.P256)
	public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: make([]byte, 32)}, Y: tpm2.TPM2BECCParameter{Buffer: make([]byte, 32)}})
	data, err := cose.Marshal(key{Label: "ca", Purpose: signer.CA, Algorithm: signer.P256, Public: tpm2.Marshal(tpm2.New2B(public)), Private: []byte{0, 1, 0}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := parseKey(data)
		if err != nil {
			return
		}
		if again, err := cose.Marshal(k); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("read %x, wrote %x, %v", data, again, err)
		}
		if _, err := k.info.Check(); err != nil {
			t.Fatal(err)
		}
	})
}
