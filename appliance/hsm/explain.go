//go:build cgo

package hsm

import (
	"errors"

	"github.com/miekg/pkcs11"

	"coldseal/appliance/signer"
)

// codes are the troubles that return values of PKCS#11 stand for; any other is DeviceFails.
var codes = map[pkcs11.Error]signer.TroubleCode{
	pkcs11.CKR_DEVICE_REMOVED:             signer.DeviceGone,
	pkcs11.CKR_TOKEN_NOT_PRESENT:          signer.DeviceGone,
	pkcs11.CKR_TOKEN_NOT_RECOGNIZED:       signer.DeviceGone,
	pkcs11.CKR_SLOT_ID_INVALID:            signer.DeviceGone,
	pkcs11.CKR_SESSION_CLOSED:             signer.SessionLost,
	pkcs11.CKR_SESSION_COUNT:              signer.SessionLost,
	pkcs11.CKR_SESSION_HANDLE_INVALID:     signer.SessionLost,
	pkcs11.CKR_USER_NOT_LOGGED_IN:         signer.SessionLost,
	pkcs11.CKR_OBJECT_HANDLE_INVALID:      signer.KeyMissing,
	pkcs11.CKR_KEY_HANDLE_INVALID:         signer.KeyMissing,
	pkcs11.CKR_MECHANISM_INVALID:          signer.MechanismMissing,
	pkcs11.CKR_MECHANISM_PARAM_INVALID:    signer.MechanismMissing,
	pkcs11.CKR_KEY_TYPE_INCONSISTENT:      signer.KeyWrong,
	pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED: signer.KeyWrong,
	pkcs11.CKR_KEY_SIZE_RANGE:             signer.MechanismMissing,
	pkcs11.CKR_PIN_INCORRECT:              signer.PINWrong,
	pkcs11.CKR_PIN_INVALID:                signer.PINWrong,
	pkcs11.CKR_PIN_LEN_RANGE:              signer.PINWrong,
	pkcs11.CKR_PIN_EXPIRED:                signer.PINLocked,
	pkcs11.CKR_PIN_LOCKED:                 signer.PINLocked,
	pkcs11.CKR_USER_PIN_NOT_INITIALIZED:   signer.PINNeeded,
	pkcs11.CKR_FUNCTION_NOT_SUPPORTED:     signer.MechanismMissing,
}

// explain makes an error of the library a trouble; nil and what is one already stay as they are.
func (t *Token) explain(what string, err error) error {
	var value pkcs11.Error
	if !errors.As(err, &value) {
		return err
	}
	code, known := codes[value]
	if !known {
		code = signer.DeviceFails
	}
	return t.trouble(code, "%s: %v", what, value)
}

// mendable tells whether opening the token again may help.
func mendable(err error) bool {
	var value pkcs11.Error
	if !errors.As(err, &value) {
		return false
	}
	switch codes[value] {
	case signer.MechanismMissing, signer.KeyWrong, signer.PINWrong, signer.PINLocked, signer.PINNeeded:
		return false
	}
	return true
}
