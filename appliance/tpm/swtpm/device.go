package swtpm

import (
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Device makes a character device behind which the TPM is: a terminal without any of what terminals do, whose other end
// is carried to the socket. Machines without a TPM can't have another one.
func (t *TPM) Device() (path string, end io.Closer, err error) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return "", nil, err
	}
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		master.Close()
		return "", nil, err
	}
	path = fmt.Sprintf("/dev/pts/%d", n)
	// Held open here, so that the terminal outlives each program that opens it.
	slave, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err == nil {
		var raw *unix.Termios
		if raw, err = unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS); err == nil {
			raw.Iflag, raw.Oflag, raw.Lflag, raw.Cflag = 0, 0, 0, unix.CS8|unix.CREAD
			raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
			err = unix.IoctlSetTermios(int(slave.Fd()), unix.TCSETS, raw)
		}
	}
	if err != nil {
		master.Close()
		return "", nil, err
	}
	p := &Proxy{Socket: path, to: func() (io.ReadWriteCloser, error) { return net.Dial("unix", t.Socket) }}
	go p.serve(master)
	return path, closers{master, slave}, nil
}

type closers []io.Closer

func (all closers) Close() error {
	var err error
	for _, c := range all {
		err = c.Close()
	}
	return err
}
