package tpm

import (
	"testing"

	"coldseal/appliance/signer"
)

// BenchmarkSign is swtpm's own rate, through a session.
func BenchmarkSign(b *testing.B) {
	d := open(b, "tpm:socket="+start(b).Socket, b.TempDir())
	k := create(b, d, "ca", signer.CA, signer.P256)
	for b.Loop() {
		if _, err := d.Sign(k.ID(), signer.ECDSASHA256, make([]byte, 32)); err != nil {
			b.Fatal(err)
		}
	}
}
