package tpm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"coldseal/appliance/signer"
)

const (
	headSize = 10 // tag, size, code (TPM 2.0 Part 1 section 18)
	maxSize  = 4096

	codeRetry   = 0x922
	codeYielded = 0x908
	codeTesting = 0x90a
	retries     = 10
)

// patience is how long a command may take; making a key on a curve takes the slowest TPMs about a second.
const patience = 6 * time.Second

var errSilent = errors.New("no answer")

// conn is a connection to a TPM; it is a transport.TPM. It is a bare descriptor, since a device of the kernel's reads as
// ended while it still works, unless it is polled first.
type conn struct {
	fd int
}

// dial opens the TPM that a locator names.
func dial(l signer.Locator) (*conn, error) {
	path := l.Attribute("device")
	open := openDevice
	if path == "" {
		path, open = l.Attribute("socket"), openSocket
	}
	fd, err := open(path)
	if err == nil {
		return &conn{fd}, nil
	}
	trouble := func(code signer.TroubleCode) (*conn, error) {
		return nil, signer.NewTrouble(code, l, fmt.Sprintf("open %s: %v", path, err))
	}
	switch {
	case errors.Is(err, unix.ENOENT):
		// The kernel has the TPM, and not the device that lets several programs share it.
		if _, other := os.Stat("/dev/tpm0"); path == "/dev/tpmrm0" && other == nil {
			return trouble(signer.ManagerMissing)
		}
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return trouble(signer.DeviceDenied)
	case errors.Is(err, unix.EBUSY):
		return trouble(signer.DeviceBusy)
	}
	return trouble(signer.DeviceAbsent)
}

func openDevice(path string) (int, error) {
	var about unix.Stat_t
	if err := unix.Stat(path, &about); err != nil {
		return -1, err
	}
	if about.Mode&unix.S_IFMT != unix.S_IFCHR {
		return -1, errors.New("not a character device")
	}
	return unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
}

func openSocket(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// Send sends a command and reads the response. A TPM that is busy is asked again. After an error the connection may be
// out of step and is used no more.
func (c *conn) Send(command []byte) ([]byte, error) {
	for wait, tries := time.Millisecond, 0; ; wait, tries = 2*wait, tries+1 {
		response, err := c.exchange(command)
		if err != nil {
			return nil, errors.Join(err, c.Close())
		}
		switch binary.BigEndian.Uint32(response[6:]) {
		case codeRetry, codeYielded, codeTesting:
			if tries < retries {
				time.Sleep(wait)
				continue
			}
		}
		return response, nil
	}
}

func (c *conn) exchange(command []byte) ([]byte, error) {
	for rest := command; len(rest) > 0; {
		n, err := unix.SendmsgN(c.fd, rest, nil, nil, unix.MSG_NOSIGNAL)
		if errors.Is(err, unix.ENOTSOCK) {
			n, err = unix.Write(c.fd, rest)
		}
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("send command: %w", err)
		}
		rest = rest[n:]
	}
	response, err := c.receive()
	if err != nil {
		return nil, fmt.Errorf("read response: %w", err)
	}
	return response, nil
}

// receive reads one response. A device gives all of it at once and wants a buffer for all of it; a socket gives pieces.
func (c *conn) receive() ([]byte, error) {
	buffer := make([]byte, maxSize)
	have, size := 0, headSize
	for end := time.Now().Add(patience); have < size; {
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}, int(max(time.Until(end), 0).Milliseconds()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil && ready == 0 {
			err = fmt.Errorf("%w within %v", errSilent, patience)
		}
		if err != nil {
			return nil, err
		}
		n, err := unix.Read(c.fd, buffer[have:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
		if have += n; have >= headSize {
			declared := binary.BigEndian.Uint32(buffer[2:])
			if declared < headSize || declared > maxSize || int(declared) < have {
				return nil, fmt.Errorf("a response that says it has %d bytes", declared)
			}
			size = int(declared)
		}
	}
	return buffer[:size], nil
}

// Close closes the connection; a second time it does nothing.
func (c *conn) Close() error {
	if c.fd < 0 {
		return nil
	}
	err := unix.Close(c.fd)
	c.fd = -1
	return err
}
