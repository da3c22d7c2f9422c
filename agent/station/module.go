//go:build cgo

package station

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"github.com/miekg/pkcs11"
)

// module is a card behind its PKCS#11 library.
type module struct {
	library     *pkcs11.Ctx
	session     pkcs11.SessionHandle
	token       uint              // the library's slot
	id          *pkcs11.Attribute // what certificate and key have in common
	name        string
	certificate *x509.Certificate
}

func openModule(c Choice, slot uint32) (_ *module, err error) {
	library := pkcs11.New(c.Module)
	if library == nil {
		return nil, wrong("install OpenSC, or name the library of the card's maker", "the PKCS#11 library %s does not load", c.Module)
	}
	m := &module{library: library, name: "the card, slot " + strings.ToLower(c.Slot)}
	defer func() {
		if err != nil {
			library.Destroy()
		}
	}()
	if err := library.Initialize(); err != nil {
		return nil, m.explain("the library was started", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, library.Finalize())
		}
	}()
	if err := m.find(c); err != nil {
		return nil, err
	}
	if m.session, err = library.OpenSession(m.token, pkcs11.CKF_SERIAL_SESSION); err != nil {
		return nil, m.explain("it was opened", err)
	}
	if err := m.read(slot); err != nil {
		return nil, err
	}
	return m, usable(m.name, strings.ToLower(c.Slot), m.certificate.PublicKey)
}

// find finds the token.
func (m *module) find(c Choice) error {
	tokens, err := m.library.GetSlotList(true)
	if err != nil {
		return m.explain("the readers were listed", err)
	}
	var names []string
	for _, token := range tokens {
		info, err := m.library.GetSlotInfo(token)
		if err != nil {
			return m.explain("the readers were listed", err)
		}
		if reader := strings.TrimRight(info.SlotDescription, " "); strings.Contains(reader, c.Reader) {
			m.token = token
			names = append(names, reader)
		}
	}
	switch len(names) {
	case 0:
		return wrong("put the card in; pkcs11-tool --module "+c.Module+" --list-slots shows what is there", "the PKCS#11 library knows no card in a reader that is called %q", c.Reader)
	case 1:
		return nil
	}
	return wrong("--reader says which one is meant", "there are cards in several readers: %s", strings.Join(names, ", "))
}

// identifier is what OpenSC and ykcs11 call the key of a slot: they are numbered in the order of SP 800-73-4.
func identifier(slot uint32) byte {
	switch slot {
	case 0x9a:
		return 1
	case 0x9c, 0x9d, 0x9e:
		return byte(slot - 0x9a)
	}
	return byte(slot - 0x82 + 5)
}

// read finds the certificate of a slot. The library has the key's public half from it, too.
func (m *module) read(slot uint32) error {
	m.id = pkcs11.NewAttribute(pkcs11.CKA_ID, []byte{identifier(slot)})
	certificate, err := m.object(pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_CERTIFICATE), m.id)
	if err != nil {
		return err
	}
	if certificate == nil {
		return wrong("put a certificate for the key on the card", "%s holds no certificate", m.name)
	}
	values, err := m.library.GetAttributeValue(m.session, *certificate, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VALUE, nil)})
	if err != nil {
		return m.explain("its certificate was read", err)
	}
	if m.certificate, err = x509.ParseCertificate(values[0].Value); err != nil {
		return wrong("put another certificate for the key on the card", "the certificate of %s can't be read: %v", m.name, err)
	}
	return nil
}

// object finds the first object like this; nil is none.
func (m *module) object(like ...*pkcs11.Attribute) (*pkcs11.ObjectHandle, error) {
	if err := m.library.FindObjectsInit(m.session, like); err != nil {
		return nil, m.explain("it was searched", err)
	}
	found, _, err := m.library.FindObjects(m.session, 1)
	if err = errors.Join(err, m.library.FindObjectsFinal(m.session)); err != nil {
		return nil, m.explain("it was searched", err)
	}
	if len(found) == 0 {
		return nil, nil
	}
	return &found[0], nil
}

func (m *module) Name() string                   { return m.name }
func (m *module) Public() crypto.PublicKey       { return m.certificate.PublicKey }
func (m *module) Certificate() *x509.Certificate { return m.certificate }
func (m *module) Touch() bool                    { return false }

// Tries is what the flags of PKCS#11 tell: that one is left, or none.
func (m *module) Tries() (int, error) {
	info, err := m.library.GetTokenInfo(m.token)
	switch {
	case err != nil:
		return 0, m.explain("it was asked about its PIN", err)
	case info.Flags&pkcs11.CKF_USER_PIN_LOCKED != 0:
		return 0, nil
	case info.Flags&pkcs11.CKF_USER_PIN_FINAL_TRY != 0:
		return 1, nil
	}
	return -1, nil
}

func (m *module) Sign(pin, digest []byte) (signature []byte, err error) {
	if err := checkPIN(pin); err != nil {
		return nil, err
	}
	if err := m.library.Login(m.session, pkcs11.CKU_USER, string(pin)); err != nil {
		return nil, m.explain("the PIN was verified", err)
	}
	defer func() { // so that the PIN is wanted next time, too
		if errOut := m.library.Logout(m.session); err == nil && errOut != nil {
			err = m.explain("it forgot the PIN", errOut)
		}
	}()
	key, again, err := m.private()
	if err != nil {
		return nil, err
	}
	mechanism := pkcs11.NewMechanism(pkcs11.CKM_ECDSA, nil)
	if _, is := m.Public().(*rsa.PublicKey); is {
		mechanism = pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS_PSS, pkcs11.NewPSSParams(pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256, sha256.Size))
	}
	if err := m.library.SignInit(m.session, []*pkcs11.Mechanism{mechanism}, key); err != nil {
		return nil, m.explain("it began to sign", err)
	}
	if again {
		if err := m.library.Login(m.session, pkcs11.CKU_CONTEXT_SPECIFIC, string(pin)); err != nil {
			return nil, m.explain("the PIN was verified once more", err)
		}
	}
	raw, err := m.library.Sign(m.session, digest)
	if err != nil {
		return nil, m.explain("it signed", err)
	}
	public, ok := m.Public().(*ecdsa.PublicKey)
	if !ok {
		return raw, nil
	}
	half := (public.Params().BitSize + 7) / 8
	if len(raw) != 2*half {
		return nil, wrong("", "%s gave a signature of %d bytes", m.name, len(raw))
	}
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:half]), new(big.Int).SetBytes(raw[half:])})
}

// private finds the private key that goes with the certificate, which many libraries only show after the PIN, and whether
// it wants the PIN once more.
func (m *module) private() (key pkcs11.ObjectHandle, again bool, err error) {
	found, err := m.object(pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), m.id)
	if err != nil {
		return 0, false, err
	}
	if found == nil {
		return 0, false, wrong(makeKey("9c"), "%s holds no key for its certificate", m.name)
	}
	values, err := m.library.GetAttributeValue(m.session, *found, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ALWAYS_AUTHENTICATE, nil)})
	if err != nil {
		return 0, false, m.explain("its key was asked about", err)
	}
	return *found, len(values[0].Value) > 0 && values[0].Value[0] != 0, nil
}

func (m *module) Close() error {
	err := errors.Join(m.library.CloseSession(m.session), m.library.Finalize())
	m.library.Destroy()
	if err != nil && !removed(err) {
		return m.explain("it was let go", err)
	}
	return nil
}

func removed(err error) bool {
	for _, value := range []pkcs11.Error{pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_SESSION_HANDLE_INVALID,
		pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_TOKEN_NOT_RECOGNIZED, pkcs11.CKR_SLOT_ID_INVALID} {
		if errors.Is(err, value) {
			return true
		}
	}
	return false
}

// explain says in words what the library says, as the other explain does.
func (m *module) explain(doing string, err error) error {
	is := func(value pkcs11.Error) bool { return errors.Is(err, value) }
	switch {
	case is(pkcs11.CKR_PIN_INCORRECT), is(pkcs11.CKR_PIN_LEN_RANGE), is(pkcs11.CKR_PIN_INVALID):
		tries, errTries := m.Tries()
		if errTries != nil {
			tries = -1
		}
		return wrongPIN(m.name, tries)
	case is(pkcs11.CKR_PIN_LOCKED):
		return Locked(m.name)
	case removed(err):
		return wrong("put the card in and run the same command again; nothing was approved", "%s was pulled while %s: %v", m.name, doing, err)
	case is(pkcs11.CKR_MECHANISM_INVALID):
		return wrong(makeKey("9c"), "the PKCS#11 library does not sign with the key of %s", m.name)
	}
	return wrong("run the same command again; pkcs11-tool shows whether the library works", "%s failed while %s: %v", m.name, doing, fmt.Errorf("PKCS#11: %w", err))
}
