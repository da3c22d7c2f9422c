//go:build cgo

package piv

// #cgo pkg-config: libpcsclite
// #include <stdlib.h>
// #include <winscard.h>
import "C"

import (
	"bytes"
	"fmt"
	"unsafe"

	"coldseal/appliance/signer"
)

// piv-go speaks to keys and certificates, and to no other object of a card. For these there is this much of PC/SC
// (PC/SC Workgroup part 5), beside it.

// pcscError is what PC/SC says went wrong.
type pcscError uint32

func (e pcscError) Error() string {
	return fmt.Sprintf("PC/SC error %08x: %s", uint32(e), C.GoString(C.pcsc_stringify_error(C.LONG(int32(e)))))
}

// code tells which trouble it is.
func (e pcscError) code() signer.TroubleCode {
	switch e {
	case C.SCARD_E_NO_SERVICE & 0xffffffff, C.SCARD_E_SERVICE_STOPPED & 0xffffffff, C.SCARD_F_COMM_ERROR & 0xffffffff:
		return signer.ManagerMissing
	case C.SCARD_E_NO_READERS_AVAILABLE & 0xffffffff:
		return signer.DeviceAbsent
	case C.SCARD_E_SHARING_VIOLATION & 0xffffffff:
		return signer.DeviceBusy
	case C.SCARD_E_NO_SMARTCARD & 0xffffffff, C.SCARD_W_REMOVED_CARD & 0xffffffff, C.SCARD_W_UNPOWERED_CARD & 0xffffffff,
		C.SCARD_W_UNRESPONSIVE_CARD & 0xffffffff, C.SCARD_E_UNKNOWN_READER & 0xffffffff, C.SCARD_E_READER_UNAVAILABLE & 0xffffffff,
		C.SCARD_E_NOT_TRANSACTED & 0xffffffff, C.SCARD_E_INVALID_HANDLE & 0xffffffff:
		return signer.DeviceGone
	case C.SCARD_W_RESET_CARD & 0xffffffff:
		return signer.SessionLost
	}
	return signer.DeviceFails
}

func pcsc(rc C.LONG) error {
	if rc == C.SCARD_S_SUCCESS {
		return nil
	}
	return pcscError(uint32(rc))
}

// resourceManager is pcscd.
type resourceManager struct{ context C.SCARDCONTEXT }

func openManager() (*resourceManager, error) {
	m := &resourceManager{}
	return m, pcsc(C.SCardEstablishContext(C.SCARD_SCOPE_SYSTEM, nil, nil, &m.context))
}

func (m *resourceManager) close() error { return pcsc(C.SCardReleaseContext(m.context)) }

// readers lists the names of the readers; none is an error of pcscd.
func (m *resourceManager) readers() (names []string, err error) {
	var size C.DWORD
	if err := pcsc(C.SCardListReaders(m.context, nil, nil, &size)); err != nil {
		return nil, err
	}
	list := make([]byte, max(size, 1))
	if err := pcsc(C.SCardListReaders(m.context, nil, (*C.char)(unsafe.Pointer(&list[0])), &size)); err != nil {
		return nil, err
	}
	for name := range bytes.SplitSeq(list[:size], []byte{0}) {
		if len(name) > 0 {
			names = append(names, string(name))
		}
	}
	return names, nil
}

// connection is an open card, which nobody else may use meanwhile.
type connection struct {
	card     C.SCARDHANDLE
	protocol C.DWORD
}

func (m *resourceManager) connect(reader string) (*connection, error) {
	name := C.CString(reader)
	defer C.free(unsafe.Pointer(name))
	c := &connection{}
	return c, pcsc(C.SCardConnect(m.context, name, C.SCARD_SHARE_EXCLUSIVE, C.SCARD_PROTOCOL_T0|C.SCARD_PROTOCOL_T1, &c.card, &c.protocol))
}

// close resets the card, so that it forgets the PIN.
func (c *connection) close() error { return pcsc(C.SCardDisconnect(c.card, C.SCARD_RESET_CARD)) }

// maxResponse is the longest answer to a command in short form (ISO/IEC 7816-4 section 5.1): data, and two bytes of status.
const maxResponse = 256 + 2

// transmit sends a command and gives the answer.
func (c *connection) transmit(command []byte) ([]byte, error) {
	response := make([]byte, maxResponse)
	size := C.DWORD(len(response))
	header := C.SCARD_IO_REQUEST{dwProtocol: c.protocol, cbPciLength: C.sizeof_SCARD_IO_REQUEST}
	err := pcsc(C.SCardTransmit(c.card, &header, (*C.BYTE)(&command[0]), C.DWORD(len(command)), nil, (*C.BYTE)(&response[0]), &size))
	if err != nil {
		return nil, err
	}
	if size < 2 || int(size) > len(response) {
		return nil, errNoStatus
	}
	return response[:size], nil
}
