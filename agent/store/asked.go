package store

import (
	"encoding/binary"
	"fmt"

	"coldseal/protocol"
)

// Asked is what an answer is compared with, and how it is told. An import reads one for each item, so it has a layout of
// its own.
type Asked struct {
	Kind      protocol.Kind
	ID        protocol.Digest
	Profile   string
	Body      string
	Subject   string
	Issuer    protocol.Digest
	Serial    []byte          // of the certificate that is changed; revoke, hold, release
	Key       protocol.Digest // SHA-256 of the SubjectPublicKeyInfo; issue, renew, as those below
	Names     protocol.Digest // of subject and subjectAltName as the profile makes them; zero if it could not tell
	NotBefore int64           // unix seconds; 0 if it was left to the appliance
	NotAfter  int64           // unix seconds; 0 if it was left to the appliance
	Term      int64           // seconds, at most
	Scope     protocol.Digest // of the scope extension; zero if it has none
}

// askedSize is what the fields of fixed size take: a byte for the kind, five digests, three numbers. The others follow,
// each with a length of two bytes.
const askedSize = 1 + 5*32 + 3*8

func (a *Asked) digests() [5]*protocol.Digest {
	return [...]*protocol.Digest{&a.ID, &a.Issuer, &a.Key, &a.Names, &a.Scope}
}

func (a *Asked) encode() []byte {
	b := make([]byte, 0, askedSize+8+len(a.Serial)+len(a.Profile)+len(a.Body)+len(a.Subject))
	b = append(b, byte(a.Kind))
	for _, d := range a.digests() {
		b = append(b, d[:]...)
	}
	for _, n := range [...]int64{a.NotBefore, a.NotAfter, a.Term} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	for _, text := range [...]string{string(a.Serial), a.Profile, a.Body, a.Subject} {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(text))), text...)
	}
	return b
}

// Asked reads what a request asks for.
func (t *Tx) Asked(n uint64) (Asked, error) {
	b := t.tx.Bucket(bucketAsked).Get(number(n))
	var a Asked
	fail := func() (Asked, error) {
		return Asked{}, fmt.Errorf("read what request %d asks for: it is missing or cut", n)
	}
	if len(b) < askedSize {
		return fail()
	}
	a.Kind = protocol.Kind(b[0])
	b = b[1:]
	for _, d := range a.digests() {
		b = b[copy(d[:], b):]
	}
	for _, v := range [...]*int64{&a.NotBefore, &a.NotAfter, &a.Term} {
		*v, b = int64(binary.BigEndian.Uint64(b)), b[8:]
	}
	var serial string
	for _, v := range [...]*string{&serial, &a.Profile, &a.Body, &a.Subject} {
		if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
			return fail()
		}
		end := 2 + int(binary.BigEndian.Uint16(b))
		*v, b = string(b[2:end]), b[end:]
	}
	if serial != "" {
		a.Serial = []byte(serial)
	}
	return a, nil
}
