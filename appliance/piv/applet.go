//go:build cgo

package piv

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"

	"coldseal/appliance/signer"
)

// applet is the PIV application of a card, spoken to as NIST SP 800-73-4 part 2 says, and nothing else but for the serial
// number and the metadata of the management key, which are Yubico's. Any PIV card does.
type applet struct {
	transmit func(command []byte) ([]byte, error)
}

// Instructions (part 2, table 3; developers.yubico.com/PIV/Introduction/Yubico_extensions.html).
const (
	insVerify       = 0x20
	insAuthenticate = 0x87
	insSelect       = 0xa4
	insGetResponse  = 0xc0
	insGetData      = 0xcb
	insPutData      = 0xdb
	insMetadata     = 0xf7
	insSerial       = 0xf8
)

// status is what a card answers to a command that it did not carry out.
type status uint16

func (s status) Error() string { return fmt.Sprintf("smart card error %04x", uint16(s)) }

const (
	moreData   status = 0x6100
	done       status = 0x9000
	pinWrong   status = 0x63c0
	denied     status = 0x6982
	pinBlocked status = 0x6983
	notFound   status = 0x6a82
	badP1P2    status = 0x6a86
)

// errNoStatus is what pcscd gives for the answer of a card that is being pulled.
var errNoStatus = errors.New("the card answers without a status")

// maxAnswer bounds what a card may answer in several parts; an object is at most a few kilobytes.
const maxAnswer = 16 << 10

// command sends a command of at most 255 bytes of data and collects the answer.
func (a *applet) command(ins, p1, p2 byte, data []byte) (answer []byte, err error) {
	if len(data) > 255 {
		return nil, fmt.Errorf("a command with %d bytes of data", len(data))
	}
	apdu := []byte{0, ins, p1, p2}
	if len(data) > 0 {
		apdu = append(append(apdu, byte(len(data))), data...)
	} else {
		apdu = append(apdu, 0)
	}
	defer func() { clear(apdu) }() // a PIN may be in it
	for {
		response, err := a.transmit(apdu)
		if err != nil {
			return nil, err
		}
		if len(response) < 2 {
			return nil, errNoStatus
		}
		end := len(response) - 2
		answer = append(answer, response[:end]...)
		switch s := status(response[end])<<8 | status(response[end+1]); {
		case s == done:
			return answer, nil
		case s&0xff00 != moreData:
			return nil, s
		case len(answer) > maxAnswer:
			return nil, fmt.Errorf("the card answers more than %d bytes", maxAnswer)
		}
		apdu = []byte{0, insGetResponse, 0, 0, 0}
	}
}

// aid is the beginning of the PIV application's identifier, which is enough (part 1, section 2.2).
var aid = []byte{0xa0, 0x00, 0x00, 0x03, 0x08}

func (a *applet) choose() error {
	_, err := a.command(insSelect, 0x04, 0, aid)
	return err
}

// serial is the card's number, where it has one.
func (a *applet) serial() (uint32, error) {
	answer, err := a.command(insSerial, 0, 0, nil)
	if err == nil && len(answer) != 4 {
		err = fmt.Errorf("a serial number of %d bytes", len(answer))
	}
	if err != nil {
		return 0, err
	}
	return uint32(answer[0])<<24 | uint32(answer[1])<<16 | uint32(answer[2])<<8 | uint32(answer[3]), nil
}

// errPIN is a PIN that is wrong; tries are left.
type errPIN struct{ tries int }

func (e errPIN) Error() string { return fmt.Sprintf("%d tries are left", e.tries) }

var errNoPIN = errors.New("a PIN has 6 to 8 characters; no try was used up")

// verify is VERIFY. What can't be a PIN costs no try.
func (a *applet) verify(pin []byte) error {
	if len(pin) < 6 || len(pin) > 8 {
		return errNoPIN
	}
	padded := append(bytes.Clone(pin), 0xff, 0xff)[:8]
	defer clear(padded)
	_, err := a.command(insVerify, 0, 0x80, padded)
	s, is := errors.AsType[status](err)
	switch {
	case is && s == pinBlocked:
		return errPIN{0}
	case is && s&0xfff0 == pinWrong:
		return errPIN{int(s & 0xf)}
	}
	return err
}

// get is GET DATA: what is in an object, nil if nothing is.
func (a *applet) get(tag []byte) ([]byte, error) {
	answer, err := a.command(insGetData, 0x3f, 0xff, field(0x5c, tag))
	if errors.Is(err, notFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	content, rest, err := value(answer, 0x53)
	if err == nil && len(rest) > 0 {
		err = errTLV
	}
	return content, err
}

// put is PUT DATA, in one command: an object is replaced whole, or not at all.
func (a *applet) put(tag, content []byte) error {
	data := append(field(0x5c, tag), field(0x53, content)...)
	defer clear(data)
	_, err := a.command(insPutData, 0x3f, 0xff, data)
	return err
}

var errTLV = errors.New("the card's data objects are malformed")

// field writes a BER-TLV data object of at most 255 bytes (ISO/IEC 7816-4 section 5.2.2).
func field(tag byte, content []byte) []byte {
	if len(content) < 0x80 {
		return append([]byte{tag, byte(len(content))}, content...)
	}
	return append([]byte{tag, 0x81, byte(len(content))}, content...)
}

// value reads the data object that data begins with, which must have the tag, and gives what follows it.
func value(data []byte, tag byte) (content, rest []byte, err error) {
	if len(data) < 2 || data[0] != tag {
		return nil, nil, errTLV
	}
	size, data := int(data[1]), data[2:]
	if more := size - 0x80; more >= 0 {
		if more < 1 || more > 2 || len(data) < more {
			return nil, nil, errTLV
		}
		size = 0
		for _, b := range data[:more] {
			size = size<<8 | int(b)
		}
		data = data[more:]
	}
	if len(data) < size {
		return nil, nil, errTLV
	}
	return data[:size:size], data[size:], nil
}

// Algorithms of management keys (NIST SP 800-78-4, table 6-2).
const (
	alg3DES   = 0x03
	algAES128 = 0x08
	algAES192 = 0x0a
	algAES256 = 0x0c
)

// algorithms tells which a management key may be of: the card says, or it follows from the length, but for 24 bytes.
func (a *applet) algorithms(key []byte) ([]byte, error) {
	answer, err := a.command(insMetadata, 0, 0x9b, nil)
	if _, is := errors.AsType[status](err); is { // no metadata
		return map[int][]byte{16: {algAES128}, 24: {alg3DES, algAES192}, 32: {algAES256}}[len(key)], nil
	}
	if err != nil {
		return nil, err
	}
	algorithm, _, err := value(answer, 0x01)
	if err == nil && len(algorithm) != 1 {
		err = errTLV
	}
	return algorithm, err
}

func blockOf(algorithm byte, key []byte) (cipher.Block, error) {
	size := map[byte]int{alg3DES: 24, algAES128: 16, algAES192: 24, algAES256: 32}[algorithm]
	switch {
	case size != len(key):
		return nil, errManagement
	case algorithm == alg3DES:
		return des.NewTripleDESCipher(key)
	}
	return aes.NewCipher(key)
}

// errManagement is a management key that is not the card's.
var errManagement = errors.New("it is not the card's")

// authenticate proves to the card, and has it prove, that both know the management key (part 2, section 3.2.4, appendix A.1).
func (a *applet) authenticate(key []byte) error {
	algorithms, err := a.algorithms(key)
	if err != nil {
		return err
	}
	err = errManagement
	for _, algorithm := range algorithms {
		if err = a.mutually(algorithm, key); !errors.Is(err, badP1P2) {
			break
		}
		err = errManagement // the card has none of this algorithm
	}
	return err
}

func (a *applet) mutually(algorithm byte, key []byte) error {
	block, err := blockOf(algorithm, key)
	if err != nil {
		return err
	}
	size := block.BlockSize()
	answer, err := a.command(insAuthenticate, algorithm, 0x9b, field(0x7c, field(0x80, nil)))
	if err != nil {
		return err
	}
	sealed, err := inTemplate(answer, 0x80, size)
	if err != nil {
		return err
	}
	witness, challenge, want := make([]byte, size), make([]byte, size), make([]byte, size)
	block.Decrypt(witness, sealed)
	if _, err := rand.Read(challenge); err != nil {
		return err
	}
	block.Encrypt(want, challenge)
	answer, err = a.command(insAuthenticate, algorithm, 0x9b, field(0x7c, append(field(0x80, witness), field(0x81, challenge)...)))
	if s, is := errors.AsType[status](err); is && (s == denied || s&0xff00 == 0x6300) {
		return errManagement
	}
	if err != nil {
		return err
	}
	response, err := inTemplate(answer, 0x82, size)
	if err == nil && subtle.ConstantTimeCompare(response, want) != 1 {
		err = errManagement
	}
	return err
}

// inTemplate reads the one element of a dynamic authentication template (part 2, table 7).
func inTemplate(answer []byte, tag byte, size int) ([]byte, error) {
	template, rest, err := value(answer, 0x7c)
	if err != nil {
		return nil, err
	}
	element, more, err := value(template, tag)
	if err == nil && (len(rest)+len(more) > 0 || len(element) != size) {
		err = errTLV
	}
	return element, err
}

// codeOfOwn tells which trouble an error of this file is.
func codeOfOwn(err error) (signer.TroubleCode, bool) {
	if p, is := errors.AsType[pcscError](err); is {
		return p.code(), true
	}
	if p, is := errors.AsType[errPIN](err); is {
		if p.tries == 0 {
			return signer.PINLocked, true
		}
		return signer.PINWrong, true
	}
	switch {
	case errors.Is(err, errManagement):
		return signer.ManagementKey, true
	case errors.Is(err, errNoPIN):
		return signer.PINWrong, true
	case errors.Is(err, errNoStatus):
		return signer.DeviceGone, true
	}
	return "", false
}
