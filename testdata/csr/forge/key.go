package main

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"math/big"
	"slices"
)

// forgedKeys are requests of keys that are weak or no keys, in an otherwise good request.
func forgedKeys(good request) (map[string]request, error) {
	keys, err := forgedRSA(good)
	if err != nil {
		return nil, err
	}
	ec := func(name string, point []byte) {
		r := good
		r.spki = spki(sequence(oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7")), point)
		keys["p256-"+name] = r
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, err
	}
	point, err := p256.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	longer, err := p384.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	offCurve := slices.Clone(point)
	offCurve[len(offCurve)-1] ^= 1
	hybrid := slices.Clone(point)
	hybrid[0] = 6 | point[len(point)-1]&1
	prime := elliptic.P256().Params().P.Bytes()
	ec("offcurve", offCurve)
	ec("hybrid", hybrid)
	ec("wrongcurve", longer)
	ec("identity", []byte{0})
	ec("zeropoint", append([]byte{4}, make([]byte, 64)...))
	ec("primepoint", append(append([]byte{4}, prime...), point[33:]...))
	ec("emptypoint", nil)

	for name, y := range map[string]string{
		"order1":       "\x01" + zeros + "\x00",
		"order2":       "\xec" + ones + "\x7f",
		"order2signed": "\xec" + ones + "\xff",
		"order4":       "\x00" + zeros + "\x00",
		"order4signed": "\x00" + zeros + "\x80",
		"order8a":      order8a + "\x05",
		"order8asign":  order8a + "\x85",
		"order8b":      order8b + "\x7a",
		"order8bsign":  order8b + "\xfa",
		"aboveprime":   "\xee" + ones + "\x7f", // another name of order1
	} {
		keys["ed25519-"+name] = smallOrder(good, []byte(y))
	}
	short := good
	short.spki = spki(sequence(oid("1.3.101.112")), make([]byte, 31))
	short.algorithm = sequence(oid("1.3.101.112"))
	keys["ed25519-short"] = short
	edParameters := good
	edParameters.spki = spki(sequence(oid("1.3.101.112"), []byte{5, 0}), make([]byte, 32))
	keys["ed25519-parameters"] = edParameters
	return keys, nil
}

const (
	zeros   = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	ones    = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
	order8a = "\x26\xe8\x95\x8f\xc2\xb2\x27\xb0\x45\xc3\xf4\x89\xf2\xef\x98\xf0\xd5\xdf\xac\x05\xd3\xc6\x33\x39\xb1\x38\x02\x88\x6d\x53\xfc"
	order8b = "\xc7\x17\x6a\x70\x3d\x4d\xd8\x4f\xba\x3c\x0b\x76\x0d\x10\x67\x0f\x2a\x20\x53\xfa\x2c\x39\xcc\xc6\x4e\xc7\xfd\x77\x92\xac\x03"
)

// smallOrder signs for a key that nobody holds: where the challenge is a multiple of the key's order, the key falls out
// of the equation S·B = R + k·A, and any S with R = S·B will do. That it verifies shows that the order divides 8.
func smallOrder(good request, key []byte) request {
	r := good
	r.spki = spki(sequence(oid("1.3.101.112")), key)
	r.algorithm = sequence(oid("1.3.101.112"))
	r.sign = func(signed []byte) ([]byte, error) {
		order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
		for {
			public, private, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				return nil, err
			}
			h := sha512.Sum512(private.Seed())
			h[0] &= 248
			h[31] = h[31]&63 | 64
			scalar := slices.Clone(h[:32])
			slices.Reverse(scalar)
			s := new(big.Int).Mod(new(big.Int).SetBytes(scalar), order).FillBytes(make([]byte, 32))
			slices.Reverse(s)
			if signature := append(slices.Clone([]byte(public)), s...); ed25519.Verify(key, signed, signature) {
				return signature, nil
			}
		}
	}
	return r
}
