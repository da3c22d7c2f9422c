package signer

import (
	"errors"
	"strings"

	"coldseal/appliance/wire"
)

// TroubleCode names a trouble with a device, for ever.
type TroubleCode string

// The troubles that are told apart.
const (
	NotBuilt         TroubleCode = "not-built"
	StoreClosed      TroubleCode = "key-store-closed"
	StoreBusy        TroubleCode = "key-store-busy"
	ModuleMissing    TroubleCode = "module-missing"
	ModuleFails      TroubleCode = "module-fails"
	TokenAbsent      TroubleCode = "token-absent"
	TokenLabel       TroubleCode = "token-label"
	TokenSwapped     TroubleCode = "token-swapped"
	PINNeeded        TroubleCode = "pin-needed"
	PINWrong         TroubleCode = "pin-wrong"
	PINLocked        TroubleCode = "pin-locked"
	MechanismMissing TroubleCode = "mechanism-missing"
	SessionLost      TroubleCode = "session-lost"
	DeviceAbsent     TroubleCode = "device-absent"
	DeviceDenied     TroubleCode = "device-denied"
	DeviceGone       TroubleCode = "device-gone"
	DeviceFails      TroubleCode = "device-fails"
	DeviceHangs      TroubleCode = "device-hangs"
	DeviceBusy       TroubleCode = "device-busy"
	ManagerMissing   TroubleCode = "resource-manager-missing"
	CounterMissing   TroubleCode = "counter-missing"
	CounterForeign   TroubleCode = "counter-foreign"
	KeyMissing       TroubleCode = "key-missing"
	KeyWrong         TroubleCode = "key-wrong"
	ManagementKey    TroubleCode = "management-key"
	ShareMissing     TroubleCode = "share-missing"
	ObjectTaken      TroubleCode = "object-taken"
)

// TroubleRow is a row of the table of troubles. In Mend, MODULE, TOKEN, DEVICE and INDEX stand for what the locator says; what
// differs between devices stands behind their names: "PKCS#11: …; TPM: …; PIV: …".
type TroubleRow struct {
	Code    TroubleCode
	Meaning string
	Mend    string
}

// Troubles is the one table of them; the documentation is made from it.
func Troubles() []TroubleRow {
	return []TroubleRow{
		{NotBuilt, "this coldseal-signer was built without what the device needs", "install a C compiler and libpcsclite-dev, then: make build"},
		{StoreClosed, "the key store does not open", "check the passphrase or the secret file, then run the same command again"},
		{StoreBusy, "another coldseal-appliance is at work with this state directory", "wait until it has ended, then run the same command again; serve ends with Ctrl-C"},
		{ModuleMissing, "the device's PKCS#11 library is not there, or does not load", "install the device's package, or correct module-path; this tries it: pkcs11-tool --module MODULE --show-info"},
		{ModuleFails, "the PKCS#11 library does not initialize", "check init-args and environment of the locator, and the library's own configuration; this tries it: pkcs11-tool --module MODULE --list-slots"},
		{TokenAbsent, "no token is there", "plug the device in; a variable of yours, such as SOFTHSM2_CONF, reaches the library only by environment= in the locator; this shows what is there: pkcs11-tool --module MODULE --list-token-slots"},
		{TokenLabel, "tokens are there, but none with this label", "correct token in the locator; this shows the labels: pkcs11-tool --module MODULE --list-token-slots"},
		{TokenSwapped, "a device of this name is there, but another one than was named", "put the right one back; its keys were cloned to this one? then correct serial in the locator, and run: coldseal-appliance keys"},
		{PINNeeded, "the device wants a PIN and none was given", "run it again at a terminal, or with --pin-file after --keys"},
		{PINWrong, "the PIN is wrong", "run the same command again with the right PIN, before the device locks"},
		{PINLocked, "the PIN is locked after too many wrong ones", "PKCS#11: pkcs11-tool --module MODULE --token-label TOKEN --login --login-type so --init-pin; TPM: wait, or tpm2_dictionarylockout --clear-lockout; PIV: ykman piv access unblock-pin"},
		{MechanismMissing, "the device can't make or use keys of this kind", "order a key of another algorithm, or keep such keys elsewhere (--keys … use=); this lists what there is: coldseal-appliance doctor"},
		{SessionLost, "the device ended the session and does not open another", "run the same command again; if it comes back, restart the device"},
		{DeviceAbsent, "the device is not there", "switch the TPM on in the machine's firmware, or start swtpm; this shows what is there: ls -l DEVICE"},
		{DeviceDenied, "the device may not be opened", "run it as a user of the device's group (tss), or as root; this shows who may: ls -l DEVICE"},
		{DeviceGone, "the device went away", "plug it in again and run the same command again"},
		{DeviceFails, "the device reports an error", "run the same command again; if it comes back, ask the device's maker about the error"},
		{DeviceHangs, "the device does not answer", "take it out and put it in again, or restart it; then run the same command again"},
		{DeviceBusy, "another program is using the device", "end that program; this shows it: fuser -v DEVICE"},
		{ManagerMissing, "the device's resource manager is not there, or has no room", "TPM: use the resource manager's device in the locator: tpm:device=/dev/tpmrm0; PIV: start pcscd: systemctl start pcscd.socket"},
		{CounterMissing, "the TPM has not the counter of this appliance: it was cleared, or is another TPM", "put the right TPM back; if it is lost, restore a backup without it: the counter is in a file from then on"},
		{CounterForeign, "the TPM's NV indices are used by something else", "give the locator an index of its own: tpm:…?index=INDEX; this lists those in use: tpm2_getcap handles-nv-index"},
		{KeyMissing, "a key is not on the device", "this compares device and ledger: coldseal-appliance keys; put the right device back, or restore the key"},
		{KeyWrong, "a key on the device is not what its name says", "this compares device and ledger: coldseal-appliance keys; put back what was there"},
		{ManagementKey, "the card can't be written to with this management key", "give the card's own with --card-key-file, or put it under the PIN: ykman piv access change-management-key --generate --protect"},
		{ShareMissing, "the card holds no share of a backup", "take the card that was there when the backup was made"},
		{ObjectTaken, "where a share would be, the card holds something else", "take another card; this shows what it is: yubico-piv-tool -a verify-pin -a read-object --id 0x5fc121"},
	}
}

// Trouble is what is wrong with a device. It is an error whose Hint says what mends it.
type Trouble struct {
	Code TroubleCode
	What string // with what, and what the device said
	Mend string // the row's, with the names of this device
}

// NewTrouble makes the trouble of a device. What says what was tried and how the device answered.
func NewTrouble(code TroubleCode, device Locator, what string) *Trouble {
	name := device.String() + ": "
	if device.Scheme() == Softkey { // there is one, which its meaning names
		name = ""
	}
	t := &Trouble{Code: code, What: name + what}
	for _, row := range Troubles() {
		if row.Code == code {
			t.What, t.Mend = name+row.Meaning+": "+what, mendOf(device, row.Mend)
		}
	}
	path := device.Attribute("device")
	if path == "" {
		path = device.Attribute("socket")
	}
	for name, value := range map[string]string{"MODULE": device.Attribute("module-path"), "TOKEN": device.Attribute("token"), "DEVICE": path} {
		if value != "" {
			t.Mend = strings.ReplaceAll(t.Mend, name, value)
		}
	}
	return t
}

// mendOf gives what mends this device, where devices differ.
func mendOf(device Locator, mend string) string {
	mark := map[string]string{PKCS11: "PKCS#11: ", TPM: "TPM: ", PIV: "PIV: "}[device.Scheme()]
	for part := range strings.SplitSeq(mend, "; ") {
		if own, found := strings.CutPrefix(part, mark); found && mark != "" {
			return own
		}
	}
	return mend
}

func (t *Trouble) Error() string { return t.What }

// Hint is the command that mends it.
func (t *Trouble) Hint() string { return t.Mend }

const hintMark = "\nhint: "

// refused is the trouble as it crosses the wire.
func (t *Trouble) refused() error {
	return &wire.Refused{Code: string(t.Code), Message: t.What + hintMark + t.Mend}
}

// AsTrouble finds the trouble in an error of the client.
func AsTrouble(err error) (*Trouble, bool) {
	if t, ok := errors.AsType[*Trouble](err); ok {
		return t, true
	}
	refused, ok := errors.AsType[*wire.Refused](err)
	if !ok {
		return nil, false
	}
	for _, row := range Troubles() {
		if refused.Code == string(row.Code) {
			what, mend, _ := strings.Cut(refused.Message, hintMark)
			return &Trouble{row.Code, what, mend}, true
		}
	}
	return nil, false
}
