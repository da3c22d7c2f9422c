//go:build cgo

package piv

import (
	"crypto"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-piv/piv-go/v2/piv"

	"coldseal/appliance/signer"
)

// Token is an open card; it is a signer.Device. A card does one thing at a time.
type Token struct {
	locator signer.Locator
	serial  uint32
	pin     string

	mu    sync.Mutex
	card  *piv.YubiKey // nil where it was lost
	keys  map[[32]byte]key
	stuck error // why this process can't open the card any more
	over  error // the PIN was refused when it was opened again: it is not tried once more
}

// settle is what pcscd takes to notice that a card was pulled, and more: it looks every 0.4 s. Before that it would let us
// open the card that is gone.
const settle = time.Second

// key is where one of ours is.
type key struct {
	slot   piv.Slot
	public crypto.PublicKey
}

// Open opens the card with the serial number in the locator, in any reader or in those whose name has what the locator
// says, and verifies the PIN. The locator's socket is that of pcscd, where it is not the usual one.
func Open(l signer.Locator, pin []byte) (signer.Device, error) {
	serial, err := number(l)
	if err == nil {
		err = reach(l)
	}
	if err != nil {
		return nil, err
	}
	t := &Token{locator: l, serial: serial, pin: string(pin)}
	if t.card, err = t.find(); err != nil {
		return nil, explain(l, "open", err)
	}
	return t, nil
}

// number is the card's.
func number(l signer.Locator) (uint32, error) {
	serial, err := strconv.ParseUint(l.Attribute("serial"), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("locator %s: serial is not a number that cards have", l)
	}
	return uint32(serial), nil
}

// reach tells PC/SC where pcscd is, where it is not the usual place.
func reach(l signer.Locator) error {
	if socket := l.Attribute("socket"); socket != "" {
		if err := os.Setenv("PCSCLITE_CSOCK_NAME", socket); err != nil {
			return fmt.Errorf("locator %s: %w", l, err)
		}
	}
	return nil
}

// find opens the card among those in the readers and verifies the PIN.
func (t *Token) find() (*piv.YubiKey, error) {
	names, err := piv.Cards()
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, trouble(t.locator, signer.DeviceAbsent, "there is no reader")
	}
	var others []string // what is there instead
	var first error     // why a card could not be looked at
	for _, name := range names {
		if !strings.Contains(name, t.locator.Attribute("reader")) {
			continue
		}
		card, serial, err := identify(name)
		switch {
		case err == nil && serial == t.serial:
			return card, t.unlock(card)
		case err == nil:
			others = append(others, strconv.FormatUint(uint64(serial), 10))
			if err := card.Close(); err != nil {
				return nil, err
			}
		case strings.Contains(err.Error(), "selecting piv applet"), strings.Contains(err.Error(), "beginning smart card transaction"):
			t.stuck = err // piv-go lets go of nothing then, and pcscd lets nobody else at the card, not even us
			return nil, err
		case codeOf(err) == signer.DeviceGone: // the reader is empty
		case first == nil:
			first = fmt.Errorf("%s: %w", name, err)
		}
	}
	switch {
	case first != nil:
		return nil, first
	case len(others) > 0:
		return nil, trouble(t.locator, signer.TokenSwapped, "the card there has the number %s", strings.Join(others, ", "))
	}
	return nil, trouble(t.locator, signer.TokenAbsent, "no card is in a reader")
}

// identify opens a card, which says its number.
func identify(name string) (card *piv.YubiKey, serial uint32, err error) {
	if card, err = piv.Open(name); err != nil {
		return nil, 0, err
	}
	if serial, err = card.Serial(); err != nil {
		return nil, 0, errors.Join(err, card.Close())
	}
	return card, serial, nil
}

// unlock verifies the PIN of a card that is ours, or closes it.
func (t *Token) unlock(card *piv.YubiKey) error {
	err := func() error {
		if v := card.Version(); v.Major < 5 || v.Major == 5 && v.Minor < 3 {
			return trouble(t.locator, signer.MechanismMissing, "firmware %d.%d.%d does not tell which keys it has; 5.3 does", v.Major, v.Minor, v.Patch)
		}
		return card.VerifyPIN(t.pin)
	}()
	if err != nil {
		return errors.Join(explain(t.locator, "verify the PIN", err), card.Close())
	}
	return nil
}

// do has f do something with the card. One that was lost is opened again, once.
func (t *Token) do(what string, f func(card *piv.YubiKey) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.card != nil {
		if err := f(t.card); !broken(err) {
			return explain(t.locator, what, err)
		}
		_ = t.card.Close() // what it says of a card that is gone helps nobody
		t.card = nil
		time.Sleep(settle)
	}
	if t.stuck != nil {
		return fmt.Errorf("%s: %s: %w; only another process can open the card again", t.locator, what, t.stuck)
	}
	if t.over != nil {
		return t.over
	}
	card, again := t.find()
	if again != nil {
		again = explain(t.locator, what, again)
		switch found, _ := errors.AsType[*signer.Trouble](again); {
		case found == nil:
		case found.Code == signer.TokenAbsent:
			again = trouble(t.locator, signer.DeviceGone, "%s: the card was pulled", what)
		case found.Code == signer.PINWrong, found.Code == signer.PINLocked:
			t.over = again
		}
		return again
	}
	t.card = card
	err := f(card)
	if broken(err) {
		t.card = nil
		_ = card.Close()
	}
	return explain(t.locator, what, err)
}

// contents reads all slots.
func (t *Token) contents(what string) (all []content, err error) {
	err = t.do(what, func(card *piv.YubiKey) error {
		all = nil
		for _, slot := range slots() {
			c, err := read(card, slot)
			if err != nil {
				return err
			}
			all = append(all, c)
		}
		return nil
	})
	return all, err
}

// labels counts the keys of ours that have each label.
func labels(all []content) map[string]int {
	n := map[string]int{}
	for i := range all {
		if k, why := all[i].info(); why == "" {
			n[k.Label]++
		}
	}
	return n
}

// Keys lists our keys, in the order of their slots. One whose label another has too is only among the Objects.
func (t *Token) Keys() ([]signer.KeyInfo, error) {
	all, err := t.contents("list keys")
	if err != nil {
		return nil, err
	}
	twice := labels(all)
	keys, infos := map[[32]byte]key{}, []signer.KeyInfo{}
	for i := range all {
		if k, why := all[i].info(); why == "" && twice[k.Label] == 1 {
			keys[k.ID()] = key{all[i].slot, all[i].key.PublicKey}
			infos = append(infos, k)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keys = keys
	return infos, nil
}

// Objects lists every slot in which there is something.
func (t *Token) Objects() ([]signer.Object, error) {
	all, err := t.contents("list objects")
	if err != nil {
		return nil, err
	}
	twice := labels(all)
	var objects []signer.Object
	for i := range all {
		if o, there := all[i].object(twice); there {
			objects = append(objects, o)
		}
	}
	return objects, nil
}

// Holds tells whether the card makes such keys.
func (t *Token) Holds(purpose signer.Purpose, algorithm signer.Algorithm) bool {
	if purpose == signer.Log || !purpose.Allows(algorithm) {
		return false
	}
	switch algorithm {
	case signer.P256, signer.P384:
		return true
	case signer.RSA3072, signer.RSA4096:
		holds := false
		err := t.do("ask for the firmware", func(card *piv.YubiKey) error {
			v := card.Version()
			holds = v.Major > 5 || v.Major == 5 && v.Minor >= 7
			return nil
		})
		return holds && err == nil
	}
	return false
}

// Parallel is one: a card does one thing at a time.
func (t *Token) Parallel([32]byte) int { return 1 }

// Close lets others use the card.
func (t *Token) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.card == nil {
		return nil
	}
	card := t.card
	t.card = nil
	if err := card.Close(); err != nil && !broken(err) {
		return explain(t.locator, "close", err)
	}
	return nil
}

// sorted gives the slots in which a key for the purpose may be made, the best first.
func sorted(all []content, purpose signer.Purpose) []content {
	free := slices.DeleteFunc(slices.Clone(all), func(c content) bool { return !c.free() })
	slices.SortStableFunc(free, func(a, b content) int {
		return rank(b.slot, purpose) - rank(a.slot, purpose)
	})
	return free
}

func rank(slot piv.Slot, purpose signer.Purpose) int {
	switch slot {
	case first(purpose):
		return 2
	case piv.SlotCardAuthentication: // which other programs use without a PIN
		return 0
	}
	return 1
}
