package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// state is what a card keeps without power, in a file of JSON.
type state struct {
	Serial     uint32
	Version    [3]byte // of the firmware
	Plain      bool    // NIST SP 800-73-4 and nothing of Yubico's
	PIN, PUK   secret
	Management management
	Keys       map[byte]*key     // by reference
	Objects    map[uint32][]byte // by tag, as PUT DATA gave them
}

// secret is a PIN or PUK, padded to eight bytes.
type secret struct {
	Value       []byte
	Tries, Left int
}

type management struct {
	Algorithm byte
	Key       []byte
}

// key is a key pair in a slot.
type key struct {
	Algorithm  byte
	PINPolicy  byte
	Touch      byte
	Imported   bool
	PrivateKey []byte // PKCS #8
}

// slots are the keys a card has room for: authentication, signature, key management, card authentication, and the
// retired ones (SP 800-73-4 part 1, table 4b).
func isSlot(ref byte) bool {
	return ref >= 0x9a && ref <= 0x9e && ref != refManagement || ref >= 0x82 && ref <= 0x95
}

const (
	defaultPIN = "123456\xff\xff"
	defaultPUK = "12345678"
	defaultKey = "\x01\x02\x03\x04\x05\x06\x07\x08\x01\x02\x03\x04\x05\x06\x07\x08\x01\x02\x03\x04\x05\x06\x07\x08"
	maxTries   = 3
)

// reset makes all but serial, version and attestation what the factory made it.
func (s *state) reset() {
	s.PIN = secret{[]byte(defaultPIN), maxTries, maxTries}
	s.PUK = secret{[]byte(defaultPUK), maxTries, maxTries}
	s.Management = management{alg3DES, []byte(defaultKey)}
	if s.atLeast(5, 7) {
		s.Management.Algorithm = algAES192
	}
	keys, objects := map[byte]*key{}, map[uint32][]byte{}
	if k := s.Keys[refAttestation]; k != nil {
		keys[refAttestation], objects[tagAttestation] = k, s.Objects[tagAttestation]
	}
	s.Keys, s.Objects = keys, objects
}

func (s *state) atLeast(major, minor byte) bool {
	return !s.Plain && (s.Version[0] > major || s.Version[0] == major && s.Version[1] >= minor)
}

// load reads a card from its file, or makes a new one.
func load(file string, fresh state) (*state, error) {
	data, err := os.ReadFile(file)
	if err == nil {
		s := new(state)
		if err := json.Unmarshal(data, s); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		return s, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	s := &fresh
	s.reset()
	if !s.Plain {
		if err := s.attestation(); err != nil {
			return nil, err
		}
	}
	return s, s.save(file)
}

// save replaces the file; a card that loses power has the old state or the new one.
func (s *state) save(file string) error {
	data, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return err
	}
	next := file + ".new"
	if err := os.WriteFile(next, data, 0o600); err != nil {
		return err
	}
	return os.Rename(next, file)
}

// attestation gives a new card the key that it attests with. Its certificate is a root of its own: nobody's vendor.
func (s *state) attestation() error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	certificate, err := attestationRoot(private, s.Serial)
	if err != nil {
		return err
	}
	s.Keys[refAttestation] = &key{Algorithm: algP256, PINPolicy: pinNever, Touch: touchNever, PrivateKey: der}
	s.Objects[tagAttestation] = append(object(0x70, certificate), object(0x71, []byte{0})...)
	return nil
}
