package signer

import (
	"crypto/ecdh"
	"errors"
	"fmt"
	"sync"

	"coldseal/appliance/wire"
)

// maxInFlight is how many operations run at once: while one batch is signed, the next is read and the last written.
const maxInFlight = 4

// Serve answers the appliance on the socket at fd with the keys of backend until the appliance closes it. An error means
// that the process must end, which the appliance takes for a fault.
func Serve(fd uintptr, backend Backend, hello Hello) error {
	s, err := newServer(backend, hello)
	if trouble, is := errors.AsType[*Trouble](err); is {
		return Fail(fd, trouble)
	}
	if err != nil {
		return err
	}
	return wire.Serve(fd, maxInFlight, s.handle)
}

// Fail answers the appliance's hello with the trouble for which no keys can be used, so that it knows which one it is.
func Fail(fd uintptr, trouble *Trouble) error {
	return wire.Serve(fd, 1, func(uint64, []byte) (any, error) { return nil, trouble.refused() })
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
	s := &server{backend: backend, hello: hello, keys: make(map[[32]byte]KeyInfo)}
	for _, key := range keys {
		s.keys[key.ID()] = key
	}
	return s, nil
}

func refuse(code, format string, args ...any) error {
	return &wire.Refused{Code: code, Message: fmt.Sprintf(format, args...)}
}

// handle is a wire.Handler. What is wrong with a device is told as its trouble; any other error is a fault.
func (s *server) handle(op uint64, body []byte) (any, error) {
	reply, err := s.carryOut(op, body)
	return reply, told(err)
}

// told is an error as it travels: a trouble is a refusal.
func told(err error) error {
	if trouble, ok := errors.AsType[*Trouble](err); ok {
		return trouble.refused()
	}
	return err
}

// greet answers an appliance of the same release with what this signer is.
func greet(r *helloRequest, hello Hello) (any, error) {
	if r.Version != Version {
		return nil, refuse(RefusedVersion, "appliance speaks version %d, this signer %d: install both from one release", r.Version, Version)
	}
	hello.Version = Version
	return hello, nil
}

// carryOut does what a request asks for. A body that can't be decoded is a fault: it comes from our own parent, which has gone wrong.
func (s *server) carryOut(op uint64, body []byte) (any, error) {
	request, err := decodeRequest(op, body)
	if err != nil {
		return nil, err
	}
	switch r := request.(type) {
	case *helloRequest:
		return greet(r, s.hello)
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
	case *destroyRequest:
		return s.destroy(r)
	}
	switch op {
	case opShare:
		return nil, refuse(RefusedDevice, "shares lie on cards; this process has keys")
	case opKeys:
		return s.list()
	case opObjects:
		objects, err := s.backend.Objects()
		return objectsReply{objects}, err
	}
	value, err := s.backend.Counter()
	return counterMessage{value}, err
}

// list gives the keys that there were at the start and those that were made or destroyed since, in the devices' order.
func (s *server) list() (any, error) {
	s.change.Lock()
	defer s.change.Unlock()
	keys, err := s.backend.Keys()
	return keysReply{keys}, err
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
	if !s.backend.Holds(r.Purpose, r.Algorithm) {
		return nil, refuse(RefusedDevice, "no device here holds %s keys for %s", r.Algorithm, r.Purpose)
	}
	key, attestation, err := s.backend.Create(r.Label, r.Purpose, r.Algorithm)
	if err != nil {
		return nil, fmt.Errorf("create key %s: %w", r.Label, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[key.ID()] = key
	return createReply{key, attestation}, nil
}

// destroy removes a key. The appliance is never left without one for each of its own purposes: of these, what there is one
// of stays.
func (s *server) destroy(r *destroyRequest) (any, error) {
	s.change.Lock()
	defer s.change.Unlock()
	key, err := s.key(r.Key, r.Purpose)
	if err != nil {
		return nil, err
	}
	if key.Purpose != CA && s.count(key.Purpose) == 1 {
		return nil, refuse(RefusedPurpose, "key %s is the only one for %s", key.Label, key.Purpose)
	}
	if err := s.backend.Destroy(r.Key); err != nil {
		return nil, fmt.Errorf("destroy key %s: %w", key.Label, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, r.Key)
	return nothing{}, nil
}

func (s *server) count(purpose Purpose) (n int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, key := range s.keys {
		if key.Purpose == purpose {
			n++
		}
	}
	return n
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
	err = parallel(len(r.Inputs), s.backend.Parallel(r.Key), func(i int) (err error) {
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
