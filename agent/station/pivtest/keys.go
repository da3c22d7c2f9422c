package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"math/big"
)

// Algorithms: SP 800-78-4 table 6-2, then Yubico's.
const (
	alg3DES    = 0x03
	algRSA2048 = 0x07
	algAES128  = 0x08
	algAES192  = 0x0a
	algAES256  = 0x0c
	algP256    = 0x11
	algP384    = 0x14

	algRSA3072 = 0x05
	algRSA4096 = 0x16
	algEd25519 = 0xe0
)

// Policies of keys.
const (
	pinNever   = 0x01
	pinOnce    = 0x02
	pinAlways  = 0x03
	touchNever = 0x01
)

const refAttestation = 0xf9

// makes tells whether the card has keys of the algorithm; three came with firmware 5.7.
func (c *card) makes(algorithm byte) bool {
	switch algorithm {
	case algP256, algP384, algRSA2048:
		return true
	case algRSA3072, algRSA4096, algEd25519:
		return c.atLeast(5, 7)
	}
	return false
}

// policy is the PIN policy of a slot where none is given.
func policy(slot byte) byte {
	switch slot {
	case 0x9c:
		return pinAlways
	case 0x9e:
		return pinNever
	}
	return pinOnce
}

// options read the policies that Yubico lets a key have.
func (c *card) options(k *key, slot byte, fields []field) bool {
	k.PINPolicy, k.Touch = policy(slot), touchNever
	if c.Plain {
		return true
	}
	if p, given := value(fields, 0xaa); given && (len(p) != 1 || p[0] > pinAlways) {
		return false
	} else if given && p[0] != 0 {
		k.PINPolicy = p[0]
	}
	if t, given := value(fields, 0xab); given && (len(t) != 1 || t[0] > 3) {
		return false
	} else if given && t[0] != 0 {
		k.Touch = t[0]
	}
	return true
}

// generate is GENERATE ASYMMETRIC KEY PAIR (SP 800-73-4 part 2, section 3.3.2).
func (c *card) generate(cmd command) ([]byte, status) {
	if !c.managed {
		return nil, notSatisfied
	}
	if !isSlot(cmd.p2) && cmd.p2 != refAttestation {
		return nil, wrongReference
	}
	outer, err := parse(cmd.data)
	template, _ := value(outer, 0xac)
	fields, errInner := parse(template)
	algorithm, _ := value(fields, 0x80)
	if err != nil || errInner != nil || len(algorithm) != 1 || !c.makes(algorithm[0]) {
		return nil, wrongData
	}
	k := &key{Algorithm: algorithm[0]}
	if !c.options(k, cmd.p2, fields) {
		return nil, wrongData
	}
	private, err := generateKey(k.Algorithm)
	if err != nil {
		return nil, failed
	}
	return c.hold(cmd.p2, k, private)
}

func generateKey(algorithm byte) (crypto.Signer, error) {
	switch algorithm {
	case algP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case algP384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case algRSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case algRSA4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	case algEd25519:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	}
	return rsa.GenerateKey(rand.Reader, 2048)
}

// hold puts a key into a slot, durably, and answers with its public half.
func (c *card) hold(slot byte, k *key, private crypto.Signer) ([]byte, status) {
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, failed
	}
	k.PrivateKey = der
	c.Keys[slot] = k
	return object(0x7f49, public(private)), c.keep()
}

func public(private crypto.Signer) []byte {
	switch p := private.Public().(type) {
	case *rsa.PublicKey:
		return append(object(0x81, p.N.Bytes()), object(0x82, big.NewInt(int64(p.E)).Bytes())...)
	case *ecdsa.PublicKey:
		if point, err := p.Bytes(); err == nil {
			return object(0x86, point)
		}
	case ed25519.PublicKey:
		return object(0x86, p)
	}
	return nil
}

func (k *key) private() (crypto.Signer, bool) {
	parsed, err := x509.ParsePKCS8PrivateKey(k.PrivateKey)
	private, ok := parsed.(crypto.Signer)
	return private, ok && err == nil
}

// take is Yubico's IMPORT: p1 is the algorithm, p2 the slot; RSA as its primes, curves as the scalar.
func (c *card) take(cmd command) status {
	if !c.managed {
		return notSatisfied
	}
	fields, err := parse(cmd.data)
	if err != nil || !c.makes(cmd.p1) || !isSlot(cmd.p2) && cmd.p2 != refAttestation {
		return wrongData
	}
	k := &key{Algorithm: cmd.p1, Imported: true}
	if !c.options(k, cmd.p2, fields) {
		return wrongData
	}
	private, ok := imported(cmd.p1, fields)
	if !ok {
		return wrongData
	}
	_, sw := c.hold(cmd.p2, k, private)
	return sw
}

func imported(algorithm byte, fields []field) (crypto.Signer, bool) {
	switch algorithm {
	case algP256, algP384:
		curve := elliptic.P256()
		if algorithm == algP384 {
			curve = elliptic.P384()
		}
		scalar, _ := value(fields, 0x06)
		private, err := ecdsa.ParseRawPrivateKey(curve, scalar)
		return private, err == nil
	case algEd25519:
		seed, _ := value(fields, 0x07)
		if len(seed) != ed25519.SeedSize {
			return nil, false
		}
		return ed25519.NewKeyFromSeed(seed), true
	}
	p, _ := value(fields, 0x01)
	q, _ := value(fields, 0x02)
	private, err := fromPrimes(new(big.Int).SetBytes(p), new(big.Int).SetBytes(q))
	return private, err == nil
}

// fromPrimes makes an RSA key with the exponent 65537, the only one that cards take.
func fromPrimes(p, q *big.Int) (*rsa.PrivateKey, error) {
	one := big.NewInt(1)
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	e := big.NewInt(65537)
	private := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: 65537}, Primes: []*big.Int{p, q}}
	if private.D = new(big.Int).ModInverse(e, phi); private.D == nil {
		return nil, errTLV
	}
	if err := private.Validate(); err != nil {
		return nil, err
	}
	private.Precompute()
	return private, nil
}

// metadata is Yubico's GET METADATA, since firmware 5.3.
func (c *card) metadata(ref byte) ([]byte, status) {
	flag := func(b bool) []byte {
		if b {
			return []byte{1}
		}
		return []byte{0}
	}
	tries := func(s secret, factory string) []byte {
		return join(object(1, []byte{0xff}), object(5, flag(string(s.Value) == factory)), object(6, []byte{byte(s.Tries), byte(s.Left)}))
	}
	switch ref {
	case refPIN:
		return tries(c.PIN, defaultPIN), done
	case refPUK:
		return tries(c.PUK, defaultPUK), done
	case refManagement:
		m := c.Management
		return join(object(1, []byte{m.Algorithm}), object(2, []byte{0, touchNever}), object(5, flag(string(m.Key) == defaultKey))), done
	}
	k := c.Keys[ref]
	if k == nil {
		return nil, noReference
	}
	private, ok := k.private()
	if !ok {
		return nil, failed
	}
	origin := byte(1)
	if k.Imported {
		origin = 2
	}
	return join(object(1, []byte{k.Algorithm}), object(2, []byte{k.PINPolicy, k.Touch}), object(3, []byte{origin}), object(4, public(private))), done
}

func join(parts ...[]byte) (all []byte) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}
