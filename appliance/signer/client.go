package signer

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"coldseal/appliance/wire"
	"coldseal/protocol"
)

const (
	defaultTimeout = 10 * time.Second
	// perInput is what a batch is given on top for each input: several times what RSA-4096 takes on one slow processor.
	// A signer whose devices are slower says so; no more than maxPace is believed.
	perInput = 20 * time.Millisecond
	maxPace  = 2 * time.Second
	// A device that is slower than we are is given a batch in portions, several at once, so that it never waits: neither
	// for the verification of what it signed last, nor for a message.
	portion        = 64
	portionsAtOnce = 3
	// forCreate is what making a key is given on top: two RSA primes may take very long to find.
	forCreate = 2 * time.Minute
)

// Options of Start.
type Options struct {
	Timeout time.Duration // how long an operation may take before the signer counts as hanging; 10 s if zero
	Files   []*os.File    // what the signer finds from descriptor 4 on, such as the pipe of a passphrase
}

// Client is the appliance's end: a running signer process. It may be used by several goroutines.
type Client struct {
	conn    *wire.Conn
	timeout time.Duration
	slots   chan struct{} // so that no operation's deadline runs while it waits behind others
	hello   Hello
	pace    time.Duration // what a signature may take

	mu      sync.Mutex
	keys    []*Key
	counter uint64 // the highest value seen
}

// Start starts the signer at path with args and asks who it is and which keys it has. It is killed when ctx ends or this
// process dies. Errors are faults, with what the signer said last (a wrong passphrase, for one).
func Start(ctx context.Context, path string, args []string, opts Options) (*Client, error) {
	conn, err := wire.Start(ctx, path, args, opts.Files...)
	if err != nil {
		return nil, err
	}
	c := &Client{conn: conn, timeout: opts.Timeout, slots: make(chan struct{}, maxInFlight)}
	if c.timeout == 0 {
		c.timeout = defaultTimeout
	}
	if err := c.greet(); err != nil {
		return nil, c.conn.Fail(err) // the first fault, if err is one already
	}
	return c, nil
}

func (c *Client) greet() error {
	if err := c.call(opHello, helloRequest{Version}, &c.hello, 0); err != nil {
		return err
	}
	if c.hello.Version != Version {
		return c.conn.Fail(fmt.Errorf("signer speaks version %d, want %d", c.hello.Version, Version))
	}
	c.pace = perInput
	if c.hello.Pace != 0 {
		c.pace = time.Duration(min(c.hello.Pace, uint64(maxPace/time.Millisecond))) * time.Millisecond
	}
	var reply keysReply
	if err := c.call(opKeys, nothing{}, &reply, 0); err != nil {
		return err
	}
	if len(reply.Keys) > MaxKeys {
		return c.conn.Fail(fmt.Errorf("signer lists %d keys, allowed are %d", len(reply.Keys), MaxKeys))
	}
	for _, info := range reply.Keys {
		if _, err := c.add(info); err != nil {
			return c.conn.Fail(err)
		}
	}
	return nil
}

// add takes a key into the list; two of one label or one public key are an error.
func (c *Client) add(info KeyInfo) (*Key, error) {
	public, err := info.Check()
	if err != nil {
		return nil, err
	}
	key := &Key{client: c, info: info, id: info.ID(), public: public}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, other := range c.keys {
		if other.info.Label == info.Label || other.id == key.id {
			return nil, fmt.Errorf("key %s is there twice", info.Label)
		}
	}
	c.keys = append(c.keys, key)
	return key, nil
}

func (c *Client) call(op uint64, body, reply any, extra time.Duration) error {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-c.conn.Dead():
		return fmt.Errorf("signer: %w", c.conn.Err())
	}
	err := c.conn.Call(context.Background(), c.timeout+extra, op, body, reply)
	if trouble, found := AsTrouble(err); found {
		err = trouble // as the device's own side said it
	}
	if err != nil {
		return fmt.Errorf("signer: %w", err)
	}
	return nil
}

// Hello is what the signer said about itself.
func (c *Client) Hello() Hello { return c.hello }

// Pid is the process id of the signer.
func (c *Client) Pid() int { return c.conn.Pid() }

// Dead is closed when the signer can't be used any more; Err then says why.
func (c *Client) Dead() <-chan struct{} { return c.conn.Dead() }

// Err is nil while the signer can be used, afterwards the fault.
func (c *Client) Err() error { return c.conn.Err() }

// Close ends the signer and waits until it is gone, so that another may be started on the same keys. It returns the
// fault if there was one.
func (c *Client) Close() error { return c.conn.Close() }

// Keys lists the keys there are, in the signer's order.
func (c *Client) Keys() []KeyInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	infos := make([]KeyInfo, len(c.keys))
	for i, key := range c.keys {
		infos[i] = key.info
	}
	return infos
}

// Key gives the key with that id (SHA-256 of its SPKI), if it is for that purpose.
func (c *Client) Key(id [32]byte, purpose Purpose) (*Key, error) {
	return c.find(fmt.Sprintf("%x", id), purpose, func(k *Key) bool { return k.id == id })
}

// KeyLabelled gives the key with that label, if it is for that purpose.
func (c *Client) KeyLabelled(label string, purpose Purpose) (*Key, error) {
	return c.find(label, purpose, func(k *Key) bool { return k.info.Label == label })
}

func (c *Client) find(name string, purpose Purpose, is func(*Key) bool) (*Key, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.keys, is)
	if i < 0 {
		return nil, refuse(RefusedKey, "no key %s", name)
	}
	if key := c.keys[i]; key.info.Purpose == purpose {
		return key, nil
	}
	return nil, refuse(RefusedPurpose, "key %s is for %s, not for %q", name, c.keys[i].info.Purpose, purpose)
}

// CreateKey makes a key and returns when it is durable. A label that exists is refused, and a kind of keys that no
// device holds.
func (c *Client) CreateKey(label string, purpose Purpose, algorithm Algorithm) (*Key, error) {
	var reply createReply
	if err := c.call(opCreate, createRequest{label, purpose, algorithm}, &reply, forCreate); err != nil {
		return nil, err
	}
	info := reply.Key
	if info.Label != label || info.Purpose != purpose || info.Algorithm != algorithm {
		return nil, c.conn.Fail(fmt.Errorf("asked for key %s (%s, %s), made %s (%s, %s)", label, purpose, algorithm, info.Label, info.Purpose, info.Algorithm))
	}
	key, err := c.add(info)
	if err != nil {
		return nil, c.conn.Fail(err)
	}
	if key.attestation, err = reply.Attestation.Encode(); err != nil || len(key.attestation) > protocol.MaxAttestation {
		return nil, c.conn.Fail(fmt.Errorf("attestation of key %s has %d bytes, allowed are %d", label, len(key.attestation), protocol.MaxAttestation))
	}
	return key, nil
}

// DestroyKey destroys a key and returns when it is gone for good. The last key for one of the appliance's own purposes is
// not destroyed.
func (c *Client) DestroyKey(id [32]byte, purpose Purpose) error {
	if err := c.call(opDestroy, destroyRequest{id, purpose}, new(nothing), 0); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys = slices.DeleteFunc(c.keys, func(k *Key) bool { return k.id == id })
	return nil
}

// Objects lists all that is on the devices, ours or not.
func (c *Client) Objects() ([]Object, error) {
	var reply objectsReply
	err := c.call(opObjects, nothing{}, &reply, 0)
	return reply.Objects, err
}

// SignBatch signs up to MaxBatch inputs and verifies every signature: what it returns are good ones, in the order of the
// inputs. One that does not verify is a fault, and none is returned.
func (c *Client) SignBatch(id [32]byte, purpose Purpose, scheme Scheme, inputs [][]byte) ([][]byte, error) {
	key, err := c.Key(id, purpose)
	if err != nil {
		return nil, err
	}
	if c.hello.Pace == 0 || len(inputs) <= portion {
		return c.sign(key, scheme, inputs)
	}
	signatures := make([][]byte, len(inputs))
	err = parallel((len(inputs)+portion-1)/portion, portionsAtOnce, func(i int) error {
		some, err := c.sign(key, scheme, inputs[i*portion:min((i+1)*portion, len(inputs))])
		copy(signatures[i*portion:], some)
		return err
	})
	if err != nil {
		return nil, err
	}
	return signatures, nil
}

// sign signs inputs in one call.
func (c *Client) sign(key *Key, scheme Scheme, inputs [][]byte) ([][]byte, error) {
	var reply signReply
	err := c.call(opSign, signRequest{key.id, key.info.Purpose, scheme, inputs}, &reply, time.Duration(len(inputs))*c.pace)
	if err != nil {
		return nil, err
	}
	if len(reply.Signatures) != len(inputs) {
		return nil, c.conn.Fail(fmt.Errorf("%d signatures for %d inputs", len(reply.Signatures), len(inputs)))
	}
	err = parallel(len(inputs), runtime.GOMAXPROCS(0), func(i int) error {
		if !scheme.verify(key.public, inputs[i], reply.Signatures[i]) {
			return fmt.Errorf("signature %d of %d by key %s does not verify", i+1, len(inputs), key.info.Label)
		}
		return nil
	})
	if err != nil {
		return nil, c.conn.Fail(err)
	}
	return reply.Signatures, nil
}

// ECDH gives the x coordinate shared by the receiver key and the peer's uncompressed P-256 point. It can't be verified
// here; a wrong one opens no bundle.
func (c *Client) ECDH(id [32]byte, point []byte) ([32]byte, error) {
	var reply ecdhReply
	err := c.call(opECDH, ecdhRequest{id, bytes.Clone(point)}, &reply, 0)
	return reply.Shared, err
}

// Counter reads the counter.
func (c *Client) Counter() (uint64, error) {
	floor := c.seen(0)
	var reply counterMessage
	if err := c.call(opCounter, nothing{}, &reply, 0); err != nil {
		return 0, err
	}
	if reply.Value < floor {
		return 0, c.conn.Fail(fmt.Errorf("counter went back from %d to %d", floor, reply.Value))
	}
	c.seen(reply.Value)
	return reply.Value, nil
}

// seen notes a value of the counter and gives the highest there was.
func (c *Client) seen(value uint64) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counter = max(c.counter, value)
	return c.counter
}

// Advance makes the counter to, durably. It must be one more than the counter is, or what it is already.
func (c *Client) Advance(to uint64) error {
	var reply counterMessage
	if err := c.call(opAdvance, counterMessage{to}, &reply, 0); err != nil {
		return err
	}
	if reply.Value != to {
		return c.conn.Fail(fmt.Errorf("counter is %d after advancing it to %d", reply.Value, to))
	}
	c.seen(to)
	return nil
}

// Pin ties the signer to the appliance with that genesis digest, once and for all; the same digest again is accepted.
func (c *Client) Pin(digest [32]byte) error {
	if digest == [32]byte{} {
		return fmt.Errorf("signer: a genesis digest of zeros can't be pinned")
	}
	pinned, _, err := c.pin(digest)
	if err == nil && pinned != digest {
		return c.conn.Fail(fmt.Errorf("pinned %x, reads back %x", digest, pinned))
	}
	return err
}

// Pinned gives the genesis digest, or false if none was pinned.
func (c *Client) Pinned() ([32]byte, bool, error) { return c.pin([32]byte{}) }

func (c *Client) pin(digest [32]byte) ([32]byte, bool, error) {
	var reply pinMessage
	err := c.call(opPin, pinMessage{digest}, &reply, 0)
	return reply.Digest, reply.Digest != [32]byte{}, err
}
