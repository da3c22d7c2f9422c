package tpm

import (
	"math/rand/v2"
	"testing"
	"time"

	"coldseal/appliance/signer"
	"coldseal/appliance/tpm/swtpm"
)

// faulty is a TPM behind a proxy, with a CA key and a receiver key.
func faulty(t testing.TB) (d *TPM, proxy *swtpm.Proxy, ca, receiver signer.KeyInfo, text, dir string) {
	t.Helper()
	machine := start(t)
	proxy, err := machine.NewProxy()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proxy.Close() })
	text, dir = "tpm:socket="+proxy.Socket, t.TempDir()
	d = open(t, text, dir)
	return d, proxy, create(t, d, "ca", signer.CA, signer.P256), create(t, d, "receiver", signer.Receiver, signer.P256), text, dir
}

// once are faults that are over when they happened.
var once = map[string]swtpm.Fault{
	"dropped before": swtpm.DropBefore, "dropped after": swtpm.DropAfter, "altered": swtpm.Alter, "cut": swtpm.Cut,
	"TPM_RC_FAILURE": swtpm.Answer(0x101), "TPM_RC_RETRY": swtpm.Answer(0x922), "TPM_RC_OBJECT_MEMORY": swtpm.Answer(0x902),
	"TPM_RC_SESSION_MEMORY": swtpm.Answer(0x903), "TPM_RC_REFERENCE_H0": swtpm.Answer(0x910), "TPM_RC_REFERENCE_S0": swtpm.Answer(0x918),
	"TPM_RC_AUTH_FAIL": swtpm.Answer(0x98e), "TPM_RC_NV_RATE": swtpm.Answer(0x920), "late": swtpm.Delay(20 * time.Millisecond),
}

// TestOpenedAgain has each fault come once, at each command of each thing that is asked: nobody notices, and the counter
// never moves twice.
func TestOpenedAgain(t *testing.T) {
	d, proxy, ca, receiver, _, _ := faulty(t)
	counter := uint64(0)
	for name, fault := range once {
		for what, f := range map[string]func() error{
			"sign": func() error { return signs(t, d, ca) },
			"ECDH": func() error { return agrees(t, d, receiver) },
			"advance": func() error {
				err := d.Advance(counter + 1)
				if err == nil {
					counter++
				}
				return err
			},
			"pin": func() error { return d.Pin([32]byte{1}) },
		} {
			for n := 1; ; n++ {
				before := proxy.Fired()
				proxy.Arm(n, fault)
				err := f()
				proxy.Disarm()
				if err != nil {
					t.Errorf("%s, %s at command %d: %v", what, name, n, err)
				}
				if proxy.Fired() == before {
					break
				}
			}
		}
	}
	if value, err := d.Counter(); err != nil || value != counter {
		t.Errorf("the counter is %d, %v; it was advanced to %d", value, err, counter)
	}
}

// TestFails has faults that stay: the trouble says which.
func TestFails(t *testing.T) {
	d, proxy, ca, _, text, dir := faulty(t)
	// An index that is not there can't be told from a TPM that lies; the operator looks.
	proxy.Arm(1, swtpm.DropBefore)
	if err := signs(t, d, ca); err != nil {
		t.Fatal(err)
	}
	proxy.Arm(1, swtpm.Answer(0x18b))
	wantTrouble(t, d.Advance(1), signer.CounterMissing)
	for code, trouble := range map[uint32]signer.TroubleCode{
		0x101: signer.DeviceFails, 0x902: signer.ManagerMissing, 0x903: signer.ManagerMissing, 0x910: signer.SessionLost, 0x921: signer.PINLocked,
	} {
		proxy.ArmFromNowOn(swtpm.Answer(code))
		wantTrouble(t, signs(t, d, ca), trouble)
		proxy.Disarm()
		if err := signs(t, d, ca); err != nil { // on a connection that none of this happened to
			t.Errorf("after %x: %v", code, err)
		}
	}
	proxy.ArmFromNowOn(swtpm.DropBefore)
	wantTrouble(t, signs(t, d, ca), signer.DeviceGone)
	proxy.Disarm()
	if err := signs(t, d, ca); err != nil {
		t.Errorf("after all that: %v", err)
	}
	proxy.ArmFromNowOn(swtpm.Answer(0x902))
	_, err := Open(locator(t, text), []byte(swtpm.PIN), dir)
	wantTrouble(t, err, signer.ManagerMissing, "tpm:device=/dev/tpmrm0")
	proxy.Disarm()
	watched := signer.Watch(signer.Place{Locator: locator(t, text), Device: d}, 300*time.Millisecond)
	proxy.Arm(1, proxy.Hang())
	_, err = watched.Sign(ca.ID(), signer.ECDSASHA256, make([]byte, 32))
	wantTrouble(t, err, signer.DeviceHangs)
	proxy.Disarm()
	if err := signs(t, d, ca); err != nil {
		t.Errorf("after it hung: %v", err)
	}
}

// TestInterruptedBeginning ends the first opening at each of its commands; the next one goes on.
func TestInterruptedBeginning(t *testing.T) {
	machine := start(t)
	proxy, err := machine.NewProxy()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proxy.Close() })
	text := "tpm:socket=" + proxy.Socket
	for n := 1; ; n++ {
		if err := machine.Clear(); err != nil {
			t.Fatal(err)
		}
		dir, before := t.TempDir(), proxy.Fired()
		for _, fault := range []swtpm.Fault{swtpm.DropAfter, swtpm.DropBefore} {
			proxy.Arm(n, fault)
			if d, err := Open(locator(t, text), []byte(swtpm.PIN), dir); err == nil {
				d.Close()
			}
			proxy.Disarm()
		}
		d, err := Open(locator(t, text), []byte(swtpm.PIN), dir)
		if err != nil {
			t.Fatalf("interrupted at command %d: %v", n, err)
		}
		if value, err := d.Counter(); err != nil || value != 0 {
			t.Errorf("interrupted at command %d: counter %d, %v", n, value, err)
		}
		if err := d.Advance(1); err != nil {
			t.Error(err)
		}
		d.Close()
		if proxy.Fired() == before {
			break
		}
	}
}

// TestFaultsAtRandom mixes everything: each answer is good or a trouble, and the counter is where it was left.
func TestFaultsAtRandom(t *testing.T) {
	d, proxy, ca, receiver, _, _ := faulty(t)
	random := rand.New(rand.NewPCG(3, 4))
	var faults []swtpm.Fault
	for _, fault := range once {
		faults = append(faults, fault)
	}
	counter := uint64(0)
	for i := range 200 {
		proxy.Arm(1+random.IntN(8), faults[random.IntN(len(faults))])
		var err error
		switch random.IntN(4) {
		case 0:
			err = agrees(t, d, receiver)
		case 1:
			if err = d.Advance(counter + 1); err == nil {
				counter++
			}
		default:
			err = signs(t, d, ca)
		}
		if err != nil {
			if _, trouble := signer.AsTrouble(err); !trouble {
				t.Fatalf("%d: %v", i, err)
			}
		}
	}
	proxy.Disarm()
	if value, err := d.Counter(); err != nil || value < counter || value > counter+1 {
		t.Errorf("counter %d, %v; advanced to %d", value, err, counter)
	}
}
