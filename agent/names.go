package agent

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"hash"

	"coldseal/protocol"
	"coldseal/protocol/policy"
)

// Names are compared by a digest over their types and values, so that what was asked stays known when the policy has
// changed, and an import needs no templates. String types are left out: they are the appliance's choice.

type namesHash struct{ h hash.Hash }

func newNamesHash() namesHash { return namesHash{sha256.New()} }

func (n namesHash) add(kind, value string) {
	var length [4]byte
	for _, text := range [...]string{kind, value} {
		binary.BigEndian.PutUint32(length[:], uint32(len(text)))
		n.h.Write(length[:])
		n.h.Write([]byte(text))
	}
}

func (n namesHash) sum() protocol.Digest { return protocol.Digest(n.h.Sum(nil)) }

func namesDigest(names policy.Names) protocol.Digest {
	n := newNamesHash()
	for _, a := range names.Subject {
		n.add(a.Type, a.Value)
	}
	for _, a := range names.Alt {
		n.add("alt "+a.Type, a.Value)
	}
	return n.sum()
}

// certificateNames is namesDigest of what a certificate says. A name that no policy could have asked for makes it differ
// from whatever was asked.
func certificateNames(cert *x509.Certificate) protocol.Digest {
	names, ok := policy.NamesOf(cert)
	if !ok {
		return protocol.Digest{}
	}
	return namesDigest(names)
}
