// Package swtpm starts TPMs of software, for tests and measurements, and stands between them and a program, with faults.
// No program that holds keys imports it.
package swtpm

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// PIN is that of all TPMs in tests.
const PIN = "4711-0815"

// patience is how long swtpm may take to begin or end.
const patience = 20 * time.Second

// TPM is swtpm, running.
type TPM struct {
	Socket string

	dir  string
	cmd  *exec.Cmd
	gone chan struct{} // closed when it has ended
	said bytes.Buffer
}

// Start starts swtpm with its state in dir. It ends with this process.
func Start(dir string) (*TPM, error) {
	// The path of a socket has at most 107 bytes.
	sockets, err := os.MkdirTemp("", "swtpm-")
	if err != nil {
		return nil, err
	}
	t := &TPM{Socket: filepath.Join(sockets, "tpm"), dir: dir}
	return t, t.start()
}

func (t *TPM) start() error {
	if err := os.Remove(t.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	t.said.Reset()
	t.cmd = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+t.dir, "--server", "type=unixio,path="+t.Socket, "--flags", "startup-clear")
	t.cmd.Stdout, t.cmd.Stderr = &t.said, &t.said
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	t.gone = make(chan struct{})
	go func() {
		// The death signal is bound to the thread that forked, so that thread is kept as long as swtpm lives.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(t.gone)
		err := t.cmd.Start()
		started <- err
		if err == nil {
			_ = t.cmd.Wait() // it is killed in the end
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if c, err := net.Dial("unix", t.Socket); err == nil {
			return c.Close()
		}
		if time.Now().After(end) {
			return errors.Join(fmt.Errorf("swtpm does not begin: %s", t.said.String()), t.kill())
		}
	}
}

func (t *TPM) kill() error {
	if err := t.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-t.gone
	return nil
}

// Restart is a power cut: all that is not in the TPM's own memory is lost.
func (t *TPM) Restart() error {
	return errors.Join(t.kill(), t.start())
}

// Clear gives it another storage key and empties its memory, as the machine's firmware does.
func (t *TPM) Clear() error {
	if err := t.kill(); err != nil {
		return err
	}
	if err := os.RemoveAll(t.dir); err != nil {
		return err
	}
	return errors.Join(os.Mkdir(t.dir, 0o700), t.start())
}

// Stop ends it.
func (t *TPM) Stop() error {
	return errors.Join(t.kill(), os.RemoveAll(filepath.Dir(t.Socket)))
}

// Command sends one command of its own.
func (t *TPM) Command(command []byte) error {
	c, err := net.Dial("unix", t.Socket)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write(command); err != nil {
		return err
	}
	answer, err := receive(c)
	if err == nil && !bytes.Equal(answer[6:10], make([]byte, 4)) {
		err = fmt.Errorf("the TPM answers %x", answer[6:10])
	}
	return err
}

// MaxTries sets after how many wrong PINs the TPM locks, and forgets those that there were.
func (t *TPM) MaxTries(n uint32) error {
	// TPM2_DictionaryAttackParameters, TPM2_DictionaryAttackLockReset, under an empty password of the lockout hierarchy.
	auth := []byte{0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0}
	frame := func(code uint32, parameters ...byte) []byte {
		body := append([]byte{0x40, 0, 0, 0x0a}, append(bytes.Clone(auth), parameters...)...)
		return append([]byte{0x80, 0x02, 0, 0, byte((10 + len(body)) >> 8), byte(10 + len(body)), byte(code >> 24), byte(code >> 16), byte(code >> 8), byte(code)}, body...)
	}
	return errors.Join(
		t.Command(frame(0x13a, byte(n>>24), byte(n>>16), byte(n>>8), byte(n), 0, 0, 0x10, 0, 0, 0, 0x10, 0)),
		t.Command(frame(0x139)),
	)
}
