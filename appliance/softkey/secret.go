package softkey

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/crypto/scrypt"
)

const (
	kdfScrypt = "scrypt"
	kdfFile   = "hkdf-sha256"

	// scryptLogN costs 32 MiB and some 0.1 s at each start, which a guesser pays for each guess. A keystore may ask for
	// up to four times that, so that a later release may raise it and a hostile file can't fill the memory.
	scryptLogN    = 15
	maxScryptLogN = 17

	secretSize    = 32
	maxPassphrase = 1024
)

// Secret is what a keystore is encrypted under.
type Secret struct {
	kdf   string
	bytes []byte
}

// ReadPassphrase reads a passphrase to the end of r; one line ending is not part of it.
func ReadPassphrase(r io.Reader) (Secret, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxPassphrase+2))
	if err != nil {
		return Secret{}, fmt.Errorf("read passphrase: %w", err)
	}
	b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
	if len(b) == 0 || len(b) > maxPassphrase {
		return Secret{}, fmt.Errorf("read passphrase: want 1 to %d bytes", maxPassphrase)
	}
	return Secret{kdfScrypt, b}, nil
}

// ReadSecretFile reads a file of 32 random bytes that nobody but its owner may read.
func ReadSecretFile(path string) (Secret, error) {
	f, err := os.Open(path)
	if err != nil {
		return Secret{}, fmt.Errorf("read secret: %w", err)
	}
	defer f.Close()
	about, err := f.Stat()
	if err != nil {
		return Secret{}, fmt.Errorf("read secret: %w", err)
	}
	if mode := about.Mode().Perm(); mode&0o077 != 0 {
		return Secret{}, fmt.Errorf("read secret: others may read %s (mode %04o); chmod 600 it", path, mode)
	}
	b, err := io.ReadAll(io.LimitReader(f, secretSize+1))
	if err != nil {
		return Secret{}, fmt.Errorf("read secret: %w", err)
	}
	if len(b) != secretSize {
		return Secret{}, fmt.Errorf("read secret: %s does not hold exactly %d bytes", path, secretSize)
	}
	return Secret{kdfFile, b}, nil
}

// Clear overwrites the secret.
func (s Secret) Clear() { clear(s.bytes) }

// derive gives the key of a keystore with this header.
func (s Secret) derive(h header) ([32]byte, error) {
	if h.KDF != s.kdf {
		switch h.KDF {
		case kdfScrypt:
			return [32]byte{}, errors.New("keystore is under a passphrase, not a secret file")
		case kdfFile:
			return [32]byte{}, errors.New("keystore is under a secret file, not a passphrase")
		}
		return [32]byte{}, fmt.Errorf("%w: no key derivation %q", errDamaged, h.KDF)
	}
	var derived []byte
	var err error
	if s.kdf == kdfScrypt {
		derived, err = scrypt.Key(s.bytes, h.Salt[:], 1<<h.LogN, 8, 1, 32)
	} else {
		derived, err = hkdf.Key(sha256.New, s.bytes, h.Salt[:], keystoreMagic, 32)
	}
	if err != nil {
		return [32]byte{}, fmt.Errorf("derive the keystore's key: %w", err)
	}
	defer clear(derived)
	return [32]byte(derived), nil
}
