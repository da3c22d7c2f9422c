//go:build cgo

package hsm

import (
	"fmt"
	"testing"

	"coldseal/appliance/hsm/softtoken"
	"coldseal/appliance/signer"
)

// BenchmarkSign is a token's own rate, in all sessions.
func BenchmarkSign(b *testing.B) {
	for name, token := range map[string]softtoken.Token{"SoftHSM": softHSM(b), "NSS": nss(b)} {
		b.Run(name, func(b *testing.B) {
			d := open(b, token.Locator(""))
			k := create(b, d, fmt.Sprintf("ca-%d", b.N), signer.CA, signer.P256)
			b.SetParallelism(4)
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					if _, err := d.Sign(k.ID(), signer.ECDSASHA256, make([]byte, 32)); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
