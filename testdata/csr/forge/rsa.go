package main

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"math/big"
)

var one = big.NewInt(1)

// forgedRSA are requests of RSA keys made wrongly.
func forgedRSA(good request) (map[string]request, error) {
	keys := map[string]request{}
	primes := func(name string, p, q *big.Int) error {
		r, err := rsaRequest(good, p, q)
		keys[name] = r
		return err
	}
	roca, err := rocaPrime()
	if err != nil {
		return nil, err
	}
	roca2, err := rocaPrime()
	if err != nil {
		return nil, err
	}
	p, err := rand.Prime(rand.Reader, 1024)
	if err != nil {
		return nil, err
	}
	q, err := rand.Prime(rand.Reader, 1024)
	if err != nil {
		return nil, err
	}
	long, err := rand.Prime(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	next := new(big.Int).Add(p, big.NewInt(2))
	for !next.ProbablyPrime(20) {
		next.Add(next, big.NewInt(2))
	}
	// 20 steps of Fermat's: the mean of the primes lies gap²/8p above the root of their product.
	gap := new(big.Int).Sqrt(new(big.Int).Mul(p, big.NewInt(160)))
	near := new(big.Int).Add(p, gap)
	near.SetBit(near, 0, 1)
	for !near.ProbablyPrime(20) {
		near.Add(near, big.NewInt(2))
	}
	for _, c := range []struct {
		name string
		p, q *big.Int
	}{
		{"rsa2048-roca", roca, roca2},
		{"rsa2048-nextprime", p, next},
		{"rsa2048-closeprimes", p, near},
		{"rsa2048-evenmodulus", big.NewInt(2), long},
		{"rsa2048-factor3", big.NewInt(3), long},
		{"rsa2048-factor751", big.NewInt(751), long},
	} {
		if err := primes(c.name, c.p, c.q); err != nil {
			return nil, err
		}
	}
	n := new(big.Int).Mul(p, q)
	square := new(big.Int).Mul(p, p)
	for _, c := range []struct {
		name string
		n    *big.Int
		e    int64
	}{
		{"rsa2048-square", square, 65537},
		{"rsa2048-evenexponent", n, 65538},
		{"rsa2048-exponent1", n, 1},
		{"rsa2048-exponent65535", n, 65535},
		{"rsa2048-longexponent", n, 1<<32 + 1},
		{"rsa2048-negativeexponent", n, -65537},
		{"rsa2048-negativemodulus", new(big.Int).Neg(n), 65537},
		{"rsa8200-badkey", new(big.Int).Add(new(big.Int).Lsh(n, 8200-uint(n.BitLen())), one), 65537},
		{"rsa2047-badkey", new(big.Int).Or(new(big.Int).Rsh(n, uint(n.BitLen())-2047), one), 65537},
	} {
		r := good
		r.spki = rsaSPKI(c.n, big.NewInt(c.e), []byte{5, 0})
		r.algorithm = sha256WithRSA()
		keys[c.name] = r
	}
	bare := good
	bare.spki = rsaSPKI(n, big.NewInt(65537), nil)
	bare.algorithm = sha256WithRSA()
	keys["rsa2048-noparameters"] = bare
	broken, err := rsaRequest(good, p, q)
	if err != nil {
		return nil, err
	}
	genuine := broken.sign
	broken.sign = func(signed []byte) ([]byte, error) {
		signature, err := genuine(append([]byte{0}, signed...))
		return signature, err
	}
	keys["rsa2048-brokensignature"] = broken
	return keys, nil
}

func sha256WithRSA() []byte { return sequence(oid("1.2.840.113549.1.1.11"), []byte{5, 0}) }

func rsaSPKI(n, e *big.Int, parameters []byte) []byte {
	return spki(sequence(oid("1.2.840.113549.1.1.1"), parameters), sequence(number(n), number(e)))
}

func number(x *big.Int) []byte {
	if x.Sign() < 0 {
		// Two's complement of a number of whole bytes: one byte more, with the sign.
		size := uint(x.BitLen()/8+1) * 8
		return tlv(integer, new(big.Int).Add(new(big.Int).Lsh(one, size), x).Bytes())
	}
	return tlv(integer, x.FillBytes(make([]byte, x.BitLen()/8+1)))
}

// rsaRequest is signed by PKCS #1 v1.5 with plain arithmetic: libraries refuse some of these keys.
func rsaRequest(good request, p, q *big.Int) (request, error) {
	n, e := new(big.Int).Mul(p, q), big.NewInt(65537)
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	d := new(big.Int).ModInverse(e, phi)
	if d == nil {
		return request{}, fmt.Errorf("65537 divides p-1 or q-1, run again")
	}
	r := good
	r.spki = rsaSPKI(n, e, []byte{5, 0})
	r.algorithm = sha256WithRSA()
	r.sign = func(signed []byte) ([]byte, error) {
		digest := sha256.Sum256(signed)
		info := sequence(sequence(oid("2.16.840.1.101.3.4.2.1"), []byte{5, 0}), tlv(octetString, digest[:]))
		size := (n.BitLen() + 7) / 8
		block := make([]byte, size)
		for i := range block {
			block[i] = 0xff
		}
		block[0], block[1], block[size-len(info)-1] = 0, 1, 0
		copy(block[size-len(info):], info)
		return new(big.Int).Exp(new(big.Int).SetBytes(block), d, n).FillBytes(make([]byte, size)), nil
	}
	return r, nil
}

// rocaPrime is a 1024-bit prime of the form k·M + 65537^a mod M, M the product of the first 126 primes, as the library
// of CVE-2017-15361 made them for RSA-2048 (Nemec et al., CCS 2017, section 2.2).
func rocaPrime() (*big.Int, error) {
	m := big.NewInt(1)
	for candidate, found := int64(2), 0; found < 126; candidate++ {
		if p := big.NewInt(candidate); p.ProbablyPrime(0) {
			m.Mul(m, p)
			found++
		}
	}
	// k up to 2^1024/M, from three quarters of that so that the product of two such primes has 2048 bits.
	high := new(big.Int).Div(new(big.Int).Lsh(one, 1024), m)
	low := new(big.Int).Div(new(big.Int).Mul(high, big.NewInt(3)), big.NewInt(4))
	for {
		a, err := rand.Int(rand.Reader, m)
		if err != nil {
			return nil, err
		}
		k, err := rand.Int(rand.Reader, new(big.Int).Sub(high, low))
		if err != nil {
			return nil, err
		}
		prime := new(big.Int).Exp(big.NewInt(65537), a, m)
		prime.Add(prime, k.Add(k, low).Mul(k, m))
		if prime.BitLen() == 1024 && prime.ProbablyPrime(20) {
			return prime, nil
		}
	}
}
