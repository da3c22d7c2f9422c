package appliance_test

import (
	"bytes"
	"crypto/rand"
	"sync"
	"testing"

	"coldseal/protocol"
)

// drawn remembers what a random source gave in pieces of eight bytes.
type drawn struct {
	mu     sync.Mutex
	pieces map[string]bool
}

func (d *drawn) Read(p []byte) (int, error) {
	n, err := rand.Read(p)
	if len(p) == 8 {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.pieces[string(p)] = true
	}
	return n, err
}

// A serial is positive, above those before it, and ends in 64 random bits that no other serial has: nobody can know a
// TBS before it is signed (CA/Browser Forum Baseline Requirements section 7.1).
func TestSerials(t *testing.T) {
	d := newDesk(t)
	source := &drawn{pieces: map[string]bool{}}
	d.config.Rand = source
	var last []byte
	for _, number := range []string{"0001", "0002", "0003"} {
		d.reopen() // so that counting begins anew
		raws, groups := [][]byte{d.encode(d.pc(number)), d.encode(d.pc("1" + number[1:]))}, []protocol.Group{}
		for _, raw := range raws {
			groups = append(groups, d.approved(raw, d.alp))
		}
		r := d.answer(groups...)
		for _, raw := range raws {
			serial := r.of(t, raw).result.Serial
			if len(serial) != 16 || serial[0]&0x80 != 0 || bytes.Compare(serial[:8], last) <= 0 {
				t.Fatalf("serial %x after %x", serial, last)
			}
			if !source.pieces[string(serial[8:])] {
				t.Fatalf("serial %x does not end in what was drawn for it", serial)
			}
			delete(source.pieces, string(serial[8:]))
			last = serial[:8]
		}
	}
}
