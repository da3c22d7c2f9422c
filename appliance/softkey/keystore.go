package softkey

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"coldseal/appliance/signer"
	"coldseal/protocol/cose"
)

// maxKeystore is more than signer.MaxKeys keys of RSA-4096 take (2.4 kB each).
const maxKeystore = 1 << 20

const keystoreMagic = "coldseal keystore 1"

var (
	errDamaged     = errors.New("it is damaged; put it back from a backup")
	errWrongSecret = errors.New("wrong passphrase")
	errWrongFile   = errors.New("wrong secret file")
)

// keystore is the file: deterministic CBOR, then its SHA-256. The checksum protects nothing; it tells a damaged file
// from a wrong passphrase, which authenticated encryption alone can't.
type keystore struct {
	Header []byte `cbor:"1,keyasint"` // additional data of the encryption
	Nonce  []byte `cbor:"2,keyasint"`
	Sealed []byte `cbor:"3,keyasint"` // AES-256-GCM
}

// header says how the key is derived.
type header struct {
	Magic string   `cbor:"1,keyasint"`
	KDF   string   `cbor:"2,keyasint"`
	Salt  [32]byte `cbor:"3,keyasint"`
	LogN  uint8    `cbor:"4,keyasint,omitempty"` // scrypt's N = 2^LogN; r is 8 and p is 1
}

type contents struct {
	Pin  [32]byte    `cbor:"1,keyasint,omitzero"`
	Keys []storedKey `cbor:"2,keyasint"`
}

type storedKey struct {
	Label   string         `cbor:"1,keyasint"`
	Purpose signer.Purpose `cbor:"2,keyasint"`
	PKCS8   []byte         `cbor:"3,keyasint"`
}

func (c contents) clear() {
	for _, k := range c.Keys {
		clear(k.PKCS8)
	}
}

// lock is a derived key and the header that says how it was derived.
type lock struct {
	header []byte
	key    [32]byte
}

func newLock(secret Secret) (lock, error) {
	h := header{Magic: keystoreMagic, KDF: secret.kdf}
	if secret.kdf == kdfScrypt {
		h.LogN = scryptLogN
	}
	rand.Read(h.Salt[:])
	return makeLock(h, secret)
}

func makeLock(h header, secret Secret) (lock, error) {
	encoded, err := cose.Marshal(h)
	if err != nil {
		return lock{}, err
	}
	l := lock{header: encoded}
	l.key, err = secret.derive(h)
	return l, err
}

func (l *lock) aead() (cipher.AEAD, error) {
	block, err := aes.NewCipher(l.key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// seal encrypts c under a fresh random nonce; a keystore is written some hundred times in its life, far from where random
// 96-bit nonces would meet.
func (l *lock) seal(c contents) ([]byte, error) {
	aead, err := l.aead()
	if err != nil {
		return nil, err
	}
	plain, err := cose.Marshal(c)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	k := keystore{Header: l.header, Nonce: make([]byte, aead.NonceSize())}
	rand.Read(k.Nonce)
	k.Sealed = aead.Seal(nil, k.Nonce, plain, k.Header)
	file, err := cose.Marshal(k)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(file)
	return append(file, sum[:]...), nil
}

// unseal opens a keystore file. Nothing in it is used for more than deriving the key before it is authenticated.
func unseal(file []byte, secret Secret) (lock, contents, error) {
	if len(file) < sha256.Size {
		return lock{}, contents{}, fmt.Errorf("%w (%d bytes)", errDamaged, len(file))
	}
	body, sum := file[:len(file)-sha256.Size], file[len(file)-sha256.Size:]
	if want := sha256.Sum256(body); !bytes.Equal(sum, want[:]) {
		return lock{}, contents{}, fmt.Errorf("%w (checksum)", errDamaged)
	}
	var k keystore
	var h header
	if err := cose.Unmarshal(body, &k); err != nil {
		return lock{}, contents{}, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if err := cose.Unmarshal(k.Header, &h); err != nil {
		return lock{}, contents{}, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if h.Magic != keystoreMagic {
		return lock{}, contents{}, errors.New("keystore is of another version of this program")
	}
	if h.KDF == kdfScrypt && (h.LogN < scryptLogN || h.LogN > maxScryptLogN) {
		return lock{}, contents{}, fmt.Errorf("%w: scrypt with N = 2^%d", errDamaged, h.LogN)
	}
	l, err := makeLock(h, secret)
	if err != nil {
		return lock{}, contents{}, err
	}
	aead, err := l.aead()
	if err != nil {
		return lock{}, contents{}, err
	}
	if len(k.Nonce) != aead.NonceSize() {
		return lock{}, contents{}, fmt.Errorf("%w: nonce of %d bytes", errDamaged, len(k.Nonce))
	}
	plain, err := aead.Open(nil, k.Nonce, k.Sealed, k.Header)
	if err != nil {
		clear(l.key[:])
		if h.KDF == kdfScrypt {
			return lock{}, contents{}, errWrongSecret
		}
		return lock{}, contents{}, errWrongFile
	}
	defer clear(plain)
	var c contents
	if err := cose.Unmarshal(plain, &c); err != nil {
		return lock{}, contents{}, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return l, c, nil
}
