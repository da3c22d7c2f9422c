//go:build cgo

package hsm

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"coldseal/appliance/hsm/softtoken"
	"coldseal/appliance/signer"
)

// faulty is SoftHSM behind a library that has faults, with a key for signing and a receiver key.
func faulty(t testing.TB) (locator string, faults *softtoken.Faults, ca, receiver signer.KeyInfo) {
	t.Helper()
	token := softHSM(t)
	d := open(t, token.Locator(""))
	ca, receiver = create(t, d, "ca", signer.CA, signer.P256), create(t, d, "receiver", signer.Receiver, signer.P256)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	token, faults, err := softtoken.Faulty(t.TempDir(), token)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { faults.Close() })
	return token.Locator(""), faults, ca, receiver
}

// lost are what tokens answer when a session or the token itself was lost for a moment.
var lost = []uint32{
	pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_USER_NOT_LOGGED_IN, pkcs11.CKR_DEVICE_REMOVED,
	pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_KEY_HANDLE_INVALID,
	pkcs11.CKR_OPERATION_ACTIVE, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED, pkcs11.CKR_DEVICE_MEMORY,
}

// TestOpenedAgain has each of them come once, at each call that signing and agreeing makes: nobody notices.
func TestOpenedAgain(t *testing.T) {
	locator, faults, ca, receiver := faulty(t)
	d := open(t, locator)
	in := input(signer.ECDSASHA256)
	for _, value := range lost {
		for _, function := range []uint32{softtoken.SignInit, softtoken.Sign} {
			before := faults.Fired()
			faults.Arm(function, 1, softtoken.Return, value)
			signature, err := d.Sign(ca.ID(), signer.ECDSASHA256, in)
			if err != nil || !verifies(t, ca, signer.ECDSASHA256, in, signature) || faults.Fired() == before {
				t.Errorf("0x%x in function %d: %v", value, function, err)
			}
		}
		faults.Arm(softtoken.DeriveKey, 1, softtoken.Return, value)
		agree(t, d, receiver)
	}
}

// TestFails has each come again and again: the trouble says which.
func TestFails(t *testing.T) {
	for value, code := range map[uint32]signer.TroubleCode{
		pkcs11.CKR_DEVICE_REMOVED:             signer.DeviceGone,
		pkcs11.CKR_SESSION_HANDLE_INVALID:     signer.SessionLost,
		pkcs11.CKR_USER_NOT_LOGGED_IN:         signer.SessionLost,
		pkcs11.CKR_DEVICE_ERROR:               signer.DeviceFails,
		pkcs11.CKR_KEY_HANDLE_INVALID:         signer.KeyMissing,
		pkcs11.CKR_MECHANISM_INVALID:          signer.MechanismMissing,
		pkcs11.CKR_KEY_TYPE_INCONSISTENT:      signer.KeyWrong,
		pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED: signer.KeyWrong,
		0x80000001:                            signer.DeviceFails, // of a vendor's own
	} {
		locator, faults, ca, _ := faulty(t)
		d := open(t, locator)
		faults.Arm(softtoken.SignInit, 1, softtoken.ReturnFromNowOn, value)
		_, err := d.Sign(ca.ID(), signer.ECDSASHA256, make([]byte, 32))
		wantTrouble(t, err, code, "sign")
		faults.Disarm()
		if _, err := d.Sign(ca.ID(), signer.ECDSASHA256, make([]byte, 32)); err != nil {
			t.Errorf("after 0x%x was mended: %v", value, err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestPINs has the library say what SoftHSM, which never locks, does not.
func TestPINs(t *testing.T) {
	text, faults, _, _ := faulty(t)
	for value, code := range map[uint32]signer.TroubleCode{
		pkcs11.CKR_PIN_INCORRECT: signer.PINWrong, pkcs11.CKR_PIN_LOCKED: signer.PINLocked, pkcs11.CKR_PIN_EXPIRED: signer.PINLocked,
		pkcs11.CKR_USER_PIN_NOT_INITIALIZED: signer.PINNeeded,
	} {
		faults.Arm(softtoken.Login, 1, softtoken.Return, value)
		_, err := Open(locator(t, text), []byte(softtoken.PIN))
		wantTrouble(t, err, code)
	}
	// A PIN that was changed while the token was open is tried once and never again: the token would lock.
	d := open(t, text)
	ca, err := d.Keys()
	if err != nil {
		t.Fatal(err)
	}
	faults.Arm(softtoken.SignInit, 1, softtoken.Return, pkcs11.CKR_USER_NOT_LOGGED_IN)
	d.pin = []byte("0000")
	_, err = d.Sign(ca[0].ID(), signer.ECDSASHA256, make([]byte, 32))
	wantTrouble(t, err, signer.PINWrong)
	faults.Arm(softtoken.Login, 1, softtoken.Return, pkcs11.CKR_GENERAL_ERROR)
	before := faults.Fired()
	_, err = d.Sign(ca[0].ID(), signer.ECDSASHA256, make([]byte, 32))
	wantTrouble(t, err, signer.PINWrong)
	if faults.Fired() != before {
		t.Error("it tried the PIN again")
	}
}

// TestUnplugged takes the token out and puts it back.
func TestUnplugged(t *testing.T) {
	text, faults, ca, _ := faulty(t)
	d := open(t, text)
	faults.Unplug(true)
	_, err := d.Sign(ca.ID(), signer.ECDSASHA256, make([]byte, 32))
	wantTrouble(t, err, signer.DeviceGone, "plug it in again")
	_, err = Open(locator(t, text), []byte(softtoken.PIN))
	wantTrouble(t, err, signer.TokenAbsent)
	faults.Unplug(false)
	if _, err := d.Sign(ca.ID(), signer.ECDSASHA256, make([]byte, 32)); err != nil {
		t.Errorf("after it was put back: %v", err)
	}
}

// TestHang leaves a call that does not come back alone, and says so.
func TestHang(t *testing.T) {
	text, faults, ca, _ := faulty(t)
	l := locator(t, text)
	device, err := Open(l, []byte(softtoken.PIN)) // and never closed: its library hangs
	if err != nil {
		t.Fatal(err)
	}
	watched := signer.Watch(signer.Place{Locator: l, Device: device}, 300*time.Millisecond)
	faults.Arm(softtoken.Sign, 1, softtoken.Hang, 0)
	_, err = watched.Sign(ca.ID(), signer.ECDSASHA256, make([]byte, 32))
	wantTrouble(t, err, signer.DeviceHangs, "restart it")
}

// TestCreateFails makes no key where any call fails, leaves nothing behind that looks like one, and makes it the next time.
func TestCreateFails(t *testing.T) {
	text, faults, _, _ := faulty(t)
	d := open(t, text)
	calls := faults.Calls()
	made := create(t, d, "probe", signer.CA, signer.P256)
	calls = faults.Calls() - calls
	if err := d.Destroy(made.ID()); err != nil {
		t.Fatal(err)
	}
	for n := range calls {
		faults.Arm(softtoken.Any, n+1, softtoken.Return, pkcs11.CKR_DEVICE_ERROR)
		key, _, err := d.Create("probe", signer.CA, signer.P256)
		faults.Disarm()
		keys, listErr := d.Keys()
		if listErr != nil {
			t.Fatal(listErr)
		}
		there := 0
		for _, k := range keys {
			if k.Label == "probe" {
				key = k
				there++
			}
		}
		if there > 1 || err == nil && there != 1 {
			t.Errorf("call %d: %v, and %d keys", n, err, there)
		}
		if there == 1 { // it was made all the same; the engine takes it over
			if err := d.Destroy(key.ID()); err != nil {
				t.Fatalf("call %d: %v", n, err)
			}
		}
	}
	create(t, d, "probe", signer.CA, signer.P256)
}

// TestFaultsUnderLoad has faults at random while many sign: each gets a good signature or a trouble.
func TestFaultsUnderLoad(t *testing.T) {
	text, faults, ca, _ := faulty(t)
	d := open(t, text)
	stop := make(chan struct{})
	var signing sync.WaitGroup
	for range 4 {
		signing.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				in := input(signer.ECDSASHA256)
				signature, err := d.Sign(ca.ID(), signer.ECDSASHA256, in)
				if _, trouble := errors.AsType[*signer.Trouble](err); err != nil && !trouble {
					t.Errorf("not a trouble: %v", err)
				}
				if err == nil && !verifies(t, ca, signer.ECDSASHA256, in, signature) {
					t.Error("a bad signature")
				}
			}
		})
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		before := faults.Fired()
		faults.Arm(softtoken.Any, 1+random.Uint32N(30), softtoken.Return, lost[random.IntN(len(lost))])
		for deadline := time.Now().Add(20 * time.Second); faults.Fired() == before; time.Sleep(100 * time.Microsecond) {
			if time.Now().After(deadline) {
				t.Fatal("nobody signs any more")
			}
		}
	}
	close(stop)
	signing.Wait()
	if _, err := d.Sign(ca.ID(), signer.ECDSASHA256, make([]byte, 32)); err != nil {
		t.Errorf("after all that: %v", err)
	}
}
