package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
)

// forgedSignatures are good requests with one thing changed in how they are signed.
func forgedSignatures(good request) map[string]request {
	null := []byte{5, 0}
	signatures := map[string]request{}
	with := func(name string, change func(r *request)) {
		r := good
		change(&r)
		signatures["p256-"+name] = r
	}
	resign := func(change func(signature []byte) []byte) func([]byte) ([]byte, error) {
		return func(signed []byte) ([]byte, error) {
			signature, err := good.sign(signed)
			return change(signature), err
		}
	}
	with("brokensignature", func(r *request) {
		r.sign = resign(func(s []byte) []byte { s[len(s)-1] ^= 1; return s })
	})
	with("trailingsignature", func(r *request) {
		r.sign = resign(func(s []byte) []byte { return append(s, 0) })
	})
	with("emptysignature", func(r *request) {
		r.sign = func([]byte) ([]byte, error) { return nil, nil }
	})
	with("zerosignature", func(r *request) {
		r.sign = func([]byte) ([]byte, error) {
			return sequence(tlv(integer, []byte{0}), tlv(integer, []byte{0})), nil
		}
	})
	with("othersubject", func(r *request) {
		r.finish = func(der []byte) []byte { return bytes.Replace(der, []byte("ws-0042"), []byte("ws-0043"), 1) }
	})
	with("otherkey", func(r *request) {
		r.sign = func(signed []byte) ([]byte, error) {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				return nil, err
			}
			digest := sha256.Sum256(signed)
			return ecdsa.SignASN1(rand.Reader, key, digest[:])
		}
	})
	with("unusedbits", func(r *request) { r.unused = 1 })
	with("rsaalgorithm", func(r *request) { r.algorithm = sequence(oid("1.2.840.113549.1.1.11"), null) })
	with("nullparameters", func(r *request) { r.algorithm = sequence(oid("1.2.840.10045.4.3.2"), null) })
	with("sha3", func(r *request) { r.algorithm = sequence(oid("2.16.840.1.101.3.4.3.10")) })
	with("sha224", func(r *request) { r.algorithm = sequence(oid("1.2.840.10045.4.3.1")) })

	sha1, sha256ID, sha512ID := oid("1.3.14.3.2.26"), oid("2.16.840.1.101.3.4.2.1"), oid("2.16.840.1.101.3.4.2.3")
	pss := func(name string, parameters ...[]byte) {
		with(name, func(r *request) { r.algorithm = sequence(oid("1.2.840.113549.1.1.10"), sequence(parameters...)) })
	}
	hash := func(id []byte) []byte { return tlv(0xa0, sequence(id)) }
	mask := func(id []byte) []byte { return tlv(0xa1, sequence(oid("1.2.840.113549.1.1.8"), sequence(id))) }
	salt := func(n ...byte) []byte { return tlv(0xa2, tlv(integer, n)) }
	pss("pss-defaults")
	pss("pss-sha1mask", hash(sha256ID), mask(sha1), salt(32))
	pss("pss-twohashes", hash(sha256ID), mask(sha512ID), salt(32))
	pss("pss-writtensalt", hash(sha256ID), mask(sha256ID), salt(20))
	pss("pss-nosalt", hash(sha256ID), mask(sha256ID), salt(0))
	pss("pss-negativesalt", hash(sha256ID), mask(sha256ID), salt(0xff))
	pss("pss-hugesalt", hash(sha256ID), mask(sha256ID), salt(0x7f, 0xff, 0xff, 0xff))
	pss("pss-trailer", hash(sha256ID), mask(sha256ID), salt(32), tlv(0xa3, tlv(integer, []byte{1})))
	pss("pss-notmgf1", hash(sha256ID), tlv(0xa1, sequence(oid("2.999.1"), sequence(sha256ID))), salt(32))
	return signatures
}
