//go:build cgo

package hsm

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"github.com/miekg/pkcs11"

	"coldseal/appliance/signer"
)

// maxSessions is how many sessions sign at once. Network HSMs reach their rate with some; software has as many
// processors as there are.
const maxSessions = 8

// Token is an open token.
type Token struct {
	locator signer.Locator
	module  *pkcs11.Ctx
	pin     []byte
	foreign bool // somebody else in this process initialized the library, and ends it

	mu    sync.RWMutex // held for writing while the token is opened again
	epoch uint64       // how often it was opened
	open  *opened
	over  error // the PIN was refused when it was opened again: it is not tried once more
}

// opened is what is lost with a session.
type opened struct {
	slot       uint
	serial     string
	mechanisms map[uint]bool
	control    pkcs11.SessionHandle      // stays open, for the login goes with the last session
	free       chan pkcs11.SessionHandle // for signing
	keys       map[[32]byte]key
}

// Open loads the library, finds the token, logs in and finds the keys. The PIN is kept until Close, to log in again
// where a session is lost.
func Open(l signer.Locator, pin []byte) (signer.Device, error) {
	t := &Token{locator: l, pin: bytes.Clone(pin)}
	if err := t.load(); err != nil {
		return nil, err
	}
	var err error
	if t.open, err = t.begin(""); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

func (t *Token) trouble(code signer.TroubleCode, format string, a ...any) error {
	return signer.NewTrouble(code, t.locator, fmt.Sprintf(format, a...))
}

// load loads and initializes the library.
func (t *Token) load() error {
	path := t.locator.Attribute("module-path")
	if info, err := os.Stat(path); err != nil {
		return t.trouble(signer.ModuleMissing, "%v", err)
	} else if !info.Mode().IsRegular() {
		return t.trouble(signer.ModuleMissing, "%s is not a file", path)
	}
	if environment := t.locator.Attribute("environment"); environment != "" {
		for assignment := range strings.SplitSeq(environment, ",") {
			name, value, _ := strings.Cut(assignment, "=")
			if err := os.Setenv(name, value); err != nil {
				return t.trouble(signer.ModuleFails, "environment %s: %v", name, err)
			}
		}
	}
	if t.module = pkcs11.New(path); t.module == nil {
		return t.trouble(signer.ModuleMissing, "%s is not a PKCS#11 library, or one that it needs is missing", path)
	}
	return t.initialize()
}

func (t *Token) initialize() error {
	var options []pkcs11.InitializeOption
	if args := t.locator.Attribute("init-args"); args != "" {
		text := append([]byte(args), 0)
		options = append(options, pkcs11.InitializeWithReserved(unsafe.Pointer(&text[0])))
	}
	err := t.module.Initialize(options...)
	if t.foreign = errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED)); err != nil && !t.foreign {
		return t.trouble(signer.ModuleFails, "%v", err)
	}
	return nil
}

// begin opens sessions on the token, on that with the serial number if one is given, and logs in.
func (t *Token) begin(serial string) (_ *opened, err error) {
	slot, info, err := t.find(serial)
	if err != nil {
		return nil, err
	}
	o := &opened{slot: slot, serial: info.SerialNumber, mechanisms: map[uint]bool{}}
	mechanisms, err := t.module.GetMechanismList(slot)
	if err != nil {
		return nil, t.explain("list mechanisms", err)
	}
	for _, m := range mechanisms {
		o.mechanisms[m.Mechanism] = true
	}
	if o.control, err = t.module.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION); err != nil {
		return nil, t.explain("open session", err)
	}
	defer func() {
		if err != nil {
			t.end(o)
		}
	}()
	if err := t.login(o, info); err != nil {
		return nil, err
	}
	sessions := uint(maxSessions)
	if most := info.MaxSessionCount; most != pkcs11.CK_EFFECTIVELY_INFINITE && most != ^uint(0) {
		sessions = max(min(sessions, most-1), 1)
	}
	o.free = make(chan pkcs11.SessionHandle, sessions)
	for range sessions {
		session, err := t.module.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
		if errors.Is(err, pkcs11.Error(pkcs11.CKR_SESSION_COUNT)) && len(o.free) > 0 {
			break
		}
		if err != nil {
			return nil, t.explain("open session", err)
		}
		o.free <- session
	}
	o.keys, err = t.findKeys(o)
	return o, err
}

// find finds the slot of the token. Slots without an initialized token don't count.
func (t *Token) find(serial string) (uint, pkcs11.TokenInfo, error) {
	slots, err := t.module.GetSlotList(true)
	if err != nil {
		return 0, pkcs11.TokenInfo{}, t.explain("list slots", err)
	}
	label := t.locator.Attribute("token")
	var labels, others []string
	var found []uint
	var infos []pkcs11.TokenInfo
	for _, slot := range slots {
		info, err := t.module.GetTokenInfo(slot)
		if err != nil || info.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 {
			continue // taken out this moment, or not a token yet
		}
		info.Label, info.SerialNumber = trim(info.Label), trim(info.SerialNumber)
		if info.Label != label {
			labels = append(labels, fmt.Sprintf("%q", readable([]byte(info.Label), 32)))
			continue
		}
		if t.fits(info) && (serial == "" || info.SerialNumber == serial) {
			found, infos = append(found, slot), append(infos, info)
		} else {
			others = append(others, fmt.Sprintf("%q", readable([]byte(info.SerialNumber), 32)))
		}
	}
	switch {
	case len(found) == 1:
		return found[0], infos[0], nil
	case len(found) > 1:
		return 0, pkcs11.TokenInfo{}, t.trouble(signer.TokenLabel, "%d tokens have this label; add serial= to the locator", len(found))
	case len(others) > 0:
		return 0, pkcs11.TokenInfo{}, t.trouble(signer.TokenSwapped, "the token with this label has the serial number %s", strings.Join(others, ", "))
	case len(labels) > 0:
		return 0, pkcs11.TokenInfo{}, t.trouble(signer.TokenLabel, "there are %s", strings.Join(labels, ", "))
	}
	return 0, pkcs11.TokenInfo{}, t.trouble(signer.TokenAbsent, "%d slots, none with a token", len(slots))
}

func trim(text string) string { return strings.TrimRight(text, " \x00") }

// fits compares what the locator says of the token beside its label.
func (t *Token) fits(info pkcs11.TokenInfo) bool {
	for name, is := range map[string]string{"serial": info.SerialNumber, "manufacturer": info.ManufacturerID, "model": info.Model} {
		if want := t.locator.Attribute(name); want != "" && want != trim(is) {
			return false
		}
	}
	return true
}

// login logs in, which is for the whole process. A PIN that is locked is not tried.
func (t *Token) login(o *opened, info pkcs11.TokenInfo) error {
	if t.locator.Attribute("login") == "none" {
		return nil
	}
	if info.Flags&pkcs11.CKF_USER_PIN_LOCKED != 0 {
		return t.trouble(signer.PINLocked, "the token says so; nothing was tried")
	}
	err := t.module.Login(o.control, pkcs11.CKU_USER, string(t.pin))
	if err == nil || errors.Is(err, pkcs11.Error(pkcs11.CKR_USER_ALREADY_LOGGED_IN)) {
		return nil
	}
	if !errors.Is(err, pkcs11.Error(pkcs11.CKR_PIN_INCORRECT)) {
		return t.explain("log in", err)
	}
	left := "the token does not say how many tries are left"
	if now, err := t.module.GetTokenInfo(o.slot); err == nil {
		switch {
		case now.Flags&pkcs11.CKF_USER_PIN_LOCKED != 0:
			return t.trouble(signer.PINLocked, "this was the last try")
		case now.Flags&pkcs11.CKF_USER_PIN_FINAL_TRY != 0:
			left = "1 try left, then it locks"
		case now.Flags&pkcs11.CKF_USER_PIN_COUNT_LOW != 0:
			left = "few tries left"
		}
	}
	return t.trouble(signer.PINWrong, "%s", left)
}

// end closes the sessions of o; what can't be closed is gone already.
func (t *Token) end(o *opened) {
	_ = t.module.CloseAllSessions(o.slot)
}

// again opens the token once more, unless somebody else has since epoch. It must be the same token with the same keys.
func (t *Token) again(epoch uint64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.epoch != epoch || t.over != nil {
		return t.over
	}
	before := t.open
	t.end(before)
	next, err := t.beginLike(before)
	trouble, _ := signer.AsTrouble(err)
	if trouble != nil && !t.foreign && slices.Contains([]signer.TroubleCode{signer.TokenAbsent, signer.TokenLabel, signer.DeviceFails, signer.KeyMissing}, trouble.Code) {
		// Some libraries only see what was plugged in anew when they begin anew.
		_ = t.module.Finalize()
		if err = t.initialize(); err == nil {
			next, err = t.beginLike(before)
		}
		trouble, _ = signer.AsTrouble(err)
	}
	switch {
	case trouble != nil && (trouble.Code == signer.TokenAbsent || trouble.Code == signer.TokenLabel):
		return t.trouble(signer.DeviceGone, "%s", trouble.What)
	case trouble != nil && (trouble.Code == signer.PINWrong || trouble.Code == signer.PINLocked):
		t.over = err
	}
	if err != nil {
		return err
	}
	t.epoch++
	t.open = next
	return nil
}

// beginLike opens the same token as before, and asks that it has the same keys.
func (t *Token) beginLike(before *opened) (*opened, error) {
	next, err := t.begin(before.serial)
	if err != nil {
		return nil, err
	}
	for id, k := range before.keys {
		if _, still := next.keys[id]; !still {
			t.end(next) // and look again the next time
			return nil, t.trouble(signer.KeyMissing, "key %s was there before the session was lost", k.info.Label)
		}
	}
	return next, nil
}

// use runs f with a session. If it fails for something that a new session may mend, the token is opened again and f runs
// once more.
func (t *Token) use(what string, f func(*opened, pkcs11.SessionHandle) error) error {
	epoch, err := t.try(f)
	if err == nil || !mendable(err) {
		return t.explain(what, err)
	}
	if err := t.again(epoch); err != nil {
		return err
	}
	_, err = t.try(f)
	return t.explain(what, err)
}

func (t *Token) try(f func(*opened, pkcs11.SessionHandle) error) (epoch uint64, err error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	session := <-t.open.free
	defer func() { t.open.free <- session }()
	return t.epoch, f(t.open, session)
}

// Close logs out and overwrites the PIN.
func (t *Token) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.pin)
	if t.open != nil {
		t.end(t.open)
	}
	if t.foreign {
		return nil
	}
	if err := t.module.Finalize(); err != nil && !errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED)) {
		return t.explain("end", err)
	}
	return nil
}
