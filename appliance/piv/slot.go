//go:build cgo

package piv

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/go-piv/piv-go/v2/piv"

	"coldseal/appliance/signer"
)

// slots are all that a card has room for, in the order of its documentation.
func slots() []piv.Slot {
	all := []piv.Slot{piv.SlotAuthentication, piv.SlotSignature, piv.SlotKeyManagement, piv.SlotCardAuthentication}
	for ref := uint32(0x82); ref <= 0x95; ref++ {
		if s, ok := piv.RetiredKeyManagementSlot(ref); ok {
			all = append(all, s)
		}
	}
	return all
}

// first is the slot that is tried first for a purpose; the others follow in order.
func first(purpose signer.Purpose) piv.Slot {
	switch purpose {
	case signer.CA:
		return piv.SlotSignature
	case signer.Receiver:
		return piv.SlotKeyManagement
	}
	return piv.SlotAuthentication
}

// content is what is in a slot.
type content struct {
	slot        piv.Slot
	key         *piv.KeyInfo
	unreadable  string // why the key could not be read
	certificate *x509.Certificate
	label       label
	ours        bool // the certificate is a label
}

// read reads a slot. What is there and can't be understood is no error.
func read(card *piv.YubiKey, slot piv.Slot) (content, error) {
	c := content{slot: slot}
	switch info, err := card.KeyInfo(slot); {
	case err == nil && info.PublicKey != nil:
		c.key = &info
	case err == nil:
		c.unreadable = "no public key"
	case errors.Is(err, piv.ErrNotFound):
	case broken(err):
		return c, err
	default:
		c.unreadable = err.Error()
	}
	certificate, err := card.Certificate(slot)
	switch {
	case err == nil:
		c.certificate = certificate
		c.label, c.ours = labelOf(certificate)
	case errors.Is(err, piv.ErrNotFound):
	case broken(err):
		return c, err
	default:
		c.unreadable += " certificate: " + err.Error()
	}
	return c, nil
}

// free tells whether a key may be made there: nothing is in the slot, or a reservation that came to nothing.
func (c *content) free() bool {
	return c.ours && c.label.reserved || c.key == nil && c.certificate == nil && c.unreadable == ""
}

// info is the key as ours, or why it isn't.
func (c *content) info() (signer.KeyInfo, string) {
	switch {
	case c.unreadable != "":
		return signer.KeyInfo{}, strings.TrimSpace(c.unreadable)
	case c.key == nil:
		return signer.KeyInfo{}, "a certificate without a key"
	case c.free():
		return signer.KeyInfo{}, "not finished, or destroyed"
	case !c.ours:
		return signer.KeyInfo{}, "not made by us"
	case !c.label.of(c.key.PublicKey):
		return signer.KeyInfo{}, "the key is not the one of its label"
	case c.key.Origin != piv.OriginGenerated:
		return signer.KeyInfo{}, "not made on the card"
	case c.key.PINPolicy != piv.PINPolicyOnce || c.key.TouchPolicy != piv.TouchPolicyNever:
		return signer.KeyInfo{}, "it wants another PIN or touch than ours do"
	}
	algorithm, err := signer.AlgorithmOf(c.key.PublicKey)
	k := signer.KeyInfo{Label: c.label.name, Purpose: c.label.purpose, Algorithm: algorithm, SPKI: c.label.spki}
	if err == nil {
		_, err = k.Check()
	}
	if err != nil {
		return signer.KeyInfo{}, err.Error()
	}
	return k, ""
}

// classCertificate is a certificate without a key.
const classCertificate = "certificate"

// object is the slot in the inventory. One that is free is not listed, whatever is left in it.
func (c *content) object(twice map[string]int) (signer.Object, bool) {
	if c.free() {
		return signer.Object{}, false
	}
	o := signer.Object{Class: signer.ClassPrivateKey, Handle: "slot " + c.slot.String(), Ours: c.ours}
	if c.key == nil && c.unreadable == "" {
		o.Class = classCertificate
	}
	if c.certificate != nil {
		o.Label = readable(c.certificate.Subject.CommonName)
	}
	if c.key != nil {
		o.Key = keyID(c.key.PublicKey)
	}
	if _, o.Note = c.info(); o.Note == "" && twice[o.Label] > 1 {
		o.Note = fmt.Sprintf("%d keys have this label", twice[o.Label])
	}
	return o, true
}

// readable is what an inventory takes of a name that anybody may have put there.
func readable(name string) string {
	name = strings.ToValidUTF8(name, "?")
	for len(name) > 255 {
		_, size := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-size]
	}
	return name
}

// keyID is the SHA-256 of the SPKI; zero where there is none of it.
func keyID(public crypto.PublicKey) (id [32]byte) {
	if spki, err := x509.MarshalPKIXPublicKey(public); err == nil {
		id = sha256.Sum256(spki)
	}
	return id
}
