package store

import (
	"encoding/binary"
	"fmt"

	"coldseal/protocol"
)

// Asked is what an answer is compared with. An import reads one for each item, so it has a layout of its own.
type Asked struct {
	Kind      protocol.Kind
	Profile   string
	Issuer    protocol.Digest
	Serial    []byte          // of the certificate that is changed, at most 20 bytes; revoke, hold, release
	Key       protocol.Digest // SHA-256 of the SubjectPublicKeyInfo; issue, renew, as those below
	Names     protocol.Digest // of subject and subjectAltName as the profile makes them; zero if it could not tell
	NotBefore int64           // unix seconds; 0 if it was left to the appliance
	NotAfter  int64           // unix seconds; 0 if it was left to the appliance
	Term      int64           // seconds, at most
	Scope     protocol.Digest // of the scope extension; zero if it has none
}

// askedSize is what the fields of fixed size take: a byte for the kind, one for the length of the serial, four digests,
// three numbers.
const askedSize = 2 + 4*32 + 3*8

func (a *Asked) encode() []byte {
	b := make([]byte, 0, askedSize+len(a.Serial)+len(a.Profile))
	b = append(b, byte(a.Kind), byte(len(a.Serial)))
	for _, d := range [...]*protocol.Digest{&a.Issuer, &a.Key, &a.Names, &a.Scope} {
		b = append(b, d[:]...)
	}
	for _, n := range [...]int64{a.NotBefore, a.NotAfter, a.Term} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	return append(append(b, a.Serial...), a.Profile...)
}

// Asked reads what a request asks for.
func (t *Tx) Asked(n uint64) (Asked, error) {
	b := t.tx.Bucket(bucketAsked).Get(number(n))
	if len(b) < askedSize || len(b) < askedSize+int(b[1]) {
		return Asked{}, fmt.Errorf("read what request %d asks for: %d bytes", n, len(b))
	}
	a := Asked{Kind: protocol.Kind(b[0])}
	serial := int(b[1])
	b = b[2:]
	for _, d := range [...]*protocol.Digest{&a.Issuer, &a.Key, &a.Names, &a.Scope} {
		b = b[copy(d[:], b):]
	}
	for _, v := range [...]*int64{&a.NotBefore, &a.NotAfter, &a.Term} {
		*v, b = int64(binary.BigEndian.Uint64(b)), b[8:]
	}
	a.Serial, a.Profile = clone(b[:serial]), string(b[serial:])
	return a, nil
}
