package appliance_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"coldseal/appliance"
	"coldseal/appliance/hsm/softtoken"
	"coldseal/appliance/signer"
	"coldseal/appliance/tpm/swtpm"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
)

// device is where a world's keys are, and the signer that can use it.
type device struct {
	program, locator string
}

func newDevice(t testing.TB, locator string) *device {
	t.Helper()
	program := filepath.Join(t.TempDir(), "coldseal-signer")
	build := exec.Command("go", "build", "-o", program, "coldseal/cmd/coldseal-signer")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	return &device{program, locator}
}

// flags name the device to the signer; its PIN is read from a pipe.
func (d *device) flags() ([]string, *os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	if _, err := w.WriteString(softtoken.PIN); err != nil {
		return nil, nil, errors.Join(err, r.Close(), w.Close())
	}
	return []string{"--keys", d.locator, "--pin-fd", "4"}, r, w.Close()
}

// faultyToken is SoftHSM behind a library that has faults.
func faultyToken(t *testing.T) (*device, *softtoken.Faults) {
	t.Helper()
	token, err := softtoken.SoftHSM(t.TempDir(), "coldseal test")
	if err != nil {
		t.Fatal(err)
	}
	token, faults, err := softtoken.Faulty(t.TempDir(), token)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { faults.Close() })
	return newDevice(t, token.Locator("")), faults
}

// faultyHSM is such a token, with what arms a fault at random, and what takes all of them back.
func faultyHSM(t *testing.T) (on *device, arm func(*rand.Rand), disarm func()) {
	on, faults := faultyToken(t)
	values := []uint32{0x30, 0x31, 0x32, 0x05, 0x06, 0xb3, 0xb0, 0x101, 0xe0, 0x60, 0x90, 0x190, 0x70}
	arm = func(random *rand.Rand) {
		if random == nil {
			faults.Unplug(true)
			return
		}
		value, n := values[random.IntN(len(values))], 1+random.Uint32N(12)
		switch random.IntN(20) {
		case 0:
			faults.Unplug(true)
		case 1, 2, 3:
			faults.Arm(softtoken.Sign, 1+n%4, softtoken.Alter, 0)
		case 4:
			if random.IntN(3) == 0 {
				faults.Arm(softtoken.Any, n, softtoken.Hang, 0)
			}
		case 5, 6, 7:
			faults.Arm(softtoken.Any, n, softtoken.ReturnFromNowOn, value)
		default:
			faults.Arm(softtoken.Any, n, softtoken.Return, value)
		}
	}
	return on, arm, func() { faults.Disarm(); faults.Unplug(false) }
}

// TestDeviceKeepsAKey orders that a key is destroyed which the device does not let go of. The order stands, and stops
// nothing else: the next start does without, and the one after the device gives in destroys it.
func TestDeviceKeepsAKey(t *testing.T) {
	on, faults := faultyToken(t)
	w := newWorldOn(t, time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC), base(t), on)
	made := w.mustOrder(w.request(protocol.KindCreateKey, protocol.CreateKey{Label: "second", Algorithm: "P-256"}))
	id := protocol.DigestOf(made.Key)
	faults.Arm(softtoken.DestroyObject, 1, softtoken.ReturnFromNowOn, 0x1b) // CKR_ACTION_PROHIBITED
	raw := w.encode(w.request(protocol.KindDestroyKey, protocol.DestroyKey{Key: id}))
	challenge := must[[]byte](t)(w.engine.Challenge())
	_, err := w.engine.Order(raw, [][]byte{w.approve(w.officers[0], challenge, nil, raw), w.approve(w.officers[1], challenge, nil, raw)})
	if !errors.Is(err, appliance.ErrFault) {
		t.Fatalf("the device let go of it: %v", err)
	}
	has := func() bool {
		_, err := w.config.Signer.Key(id, signer.CA)
		return err == nil
	}
	w.reopen()
	if !has() || !w.engine.State().CAs[id].Destroyed {
		t.Error("the key is gone, or its order")
	}
	w.mustOrder(w.request(protocol.KindCreateKey, protocol.CreateKey{Label: "third", Algorithm: "P-256"}))
	faults.Disarm()
	w.reopen()
	if has() {
		t.Error("the key is still there")
	}
}

// faultyTPM is swtpm behind a proxy that has faults.
func faultyTPM(t *testing.T) (on *device, arm func(*rand.Rand), disarm func()) {
	machine, err := swtpm.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { machine.Stop() })
	proxy, err := machine.NewProxy()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { proxy.Close() })
	faults := []swtpm.Fault{
		swtpm.DropBefore, swtpm.DropAfter, swtpm.Alter, swtpm.Cut, swtpm.Delay(30 * time.Millisecond), swtpm.Answer(0x101), swtpm.Answer(0x922),
		swtpm.Answer(0x902), swtpm.Answer(0x903), swtpm.Answer(0x910), swtpm.Answer(0x918), swtpm.Answer(0x98e), swtpm.Answer(0x920), swtpm.Answer(0x921),
	}
	arm = func(random *rand.Rand) {
		if random == nil {
			proxy.ArmFromNowOn(swtpm.DropBefore)
			return
		}
		fault, n := faults[random.IntN(len(faults))], 1+random.IntN(40)
		switch random.IntN(20) {
		case 0:
			proxy.ArmFromNowOn(fault)
		case 1:
			if random.IntN(3) == 0 {
				proxy.Arm(n, proxy.Hang())
			}
		default:
			proxy.Arm(n, fault)
		}
	}
	return newDevice(t, "tpm:socket="+proxy.Socket), arm, proxy.Disarm
}

// Whatever a device does, a bundle is done in spite of it, or halts and is done when the device is well again: each request
// has one certificate, which verifies, and the counter and the log agree. There are 1,000 faults in a soak.
func TestDeviceFaults(t *testing.T) {
	rounds := 40
	if os.Getenv("FIRE_ALL") != "" {
		rounds = 1000
	}
	for name, make := range map[string]func(*testing.T) (*device, func(*rand.Rand), func()){"HSM": faultyHSM, "TPM": faultyTPM} {
		t.Run(name, func(t *testing.T) {
			on, arm, disarm := make(t)
			d := newDeskOn(t, on)
			d.patience = 3 * time.Second
			d.restart()
			ca := d.certificateOf(d.issuing)
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 0))
			halted, all := 0, map[protocol.Digest]bool{}
			for round := range rounds {
				raws, groups := d.many(3*round, 3)
				bundle := d.seal(groups...)
				if round == 0 {
					arm(nil) // gone: this one halts
				} else {
					arm(random)
				}
				_, err := d.engine.Process(spool{bytes.NewReader(bundle)}, nil)
				disarm()
				if err != nil {
					if !errors.Is(err, appliance.ErrFault) {
						t.Fatalf("round %d: %v", round, err)
					}
					halted++
					d.restart()
					d.process(bundle)
				}
				r := d.read(d.responsePath(d.sequence))
				for _, raw := range raws {
					all[protocol.ID(raw)] = true
					cert, err := x509.ParseCertificate(r.of(t, raw).result.Certificate)
					if err == nil {
						err = cert.CheckSignatureFrom(ca)
					}
					if err != nil {
						t.Fatalf("round %d: %v", round, err)
					}
				}
				d.learn(r)
				d.now = d.now.Add(time.Hour) // the agent has its bundles a day
			}
			times := map[protocol.Digest]int{}
			if err := d.engine.EachLeaf(0, func(_ uint64, data, salted []byte) error {
				leaf, err := auditlog.ParseLeaf(data)
				if err != nil || leaf.Kind != auditlog.Issued {
					return err
				}
				result, err := protocol.ParseResult(salted[16:])
				times[result.ID]++
				return err
			}); err != nil {
				t.Fatal(err)
			}
			for id := range all {
				if times[id] != 1 {
					t.Errorf("request %s has %d certificates", id, times[id])
				}
			}
			t.Logf("%d faults, %d of them halted a bundle, %d serials burned", rounds, halted, d.logged(auditlog.Burned))
			if halted == 0 || halted == rounds {
				t.Errorf("%d of %d faults halted a bundle: that tests nothing", halted, rounds)
			}
			d.restart()
		})
	}
}
