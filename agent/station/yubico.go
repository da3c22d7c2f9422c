//go:build cgo

package station

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-piv/piv-go/v2/piv"
)

// yubico is a card with Yubico's extensions. It is open for this program alone.
type yubico struct {
	card        *piv.YubiKey
	name        string
	slot        piv.Slot
	public      crypto.PublicKey
	certificate *x509.Certificate
	touch       bool
}

func openYubico(c Choice, number uint32) (_ *yubico, err error) {
	card, serial, err := find(c)
	if err != nil {
		return nil, err
	}
	y := &yubico{card: card, name: fmt.Sprintf("card %d, slot %s", serial, strings.ToLower(c.Slot)), slot: slotOf(number)}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreGone(card.Close()))
		}
	}()
	if err := y.read(); err != nil {
		return nil, err
	}
	return y, nil
}

func slotOf(number uint32) piv.Slot {
	for _, s := range []piv.Slot{piv.SlotAuthentication, piv.SlotSignature, piv.SlotKeyManagement, piv.SlotCardAuthentication} {
		if s.Key == number {
			return s
		}
	}
	slot, _ := piv.RetiredKeyManagementSlot(number)
	return slot
}

// ignoreGone drops what is said of a card that is gone: that was said before.
func ignoreGone(err error) error {
	if err == nil || gone(err) {
		return nil
	}
	return err
}

// find opens the card that is meant among those in the readers.
func find(c Choice) (card *piv.YubiKey, serial uint32, err error) {
	readers, err := piv.Cards()
	if err != nil {
		return nil, 0, explain("the readers", "they were listed", err)
	}
	if len(readers) == 0 {
		return nil, 0, wrong("plug the reader or the key in; opensc-tool --list-readers shows what is there", "there is no smart card reader")
	}
	var others []string
	var failed error
	for _, reader := range readers {
		if !strings.Contains(reader, c.Reader) {
			continue
		}
		next, number, err := identify(reader)
		switch {
		case err == nil && (c.Serial == number || c.Serial == 0 && card == nil):
			if card, serial = next, number; c.Serial != 0 {
				return card, serial, nil
			}
			continue
		case err == nil:
			others = append(others, strconv.FormatUint(uint64(number), 10))
			if err := next.Close(); err != nil {
				return nil, 0, explain("the card in "+reader, "it was let go", err)
			}
		case strings.Contains(err.Error(), "no Smart Card is currently"): // the reader is empty
		case failed == nil:
			failed = explain("the card in "+reader, "it was opened", err)
		}
	}
	switch {
	case card != nil && len(others) > 0:
		others = append(others, strconv.FormatUint(uint64(serial), 10))
		return nil, 0, errors.Join(wrong("--serial says which one is meant", "there are several cards: %s", strings.Join(others, ", ")), ignoreGone(card.Close()))
	case card != nil:
		return card, serial, nil
	case failed != nil:
		return nil, 0, failed
	case len(others) > 0:
		return nil, 0, wrong("put the right card in", "the card has the number %s, not %d", strings.Join(others, ", "), c.Serial)
	case c.Reader != "":
		return nil, 0, wrong("put the card in; opensc-tool --list-readers shows what is there", "there is no card in a reader that is called %q", c.Reader)
	}
	return nil, 0, wrong("put the card in", "there is no card in the reader")
}

func identify(reader string) (*piv.YubiKey, uint32, error) {
	card, err := piv.Open(reader)
	if err != nil {
		return nil, 0, err
	}
	serial, err := card.Serial()
	if err != nil {
		return nil, 0, errors.Join(err, ignoreGone(card.Close()))
	}
	return card, serial, nil
}

// read finds out which key is in the slot. Since firmware 5.3 the card tells; before, the certificate does, or the
// card's own attestation of a key that was made there.
func (y *yubico) read() error {
	slot := y.slot.String()
	certificate, err := y.card.Certificate(y.slot)
	switch {
	case err == nil:
		y.certificate = certificate
	case errors.Is(err, piv.ErrNotFound):
	default:
		return explain(y.name, "its certificate was read", err)
	}
	v := y.card.Version()
	if v.Major > 5 || v.Major == 5 && v.Minor >= 3 {
		info, err := y.card.KeyInfo(y.slot)
		if errors.Is(err, piv.ErrNotFound) {
			return wrong(makeKey(slot), "%s holds no key", y.name)
		}
		if err != nil {
			return explain(y.name, "it was asked which key it holds", err)
		}
		if info.PINPolicy != piv.PINPolicyOnce && info.PINPolicy != piv.PINPolicyAlways {
			return wrong(makeKey(slot), "the key of %s signs without the PIN; a key that approves wants one", y.name)
		}
		y.public, y.touch = info.PublicKey, info.TouchPolicy != piv.TouchPolicyNever
	} else if y.certificate != nil {
		y.public = y.certificate.PublicKey
	} else {
		attested, err := y.card.Attest(y.slot)
		if errors.Is(err, piv.ErrNotFound) {
			return wrong("put a certificate for the key on the card: ykman piv certificates generate "+slot, "%s holds no certificate, and no key that was made there", y.name)
		}
		if err != nil {
			return explain(y.name, "it attested its key", err)
		}
		y.public = attested.PublicKey
	}
	if err := usable(y.name, slot, y.public); err != nil {
		return err
	}
	if k, ok := y.public.(interface{ Equal(crypto.PublicKey) bool }); y.certificate != nil && (!ok || !k.Equal(y.certificate.PublicKey)) {
		return wrong("put the key's own certificate on the card, or take this one away: ykman piv certificates delete "+slot, "the certificate of %s is that of another key", y.name)
	}
	return nil
}

func (y *yubico) Name() string                   { return y.name }
func (y *yubico) Public() crypto.PublicKey       { return y.public }
func (y *yubico) Certificate() *x509.Certificate { return y.certificate }
func (y *yubico) Touch() bool                    { return y.touch }

// Tries asks the card, which says so as long as no PIN was verified.
func (y *yubico) Tries() (int, error) {
	tries, err := y.card.Retries()
	if err != nil && strings.Contains(err.Error(), "expected error code") {
		return -1, nil
	}
	if err != nil {
		return 0, explain(y.name, "it was asked how many tries the PIN has left", err)
	}
	return tries, nil
}

func (y *yubico) Sign(pin, digest []byte) ([]byte, error) {
	if err := checkPIN(pin); err != nil {
		return nil, err
	}
	if err := y.card.VerifyPIN(string(pin)); err != nil {
		return nil, explain(y.name, "the PIN was verified", err)
	}
	// The PIN was verified a moment ago, whatever the key's own policy is: piv-go has nothing to add.
	private, err := y.card.PrivateKey(y.slot, y.public, piv.KeyAuth{PINPolicy: piv.PINPolicyNever})
	if err != nil {
		return nil, explain(y.name, "its key was looked for", err)
	}
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, wrong(makeKey(y.slot.String()), "the key of %s does not sign", y.name)
	}
	var opts crypto.SignerOpts = crypto.Hash(0) // ECDSA takes the digest as it is
	if _, is := y.public.(*rsa.PublicKey); is {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	}
	signature, err := signer.Sign(rand.Reader, digest, opts)
	if err != nil {
		return nil, explain(y.name, "it signed", err)
	}
	return signature, nil
}

func (y *yubico) Close() error {
	if err := ignoreGone(y.card.Close()); err != nil {
		return explain(y.name, "it was let go", err)
	}
	return nil
}

// gone tells whether a card or its reader went away. piv-go tells that by PC/SC's words alone.
func gone(err error) bool {
	for _, words := range []string{"smart card has been removed", "non-existent transaction", "no Smart Card is currently", "power has been removed",
		"not responding to a reset", "communications error with the smart card", "reader is not currently available", "reader name is not recognized",
		"supplied handle was invalid", "smart card has been reset", "scard response too short"} {
		if strings.Contains(err.Error(), words) {
			return true
		}
	}
	return false
}

// explain says in words what piv-go says of a card, and what was being done: "the card … was pulled while it signed".
func explain(name, doing string, err error) error {
	says := func(words string) bool { return strings.Contains(err.Error(), words) }
	var pin piv.AuthErr
	switch {
	case errors.As(err, &pin):
		return wrongPIN(name, pin.Retries)
	case gone(err):
		return wrong("put the card in and run the same command again; nothing was approved", "%s was pulled while %s", name, doing)
	case says("Smart card resource manager"), says("internal communications error"):
		return wrong("start it: systemctl start pcscd.socket", "pcscd, which speaks to smart cards, is not running")
	case says("other connections outstanding"):
		return wrong("end the program that uses it, such as gpg-agent's scdaemon or a browser", "another program is using %s", name)
	case says("selecting piv applet") && says("6a82"):
		return wrong("put a card with a PIV application in", "%s has no PIV application", name)
	case says("getting yubikey version"):
		return wrong("give --module with the card's PKCS#11 library, such as /usr/lib/x86_64-linux-gnu/opensc-pkcs11.so", "%s has not the extensions of a YubiKey", name)
	case says("smart card error 6982"):
		return wrong("run the same command again, and touch the card when it blinks", "%s did not sign: it was not touched, or wants another PIN", name)
	}
	return wrong("run the same command again; if it comes back, ask the card's maker about the error", "%s failed while %s: %v", name, doing, err)
}
