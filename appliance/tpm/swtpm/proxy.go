package swtpm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
)

// Fault is what happens to one command.
type Fault func(send func([]byte) ([]byte, error), command []byte) ([]byte, error)

var errDrop = errors.New("dropped")

// The faults there are.
var (
	// DropBefore closes the connection instead of sending the command.
	DropBefore Fault = func(func([]byte) ([]byte, error), []byte) ([]byte, error) { return nil, errDrop }
	// DropAfter sends the command and closes the connection instead of answering: it was carried out, and nobody knows.
	DropAfter Fault = func(send func([]byte) ([]byte, error), command []byte) ([]byte, error) {
		if _, err := send(command); err != nil {
			return nil, err
		}
		return nil, errDrop
	}
	// Alter turns a bit of the answer around, behind its head.
	Alter Fault = func(send func([]byte) ([]byte, error), command []byte) ([]byte, error) {
		answer, err := send(command)
		if err == nil && len(answer) > 10 {
			answer[10+(len(answer)-10)/2] ^= 1
		}
		return answer, err
	}
	// Cut ends the answer early.
	Cut Fault = func(send func([]byte) ([]byte, error), command []byte) ([]byte, error) {
		answer, err := send(command)
		if err == nil {
			answer = answer[:len(answer)/2]
		}
		return answer, errors.Join(err, errDrop)
	}
)

// Hang answers nothing until the proxy is disarmed.
func (p *Proxy) Hang() Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hanging == nil {
		p.hanging = make(chan struct{})
	}
	hanging := p.hanging
	return func(func([]byte) ([]byte, error), []byte) ([]byte, error) {
		<-hanging
		return nil, errDrop
	}
}

// Delay answers late.
func Delay(d time.Duration) Fault {
	return func(send func([]byte) ([]byte, error), command []byte) ([]byte, error) {
		time.Sleep(d)
		return send(command)
	}
}

// DelaySign has TPM2_Sign (TPM 2.0 Part 2 section 6.5.2) answer late.
func DelaySign(d time.Duration) Fault {
	const sign = 0x15d
	return func(send func([]byte) ([]byte, error), command []byte) ([]byte, error) {
		if binary.BigEndian.Uint32(command[6:]) == sign {
			time.Sleep(d)
		}
		return send(command)
	}
}

// Answer answers with a code of TPM 2.0 Part 2 section 6.6.3 instead of sending the command.
func Answer(code uint32) Fault {
	return func(func([]byte) ([]byte, error), []byte) ([]byte, error) {
		return binary.BigEndian.AppendUint32([]byte{0x80, 0x01, 0, 0, 0, 10}, code), nil
	}
}

// Proxy stands between a program and a TPM.
type Proxy struct {
	Socket string

	to       func() (io.ReadWriteCloser, error)
	listener net.Listener

	mu     sync.Mutex
	left   int
	always bool
	fault  Fault
	fired  atomic.Int64
	calls  atomic.Int64

	hanging chan struct{} // closed when what hangs is let go
}

// NewProxy puts a proxy before the TPM.
func (t *TPM) NewProxy() (*Proxy, error) {
	p := &Proxy{Socket: filepath.Join(filepath.Dir(t.Socket), "proxy"), to: func() (io.ReadWriteCloser, error) { return net.Dial("unix", t.Socket) }}
	if err := os.Remove(p.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var err error
	if p.listener, err = net.Listen("unix", p.Socket); err != nil {
		return nil, err
	}
	go p.accept()
	return p, nil
}

// Arm has the nth command from now on, counted from 1, meet a fault.
func (p *Proxy) Arm(n int, fault Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left, p.fault, p.always = n, fault, false
}

// ArmFromNowOn has every command meet it.
func (p *Proxy) ArmFromNowOn(fault Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left, p.fault, p.always = 1, fault, true
}

// Disarm takes back what did not happen yet, and lets go of what hangs.
func (p *Proxy) Disarm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left, p.fault, p.always = 0, nil, false
	if p.hanging != nil {
		close(p.hanging)
		p.hanging = nil
	}
}

// Fired is how many faults there were.
func (p *Proxy) Fired() int64 { return p.fired.Load() }

// Calls is how many commands came.
func (p *Proxy) Calls() int64 { return p.calls.Load() }

// Close ends it.
func (p *Proxy) Close() error { return p.listener.Close() }

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		go p.serve(c)
	}
}

// serve carries commands of one connection until it ends, on either side.
func (p *Proxy) serve(c io.ReadWriteCloser) {
	defer c.Close()
	tpm, err := p.to()
	if err != nil {
		return
	}
	defer tpm.Close()
	send := func(command []byte) ([]byte, error) {
		if _, err := tpm.Write(command); err != nil {
			return nil, err
		}
		return receive(tpm)
	}
	for {
		command, err := receive(c)
		if err != nil {
			return
		}
		answer, err := p.next()(send, command)
		if len(answer) > 0 {
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *Proxy) next() Fault {
	p.calls.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left > 0 {
		if p.left--; p.left == 0 {
			if p.always {
				p.left = 1
			}
			p.fired.Add(1)
			return p.fault
		}
	}
	return func(send func([]byte) ([]byte, error), command []byte) ([]byte, error) { return send(command) }
}

// receive reads one command or answer: both say their length in bytes 2 to 5.
func receive(r io.Reader) ([]byte, error) {
	b := make([]byte, 10, 4096)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(b[2:])
	if size < 10 || size > 4096 {
		return nil, fmt.Errorf("a frame of %d bytes", size)
	}
	b = b[:size]
	_, err := io.ReadFull(r, b[10:])
	return b, err
}
