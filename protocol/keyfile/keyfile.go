// Package keyfile is the form of private keys of persons and agents in files: PKCS#8 (RFC 5958) in PEM, and, under a
// passphrase, that text inside an age file, so that `age -d` opens it when none of our programs is at hand.
//
// It works on bytes: it reads no file, asks for no passphrase, and makes no key. CA, seal, log and receiver keys of an
// appliance never lie in such files.
package keyfile

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// Limits.
const (
	MaxSize       = 32 << 10 // bytes of a file: PKCS#8 of RSA-8192 is 5 KiB, in PEM in armor 9 KiB
	MaxPassphrase = 1024     // bytes

	minRSA, maxRSA = 2048, 8192 // bits

	// workFactor is the binary logarithm of scrypt's N: 32 MiB and a tenth of a second.
	workFactor = 15
	// maxWorkFactor is that of `age -p`: 256 MiB, the most that opening a hostile file may take.
	maxWorkFactor = 18
)

// What a person can mend. Compare with errors.Is.
var (
	ErrPassphraseNeeded = errors.New("the key file is under a passphrase")
	ErrPassphraseWrong  = errors.New("the passphrase is wrong")
)

const (
	privateType = "PRIVATE KEY"
	publicType  = "PUBLIC KEY"
	ageIntro    = "age-encryption.org/v1\n" // C2SP age, file header
)

// Encode writes a private key: PEM without a passphrase, an armored age file under one.
func Encode(key crypto.Signer, passphrase []byte) ([]byte, error) {
	if err := check(key.Public()); err != nil {
		return nil, fmt.Errorf("encode private key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode private key: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: privateType, Bytes: der})
	if len(passphrase) == 0 {
		return text, nil
	}
	sealed, err := encrypt(text, passphrase)
	if err != nil {
		return nil, fmt.Errorf("encrypt private key: %w", err)
	}
	return sealed, nil
}

func encrypt(text, passphrase []byte) ([]byte, error) {
	if len(passphrase) > MaxPassphrase {
		return nil, fmt.Errorf("passphrase of %d bytes, at most %d", len(passphrase), MaxPassphrase)
	}
	recipient, err := age.NewScryptRecipient(string(passphrase))
	if err != nil {
		return nil, err
	}
	recipient.SetWorkFactor(workFactor)
	var out bytes.Buffer
	armored := armor.NewWriter(&out)
	w, err := age.Encrypt(armored, recipient)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	if err := errors.Join(w.Close(), armored.Close()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Encrypted tells whether a file is an age file, so that a passphrase has to be asked for.
func Encrypted(data []byte) bool {
	return bytes.HasPrefix(data, []byte(ageIntro)) || bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte(armor.Header))
}

// Decode reads a private key on P-256 or P-384, an Ed25519 key, or an RSA key of 2048 to 8192 bits, from what Encode
// wrote, or from PKCS#8 in PEM or under `age -p` made elsewhere. A passphrase that is not needed is ignored. Errors:
// ErrPassphraseNeeded, ErrPassphraseWrong, and others that only tell what is wrong with the bytes.
func Decode(data, passphrase []byte) (crypto.Signer, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("decode private key: %d bytes, at most %d", len(data), MaxSize)
	}
	if Encrypted(data) {
		if len(passphrase) == 0 {
			return nil, ErrPassphraseNeeded
		}
		text, err := decrypt(data, passphrase)
		if err != nil {
			return nil, fmt.Errorf("decrypt private key: %w", err)
		}
		data = text
	}
	key, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("decode private key: %w", err)
	}
	return key, nil
}

func decrypt(data, passphrase []byte) ([]byte, error) {
	if len(passphrase) > MaxPassphrase {
		return nil, ErrPassphraseWrong
	}
	identity, err := age.NewScryptIdentity(string(passphrase))
	if err != nil {
		return nil, err
	}
	identity.SetMaxWorkFactor(maxWorkFactor)
	r := io.Reader(bytes.NewReader(data))
	if !bytes.HasPrefix(data, []byte(ageIntro)) {
		r = armor.NewReader(r)
	}
	plain, err := age.Decrypt(r, identity)
	if errors.Is(err, age.ErrIncorrectIdentity) {
		return nil, ErrPassphraseWrong
	}
	if err != nil {
		return nil, err
	}
	return io.ReadAll(plain) // no longer than data
}

func decode(data []byte) (crypto.Signer, error) {
	der, err := block(data, privateType)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of type %T does not sign", parsed)
	}
	if err := check(key.Public()); err != nil {
		return nil, err
	}
	return key, nil
}

// EncodePublic writes a public key as PEM of its SubjectPublicKeyInfo.
func EncodePublic(public crypto.PublicKey) ([]byte, error) {
	if err := check(public); err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: publicType, Bytes: der}), nil
}

// DecodePublic reads what EncodePublic wrote.
func DecodePublic(data []byte) (crypto.PublicKey, error) {
	if len(data) > MaxSize {
		return nil, fmt.Errorf("decode public key: %d bytes, at most %d", len(data), MaxSize)
	}
	der, err := block(data, publicType)
	if err != nil {
		return nil, fmt.Errorf("decode public key: %w", err)
	}
	public, err := x509.ParsePKIXPublicKey(der)
	if err == nil {
		err = check(public)
	}
	if err != nil {
		return nil, fmt.Errorf("decode public key: %w", err)
	}
	return public, nil
}

// block takes the one PEM block of the type out of a file; text around it is refused.
func block(data []byte, kind string) ([]byte, error) {
	data = bytes.TrimSpace(data)
	b, rest := pem.Decode(data)
	switch {
	case b == nil || !bytes.HasPrefix(data, []byte("-----BEGIN ")):
		return nil, errors.New("it is not a PEM file that begins with its block")
	case kind == privateType && b.Type == publicType:
		return nil, errors.New("it is a public key; the private one is in the file beside it, without .pub")
	case b.Type != kind || len(b.Headers) > 0:
		return nil, fmt.Errorf("the PEM block is %q, want %q without headers", b.Type, kind)
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, errors.New("there is something after the PEM block")
	}
	return b.Bytes, nil
}

func check(public crypto.PublicKey) error {
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		if p.Curve != elliptic.P256() && p.Curve != elliptic.P384() {
			return fmt.Errorf("elliptic curve %s is not one of P-256, P-384", p.Params().Name)
		}
	case ed25519.PublicKey:
	case *rsa.PublicKey:
		if n := p.N.BitLen(); n < minRSA || n > maxRSA {
			return fmt.Errorf("RSA key of %d bits, from %d to %d", n, minRSA, maxRSA)
		}
	default:
		return fmt.Errorf("key type %T is not one of P-256, P-384, Ed25519, RSA", public)
	}
	return nil
}
