package tpm

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"coldseal/appliance/signer"
)

func (t *TPM) trouble(code signer.TroubleCode, format string, a ...any) error {
	return signer.NewTrouble(code, t.locator, fmt.Sprintf(format, a...))
}

// explain makes an error of the TPM a trouble; nil and what is one already stay as they are.
func (t *TPM) explain(what string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*signer.Trouble](err); ok {
		return err
	}
	if errors.Is(err, errSilent) {
		return t.trouble(signer.DeviceHangs, "%s: %v", what, err)
	}
	var code tpm2.TPMRC
	if !errors.As(err, &code) {
		return t.trouble(signer.DeviceGone, "%s: %v", what, err)
	}
	trouble := signer.DeviceFails
	switch {
	case errors.Is(code, tpm2.TPMRCLockout):
		trouble = signer.PINLocked
	case errors.Is(code, tpm2.TPMRCObjectMemory), errors.Is(code, tpm2.TPMRCSessionMemory), errors.Is(code, tpm2.TPMRCMemory),
		errors.Is(code, tpm2.TPMRCObjectHandles), errors.Is(code, tpm2.TPMRCSessionHandles):
		trouble = signer.ManagerMissing
	case errors.Is(code, tpm2.TPMRCCurve), errors.Is(code, tpm2.TPMRCCommandCode), errors.Is(code, tpm2.TPMRCScheme):
		trouble = signer.MechanismMissing
	case errors.Is(code, tpm2.TPMRCReferenceH0), errors.Is(code, tpm2.TPMRCReferenceS0), errors.Is(code, tpm2.TPMRCInitialize):
		trouble = signer.SessionLost
	case errors.Is(code, tpm2.TPMRCIntegrity), errors.Is(code, tpm2.TPMRCBadAuth), errors.Is(code, tpm2.TPMRCAuthFail):
		trouble = signer.KeyWrong
	}
	return t.trouble(trouble, "%s: %v", what, err)
}

// mendable tells whether opening the TPM again may help: it lost something, or what came was not from it.
func mendable(err error) bool {
	if _, ok := errors.AsType[*signer.Trouble](err); ok || errors.Is(err, errSilent) {
		return false
	}
	for _, final := range []tpm2.TPMRC{tpm2.TPMRCLockout, tpm2.TPMRCCurve, tpm2.TPMRCCommandCode, tpm2.TPMRCScheme, tpm2.TPMRCIntegrity} {
		if errors.Is(err, final) {
			return false
		}
	}
	return true
}

// pinTrouble says how many tries a wrong PIN leaves.
func (t *TPM) pinTrouble() error {
	most, errMost := t.property(tpm2.TPMPTMaxAuthFail)
	failed, errFailed := t.property(tpm2.TPMPTLockoutCounter)
	if err := errors.Join(errMost, errFailed); err != nil {
		return t.trouble(signer.PINWrong, "the TPM does not say how many tries are left: %v", err)
	}
	if failed >= most {
		return t.trouble(signer.PINLocked, "%d wrong ones", failed)
	}
	if most-failed == 1 {
		return t.trouble(signer.PINWrong, "1 try is left before it locks")
	}
	return t.trouble(signer.PINWrong, "%d tries are left before it locks", most-failed)
}

// property reads one number that the TPM says of itself.
func (t *TPM) property(which tpm2.TPMPT) (uint32, error) {
	answer, err := tpm2.GetCapability{Capability: tpm2.TPMCapTPMProperties, Property: uint32(which), PropertyCount: 1}.Execute(t.conn)
	if err != nil {
		return 0, err
	}
	list, err := answer.CapabilityData.Data.TPMProperties()
	if err != nil {
		return 0, err
	}
	if len(list.TPMProperty) != 1 || list.TPMProperty[0].Property != which {
		return 0, fmt.Errorf("no property 0x%x", uint32(which))
	}
	return list.TPMProperty[0].Value, nil
}
