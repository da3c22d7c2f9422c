package main

import (
	"crypto/rand"
	"encoding/binary"
)

// Instructions: SP 800-73-4 part 2, then Yubico's own (developers.yubico.com/PIV/Introduction/Yubico_extensions.html).
const (
	insVerify       = 0x20
	insChange       = 0x24
	insResetRetry   = 0x2c
	insGenerate     = 0x47
	insAuthenticate = 0x87
	insSelect       = 0xa4
	insGetResponse  = 0xc0
	insGetData      = 0xcb
	insPutData      = 0xdb

	insMetadata      = 0xf7
	insSerial        = 0xf8
	insAttest        = 0xf9
	insSetRetries    = 0xfa
	insReset         = 0xfb
	insVersion       = 0xfd
	insImport        = 0xfe
	insSetManagement = 0xff
)

// status is SW1 and SW2 (ISO/IEC 7816-4 section 5.1.3).
type status uint16

const (
	done           status = 0x9000
	wrongLength    status = 0x6700
	notSatisfied   status = 0x6982
	blocked        status = 0x6983
	conditions     status = 0x6985
	wrongData      status = 0x6a80
	notFound       status = 0x6a82
	wrongReference status = 0x6a86
	noReference    status = 0x6a88
	noInstruction  status = 0x6d00
	noClass        status = 0x6e00
	failed         status = 0x6f00
)

// triesLeft says how often a PIN may still be wrong.
func triesLeft(n int) status { return 0x63c0 | status(min(n, 15)) }

// card is a PIV applet: what it keeps, and what it remembers while it has power.
type card struct {
	*state
	file string

	selected   bool
	verified   bool // the PIN was right
	fresh      bool // and no key was used since: what "PIN always" wants
	managed    bool // the management key was proved
	witness    []byte
	challenge  []byte
	chain      []byte // data of commands that were chained so far
	chainHead  [3]byte
	unanswered []byte // what GET RESPONSE gets
}

// power forgets all that a card forgets when it is switched on.
func (c *card) power() { *c = card{state: c.state, file: c.file} }

// atr is the answer to reset: T=1, with the historical bytes of a card that has Yubico's extensions, or of one that hasn't.
func (c *card) atr() []byte {
	if c.Plain {
		return []byte("\x3b\xd5\x18\xff\x81\x91\xfe\x1f\xc3\x80\x73\xc8\x21\x10\x0a")
	}
	return []byte("\x3b\xfd\x13\x00\x00\x81\x31\xfe\x15\x80\x73\xc0\x21\xc0WYubiKey\x40")
}

// command is a command APDU taken apart.
type command struct {
	ins, p1, p2 byte
	data        []byte
	le          int // how much may be answered
}

// transmit answers a command APDU (ISO/IEC 7816-4 section 5.1).
func (c *card) transmit(apdu []byte) []byte {
	data, sw := c.receive(apdu)
	return binary.BigEndian.AppendUint16(data, uint16(sw))
}

func (c *card) receive(apdu []byte) ([]byte, status) {
	cmd, ok := split(apdu)
	if !ok {
		return nil, wrongLength
	}
	if apdu[0]&^0x10 != 0 {
		return nil, noClass
	}
	if cmd.ins == insGetResponse {
		return c.answer(c.unanswered, done, cmd.le)
	}
	c.unanswered = nil
	head := [3]byte(apdu[1:4])
	if len(c.chain) > 0 && head != c.chainHead {
		c.chain = nil
	}
	if len(c.chain)+len(cmd.data) > 1<<14 {
		c.chain = nil
		return nil, wrongLength
	}
	c.chain, c.chainHead = append(c.chain, cmd.data...), head
	if apdu[0]&0x10 != 0 {
		return nil, done
	}
	cmd.data, c.chain = c.chain, nil
	data, sw := c.carryOut(cmd)
	return c.answer(data, sw, cmd.le)
}

// answer gives as much as was asked for, and keeps the rest for GET RESPONSE.
func (c *card) answer(data []byte, sw status, le int) ([]byte, status) {
	if len(data) <= le {
		c.unanswered = nil
		return data, sw
	}
	c.unanswered = data[le:]
	return data[:le:le], 0x6100 | status(min(len(c.unanswered), 0xff))
}

// split reads a command in short or extended form.
func split(apdu []byte) (command, bool) {
	if len(apdu) < 4 {
		return command{}, false
	}
	cmd := command{ins: apdu[1], p1: apdu[2], p2: apdu[3], le: 256}
	body := apdu[4:]
	switch {
	case len(body) <= 1:
		if len(body) == 1 && body[0] != 0 {
			cmd.le = int(body[0])
		}
		return cmd, true
	case body[0] != 0:
		n := int(body[0])
		if len(body) != 1+n && len(body) != 2+n {
			return cmd, false
		}
		cmd.data = body[1 : 1+n]
		if len(body) == 2+n && body[1+n] != 0 {
			cmd.le = int(body[1+n])
		}
		return cmd, true
	case len(body) < 3:
		return cmd, false
	}
	cmd.le = 1 << 16
	n := int(binary.BigEndian.Uint16(body[1:]))
	if len(body) == 3 {
		if n != 0 {
			cmd.le = n
		}
		return cmd, true
	}
	if len(body) != 3+n && len(body) != 5+n {
		return cmd, false
	}
	cmd.data = body[3 : 3+n]
	return cmd, true
}

var aidPIV = []byte{0xa0, 0x00, 0x00, 0x03, 0x08}

// carryOut does what a whole command asks for.
func (c *card) carryOut(cmd command) ([]byte, status) {
	if cmd.ins == insSelect {
		return c.choose(cmd)
	}
	if !c.selected {
		return nil, noInstruction
	}
	if cmd.ins != insAuthenticate {
		c.fresh = false // "PIN always" means immediately before (SP 800-73-4 part 1, section 3.1)
	}
	switch cmd.ins {
	case insVerify:
		return nil, c.verify(cmd)
	case insChange:
		return nil, c.change(cmd)
	case insResetRetry:
		return nil, c.unblock(cmd)
	case insAuthenticate:
		return c.authenticate(cmd)
	case insGenerate:
		return c.generate(cmd)
	case insGetData:
		return c.get(cmd)
	case insPutData:
		return nil, c.put(cmd)
	}
	if c.Plain {
		return nil, noInstruction
	}
	switch cmd.ins {
	case insVersion:
		return c.Version[:], done
	case insSerial:
		return binary.BigEndian.AppendUint32(nil, c.Serial), done
	case insMetadata:
		if !c.atLeast(5, 3) {
			return nil, noInstruction
		}
		return c.metadata(cmd.p2)
	case insAttest:
		return c.attest(cmd.p1)
	case insImport:
		return nil, c.take(cmd)
	case insSetManagement:
		return nil, c.setManagement(cmd)
	case insSetRetries:
		return nil, c.setRetries(cmd)
	case insReset:
		if c.PIN.Left > 0 || c.PUK.Left > 0 {
			return nil, conditions
		}
		c.reset()
		c.verified, c.fresh, c.managed = false, false, false
		return nil, c.keep()
	}
	return nil, noInstruction
}

// keep saves the state; a card whose memory fails says so.
func (c *card) keep() status {
	if c.save(c.file) != nil {
		return failed
	}
	return done
}

// choose is SELECT, which forgets what was proved.
func (c *card) choose(cmd command) ([]byte, status) {
	if cmd.p1 != 0x04 {
		return nil, notFound
	}
	if len(cmd.data) < len(aidPIV) || string(cmd.data[:len(aidPIV)]) != string(aidPIV) {
		c.selected = false
		return nil, notFound
	}
	c.power()
	c.selected = true
	return object(0x61, object(0x4f, []byte{0, 0, 0x10, 0, 1, 0}), object(0x79, object(0x4f, aidPIV))), done
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
