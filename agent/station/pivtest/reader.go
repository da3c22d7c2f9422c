package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// firstPort is where vpcd waits for the card of its first reader; each of the others has the next port.
const firstPort = 35963

// Controls of vpcd's protocol (frankmorgner.github.io/vsmartcard/virtualsmartcard/api.html): two bytes of length, then
// one of these, or a command APDU.
const (
	controlOff   = 0
	controlOn    = 1
	controlReset = 2
	controlATR   = 4
)

// reader is a virtual reader and the card in it.
type reader struct {
	name    string // as PC/SC clients see it
	address string

	hand sync.Mutex // held while a card is put in or pulled

	mu      sync.Mutex
	changed sync.Cond
	noticed bool // pcscd says that a card is in
	conn    net.Conn
	ended   chan struct{} // closed when nobody serves conn any more
	count   int           // commands since the card was put in
	pullAt  int           // after so many of them the card is pulled; 0 is never
}

func newReader(i int) *reader {
	r := &reader{name: readerName(i), address: fmt.Sprintf("127.0.0.1:%d", firstPort+i)}
	r.changed.L = &r.mu
	return r
}

// pcscd looks at its readers every 0.4 s. Of a card that it finds in a reader when it begins it says nothing: one that is not
// noticed is pulled and put in again.
const (
	soon     = 10 * time.Second
	attempts = 6
	looks    = time.Second // in this time it looks more than once
)

// insert puts a card in, in the place of the one before, and waits until pcscd has noticed.
func (r *reader) insert(c *card) error {
	r.hand.Lock()
	defer r.hand.Unlock()
	if err := r.takeOut(); err != nil {
		return err
	}
	for range attempts {
		conn, err := net.Dial("tcp", r.address)
		if err != nil {
			return fmt.Errorf("put card into reader: %w", err)
		}
		ended := make(chan struct{})
		r.mu.Lock()
		r.conn, r.ended, r.count, r.pullAt = conn, ended, 0, 0
		r.mu.Unlock()
		go func() {
			defer close(ended)
			r.serve(conn, c)
		}()
		if r.wait(true) {
			return nil
		}
		if err := r.takeOut(); err != nil {
			return err
		}
		time.Sleep(looks)
	}
	return fmt.Errorf("%w that a card was put in", errNotice)
}

// remove pulls the card, if there is one.
func (r *reader) remove() error {
	r.hand.Lock()
	defer r.hand.Unlock()
	return r.takeOut()
}

func (r *reader) takeOut() error {
	r.mu.Lock()
	conn, ended := r.conn, r.ended
	r.conn = nil
	r.mu.Unlock()
	if conn != nil {
		if err := conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		<-ended
	}
	for range attempts {
		if r.wait(false) {
			return nil
		}
	}
	return fmt.Errorf("%w that a card was pulled", errNotice)
}

// notice is what pcscd says of the reader.
func (r *reader) notice(in bool) {
	r.mu.Lock()
	r.noticed = in
	r.mu.Unlock()
	r.changed.Broadcast()
}

var errNotice = errors.New("pcscd did not notice")

// wait waits until pcscd has noticed, and tells whether it did soon.
func (r *reader) wait(in bool) bool {
	late := false
	timer := time.AfterFunc(soon, func() {
		r.mu.Lock()
		late = true
		r.mu.Unlock()
		r.changed.Broadcast()
	})
	defer timer.Stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.noticed != in && !late {
		r.changed.Wait()
	}
	return r.noticed == in
}

// pull has the card pulled when it has carried out so many commands from now on, before it can answer the last.
func (r *reader) pull(after int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pullAt = r.count + after
}

func (r *reader) commands() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count
}

// serve is the card's end of the connection, until either side closes it.
func (r *reader) serve(conn net.Conn, c *card) {
	defer conn.Close()
	for {
		message, err := receive(conn)
		if err != nil {
			return
		}
		var reply []byte
		switch {
		case len(message) == 1 && message[0] == controlATR:
			reply = c.atr()
		case len(message) == 1:
			if message[0] == controlOff || message[0] == controlOn || message[0] == controlReset {
				c.power()
			}
			continue
		default:
			reply = c.transmit(message)
			if r.counted() {
				return
			}
		}
		if send(conn, reply) != nil {
			return
		}
	}
}

// counted counts a command and tells whether the card is pulled now.
func (r *reader) counted() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count++
	return r.count == r.pullAt
}

// receive reads a message. vpcd writes its length apart and waits for that to be acknowledged before it writes the rest:
// what is not acknowledged at once costs forty milliseconds a command.
func receive(conn net.Conn) ([]byte, error) {
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return nil, err
	}
	var errQuick error
	err = raw.Control(func(fd uintptr) { errQuick = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) })
	if err = errors.Join(err, errQuick); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	message := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err = io.ReadFull(conn, message)
	return message, err
}

func send(conn net.Conn, message []byte) error {
	_, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...))
	return err
}
