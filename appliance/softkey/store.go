// Package softkey keeps keys in a file, encrypted under a passphrase or a secret file, and the counter in another file
// beside it. It is the backend of the signer process for tests, demonstrations and appliances without a key device.
//
// A directory belongs to one process at a time. Everything is durable before it is answered. What it can't do: a counter
// in a file does not stop whoever can write the disk from putting yesterday's disk back (a TPM's does), and keys in
// memory are as safe as the machine. The rules of use are not here but in appliance/signer.
package softkey

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"coldseal/appliance/signer"
)

const (
	keystoreName = "keystore"
	counterName  = "counter"
)

// Store is an open directory of keys; it is a signer.Backend.
type Store struct {
	dir     *os.File // locked while it is open
	lock    lock
	counter *counter

	mu   sync.RWMutex
	pin  [32]byte
	keys []key
}

type key struct {
	info    signer.KeyInfo
	id      [32]byte
	private crypto.Signer
}

// Open opens the keys in dir, or makes dir and an empty keystore where there is none. What was derived from the secret is
// kept until Close, the secret itself isn't.
func Open(dir string, secret Secret) (*Store, error) {
	s, err := open(dir, secret)
	if err != nil {
		return nil, fmt.Errorf("open keys in %s: %w", dir, err)
	}
	return s, nil
}

func open(path string, secret Secret) (_ *Store, err error) {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	s := new(Store)
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.dir, err = lockDirectory(path); err != nil {
		return nil, err
	}
	// Who was killed may have left a name that can be read and is not durable yet. What is done now builds on it.
	if err := s.dir.Sync(); err != nil {
		return nil, fmt.Errorf("sync %s: %w", path, err)
	}
	file, err := readBounded(filepath.Join(path, keystoreName), maxKeystore)
	if errors.Is(err, os.ErrNotExist) {
		return s, s.create(secret)
	}
	if err != nil {
		return nil, err
	}
	if s.counter, err = openCounter(filepath.Join(path, counterName)); err != nil {
		return nil, err
	}
	var c contents
	if s.lock, c, err = unseal(file, secret); err != nil {
		return nil, err
	}
	defer c.clear()
	return s, s.load(c)
}

// create begins a keystore. The counter comes first, so that one without a keystore still stands at zero, which tells a
// beginning that was interrupted from a keystore that was lost.
func (s *Store) create(secret Secret) (err error) {
	path := filepath.Join(s.dir.Name(), counterName)
	if s.counter, err = openCounter(path); errors.Is(err, os.ErrNotExist) {
		if err := s.writeDurable(counterName, newCounter()); err != nil {
			return err
		}
		s.counter, err = openCounter(path)
	}
	if err != nil {
		return err
	}
	if s.counter.value != 0 {
		return fmt.Errorf("the keystore is gone: its counter stands at %d; put the keystore back from a backup", s.counter.value)
	}
	if s.lock, err = newLock(secret); err != nil {
		return err
	}
	return s.save(nil, [32]byte{})
}

func (s *Store) load(c contents) error {
	s.pin = c.Pin
	for _, k := range c.Keys {
		private, err := x509.ParsePKCS8PrivateKey(k.PKCS8)
		if err != nil {
			return fmt.Errorf("key %s: not a PKCS #8 private key", k.Label)
		}
		loaded, err := newKey(k.Label, k.Purpose, private)
		if err != nil {
			return err
		}
		s.keys = append(s.keys, loaded)
	}
	return nil
}

func newKey(label string, purpose signer.Purpose, private any) (key, error) {
	k := key{info: signer.KeyInfo{Label: label, Purpose: purpose}}
	var ok bool
	if k.private, ok = private.(crypto.Signer); !ok {
		return key{}, fmt.Errorf("key %s: %T does not sign", label, private)
	}
	var err error
	if k.info.Algorithm, err = signer.AlgorithmOf(k.private.Public()); err != nil {
		return key{}, fmt.Errorf("key %s: %w", label, err)
	}
	if k.info.SPKI, err = x509.MarshalPKIXPublicKey(k.private.Public()); err != nil {
		return key{}, fmt.Errorf("key %s: %w", label, err)
	}
	k.id = k.info.ID()
	_, err = k.info.Check()
	return k, err
}

// save writes keystore with these keys and this pin, then takes them over.
func (s *Store) save(keys []key, pin [32]byte) error {
	c := contents{Pin: pin}
	defer c.clear()
	for _, k := range keys {
		der, err := x509.MarshalPKCS8PrivateKey(k.private)
		if err != nil {
			return fmt.Errorf("key %s: %w", k.info.Label, err)
		}
		c.Keys = append(c.Keys, storedKey{k.info.Label, k.info.Purpose, der})
	}
	file, err := s.lock.seal(c)
	if err != nil {
		return err
	}
	if err := s.writeDurable(keystoreName, file); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys, s.pin = keys, pin
	return nil
}

// Keys lists the keys in the order they were made.
func (s *Store) Keys() ([]signer.KeyInfo, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	infos := make([]signer.KeyInfo, len(s.keys))
	for i, k := range s.keys {
		infos[i] = k.info
	}
	return infos, nil
}

// Holds is true of all kinds there are.
func (s *Store) Holds(purpose signer.Purpose, algorithm signer.Algorithm) bool {
	return purpose.Allows(algorithm)
}

// Parallel is as many as there are processors.
func (s *Store) Parallel([32]byte) int { return runtime.GOMAXPROCS(0) }

// Create makes a key, durable when it returns. Nothing can attest that it does not leave the machine.
func (s *Store) Create(label string, purpose signer.Purpose, algorithm signer.Algorithm) (signer.KeyInfo, *signer.Attestation, error) {
	private, err := generate(algorithm)
	if err != nil {
		return signer.KeyInfo{}, nil, err
	}
	k, err := newKey(label, purpose, private)
	if err != nil {
		return signer.KeyInfo{}, nil, err
	}
	return k.info, nil, s.save(append(s.keys[:len(s.keys):len(s.keys)], k), s.pin)
}

// Destroy removes a key from the keystore, durably, and overwrites the keystore that still had it. What the disk itself
// keeps of overwritten blocks is out of reach; it is encrypted.
func (s *Store) Destroy(id [32]byte) error {
	if _, err := s.find(id); err != nil {
		return err
	}
	old, err := os.OpenFile(filepath.Join(s.dir.Name(), keystoreName), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer old.Close()
	about, err := old.Stat()
	if err != nil {
		return err
	}
	rest := slices.DeleteFunc(slices.Clone(s.keys), func(k key) bool { return k.id == id })
	if err := s.save(rest, s.pin); err != nil {
		return err
	}
	if _, err := old.WriteAt(make([]byte, about.Size()), 0); err != nil {
		return fmt.Errorf("overwrite the old keystore: %w", err)
	}
	return old.Sync()
}

// Objects lists the keys.
func (s *Store) Objects() ([]signer.Object, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	objects := make([]signer.Object, len(s.keys))
	for i, k := range s.keys {
		objects[i] = signer.Object{Class: signer.ClassPrivateKey, Label: k.info.Label, Handle: keystoreName, Key: k.id, Ours: true}
	}
	return objects, nil
}

func generate(algorithm signer.Algorithm) (any, error) {
	switch algorithm {
	case signer.P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case signer.P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case signer.RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case signer.RSA4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	case signer.Ed25519:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	}
	return nil, fmt.Errorf("no algorithm %q", algorithm)
}

func (s *Store) find(id [32]byte) (key, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, k := range s.keys {
		if k.id == id {
			return k, nil
		}
	}
	return key{}, fmt.Errorf("no key %x", id)
}

// Sign is deterministic (RFC 6979 for ECDSA), but for RSA-PSS, which needs a salt.
func (s *Store) Sign(id [32]byte, scheme signer.Scheme, input []byte) ([]byte, error) {
	k, err := s.find(id)
	if err != nil {
		return nil, err
	}
	opts := scheme.Options()
	var random io.Reader
	if _, ok := opts.(*rsa.PSSOptions); ok {
		random = rand.Reader
	}
	return k.private.Sign(random, input, opts)
}

// ECDH gives the x coordinate the receiver key and peer share.
func (s *Store) ECDH(id [32]byte, peer *ecdh.PublicKey) ([]byte, error) {
	k, err := s.find(id)
	if err != nil {
		return nil, err
	}
	private, ok := k.private.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("key %s is not on a curve for key agreement", k.info.Label)
	}
	own, err := private.ECDH()
	if err != nil {
		return nil, err
	}
	return own.ECDH(peer)
}

// Counter gives the counter.
func (s *Store) Counter() (uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.counter.value, nil
}

// Advance makes the counter to, durable when it returns.
func (s *Store) Advance(to uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counter.set(to)
}

// Pinned gives the pinned genesis digest, zero if there is none.
func (s *Store) Pinned() ([32]byte, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.pin, nil
}

// Pin sets the genesis digest, durable when it returns.
func (s *Store) Pin(digest [32]byte) error { return s.save(s.keys, digest) }

// Close lets go of the directory and overwrites the secret; private keys are left to the end of the process.
func (s *Store) Close() error {
	clear(s.lock.key[:])
	var err error
	if s.counter != nil {
		err = s.counter.file.Close()
	}
	if s.dir != nil {
		err = errors.Join(err, s.dir.Close())
	}
	return err
}
