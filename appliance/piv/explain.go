//go:build cgo

package piv

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-piv/piv-go/v2/piv"

	"coldseal/appliance/signer"
)

// said are the troubles that PC/SC stands for. piv-go tells them by their words alone.
var said = []struct {
	words string
	code  signer.TroubleCode
}{
	{"Smart card resource manager", signer.ManagerMissing},
	{"an internal communications error", signer.ManagerMissing},
	{"cannot find a smart card reader", signer.DeviceAbsent},
	{"reader name is not recognized", signer.DeviceGone},
	{"reader is not currently available", signer.DeviceGone},
	{"other connections outstanding", signer.DeviceBusy},
	{"no Smart Card is currently in the device", signer.DeviceGone},
	{"smart card has been removed", signer.DeviceGone},
	{"power has been removed", signer.DeviceGone},
	{"not responding to a reset", signer.DeviceGone},
	{"non-existent transaction", signer.DeviceGone},
	{"communications error with the smart card", signer.DeviceGone},
	{"supplied handle was invalid", signer.DeviceGone},
	{"scard response too short", signer.DeviceGone},
	{"smart card has been reset", signer.SessionLost},
	{"smart card error 6982", signer.SessionLost}, // the PIN is not verified any more
	{"smart card error 6a81", signer.MechanismMissing},
	{"smart card error 6d00", signer.MechanismMissing},
}

// codeOf tells which trouble an error of piv-go is, or one of ours.
func codeOf(err error) signer.TroubleCode {
	if code, is := codeOfOwn(err); is {
		return code
	}
	var pin piv.AuthErr
	if errors.As(err, &pin) {
		if pin.Retries == 0 {
			return signer.PINLocked
		}
		return signer.PINWrong
	}
	for _, s := range said {
		if strings.Contains(err.Error(), s.words) {
			return s.code
		}
	}
	return signer.DeviceFails
}

// broken tells whether the card can't be spoken to, so that opening it again may help.
func broken(err error) bool {
	if err == nil {
		return false
	}
	switch codeOf(err) {
	case signer.DeviceGone, signer.SessionLost, signer.ManagerMissing, signer.DeviceAbsent:
		return true
	}
	return false
}

// mends are what helps with a card, where the table of all devices says something else.
var mends = map[signer.TroubleCode]string{
	signer.DeviceAbsent:     "plug the card or its reader in; this shows what is there: opensc-tool --list-readers",
	signer.DeviceGone:       "put the card in again and run the same command again",
	signer.TokenAbsent:      "put the card in; this shows what is there: opensc-tool --list-readers",
	signer.TokenSwapped:     "put the right card in, or correct serial in the locator; this shows its number: ykman info",
	signer.DeviceBusy:       "end the program that uses the card, such as gpg-agent's scdaemon or a browser, and run the same command again",
	signer.MechanismMissing: "order a key that the card can hold: P-256, P-384, or with firmware 5.7 RSA-3072 and RSA-4096",
	signer.DeviceDenied:     "put the management key under the PIN: ykman piv access change-management-key --generate --protect",
}

// trouble makes a trouble with the card that the locator names.
func trouble(l signer.Locator, code signer.TroubleCode, format string, a ...any) *signer.Trouble {
	t := signer.NewTrouble(code, l, fmt.Sprintf(format, a...))
	if mend := mends[code]; mend != "" {
		t.Mend = mend
	}
	return t
}

// explain makes an error of piv-go a trouble; nil and what is one already stay as they are.
func explain(l signer.Locator, what string, err error) error {
	known, is := errors.AsType[*signer.Trouble](err)
	if err == nil || is {
		if is {
			return known
		}
		return nil
	}
	var pin piv.AuthErr
	if errors.As(err, &pin) && pin.Retries > 0 {
		left := fmt.Sprintf("%d tries are left", pin.Retries)
		if pin.Retries == 1 {
			left = "1 try is left"
		}
		return trouble(l, signer.PINWrong, "%s: %s", what, left)
	}
	code := codeOf(err)
	switch code {
	case signer.DeviceGone: // there are many words for it
		return trouble(l, code, "%s: the card was pulled", what)
	case signer.PINLocked:
		return trouble(l, code, "%s", what)
	}
	return trouble(l, code, "%s: %v", what, err)
}
