package agent

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	"coldseal/protocol/media"
)

// maxKeyFile is more than the PEM of an RSA-8192 key takes.
const maxKeyFile = 16 << 10

// readKey reads one of the agent's own keys.
func readKey(name string) (*ecdsa.PrivateKey, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, &Error{Kind: ErrFailed, What: fmt.Sprintf("key %s can be read by others (mode %o)", name, info.Mode().Perm()), Hint: "chmod 600 it"}
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	signer, err := ParseKey(data)
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", name, err)
	}
	key, ok := signer.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("read key %s: not on P-256", name)
	}
	return key, nil
}

// ensureKey makes one of the agent's own keys unless it is there.
func ensureKey(name string, rand io.Reader) (*ecdsa.PrivateKey, error) {
	key, err := readKey(name)
	if !errors.Is(err, os.ErrNotExist) {
		return key, err
	}
	if key, err = ecdsa.GenerateKey(elliptic.P256(), rand); err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	text, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	if err := media.WriteFile(name, media.WriteOptions{Private: true}, media.Contents(text)); err != nil {
		return nil, err
	}
	return key, nil
}

// ParseKey reads a private key as PEM PKCS#8 (RFC 5958).
func ParseKey(data []byte) (crypto.Signer, error) {
	if len(data) > maxKeyFile {
		return nil, fmt.Errorf("key file of %d bytes, at most %d", len(data), maxKeyFile)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("not PEM of type PRIVATE KEY (PKCS#8)")
	}
	return parsePKCS8(block.Bytes)
}

func parsePKCS8(der []byte) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("parse PKCS#8: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("key of type %T cannot sign", key)
	}
	return signer, nil
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// newKey makes a key for a machine and a CSR that proves it is held; the names in the CSR count for nothing.
func newKey(kind, subject string, rand io.Reader) (pkcs8, request []byte, err error) {
	var key crypto.Signer
	switch kind {
	case "P-256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand)
	case "P-384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand)
	case "Ed25519":
		_, key, err = ed25519.GenerateKey(rand)
	case "RSA-3072":
		key, err = rsa.GenerateKey(rand, 3072)
	case "RSA-4096":
		key, err = rsa.GenerateKey(rand, 4096)
	default:
		return nil, nil, &Error{Kind: ErrInput, What: fmt.Sprintf("no key type %q", kind), Hint: "choose P-256, P-384, Ed25519, RSA-3072 or RSA-4096"}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("make %s key: %w", kind, err)
	}
	request, err = x509.CreateCertificateRequest(rand, &x509.CertificateRequest{Subject: pkix.Name{CommonName: subject}}, key)
	if err != nil {
		return nil, nil, fmt.Errorf("make CSR: %w", err)
	}
	if pkcs8, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return nil, nil, fmt.Errorf("encode key: %w", err)
	}
	return pkcs8, request, nil
}
