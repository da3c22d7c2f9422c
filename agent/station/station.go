// Package station is the desk's door to a person's smart card: it finds the card, says which key is on it, and has it
// sign after the person typed the PIN.
//
// YubiKeys and cards with their extensions are spoken to directly, which tells how many tries a PIN has left and which
// key is in a slot; any other card works through its PKCS#11 library. Keys are on P-256 or P-384, or RSA of 2,048, 3,072
// or 4,096 bits, which signs in one way alone: RSASSA-PSS with SHA-256 and a salt as long (protocol/request.md).
//
// The package asks nobody anything and keeps no PIN; a PIN is wanted for each signature. It knows no request and no
// roster. PC/SC and PKCS#11 are C: without cgo it only says that they are missing.
package station

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"strings"
)

// Choice says which card and which of its keys.
type Choice struct {
	Serial uint32 // the card's number; 0 is the only card there is
	Reader string // a part of the reader's name; empty is any
	Slot   string // 9a, 9c, 9d, 9e or 82 to 95
	Module string // file of a PKCS#11 library that is used instead
}

// Card is an open card with one key of it.
type Card interface {
	Name() string // for people: which card, which slot
	Public() crypto.PublicKey
	// Certificate is what the card has for the key; nil is nothing.
	Certificate() *x509.Certificate
	// Tries is how often the PIN may still be wrong; -1 where the card doesn't say.
	Tries() (int, error)
	// Touch tells whether the card wants to be touched for each signature.
	Touch() bool
	// Sign verifies the PIN and signs a digest: ECDSA as ASN.1 DER, or RSASSA-PSS of a SHA-256.
	Sign(pin, digest []byte) ([]byte, error)
	Close() error
}

// Error is what is wrong with the card, its reader or its PIN.
type Error struct {
	What string
	Mend string // what to do about it
}

func (e *Error) Error() string { return e.What }

// Hint is what to do about it.
func (e *Error) Hint() string { return e.Mend }

func wrong(mend, format string, a ...any) error {
	return &Error{fmt.Sprintf(format, a...), mend}
}

// slotNumber reads the name of a slot.
func slotNumber(name string) (uint32, error) {
	var n uint32
	_, err := fmt.Sscanf(strings.ToLower(name), "%x", &n)
	if err != nil || len(name) != 2 || !(n >= 0x82 && n <= 0x95 || n == 0x9a || n >= 0x9c && n <= 0x9e) {
		return 0, wrong("the slot for signatures is 9c", "there is no slot %q; there are 9a, 9c, 9d, 9e and 82 to 95", name)
	}
	return n, nil
}

// make is how to get a key that approves.
func makeKey(slot string) string {
	return "make a key on the card: ykman piv keys generate --algorithm ECCP256 --pin-policy ALWAYS " + slot + " key.pub, or with yubico-piv-tool -a generate -A ECCP256 -s " + slot
}

// usable refuses keys that approve nothing.
func usable(name, slot string, public crypto.PublicKey) error {
	kind := fmt.Sprintf("of a kind that approves nothing (%T)", public)
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() {
			return nil
		}
		kind = "on " + k.Params().Name
	case *rsa.PublicKey:
		bits := k.N.BitLen()
		if k.E == 65537 && (bits == 2048 || bits == 3072 || bits == 4096) {
			return nil
		}
		kind = fmt.Sprintf("RSA-%d with the exponent %d", bits, k.E)
	}
	return wrong(makeKey(slot), "the key of %s is %s; approvals are signed with P-256, P-384, or RSA of 2048 bits and more", name, kind)
}

// checkPIN refuses what can't be a PIN before it costs a try (NIST SP 800-73-4 part 2, section 2.4.3).
func checkPIN(pin []byte) error {
	if len(pin) < 6 || len(pin) > 8 {
		return wrong("type it again", "the PIN has 6 to 8 characters")
	}
	return nil
}

const unblock = "unblock it with the PUK: ykman piv access unblock-pin, or yubico-piv-tool -a unblock-pin, or pkcs11-tool --init-pin --login --login-type so"

// Locked is what is wrong with a card whose PIN has no try left.
func Locked(name string) error { return wrong(unblock, "the PIN of %s is locked", name) }

// wrongPIN is said alike, however the card is spoken to; tries below 0 are not known.
func wrongPIN(name string, tries int) error {
	switch tries {
	case 0:
		return Locked(name)
	case 1:
		return wrong("be sure of the PIN: after one more mistake it is locked", "the PIN of %s is wrong: 1 try is left", name)
	}
	if tries < 0 {
		return wrong("run the same command again with the right PIN", "the PIN of %s is wrong", name)
	}
	return wrong("run the same command again with the right PIN", "the PIN of %s is wrong: %d tries are left", name, tries)
}
