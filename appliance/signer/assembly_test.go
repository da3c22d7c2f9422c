package signer

import (
	"crypto"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"coldseal/appliance/wire"
)

func place(t testing.TB, text string, d Device) Place {
	t.Helper()
	l, err := ParseLocator(text)
	if err != nil {
		t.Fatal(err)
	}
	return Place{l, d}
}

func empty() *memory { return &memory{private: map[[32]byte]crypto.Signer{}} }

// TestAssembly puts a device without Ed25519 before one that has all, and asks where keys go.
func TestAssembly(t *testing.T) {
	device, store := empty(), empty()
	device.lacks = Ed25519
	a := Assemble(store, place(t, "piv:serial=1?use=ca,log", device), place(t, "softkey:?use=seal,log,receiver", store))
	if a.Holds(CA, Ed25519) || !a.Holds(CA, P256) || !a.Holds(Log, Ed25519) {
		t.Error("holds what it does not, or not what it does")
	}
	want := []DeviceInfo{
		{"piv:serial=1?use=ca,log", []string{"ca P-256", "ca P-384", "ca RSA-3072", "ca RSA-4096"}},
		{"softkey:?use=seal,log,receiver", []string{"seal P-256", "seal P-384", "seal Ed25519", "log Ed25519", "receiver P-256"}},
	}
	if got := a.Describe(); !slices.EqualFunc(got, want, func(x, y DeviceInfo) bool { return x.Locator == y.Locator && slices.Equal(x.Holds, y.Holds) }) {
		t.Errorf("%v, want %v", got, want)
	}
	s, err := newServer(a, Hello{})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []createRequest{{"ca", CA, P256}, {"seal", Seal, P256}, {"log", Log, Ed25519}, {"receiver", Receiver, P256}} {
		reply, err := ask(t, s, opCreate, k)
		if err != nil {
			t.Fatal(err)
		}
		key := reply.(*createReply).Key
		if _, inDevice := device.private[key.ID()]; inDevice != (k.Purpose == CA) {
			t.Errorf("%s is in the device: %v", k.Label, inDevice)
		}
	}
	_, err = ask(t, s, opCreate, createRequest{"more", CA, Ed25519})
	wantRefusal(t, err, RefusedDevice)
	id := device.infos[0].ID()
	if _, err := ask(t, s, opSign, signRequest{id, CA, ECDSASHA256, [][]byte{make([]byte, 32)}}); err != nil {
		t.Error(err)
	}
	objects, err := ask(t, s, opObjects, nothing{})
	if err != nil || len(objects.(*objectsReply).Objects) != 2 || objects.(*objectsReply).Objects[0].Device != "piv:serial=1?use=ca,log" {
		t.Errorf("%v, %v", objects, err)
	}
	_, err = ask(t, s, opDestroy, destroyRequest{store.id("seal"), Seal})
	wantRefusal(t, err, RefusedPurpose)
	_, err = ask(t, s, opDestroy, destroyRequest{store.id("seal"), CA})
	wantRefusal(t, err, RefusedPurpose)
	_, err = ask(t, s, opDestroy, destroyRequest{[32]byte{1}, CA})
	wantRefusal(t, err, RefusedKey)
	if _, err := ask(t, s, opDestroy, destroyRequest{id, CA}); err != nil || len(device.infos) != 0 {
		t.Errorf("destroy: %v, and %d keys are left", err, len(device.infos))
	}
	_, err = ask(t, s, opSign, signRequest{id, CA, ECDSASHA256, [][]byte{make([]byte, 32)}})
	wantRefusal(t, err, RefusedKey)
	if _, err := ask(t, s, opCreate, createRequest{"ca", CA, P256}); err != nil {
		t.Errorf("the label of a key that was destroyed: %v", err)
	}
}

// TestKeyInTwoDevices has a key that was cloned: it is one key, used where it is found first.
func TestKeyInTwoDevices(t *testing.T) {
	first, second := newMemory(t), empty()
	second.infos, second.private = slices.Clone(first.infos), maps.Clone(first.private)
	a := Assemble(first, place(t, "piv:serial=1", first), place(t, "piv:serial=2", second))
	keys, err := a.Keys()
	if err != nil || len(keys) != len(first.infos) {
		t.Errorf("%d keys of %d, %v", len(keys), len(first.infos), err)
	}
	second.broken = errors.New("it was asked")
	if _, err := a.Sign(first.id("ca"), ECDSASHA256, make([]byte, 32)); err != nil {
		t.Error(err)
	}
}

// TestTroubleIsTold answers with the code of a trouble and lives on.
func TestTroubleIsTold(t *testing.T) {
	m := newMemory(t)
	s := m.server(t)
	m.broken = NewTrouble(SessionLost, place(t, "piv:serial=1", nil).Locator, "sign")
	_, err := ask(t, s, opSign, signRequest{m.id("ca"), CA, ECDSASHA256, [][]byte{make([]byte, 32)}})
	if trouble, ok := AsTrouble(err); !ok || trouble.Code != SessionLost || errors.Is(err, wire.ErrFault) || !strings.Contains(trouble.Error(), "piv:serial=1") {
		t.Errorf("%v", err)
	}
	m.broken = nil
	if _, err := ask(t, s, opSign, signRequest{m.id("ca"), CA, ECDSASHA256, [][]byte{make([]byte, 32)}}); err != nil {
		t.Error(err)
	}
}

// slow answers when it is let.
type slow struct {
	*memory
	let chan struct{}
}

func (s slow) Sign([32]byte, Scheme, []byte) ([]byte, error) { <-s.let; return nil, nil }
func (s slow) Counter() (uint64, error)                      { <-s.let; return 0, nil }

func TestWatch(t *testing.T) {
	s := slow{newMemory(t), make(chan struct{})}
	defer close(s.let)
	p := place(t, "piv:serial=1", s)
	w := Watch(p, 50*time.Millisecond)
	wantHang := func(err error) {
		t.Helper()
		if trouble, ok := AsTrouble(err); !ok || trouble.Code != DeviceHangs {
			t.Errorf("%v", err)
		}
	}
	_, err := w.Sign([32]byte{}, ECDSASHA256, nil)
	wantHang(err)
	_, err = WatchAnchor(p.Locator, s, 50*time.Millisecond).Counter()
	wantHang(err)
	if keys, err := w.Keys(); err != nil || len(keys) != 4 {
		t.Errorf("%v, %v", keys, err)
	}
}

func TestAnchors(t *testing.T) {
	device, store := empty(), empty()
	a := Anchors(device, store)
	digest := [32]byte{1}
	if err := a.Advance(1); err != nil || device.counter != 1 || store.counter != 0 {
		t.Error("the counter is in the wrong one", err)
	}
	device.pin = digest // Pin was interrupted
	if got, err := a.Pinned(); err != nil || got != [32]byte{} {
		t.Errorf("half pinned: %x, %v", got, err)
	}
	if err := a.Pin(digest); err != nil || store.pin != digest {
		t.Error(err)
	}
	if got, err := a.Pinned(); err != nil || got != digest {
		t.Errorf("pinned: %x, %v", got, err)
	}
	device.pin = [32]byte{}
	if _, err := a.Pinned(); err == nil {
		t.Error("a device that was exchanged was taken")
	}
	store.pin = [32]byte{2}
	device.pin = digest
	if _, err := a.Pinned(); err == nil {
		t.Error("a device of another appliance was taken")
	}
}
