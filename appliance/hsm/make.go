//go:build cgo

package hsm

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"coldseal/appliance/signer"
)

// Of PKCS#11 3.0, which the library's constants end before.
const (
	ckkEdwards           = 0x40
	ckmEdwardsKeyPairGen = 0x1055
	ckmEDDSA             = 0x1057
)

// needs are the mechanisms that keys of an algorithm take; all must be there.
func needs(purpose signer.Purpose, algorithm signer.Algorithm) []uint {
	switch algorithm {
	case signer.P256, signer.P384:
		if purpose == signer.Receiver {
			return []uint{pkcs11.CKM_EC_KEY_PAIR_GEN, pkcs11.CKM_ECDH1_DERIVE}
		}
		return []uint{pkcs11.CKM_EC_KEY_PAIR_GEN, pkcs11.CKM_ECDSA}
	case signer.RSA3072, signer.RSA4096:
		return []uint{pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, pkcs11.CKM_RSA_PKCS, pkcs11.CKM_RSA_PKCS_PSS}
	case signer.Ed25519:
		return []uint{ckmEdwardsKeyPairGen, ckmEDDSA}
	}
	return nil
}

// Holds asks which mechanisms the token has.
func (t *Token) Holds(purpose signer.Purpose, algorithm signer.Algorithm) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return purpose.Allows(algorithm) && t.lacking(purpose, algorithm) == 0
}

// lacking gives a mechanism that is missing, 0 if none is.
func (t *Token) lacking(purpose signer.Purpose, algorithm signer.Algorithm) uint {
	for _, m := range needs(purpose, algorithm) {
		if !t.open.mechanisms[m] {
			return m
		}
	}
	return 0
}

// Create makes a key pair and has it prove itself before anybody relies on it.
func (t *Token) Create(label string, purpose signer.Purpose, algorithm signer.Algorithm) (signer.KeyInfo, *signer.Attestation, error) {
	random := make([]byte, 8)
	rand.Read(random)
	id := []byte(mark + string(purpose) + ":" + hex.EncodeToString(random))
	var made key
	// Not through use: a key that was perhaps made is not made twice.
	epoch, err := t.try(func(o *opened, session pkcs11.SessionHandle) error {
		if missing := t.lacking(purpose, algorithm); missing != 0 {
			return t.trouble(signer.MechanismMissing, "%s keys for %s take mechanism 0x%x", algorithm, purpose, missing)
		}
		all, err := t.objects(session)
		if err != nil {
			return err
		}
		for _, other := range all {
			if purposeOf(other.id) != "" && string(other.label) == label {
				return t.trouble(signer.KeyWrong, "the token has a part of a key labelled %s already (CKA_ID %x)", label, other.id)
			}
		}
		made, err = t.generate(o, session, id, label, purpose, algorithm)
		return err
	})
	if err != nil {
		if mendable(err) {
			err = errors.Join(t.explain("make key "+label, err), t.again(epoch))
		}
		return signer.KeyInfo{}, nil, t.explain("make key "+label, err)
	}
	t.mu.Lock()
	t.open.keys[made.info.ID()] = made
	t.mu.Unlock()
	if err := t.prove(made); err != nil {
		return signer.KeyInfo{}, nil, errors.Join(err, t.Destroy(made.info.ID()))
	}
	return made.info, nil, nil // PKCS#11 has no attestation
}

func (t *Token) generate(o *opened, session pkcs11.SessionHandle, id []byte, label string, purpose signer.Purpose, algorithm signer.Algorithm) (key, error) {
	common := func(more ...*pkcs11.Attribute) []*pkcs11.Attribute {
		return append([]*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_ID, id), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
		}, more...)
	}
	public, private := common(), common(
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true), pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_SIGN, purpose != signer.Receiver), pkcs11.NewAttribute(pkcs11.CKA_DERIVE, purpose == signer.Receiver),
		pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, false), pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false),
	)
	if algorithm != signer.RSA3072 && algorithm != signer.RSA4096 {
		private = private[:len(private)-2] // these keys neither decrypt nor unwrap, and some tokens refuse to hear of it
	}
	if purpose != signer.Receiver {
		public = append(public, pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true))
	}
	switch algorithm {
	case signer.P256:
		public = append(public, pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, paramsP256))
	case signer.P384:
		public = append(public, pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, paramsP384))
	case signer.Ed25519:
		public = append(public, pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, paramsEd25519))
	case signer.RSA3072:
		public = append(public, pkcs11.NewAttribute(pkcs11.CKA_MODULUS_BITS, 3072), pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}))
	case signer.RSA4096:
		public = append(public, pkcs11.NewAttribute(pkcs11.CKA_MODULUS_BITS, 4096), pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}))
	}
	mechanism := []*pkcs11.Mechanism{pkcs11.NewMechanism(needs(purpose, algorithm)[0], nil)}
	publicHandle, privateHandle, err := t.module.GenerateKeyPair(session, mechanism, public, private)
	if err != nil {
		return key{}, err
	}
	remove := func(err error) (key, error) {
		return key{}, errors.Join(err, t.module.DestroyObject(session, privateHandle), t.module.DestroyObject(session, publicHandle))
	}
	var pair []object
	for _, handle := range []pkcs11.ObjectHandle{publicHandle, privateHandle} {
		part, err := t.object(session, handle)
		if err != nil {
			return remove(err)
		}
		pair = append(pair, part)
	}
	made, reason := whole(pair)
	if reason == "" && (made.info.Label != label || made.info.Purpose != purpose || made.info.Algorithm != algorithm) {
		reason = fmt.Sprintf("it is %s, %s, %s", made.info.Label, made.info.Purpose, made.info.Algorithm)
	}
	if reason != "" {
		return remove(t.trouble(signer.KeyWrong, "asked for %s (%s, %s), the token made something else: %s", label, purpose, algorithm, reason))
	}
	return made, nil
}

// prove has a new key sign, or agree, and checks it against its public key: what comes later was never tried otherwise.
func (t *Token) prove(k key) error {
	public, err := k.info.Check()
	if err != nil {
		return err
	}
	wrong := func() error {
		return t.trouble(signer.KeyWrong, "the new key %s does not go with its public key", k.info.Label)
	}
	if k.info.Purpose == signer.Receiver {
		own, err := ecdh.P256().GenerateKey(rand.Reader)
		if err != nil {
			return err
		}
		peer, err := public.(*ecdsa.PublicKey).ECDH()
		if err != nil {
			return err
		}
		want, err := own.ECDH(peer)
		if err != nil {
			return err
		}
		if got, err := t.ECDH(k.info.ID(), own.PublicKey()); err != nil || !bytes.Equal(got, want) {
			return errors.Join(err, wrong())
		}
		return nil
	}
	digest256, digest384 := sha256.Sum256(k.info.SPKI), sha512.Sum384(k.info.SPKI)
	verify := func(scheme signer.Scheme, input []byte, good func(signature []byte) bool) error {
		signature, err := t.Sign(k.info.ID(), scheme, input)
		if err == nil && !good(signature) {
			err = wrong()
		}
		return err
	}
	switch p := public.(type) {
	case ed25519.PublicKey:
		return verify(signer.Ed25519Message, digest256[:], func(s []byte) bool { return ed25519.Verify(p, digest256[:], s) })
	case *rsa.PublicKey:
		return errors.Join(
			verify(signer.PKCS1SHA256, digest256[:], func(s []byte) bool { return rsa.VerifyPKCS1v15(p, crypto.SHA256, digest256[:], s) == nil }),
			verify(signer.PSSSHA256, digest256[:], func(s []byte) bool { return rsa.VerifyPSS(p, crypto.SHA256, digest256[:], s, nil) == nil }))
	case *ecdsa.PublicKey:
		if k.info.Algorithm == signer.P384 {
			return verify(signer.ECDSASHA384, digest384[:], func(s []byte) bool { return ecdsa.VerifyASN1(p, digest384[:], s) })
		}
		return verify(signer.ECDSASHA256, digest256[:], func(s []byte) bool { return ecdsa.VerifyASN1(p, digest256[:], s) })
	}
	return wrong()
}

// Destroy removes a key, the private part first, and makes sure that it is gone.
func (t *Token) Destroy(id [32]byte) error {
	err := t.use("destroy key", func(o *opened, session pkcs11.SessionHandle) error {
		k, found := o.keys[id]
		if !found {
			return t.trouble(signer.KeyMissing, "no key %x", id)
		}
		if err := t.module.DestroyObject(session, k.private); err != nil {
			return err
		}
		if err := t.module.DestroyObject(session, k.public); err != nil {
			return err
		}
		all, err := t.objects(session)
		if err != nil {
			return err
		}
		for _, left := range all {
			if left.class == pkcs11.CKO_PRIVATE_KEY && string(left.label) == k.info.Label && purposeOf(left.id) == k.info.Purpose {
				return t.trouble(signer.DeviceFails, "the token destroyed key %s, and still has it", k.info.Label)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open.keys, id)
	return nil
}
