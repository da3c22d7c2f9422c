package main

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"math/big"
)

// Tags of the dynamic authentication template (SP 800-73-4 part 2, table 7).
const (
	tagTemplate  = 0x7c
	tagWitness   = 0x80
	tagChallenge = 0x81
	tagResponse  = 0x82
	tagPoint     = 0x85
)

// authenticate is GENERAL AUTHENTICATE (section 3.2.4): the management key is proved, or a key is used.
func (c *card) authenticate(cmd command) ([]byte, status) {
	outer, err := parse(cmd.data)
	template, given := value(outer, tagTemplate)
	fields, errInner := parse(template)
	if err != nil || errInner != nil || !given {
		return nil, wrongData
	}
	if cmd.p2 == refManagement {
		return c.manage(cmd.p1, fields)
	}
	return c.use(cmd, fields)
}

func (m management) block() (cipher.Block, error) {
	if m.Algorithm == alg3DES {
		return des.NewTripleDESCipher(m.Key)
	}
	return aes.NewCipher(m.Key)
}

// manage proves the management key: mutually by witness and challenge, or the host alone by a challenge. p1 0 is 3DES.
func (c *card) manage(algorithm byte, fields []field) ([]byte, status) {
	if algorithm == 0 {
		algorithm = alg3DES
	}
	block, err := c.Management.block()
	if algorithm != c.Management.Algorithm || err != nil {
		return nil, wrongReference
	}
	size := block.BlockSize()
	sealed := func(b []byte) []byte {
		out := make([]byte, size)
		block.Encrypt(out, b)
		return out
	}
	witness, challenge := c.witness, c.challenge
	c.witness, c.challenge, c.managed = nil, nil, false
	gotWitness, hasWitness := value(fields, tagWitness)
	gotChallenge, hasChallenge := value(fields, tagChallenge)
	gotResponse, hasResponse := value(fields, tagResponse)
	switch {
	case hasWitness && len(gotWitness) == 0:
		c.witness = random(size)
		return object(tagTemplate, object(tagWitness, sealed(c.witness))), done
	case hasChallenge && len(gotChallenge) == 0:
		c.challenge = random(size)
		return object(tagTemplate, object(tagChallenge, c.challenge)), done
	case hasWitness && hasChallenge && len(gotChallenge) == size:
		if len(witness) == 0 || subtle.ConstantTimeCompare(witness, gotWitness) != 1 {
			return nil, notSatisfied
		}
		c.managed = true
		return object(tagTemplate, object(tagResponse, sealed(gotChallenge))), done
	case hasResponse:
		if len(challenge) == 0 || subtle.ConstantTimeCompare(sealed(challenge), gotResponse) != 1 {
			return nil, notSatisfied
		}
		c.managed = true
		return nil, done
	}
	return nil, wrongData
}

// setManagement is Yubico's SET MANAGEMENT KEY.
func (c *card) setManagement(cmd command) status {
	if !c.managed {
		return notSatisfied
	}
	d := cmd.data
	if len(d) < 3 || d[1] != refManagement || int(d[2]) != len(d)-3 {
		return wrongData
	}
	m := management{d[0], append([]byte(nil), d[3:]...)}
	size := map[byte]int{alg3DES: 24, algAES128: 16, algAES192: 24, algAES256: 32}[m.Algorithm]
	if size != len(m.Key) || m.Algorithm != alg3DES && !c.atLeast(5, 4) {
		return wrongData
	}
	c.Management = m
	return c.keep()
}

// use signs, agrees on or decrypts with a key, if its policy lets it. What it is given fits the key's algorithm.
func (c *card) use(cmd command, fields []field) ([]byte, status) {
	k := c.Keys[cmd.p2]
	if k == nil || !isSlot(cmd.p2) {
		return nil, noReference
	}
	if k.Algorithm != cmd.p1 {
		return nil, wrongReference
	}
	fresh := c.fresh
	c.fresh = false
	if k.PINPolicy == pinAlways && !fresh || k.PINPolicy == pinOnce && !c.verified {
		return nil, notSatisfied
	}
	private, ok := k.private()
	if !ok {
		return nil, failed
	}
	out, ok := compute(private, fields)
	if !ok {
		return nil, wrongData
	}
	return object(tagTemplate, object(tagResponse, out)), done
}

func compute(private crypto.Signer, fields []field) ([]byte, bool) {
	input, sign := value(fields, tagChallenge)
	point, agree := value(fields, tagPoint)
	switch p := private.(type) {
	case *ecdsa.PrivateKey:
		if agree {
			return agreed(p, point)
		}
		if !sign || len(input) > (p.Params().BitSize+7)/8 {
			return nil, false
		}
		out, err := ecdsa.SignASN1(rand.Reader, p, input)
		return out, err == nil
	case ed25519.PrivateKey:
		return ed25519.Sign(p, input), sign
	case *rsa.PrivateKey:
		// The card knows no padding: what is signed or decrypted is a number.
		m := new(big.Int).SetBytes(input)
		if !sign || len(input) != p.Size() || m.Cmp(p.N) >= 0 {
			return nil, false
		}
		return new(big.Int).Exp(m, p.D, p.N).FillBytes(make([]byte, p.Size())), true
	}
	return nil, false
}

func agreed(private *ecdsa.PrivateKey, point []byte) ([]byte, bool) {
	own, err := private.ECDH()
	if err != nil {
		return nil, false
	}
	peer, err := own.Curve().NewPublicKey(point)
	if err != nil {
		return nil, false
	}
	shared, err := own.ECDH(peer)
	return shared, err == nil
}
