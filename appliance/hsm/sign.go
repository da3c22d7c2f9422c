//go:build cgo

package hsm

import (
	"crypto/ecdh"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"coldseal/appliance/signer"
)

// Parallel is as many sessions as are open.
func (t *Token) Parallel([32]byte) int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return cap(t.open.free)
}

// Sign signs a digest, or for Ed25519 a message.
func (t *Token) Sign(id [32]byte, scheme signer.Scheme, input []byte) (signature []byte, err error) {
	mechanism, data, err := prepare(scheme, input)
	if err != nil {
		return nil, err
	}
	err = t.use("sign", func(o *opened, session pkcs11.SessionHandle) (err error) {
		k, found := o.keys[id]
		if !found {
			return t.trouble(signer.KeyMissing, "no key %x", id)
		}
		if err := t.module.SignInit(session, []*pkcs11.Mechanism{mechanism}, k.private); err != nil {
			return err
		}
		signature, err = t.module.Sign(session, data)
		return err
	})
	if err == nil && mechanism.Mechanism == pkcs11.CKM_ECDSA {
		signature, err = ecdsaDER(signature)
	}
	return signature, err
}

// prepare says how a token makes signatures of a scheme: raw mechanisms, which all tokens have.
func prepare(scheme signer.Scheme, input []byte) (*pkcs11.Mechanism, []byte, error) {
	hash := scheme.Options().HashFunc()
	pss := func(hash, mgf uint) (*pkcs11.Mechanism, []byte, error) {
		return pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_PSS, pkcs11.NewPSSParams(hash, mgf, uint(len(input)))), input, nil
	}
	switch scheme {
	case signer.ECDSASHA256, signer.ECDSASHA384:
		return pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil), input, nil
	case signer.Ed25519Message:
		return pkcs11.NewMechanism(ckmEDDSA, nil), input, nil
	case signer.PSSSHA256:
		return pss(pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256)
	case signer.PSSSHA384:
		return pss(pkcs11.CKM_SHA384, pkcs11.CKG_MGF1_SHA384)
	case signer.PSSSHA512:
		return pss(pkcs11.CKM_SHA512, pkcs11.CKG_MGF1_SHA512)
	case signer.PKCS1SHA256, signer.PKCS1SHA384, signer.PKCS1SHA512:
		info, err := digestInfo(hash, input)
		return pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS, nil), info, err
	}
	return nil, nil, fmt.Errorf("no scheme %q", scheme)
}

// ECDH agrees with the receiver key. Some tokens take the point bare, others in an OCTET STRING.
func (t *Token) ECDH(id [32]byte, peer *ecdh.PublicKey) (shared []byte, err error) {
	wrapped, err := asn1.Marshal(peer.Bytes())
	if err != nil {
		return nil, err
	}
	err = t.use("agree on a key", func(o *opened, session pkcs11.SessionHandle) (err error) {
		k, found := o.keys[id]
		if !found {
			return t.trouble(signer.KeyMissing, "no key %x", id)
		}
		shared, err = t.derive(session, k.private, peer.Bytes())
		if errors.Is(err, pkcs11.Error(pkcs11.CKR_MECHANISM_PARAM_INVALID)) || errors.Is(err, pkcs11.Error(pkcs11.CKR_ARGUMENTS_BAD)) {
			shared, err = t.derive(session, k.private, wrapped)
		}
		return err
	})
	return shared, err
}

// derive makes the shared secret as an object of the session, reads it and destroys it.
func (t *Token) derive(session pkcs11.SessionHandle, private pkcs11.ObjectHandle, point []byte) ([]byte, error) {
	const size = 32
	mechanism := pkcs11.NewMechanism(pkcs11.CKM_ECDH1_DERIVE, pkcs11.NewECDH1DeriveParams(pkcs11.CKD_NULL, nil, point))
	secret, err := t.module.DeriveKey(session, []*pkcs11.Mechanism{mechanism}, private, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false), pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, size),
	})
	if err != nil {
		return nil, err
	}
	value, err := t.module.GetAttributeValue(session, secret, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VALUE, nil)})
	if err = errors.Join(err, t.module.DestroyObject(session, secret)); err != nil {
		return nil, err
	}
	if len(value) != 1 || len(value[0].Value) != size {
		return nil, t.trouble(signer.DeviceFails, "a shared secret that is not of %d bytes", size)
	}
	return value[0].Value, nil
}
