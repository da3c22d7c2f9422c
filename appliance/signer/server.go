package signer

import (
	"crypto/ecdh"
	"fmt"
	"sync"

	"coldseal/appliance/wire"
)

// maxInFlight is how many operations run at once: while one batch is signed, the next is read and the last written.
const maxInFlight = 4

// Backend keeps keys, the counter and the pin. Its methods are called from several goroutines, those that change
// something one at a time. What is asked of it has passed the rules of this package; its errors are faults.
type Backend interface {
	Keys() ([]KeyInfo, error)
	// Create makes a key that is durable before it returns.
	Create(label string, purpose Purpose, algorithm Algorithm) (KeyInfo, error)
	// Sign signs a digest, or for Ed25519 a message; ECDSA signatures are ASN.1 DER.
	Sign(id [32]byte, scheme Scheme, input []byte) ([]byte, error)
	// ECDH gives the x coordinate that the key and peer share, 32 bytes (SEC 1 section 3.3.1).
	ECDH(id [32]byte, peer *ecdh.PublicKey) ([]byte, error)
	Counter() (uint64, error)
	// Advance makes the counter to, which is one more than it was, durably.
	Advance(to uint64) error
	// Pinned gives the genesis digest, zero if there is none yet; Pin sets it durably.
	Pinned() ([32]byte, error)
	Pin(digest [32]byte) error
}

// Serve answers the appliance on the socket at fd with the keys of backend until the appliance closes it. An error means
// that the process must end, which the appliance takes for a fault.
func Serve(fd uintptr, backend Backend, hello Hello) error {
	s, err := newServer(backend, hello)
	if err != nil {
		return err
	}
	return wire.Serve(fd, maxInFlight, s.handle)
}

type server struct {
	backend Backend
	hello   Hello

	change sync.Mutex // held by operations that change something
	mu     sync.RWMutex
	keys   map[[32]byte]KeyInfo
}

func newServer(backend Backend, hello Hello) (*server, error) {
	keys, err := backend.Keys()
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	hello.Version = Version
	s := &server{backend: backend, hello: hello, keys: make(map[[32]byte]KeyInfo)}
	for _, key := range keys {
		s.keys[key.ID()] = key
	}
	return s, nil
}

func refuse(code, format string, args ...any) error {
	return &wire.Refused{Code: code, Message: fmt.Sprintf(format, args...)}
}

// handle is a wire.Handler. A body that can't be decoded is a fault: it comes from our own parent, which has gone wrong.
func (s *server) handle(op uint64, body []byte) (any, error) {
	request, err := decodeRequest(op, body)
	if err != nil {
		return nil, err
	}
	switch r := request.(type) {
	case *helloRequest:
		if r.Version != Version {
			return nil, refuse(RefusedVersion, "appliance speaks version %d, this signer %d: install both from one release", r.Version, Version)
		}
		return s.hello, nil
	case *createRequest:
		return s.create(r)
	case *signRequest:
		return s.sign(r)
	case *ecdhRequest:
		return s.ecdh(r)
	case *counterMessage:
		return s.advance(r.Value)
	case *pinMessage:
		return s.pin(r.Digest)
	}
	if op == opKeys {
		keys, err := s.backend.Keys()
		return keysReply{keys}, err
	}
	value, err := s.backend.Counter()
	return counterMessage{value}, err
}

func (s *server) create(r *createRequest) (any, error) {
	s.change.Lock()
	defer s.change.Unlock()
	if !validLabel(r.Label) {
		return nil, refuse(RefusedLabel, "label %q: want 1 to %d letters, digits and ._/:- beginning with a letter or digit", r.Label, MaxLabel)
	}
	if !r.Purpose.Allows(r.Algorithm) {
		return nil, refuse(RefusedAlgorithm, "no %q key for purpose %q", r.Algorithm, r.Purpose)
	}
	if len(s.keys) >= MaxKeys {
		return nil, refuse(RefusedFull, "there are %d keys already", MaxKeys)
	}
	for _, key := range s.keys {
		if key.Label == r.Label {
			return nil, refuse(RefusedDuplicate, "there is a key labelled %s already", r.Label)
		}
	}
	key, err := s.backend.Create(r.Label, r.Purpose, r.Algorithm)
	if err != nil {
		return nil, fmt.Errorf("create key %s: %w", r.Label, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[key.ID()] = key
	return key, nil
}

// key gives the key if it is for that purpose.
func (s *server) key(id [32]byte, purpose Purpose) (KeyInfo, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	key, ok := s.keys[id]
	if !ok {
		return key, refuse(RefusedKey, "no key %x", id)
	}
	if key.Purpose != purpose {
		return key, refuse(RefusedPurpose, "key %s is for %s, not for %q", key.Label, key.Purpose, purpose)
	}
	return key, nil
}

func (s *server) sign(r *signRequest) (any, error) {
	key, err := s.key(r.Key, r.Purpose)
	if err != nil {
		return nil, err
	}
	if key.Purpose == Receiver {
		return nil, refuse(RefusedPurpose, "key %s is for key agreement and signs nothing", key.Label)
	}
	if !r.Scheme.Fits(key.Algorithm) {
		return nil, refuse(RefusedScheme, "key %s is %s and does not sign by %q", key.Label, key.Algorithm, r.Scheme)
	}
	if len(r.Inputs) == 0 || len(r.Inputs) > MaxBatch {
		return nil, refuse(RefusedBatch, "%d inputs, allowed are 1 to %d", len(r.Inputs), MaxBatch)
	}
	hash := r.Scheme.Options().HashFunc()
	for i, input := range r.Inputs {
		if hash != 0 && len(input) != hash.Size() {
			return nil, refuse(RefusedInput, "input %d has %d bytes, a digest for %s has %d", i, len(input), r.Scheme, hash.Size())
		}
		if key.Purpose == Log {
			if err := checkCheckpoint(input); err != nil {
				return nil, refuse(RefusedCheckpoint, "input %d: %v; the log key signs checkpoints only", i, err)
			}
		}
	}
	signatures := make([][]byte, len(r.Inputs))
	err = parallel(len(r.Inputs), func(i int) (err error) {
		signatures[i], err = s.backend.Sign(r.Key, r.Scheme, r.Inputs[i])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("sign with key %s: %w", key.Label, err)
	}
	return signReply{signatures}, nil
}

func (s *server) ecdh(r *ecdhRequest) (any, error) {
	key, err := s.key(r.Key, Receiver)
	if err != nil {
		return nil, err
	}
	// Refuses the identity, points off the curve and compressed ones; without it a device might leak its key bit by bit.
	peer, err := ecdh.P256().NewPublicKey(r.Point)
	if err != nil {
		return nil, refuse(RefusedPoint, "not an uncompressed point of P-256 (%d bytes)", len(r.Point))
	}
	shared, err := s.backend.ECDH(r.Key, peer)
	if err != nil {
		return nil, fmt.Errorf("agree with key %s: %w", key.Label, err)
	}
	if len(shared) != 32 {
		return nil, fmt.Errorf("agree with key %s: shared secret of %d bytes", key.Label, len(shared))
	}
	return ecdhReply{[32]byte(shared)}, nil
}

func (s *server) advance(to uint64) (any, error) {
	s.change.Lock()
	defer s.change.Unlock()
	value, err := s.backend.Counter()
	if err != nil {
		return nil, fmt.Errorf("read counter: %w", err)
	}
	// Asking again for the value it has is how an appliance that was interrupted carries on.
	if to == value {
		return counterMessage{value}, nil
	}
	if to-1 != value || to == 0 {
		return nil, refuse(RefusedCounter, "counter stands at %d and does not go to %d", value, to)
	}
	if err := s.backend.Advance(to); err != nil {
		return nil, fmt.Errorf("advance counter to %d: %w", to, err)
	}
	return counterMessage{to}, nil
}

func (s *server) pin(digest [32]byte) (any, error) {
	s.change.Lock()
	defer s.change.Unlock()
	pinned, err := s.backend.Pinned()
	if err != nil {
		return nil, fmt.Errorf("read pin: %w", err)
	}
	switch {
	case digest == [32]byte{} || digest == pinned:
		return pinMessage{pinned}, nil
	case pinned != [32]byte{}:
		return nil, refuse(RefusedPin, "this signer belongs to the appliance with genesis %x, not %x", pinned, digest)
	}
	if err := s.backend.Pin(digest); err != nil {
		return nil, fmt.Errorf("pin genesis digest: %w", err)
	}
	return pinMessage{digest}, nil
}
