package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"sort"
)

// request is a PKCS#10 request in pieces, every one of which can be exchanged for a bad one.
type request struct {
	version    []byte // elements, DER
	subject    []byte
	spki       []byte
	attributes []byte
	algorithm  []byte
	sign       func(signed []byte) ([]byte, error)
	unused     byte                        // unused bits of the signature's BIT STRING
	finish     func(request []byte) []byte // last change to the bytes, nil for none
}

// newRequest is a good request of a new P-256 key.
func newRequest() (request, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return request{}, err
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return request{}, err
	}
	return request{
		version:    tlv(integer, []byte{0}),
		subject:    name(rdn(attribute("2.5.4.3", tlv(utf8String, []byte("ws-0042"))))),
		spki:       spki(sequence(oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7")), point),
		attributes: tlv(context0),
		algorithm:  sequence(oid("1.2.840.10045.4.3.2")),
		sign: func(signed []byte) ([]byte, error) {
			digest := sha256.Sum256(signed)
			return ecdsa.SignASN1(rand.Reader, key, digest[:])
		},
	}, nil
}

func (r request) der() ([]byte, error) {
	signed := sequence(r.version, r.subject, r.spki, r.attributes)
	signature, err := r.sign(signed)
	if err != nil {
		return nil, err
	}
	der := sequence(signed, r.algorithm, tlv(bitString, []byte{r.unused}, signature))
	if r.finish != nil {
		der = r.finish(der)
	}
	return der, nil
}

const (
	boolean     = 0x01
	integer     = 0x02
	bitString   = 0x03
	octetString = 0x04
	objectID    = 0x06
	utf8String  = 0x0c
	printable   = 0x13
	teletex     = 0x14
	bmpString   = 0x1e
	context0    = 0xa0
)

func tlv(tag byte, parts ...[]byte) []byte {
	body := bytes.Join(parts, nil)
	switch n := len(body); {
	case n < 0x80:
		return append([]byte{tag, byte(n)}, body...)
	case n < 0x100:
		return append([]byte{tag, 0x81, byte(n)}, body...)
	default:
		return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, body...)
	}
}

func sequence(parts ...[]byte) []byte { return tlv(0x30, parts...) }
func set(parts ...[]byte) []byte      { return tlv(0x31, parts...) }

func setOf(tag byte, parts ...[]byte) []byte {
	sort.Slice(parts, func(i, j int) bool { return bytes.Compare(parts[i], parts[j]) < 0 })
	return tlv(tag, parts...)
}

// oid panics on a bad constant: there are no others here.
func oid(dotted string) []byte {
	var id asn1.ObjectIdentifier
	arc := 0
	for _, c := range dotted + "." {
		if c == '.' {
			id, arc = append(id, arc), 0
			continue
		}
		arc = arc*10 + int(c-'0')
	}
	der, err := asn1.Marshal(id)
	if err != nil {
		panic(err)
	}
	return der
}

func spki(algorithm, key []byte) []byte {
	return sequence(algorithm, tlv(bitString, []byte{0}, key))
}

func name(rdns ...[]byte) []byte                 { return sequence(rdns...) }
func rdn(attributes ...[]byte) []byte            { return setOf(0x31, attributes...) }
func attribute(kind string, value []byte) []byte { return sequence(oid(kind), value) }

func requestAttribute(kind string, values ...[]byte) []byte {
	return sequence(oid(kind), set(values...))
}

func extensionRequest(extensions ...[]byte) []byte {
	return requestAttribute("1.2.840.113549.1.9.14", sequence(extensions...))
}

func extension(kind string, value []byte) []byte {
	return sequence(oid(kind), tlv(octetString, value))
}

func san(names ...[]byte) []byte { return extension("2.5.29.17", sequence(names...)) }
