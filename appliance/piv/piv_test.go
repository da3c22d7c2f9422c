//go:build cgo

package piv

import (
	"bufio"
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/go-piv/piv-go/v2/piv"

	"coldseal/appliance/signer"
)

// TestMain runs the tests where there are virtual readers: agent/station/pivtest is a program, for the two sides of the
// gap import nothing of each other.
func TestMain(m *testing.M) {
	if os.Getenv("PIVTEST") != "" {
		os.Exit(m.Run())
	}
	c := exec.Command("go", append([]string{"run", "coldseal/agent/station/pivtest", "--readers", strconv.Itoa(readers)}, os.Args...)...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := c.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// tell does something with the readers (agent/station/pivtest/control.go).
func tell(t testing.TB, format string, a ...any) string {
	t.Helper()
	conn, err := net.Dial("unix", os.Getenv("PIVTEST"))
	if err != nil {
		t.Error(err)
		return ""
	}
	defer conn.Close()
	fmt.Fprintf(conn, format+"\n", a...)
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.HasPrefix(answer, "ok") {
		t.Errorf(format+": %s %v", append(a, answer, err)...)
	}
	return strings.TrimSpace(strings.TrimPrefix(answer, "ok"))
}

const readers = 16

func readerName(i int) string { return fmt.Sprintf("Yubico Yubikey %c 00 %02d", 'A'+i/2, i%2) }

const pin = "123456"

// newCard puts a new card of that firmware into a reader, with a management key under its PIN.
func newCard(t testing.TB, reader int, name, version string) (serial uint32) {
	t.Helper()
	tell(t, "new %d %s %s", reader, name, version)
	card, err := piv.Open(readerName(reader))
	if err != nil {
		t.Fatal(err)
	}
	defer card.Close()
	key := bytes.Repeat([]byte{7}, 24)
	err = errors.Join(card.SetManagementKey(piv.DefaultManagementKey, key), card.SetMetadata(key, &piv.Metadata{ManagementKey: &key}))
	if serial, errSerial := card.Serial(); err == nil && errSerial == nil {
		return serial
	}
	t.Fatal(err)
	return 0
}

func locator(t testing.TB, serial uint32, reader int) signer.Locator {
	t.Helper()
	l, err := signer.ParseLocator(strings.ReplaceAll(fmt.Sprintf("piv:serial=%d;reader=%s", serial, readerName(reader)), " ", "%20"))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func open(t testing.TB, serial uint32, reader int) signer.Device {
	t.Helper()
	d, err := Open(locator(t, serial, reader), []byte(pin))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func wants(t testing.TB, err error, code signer.TroubleCode, words string) {
	t.Helper()
	trouble, is := errors.AsType[*signer.Trouble](err)
	if !is || trouble.Code != code || !strings.Contains(trouble.What, words) || trouble.Mend == "" {
		t.Errorf("%v (%+v), want %s with %q", err, trouble, code, words)
	}
}

func TestKeys(t *testing.T) {
	d := open(t, newCard(t, 0, "keys", "5.7.1"), 0)
	made := map[string]signer.KeyInfo{}
	for _, k := range []struct {
		label     string
		purpose   signer.Purpose
		algorithm signer.Algorithm
	}{{"root", signer.CA, signer.P384}, {"issuing", signer.CA, signer.P256}, {"rsa", signer.CA, signer.RSA3072}, {"seal", signer.Seal, signer.P256}, {"receiver", signer.Receiver, signer.P256}} {
		info, attestation, err := d.Create(k.label, k.purpose, k.algorithm)
		if err != nil {
			t.Fatal(err)
		}
		made[k.label] = info
		attested(t, info, attestation)
	}
	keys, err := d.Keys()
	if err != nil || len(keys) != len(made) {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	for _, k := range keys {
		if m := made[k.Label]; m.ID() != k.ID() || m.Purpose != k.Purpose || m.Algorithm != k.Algorithm {
			t.Errorf("key %+v, made %+v", k, m)
		}
	}
	digest, digest384 := sha256.Sum256([]byte("x")), sha512.Sum384([]byte("x"))
	for _, s := range []struct {
		label  string
		scheme signer.Scheme
		digest []byte
	}{{"root", signer.ECDSASHA384, digest384[:]}, {"issuing", signer.ECDSASHA256, digest[:]}, {"rsa", signer.PKCS1SHA256, digest[:]}, {"rsa", signer.PSSSHA384, digest384[:]}, {"seal", signer.ECDSASHA256, digest[:]}} {
		signature, err := d.Sign(made[s.label].ID(), s.scheme, s.digest)
		if err != nil || !verifies(t, made[s.label], s.scheme, s.digest, signature) {
			t.Errorf("%s by %s: %v", s.label, s.scheme, err)
		}
	}
	agree(t, d, made["receiver"])
	objects, err := d.Objects()
	if err != nil || len(objects) != len(made) {
		t.Fatalf("%d objects, %v", len(objects), err)
	}
	for _, o := range objects {
		if o.Class != "private key" || o.Note != "" || o.Key != made[o.Label].ID() {
			t.Errorf("object %+v", o)
		}
	}
	if d.Holds(signer.CA, signer.Ed25519) || d.Holds(signer.Log, signer.Ed25519) || d.Holds(signer.Seal, signer.RSA3072) || !d.Holds(signer.CA, signer.RSA4096) || d.Parallel([32]byte{}) != 1 {
		t.Error("it holds what it doesn't, or the other way round")
	}
	if _, _, err := d.Create("log", signer.Log, signer.Ed25519); err == nil {
		t.Error("a log key was made")
	}
}

// attested verifies the card's proof with piv-go, which knows how YubiKeys attest.
func attested(t *testing.T, k signer.KeyInfo, a *signer.Attestation) {
	t.Helper()
	if a == nil || a.Format != signer.AttestationPIV || len(a.Parts) != 2 {
		t.Fatalf("attestation %+v", a)
	}
	slot, err := x509.ParseCertificate(a.Parts[0])
	if err != nil {
		t.Fatal(err)
	}
	card, err := x509.ParseCertificate(a.Parts[1])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(card)
	said, err := (&piv.Verifier{Roots: roots}).Verify(card, slot)
	if err != nil || said.PINPolicy != piv.PINPolicyOnce || said.TouchPolicy != piv.TouchPolicyNever || !bytes.Equal(slot.RawSubjectPublicKeyInfo, k.SPKI) {
		t.Errorf("attested %+v, %v", said, err)
	}
}

func verifies(t testing.TB, k signer.KeyInfo, scheme signer.Scheme, digest, signature []byte) bool {
	t.Helper()
	public, err := k.Check()
	if err != nil {
		t.Fatal(err)
	}
	if p, ok := public.(*ecdsa.PublicKey); ok {
		return ecdsa.VerifyASN1(p, digest, signature)
	}
	if opts, ok := scheme.Options().(*rsa.PSSOptions); ok {
		return rsa.VerifyPSS(public.(*rsa.PublicKey), opts.Hash, digest, signature, opts) == nil
	}
	return rsa.VerifyPKCS1v15(public.(*rsa.PublicKey), scheme.Options().HashFunc(), digest, signature) == nil
}

func agree(t testing.TB, d signer.Device, k signer.KeyInfo) {
	t.Helper()
	peer, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	shared, err := d.ECDH(k.ID(), peer.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	public, err := k.Check()
	if err != nil {
		t.Fatal(err)
	}
	own, err := public.(*ecdsa.PublicKey).ECDH()
	if err != nil {
		t.Fatal(err)
	}
	if want, err := peer.ECDH(own); err != nil || !bytes.Equal(shared, want) {
		t.Errorf("shared %x, want %x, %v", shared, want, err)
	}
}

func TestDestroy(t *testing.T) {
	serial := newCard(t, 0, "destroy", "5.4.3")
	d := open(t, serial, 0)
	k, _, err := d.Create("ca", signer.CA, signer.P256)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Destroy(k.ID()); err != nil {
		t.Fatal(err)
	}
	_, err = d.Sign(k.ID(), signer.ECDSASHA256, make([]byte, 32))
	wants(t, err, signer.KeyMissing, "no key")
	wants(t, d.Destroy(k.ID()), signer.KeyMissing, "not on the card")
	if keys, err := d.Keys(); err != nil || len(keys) != 0 {
		t.Errorf("keys %v, %v", keys, err)
	}
	again, _, err := d.Create("ca", signer.CA, signer.P256)
	if err != nil || again.ID() == k.ID() {
		t.Errorf("made again: %v", err)
	}
	if objects, err := d.Objects(); err != nil || len(objects) != 1 || objects[0].Handle != "slot 9c" {
		t.Errorf("objects %+v, %v", objects, err)
	}
}

// TestFull fills all 24 slots.
func TestFull(t *testing.T) {
	d := open(t, newCard(t, 0, "full", "5.4.3"), 0)
	for i := range 24 {
		if _, _, err := d.Create(fmt.Sprint("ca-", i), signer.CA, signer.P256); err != nil {
			t.Fatal(err)
		}
	}
	_, _, err := d.Create("one-more", signer.CA, signer.P256)
	wants(t, err, signer.DeviceFails, "no slot is free")
	if keys, err := d.Keys(); err != nil || len(keys) != 24 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
}

// TestStrangers has things on the card that are not ours: they are seen and left alone.
func TestStrangers(t *testing.T) {
	serial := newCard(t, 0, "strangers", "5.4.3")
	management := bytes.Repeat([]byte{7}, 24)
	card, err := piv.Open(readerName(0))
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	generate := func(slot piv.Slot, policy piv.PINPolicy) any {
		t.Helper()
		public, err := card.GenerateKey(management, slot, piv.Key{Algorithm: piv.AlgorithmEC256, PINPolicy: policy, TouchPolicy: piv.TouchPolicyNever})
		must(err)
		return public
	}
	labelled := func(slot piv.Slot, name string, public any) {
		t.Helper()
		c, err := certificate(name, signer.CA, public)
		must(err)
		must(card.SetCertificate(management, slot, c))
	}
	retired := func(ref uint32) piv.Slot {
		slot, _ := piv.RetiredKeyManagementSlot(ref)
		return slot
	}
	generate(piv.SlotAuthentication, piv.PINPolicyOnce)
	labelled(piv.SlotSignature, "other", generate(piv.SlotKeyManagement, piv.PINPolicyOnce))
	generate(piv.SlotSignature, piv.PINPolicyOnce)
	labelled(piv.SlotCardAuthentication, "never", generate(piv.SlotCardAuthentication, piv.PINPolicyNever))
	labelled(retired(0x82), "twin", generate(retired(0x82), piv.PINPolicyOnce))
	labelled(retired(0x83), "twin", generate(retired(0x83), piv.PINPolicyOnce))
	labelled(retired(0x84), "Ω", generate(retired(0x84), piv.PINPolicyOnce))
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	must(card.SetPrivateKeyInsecure(management, retired(0x85), private, piv.Key{PINPolicy: piv.PINPolicyOnce, TouchPolicy: piv.TouchPolicyNever}))
	labelled(retired(0x85), "imported", private.Public())
	labelled(retired(0x86), "nothing", private.Public())
	labelled(retired(0x87), "reserved", nil)
	must(card.Close())

	d := open(t, serial, 0)
	if keys, err := d.Keys(); err != nil || len(keys) != 0 {
		t.Errorf("taken for ours: %+v, %v", keys, err)
	}
	objects, err := d.Objects()
	must(err)
	notes := map[string]string{}
	for _, o := range objects {
		notes[o.Handle] = o.Class + ": " + o.Note
	}
	for slot, want := range map[string]string{
		"slot 9a": "private key: not made by us", "slot 9c": "private key: the key is not the one of its label", "slot 9d": "private key: not made by us",
		"slot 9e": "private key: it wants another PIN", "slot 82": "private key: 2 keys have this label", "slot 83": "private key: 2 keys have this label",
		"slot 84": "private key: key label", "slot 85": "private key: not made on the card", "slot 86": "certificate: a certificate without a key",
	} {
		if !strings.HasPrefix(notes[slot], want) {
			t.Errorf("%s is %q, want %q", slot, notes[slot], want)
		}
	}
	if len(objects) != 9 {
		t.Errorf("%d objects: %+v", len(objects), objects)
	}
	// Neither is any of them replaced by a new key, but the reservation.
	if _, _, err := d.Create("new", signer.Seal, signer.P256); err != nil {
		t.Fatal(err)
	}
	after, err := d.Objects()
	must(err)
	if len(after) != 10 || after[9].Label != "new" {
		t.Errorf("objects %+v", after)
	}
}

func TestTroubles(t *testing.T) {
	serial := newCard(t, 0, "troubles", "5.4.3")
	l := locator(t, serial, 0)
	fails := func(l signer.Locator, pin string, code signer.TroubleCode, words string) {
		t.Helper()
		d, err := Open(l, []byte(pin))
		if err == nil {
			d.Close()
		}
		wants(t, err, code, words)
		if strings.Contains(fmt.Sprint(err), pin) {
			t.Errorf("it tells the PIN: %v", err)
		}
	}
	fails(locator(t, serial+1000, 0), pin, signer.TokenSwapped, fmt.Sprintf("has the number %d", serial))
	fails(locator(t, serial, 3), pin, signer.TokenAbsent, "no card")
	fails(l, "000000", signer.PINWrong, "2 tries are left")
	fails(l, "000000", signer.PINWrong, "1 try is left")
	fails(l, "000000", signer.PINLocked, "")
	fails(l, "123456", signer.PINLocked, "")
	card, err := piv.Open(readerName(0))
	if err != nil {
		t.Fatal(err)
	}
	fails(l, pin, signer.DeviceBusy, readerName(0))
	if err := errors.Join(card.Unblock(piv.DefaultPUK, pin), card.Close()); err != nil {
		t.Fatal(err)
	}
	d := open(t, serial, 0)
	if _, _, err := d.Create("rsa", signer.CA, signer.RSA3072); err == nil || d.Holds(signer.CA, signer.RSA3072) {
		t.Error("firmware 5.4 holds RSA-3072")
	} else {
		wants(t, err, signer.MechanismMissing, "no RSA-3072 keys for ca")
	}
	tell(t, "new 2 unprotected 5.4.3")
	other, err := piv.Open(readerName(2))
	if err != nil {
		t.Fatal(err)
	}
	number, err := other.Serial()
	if err := errors.Join(err, other.Close()); err != nil {
		t.Fatal(err)
	}
	_, _, err = open(t, number, 2).Create("ca", signer.CA, signer.P256)
	wants(t, err, signer.DeviceDenied, "management key is not under its PIN")
	tell(t, "insert 3 old 5.2.7")
	fails(locator(t, number+1, 3), pin, signer.MechanismMissing, "firmware 5.2.7")
	tell(t, "insert 3 bare plain")
	fails(locator(t, number+1, 3), pin, signer.MechanismMissing, "6d00")

	// Without pcscd, and without a reader: in processes of their own, for the library asks once.
	for socket, want := range map[string]string{"/nonexistent/pcscd.comm": string(signer.ManagerMissing)} {
		c := exec.Command(os.Args[0], "-test.run", "^TestAnotherProcess$")
		c.Env = append(os.Environ(), "ANOTHER=piv:serial=1;socket="+socket)
		if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %v: %s", socket, err, out)
		}
	}
	c := exec.Command("go", "run", "coldseal/agent/station/pivtest", "--readers", "0", os.Args[0], "-test.run", "^TestAnotherProcess$")
	c.Env = append(os.Environ(), "ANOTHER=piv:serial=1")
	if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), string(signer.DeviceAbsent)) {
		t.Errorf("no reader: %v: %s", err, out)
	}
}

// TestAnotherProcess opens the card that the environment names, for TestTroubles, and says which trouble there is.
func TestAnotherProcess(t *testing.T) {
	text := os.Getenv("ANOTHER")
	if text == "" {
		return
	}
	l, err := signer.ParseLocator(text)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(l, []byte(pin))
	trouble, is := errors.AsType[*signer.Trouble](err)
	if !is {
		t.Fatal(err)
	}
	fmt.Println(trouble.Code, trouble)
}

// TestPulled pulls the card after each command of what the appliance does with it. What was asked fails with a trouble
// that says so; when the card is back, nothing is half done, and the same works with the same device.
func TestPulled(t *testing.T) {
	serial := newCard(t, 7, "pulled", "5.4.3")
	setup := open(t, serial, 7)
	ca, _, err := setup.Create("ca", signer.CA, signer.P256)
	if err != nil {
		t.Fatal(err)
	}
	receiver, _, err := setup.Create("receiver", signer.Receiver, signer.P256)
	if err := errors.Join(err, setup.Close()); err != nil {
		t.Fatal(err)
	}
	peer, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(nil)
	for _, operation := range []struct {
		name string
		last int // commands at the end, each of which is tried; those before only read slots, one like the other
		do   func(d signer.Device) error
	}{
		{"sign", 1, func(d signer.Device) error {
			_, err := d.Sign(ca.ID(), signer.ECDSASHA256, digest[:])
			return err
		}},
		{"agree", 1, func(d signer.Device) error {
			_, err := d.ECDH(receiver.ID(), peer.PublicKey())
			return err
		}},
		{"keys", 2, func(d signer.Device) error {
			_, err := d.Keys()
			return err
		}},
		{"create", 28, func(d signer.Device) error {
			_, _, err := d.Create("new", signer.CA, signer.P384)
			return err
		}},
		{"destroy", 13, func(d signer.Device) error { return d.Destroy(ca.ID()) }},
	} {
		t.Run(operation.name, func(t *testing.T) {
			// How many commands it takes.
			tell(t, "copy 7 pulled %s7", operation.name)
			d := open(t, serial, 7)
			if _, err := d.Keys(); err != nil {
				t.Fatal(err)
			}
			var before, after int
			fmt.Sscan(tell(t, "count 7"), &before)
			if err := operation.do(d); err != nil {
				t.Fatal(err)
			}
			fmt.Sscan(tell(t, "count 7"), &after)
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			n := after - before
			at := make(chan int)
			var group sync.WaitGroup
			for reader := range readers {
				if reader != 7 {
					group.Go(func() {
						for at := range at {
							pulled(t, serial, reader, at, operation.name, operation.do)
						}
					})
				}
			}
			for i := range n {
				if os.Getenv("FIRE_ALL") != "" || i >= n-operation.last || i == 0 || i == n/2 {
					at <- i + 1
				}
			}
			close(at)
			group.Wait()
		})
	}
}

// pulled has the card pulled at one command. This device is told which reader to look at, for copies have one number.
func pulled(t *testing.T, serial uint32, reader, at int, name string, do func(signer.Device) error) {
	t.Helper()
	file := fmt.Sprintf("%s%d", name, reader)
	tell(t, "copy %d pulled %s", reader, file)
	d, err := Open(locator(t, serial, reader), []byte(pin))
	if err != nil {
		t.Errorf("%s, %d: %v", name, at, err)
		return
	}
	defer d.Close()
	if _, err := d.Keys(); err != nil {
		t.Errorf("%s, %d: %v", name, at, err)
		return
	}
	tell(t, "pull %d %d", reader, at)
	err = do(d)
	if trouble, is := errors.AsType[*signer.Trouble](err); !is || trouble.Code != signer.DeviceGone && trouble.Code != signer.TokenAbsent {
		t.Errorf("%s, pulled at command %d: %v", name, at, err)
	}
	tell(t, "insert %d %s", reader, file)
	if err := do(d); err != nil && !(name == "destroy" && isMissing(err)) {
		t.Errorf("%s, back after it was pulled at command %d: %v", name, at, err)
	}
	objects, err := d.Objects()
	if err != nil {
		t.Errorf("%s, %d: %v", name, at, err)
	}
	keys, err := d.Keys()
	want := map[string]int{"create": 3, "destroy": 1}[name]
	if want == 0 {
		want = 2
	}
	if err != nil || len(keys) != want {
		t.Errorf("%s, pulled at command %d: %d keys, want %d, %v", name, at, len(keys), want, err)
	}
	for _, o := range objects {
		if o.Note != "" {
			t.Errorf("%s, pulled at command %d, leaves %+v", name, at, o)
		}
	}
}

func isMissing(err error) bool {
	trouble, is := errors.AsType[*signer.Trouble](err)
	return is && trouble.Code == signer.KeyMissing
}

// TestSwapped has another card with the same keys' labels in the reader: it is not taken for the one before.
func TestSwapped(t *testing.T) {
	serial := newCard(t, 0, "swapped", "5.4.3")
	d := open(t, serial, 0)
	k, _, err := d.Create("ca", signer.CA, signer.P256)
	if err != nil {
		t.Fatal(err)
	}
	tell(t, "remove 0")
	_, err = d.Sign(k.ID(), signer.ECDSASHA256, make([]byte, 32))
	wants(t, err, signer.DeviceGone, "pulled")
	newCard(t, 0, "twin", "5.4.3")
	_, err = d.Sign(k.ID(), signer.ECDSASHA256, make([]byte, 32))
	wants(t, err, signer.TokenSwapped, "has the number")
	tell(t, "insert 0 swapped")
	if _, err := d.Sign(k.ID(), signer.ECDSASHA256, make([]byte, 32)); err != nil {
		t.Error(err)
	}
}

// TestPINChanged has the PIN changed while the card is out: the one that was given is tried once, however often the card is
// asked for something, and the next tries are left to people.
func TestPINChanged(t *testing.T) {
	serial := newCard(t, 0, "changed", "5.4.3")
	d := open(t, serial, 0)
	k, _, err := d.Create("ca", signer.CA, signer.P256)
	if err != nil {
		t.Fatal(err)
	}
	tell(t, "remove 0")
	_, err = d.Sign(k.ID(), signer.ECDSASHA256, make([]byte, 32))
	wants(t, err, signer.DeviceGone, "pulled")
	with := func(f func(card *piv.YubiKey) error) {
		t.Helper()
		card, err := piv.Open(readerName(0))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f(card), card.Close()); err != nil {
			t.Fatal(err)
		}
	}
	tell(t, "insert 0 changed")
	with(func(card *piv.YubiKey) error { return card.SetPIN(pin, "654321") })
	for range 4 {
		_, err = d.Sign(k.ID(), signer.ECDSASHA256, make([]byte, 32))
		wants(t, err, signer.PINWrong, "2 tries are left")
	}
	if _, err := d.Keys(); err == nil {
		t.Error("keys are listed of a card that does not open")
	}
	with(func(card *piv.YubiKey) error {
		if left, err := card.Retries(); err != nil || left != 2 {
			t.Errorf("%d tries are left, %v", left, err)
		}
		return nil
	})
}
