// Package wire is how the appliance talks to its worker processes: the parent starts a child holding one end of a
// socket pair, sends it requests and reads its answers, each a length, an id, a word and one item of strict CBOR
// (wire.md).
//
// The appliance must be able to lose a worker without losing its footing, so there are three outcomes and no others. An
// answer. A refusal (*Refused): the worker is well and says no. A fault (ErrFault): it died, hung past the deadline,
// answered what was not asked or could not be decoded; the child is then killed and the Conn stays dead, and only
// whoever owns it decides to start another one.
//
// The package knows no operation, restarts nothing and repeats nothing.
package wire

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"coldseal/protocol/cose"
)

// ErrFault is matched by every error after which the worker is not used again (law 11: stop, change nothing, say so).
var ErrFault = errors.New("worker fault")

var errClosed = errors.New("closed")

// Refused is an operation the worker refused while being well; the Conn lives on. Code is for programs, Message for the
// operator's log.
type Refused struct {
	_       struct{} `cbor:",toarray"`
	Code    string
	Message string
}

func (r *Refused) Error() string { return fmt.Sprintf("worker refused: %s: %s", r.Code, r.Message) }

// Conn is the parent's end. It may be used by several goroutines; answers are paired with requests by id.
type Conn struct {
	file  *os.File
	child *child
	dead  chan struct{} // closed when cause is set

	write sync.Mutex // one frame at a time

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan frame // nil: the caller has gone, the answer is dropped
	cause   error
}

// Start runs the program at path (never looked up in PATH) with args, an empty environment and no terminal. The child
// finds its end of the socket pair at descriptor 3 and files from 4 on; the caller keeps its own copies of files. It is
// killed when ctx ends or when this process dies.
func Start(ctx context.Context, path string, args []string, files ...*os.File) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	ch, file, err := startChild(path, args, files)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	c := &Conn{file: file, child: ch, dead: make(chan struct{}), waiting: make(map[uint64]chan frame)}
	go c.read()
	go func() {
		select {
		case <-ctx.Done():
			c.fail(ctx.Err())
		case <-c.dead:
		}
	}()
	return c, nil
}

// Call sends body as operation op and decodes the answer into reply, a pointer (to a struct{} where there is nothing to
// say). It returns nil, a *Refused, the error of ctx, an encoding error of body, or a fault.
//
// deadline is for the worker: counted from now, it includes waiting behind other calls, and passing it is a fault. ctx
// is the caller's own patience: when it ends, the answer is dropped on arrival and the Conn lives on.
func (c *Conn) Call(ctx context.Context, deadline time.Duration, op uint64, body, reply any) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("operation %d: %w", op, err)
	}
	payload, err := cose.Marshal(body)
	if err != nil {
		return fmt.Errorf("operation %d: %w", op, err)
	}
	id, answer, err := c.enter()
	if err != nil {
		return err
	}
	message, err := frame{id: id, word: op, body: payload}.encode()
	if err != nil {
		c.leave(id)
		return fmt.Errorf("operation %d: %w", op, err)
	}
	// Failing closes the socket, which also ends a write that blocks on a stopped worker.
	timer := time.AfterFunc(deadline, func() {
		c.fail(fmt.Errorf("no answer to operation %d within %v", op, deadline))
	})
	defer timer.Stop()
	if err := c.send(message); err != nil {
		c.fail(fmt.Errorf("send operation %d: %w", op, err))
		return c.fault()
	}
	select {
	case f := <-answer:
		return c.decode(op, f, reply)
	case <-c.dead:
		return c.fault()
	case <-ctx.Done():
		c.abandon(id)
		return fmt.Errorf("operation %d: %w", op, ctx.Err())
	}
}

// Pid is the process id of the child.
func (c *Conn) Pid() int { return c.child.cmd.Process.Pid }

// Dead is closed when the worker is no longer usable; Err then says why.
func (c *Conn) Dead() <-chan struct{} { return c.dead }

// Err is nil while the worker is usable, afterwards the fault.
func (c *Conn) Err() error {
	select {
	case <-c.dead:
		return c.fault()
	default:
		return nil
	}
}

// Close ends the child by closing the socket, and by force if it has not gone after two seconds. Calls still under way
// get a fault. It returns the first fault if there was one before.
func (c *Conn) Close() error {
	c.shut(errClosed, false)
	if !c.child.wait(closePatience) {
		c.child.kill()
		c.child.wait(closePatience)
	}
	if err := c.fault(); !errors.Is(err, errClosed) {
		return err
	}
	return nil
}

// Fail declares a fault that the wire can't see, such as a wrong number of results, and returns it.
func (c *Conn) Fail(cause error) error {
	c.fail(cause)
	return c.fault()
}

func (c *Conn) send(message []byte) error {
	c.write.Lock()
	defer c.write.Unlock()
	_, err := c.file.Write(message)
	return err
}

func (c *Conn) decode(op uint64, f frame, reply any) error {
	switch f.word {
	case wordReply:
		if err := cose.Unmarshal(f.body, reply); err != nil {
			return c.Fail(fmt.Errorf("answer to operation %d: %w", op, err))
		}
		return nil
	case wordRefusal:
		refused := new(Refused)
		if err := cose.Unmarshal(f.body, refused); err != nil {
			return c.Fail(fmt.Errorf("refusal of operation %d: %w", op, err))
		}
		return refused
	}
	return c.Fail(fmt.Errorf("answer to operation %d: %w: word %d", op, errFrame, f.word))
}

// read hands answers to their callers until the first thing that is wrong.
func (c *Conn) read() {
	r := bufio.NewReaderSize(c.file, 64<<10)
	for {
		f, err := readFrame(r)
		if err != nil {
			// A stream that ends is a worker about to exit: how it does so belongs in the fault.
			if !errors.Is(err, errFrame) {
				c.child.wait(exitPatience)
			}
			c.fail(fmt.Errorf("read answer: %w", err))
			return
		}
		answer, known := c.leave(f.id)
		if !known {
			c.fail(fmt.Errorf("answer to a request never made (id %d)", f.id))
			return
		}
		if answer != nil {
			answer <- f
		}
	}
}

func (c *Conn) enter() (uint64, chan frame, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return 0, nil, c.faultOf(c.cause)
	}
	c.last++
	answer := make(chan frame, 1)
	c.waiting[c.last] = answer
	return c.last, answer, nil
}

func (c *Conn) leave(id uint64) (chan frame, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	answer, known := c.waiting[id]
	delete(c.waiting, id)
	return answer, known
}

func (c *Conn) abandon(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.waiting[id]; known {
		c.waiting[id] = nil
	}
}

func (c *Conn) fail(cause error) { c.shut(cause, true) }

// shut makes the Conn dead, once: what follows the first cause is its consequence.
func (c *Conn) shut(cause error, kill bool) {
	c.mu.Lock()
	first := c.cause == nil
	if first {
		c.cause = cause
		close(c.dead)
	}
	c.mu.Unlock()
	if first && kill {
		c.child.kill()
	}
	if first {
		c.file.Close()
	}
}

// fault waits for the child to be gone, so that its last words are in the error.
func (c *Conn) fault() error {
	c.child.wait(closePatience)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.faultOf(c.cause)
}

func (c *Conn) faultOf(cause error) error {
	return fmt.Errorf("%w: %s: %w%s", ErrFault, c.child.cmd.Path, cause, c.child.lastWords())
}
