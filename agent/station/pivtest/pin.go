package main

import "crypto/subtle"

const (
	refPIN        = 0x80
	refPUK        = 0x81
	refManagement = 0x9b
)

// check compares a PIN or PUK and counts. The try is counted durably before it is compared: pulling the card in between
// gains nothing.
func (c *card) check(s *secret, typed []byte) status {
	if s.Left == 0 {
		return blocked
	}
	s.Left--
	if sw := c.keep(); sw != done {
		return sw
	}
	if subtle.ConstantTimeCompare(s.Value, typed) != 1 {
		if s.Left == 0 {
			return blocked
		}
		return triesLeft(s.Left)
	}
	s.Left = s.Tries
	return c.keep()
}

// verify is VERIFY (SP 800-73-4 part 2, section 3.2.1).
func (c *card) verify(cmd command) status {
	switch {
	case cmd.p2 != refPIN:
		return noReference
	case cmd.p1 == 0xff && len(cmd.data) == 0:
		c.verified, c.fresh = false, false
		return done
	case cmd.p1 != 0:
		return wrongReference
	case len(cmd.data) == 0 && c.verified:
		return done
	case len(cmd.data) == 0 && c.PIN.Left == 0:
		return blocked
	case len(cmd.data) == 0:
		return triesLeft(c.PIN.Left)
	case len(cmd.data) != 8:
		return wrongData
	}
	sw := c.check(&c.PIN, cmd.data)
	c.verified, c.fresh = sw == done, sw == done
	return sw
}

// change is CHANGE REFERENCE DATA (section 3.2.2).
func (c *card) change(cmd command) status {
	s := &c.PIN
	switch {
	case cmd.p2 == refPUK:
		s = &c.PUK
	case cmd.p2 != refPIN:
		return noReference
	}
	if len(cmd.data) != 16 {
		return wrongData
	}
	if sw := c.check(s, cmd.data[:8]); sw != done {
		return sw
	}
	if !wellFormed(cmd.data[8:]) {
		return wrongData
	}
	s.Value = append([]byte(nil), cmd.data[8:]...)
	return c.keep()
}

// unblock is RESET RETRY COUNTER (section 3.2.3): with the PUK, the PIN becomes another.
func (c *card) unblock(cmd command) status {
	if cmd.p2 != refPIN {
		return noReference
	}
	if len(cmd.data) != 16 {
		return wrongData
	}
	if sw := c.check(&c.PUK, cmd.data[:8]); sw != done {
		return sw
	}
	if !wellFormed(cmd.data[8:]) {
		return wrongData
	}
	c.PIN.Value, c.PIN.Left = append([]byte(nil), cmd.data[8:]...), c.PIN.Tries
	return c.keep()
}

// wellFormed wants six to eight bytes, padded with 0xff (section 2.4.3).
func wellFormed(pin []byte) bool {
	n := len(pin)
	for n > 0 && pin[n-1] == 0xff {
		n--
	}
	for _, b := range pin[:n] {
		if b == 0xff {
			return false
		}
	}
	return n >= 6
}

// setRetries is Yubico's SET PIN RETRIES: both secrets are the factory's again.
func (c *card) setRetries(cmd command) status {
	if !c.managed || !c.verified {
		return notSatisfied
	}
	if cmd.p1 == 0 || cmd.p2 == 0 {
		return wrongData
	}
	c.PIN = secret{[]byte(defaultPIN), int(cmd.p1), int(cmd.p1)}
	c.PUK = secret{[]byte(defaultPUK), int(cmd.p2), int(cmd.p2)}
	return c.keep()
}
