//go:build cgo

package piv

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"coldseal/appliance/signer"
	"coldseal/protocol/shamir"
)

// A person's card holds their share of a backup's key in one of the objects that want the PIN before they are read
// (SP 800-73-4 part 1, table 2): cardholder iris images, which nobody else uses. Printed information is where the management
// key lies that is under the PIN, fingerprints and facial images are on the cards of employees.
//
// The share of the newest backup comes first. Those before it stay, two of them: a backup that came to nothing takes nothing
// away from the one before. It is no more so that one command writes all of it: pulled at any moment, a card holds what it
// held, or what it should.

var (
	shareTag   = []byte{0x5f, 0xc1, 0x21}
	printedTag = []byte{0x5f, 0xc1, 0x09}
)

// factoryKey is the management key of a card that nobody changed it on.
var factoryKey = bytes.Repeat([]byte{1, 2, 3, 4, 5, 6, 7, 8}, 3)

// Share reads the shares on the card that the locator names, by its number or by its reader, the newest first. If share is
// not nil it is put there before, with the management key; if that is nil, with the one that lies under the PIN, or else the
// factory's, which is told. Errors are troubles.
func Share(l signer.Locator, pin, management, share []byte) (shares [][]byte, factory bool, err error) {
	if err := reach(l); err != nil {
		return nil, false, err
	}
	manager, err := openManager()
	if err != nil {
		return nil, false, explain(l, "open", err)
	}
	defer func() { err = errors.Join(err, explain(l, "close", manager.close())) }()
	c, err := lookFor(l, manager)
	if err != nil {
		return nil, false, explain(l, "open", err)
	}
	defer func() {
		if errClose := c.close(); err == nil && !broken(errClose) {
			err = explain(l, "close", errClose)
		}
	}()
	h := holder{l, &applet{c.transmit}}
	if err := h.verify(pin); err != nil {
		return nil, false, explain(l, "verify the PIN", err)
	}
	if shares, err = h.shares(); err != nil {
		return nil, false, explain(l, "read the shares", err)
	}
	if share != nil {
		if shares, factory, err = h.add(shares, share, management); err != nil {
			return nil, false, explain(l, "write the share", err)
		}
	}
	if len(shares) == 0 {
		return nil, false, trouble(l, signer.ShareMissing, "object 5fc121 is empty")
	}
	return shares, factory, nil
}

// lookFor opens the card among those in the readers.
func lookFor(l signer.Locator, m *resourceManager) (found *connection, err error) {
	names, err := m.readers()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil && found != nil {
			_ = found.close() // the other error says more
			found = nil
		}
	}()
	var others, busy []string // what is there instead, readers in use
	var first error           // why a card could not be looked at
	for _, name := range names {
		if !strings.Contains(name, l.Attribute("reader")) {
			continue
		}
		c, number, err := m.identify(name, l.Attribute("serial") != "")
		switch {
		case err == nil && number == l.Attribute("serial") && found == nil:
			found = c
		case err == nil && number == l.Attribute("serial"):
			return found, errors.Join(trouble(l, signer.TokenSwapped, "there is more than one such card, the second in %s", name), c.close())
		case err == nil:
			others = append(others, number)
			if err := c.close(); err != nil {
				return nil, err
			}
		case codeOf(err) == signer.DeviceGone: // the reader is empty
		case codeOf(err) == signer.DeviceBusy:
			busy = append(busy, name)
		case first == nil:
			first = fmt.Errorf("%s: %w", name, err)
		}
	}
	switch {
	case found != nil:
		return found, nil
	case first != nil:
		return nil, first
	case len(others) > 0 && len(busy) > 0: // by ourselves, where the appliance's keys are on a card
		return nil, trouble(l, signer.TokenSwapped, "the card there has the number %s, and the one in %s is in use", strings.Join(others, ", "), strings.Join(busy, ", "))
	case len(others) > 0:
		return nil, trouble(l, signer.TokenSwapped, "the card there has the number %s", strings.Join(others, ", "))
	case len(busy) > 0:
		return nil, trouble(l, signer.DeviceBusy, "it is in no free reader; in use is %s", strings.Join(busy, ", "))
	}
	return nil, trouble(l, signer.TokenAbsent, "no card is in a reader")
}

// identify opens a card and its PIV application, which says its number if that is wanted.
func (m *resourceManager) identify(reader string, numbered bool) (c *connection, number string, err error) {
	if c, err = m.connect(reader); err != nil {
		return nil, "", err
	}
	a := applet{c.transmit}
	if err = a.choose(); err == nil && numbered {
		var serial uint32
		serial, err = a.serial()
		number = strconv.FormatUint(uint64(serial), 10)
	}
	if err != nil {
		_ = c.close() // the error says more
		return nil, "", err
	}
	return c, number, nil
}

// holder is the card of somebody who has a share.
type holder struct {
	locator signer.Locator
	*applet
}

// shares reads what is in the object.
func (h holder) shares() ([][]byte, error) {
	content, err := h.get(shareTag)
	if err != nil {
		return nil, err
	}
	shares, ours := split(content)
	if !ours {
		return nil, trouble(h.locator, signer.ObjectTaken, "object 5fc121 has %d bytes that are no shares", len(content))
	}
	return shares, nil
}

// split takes the content of the object apart, newest share first; ours is false for what is none of ours.
func split(content []byte) (shares [][]byte, ours bool) {
	if len(content) > signer.MaxShares*shamir.ShareSize {
		return nil, false
	}
	for share := range slices.Chunk(content, shamir.ShareSize) {
		if _, err := shamir.Parse(share); err != nil {
			return nil, false
		}
		shares = append(shares, share)
	}
	return shares, true
}

// add puts a share before those that are there, and reads all of it back. One that is there already is not written again.
func (h holder) add(there [][]byte, share, management []byte) (shares [][]byte, factory bool, err error) {
	s, err := shamir.Parse(share)
	if err != nil {
		return nil, false, err
	}
	if len(there) > 0 && bytes.Equal(there[0], share) {
		return there, false, nil
	}
	next := [][]byte{share}
	for _, old := range there {
		switch o, err := shamir.Parse(old); {
		case err != nil:
			return nil, false, err
		case o.Set == s.Set && o.Index != s.Index:
			return nil, false, trouble(h.locator, signer.ObjectTaken, "share %d of the same set %s is on the card: each share is for another person", o.Index, o.Set)
		case !bytes.Equal(old, share) && len(next) < signer.MaxShares:
			next = append(next, old)
		}
	}
	if factory, err = h.manage(management); err != nil {
		return nil, false, err
	}
	content := bytes.Join(next, nil)
	defer clear(content)
	if err := h.put(shareTag, content); err != nil {
		return nil, false, err
	}
	back, err := h.shares()
	if err != nil {
		return nil, false, err
	}
	if !slices.EqualFunc(back, next, bytes.Equal) {
		return nil, false, trouble(h.locator, signer.DeviceFails, "the share reads back otherwise")
	}
	return back, factory, nil
}

// manage opens the card for writing.
func (h holder) manage(key []byte) (factory bool, err error) {
	if key != nil {
		err = h.authenticate(key)
		if errors.Is(err, errManagement) {
			err = trouble(h.locator, signer.ManagementKey, "the one that was given is not the card's")
		}
		return false, err
	}
	if key, err = h.protected(); err != nil {
		return false, err
	}
	if key != nil {
		defer clear(key)
		return false, h.authenticate(key)
	}
	err = h.authenticate(factoryKey)
	if errors.Is(err, errManagement) {
		err = trouble(h.locator, signer.ManagementKey, "none was given, none lies under the PIN, and it is not the factory's")
	}
	return true, err
}

// protected is the management key that lies under the PIN, nil if none does: in the printed information, 88{89 key}, as
// Yubico's tools put it there.
func (h holder) protected() ([]byte, error) {
	content, err := h.get(printedTag)
	if err != nil || len(content) == 0 {
		return nil, err
	}
	outer, _, err := value(content, 0x88)
	if err != nil {
		return nil, nil // it is printed information
	}
	key, _, err := value(outer, 0x89)
	if err != nil {
		return nil, nil
	}
	return bytes.Clone(key), nil
}
