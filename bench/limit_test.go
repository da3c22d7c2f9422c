package main

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"testing"
	"time"
)

// TestLimits holds the limits to saying that something is wrong, so that a quick measurement is a right one.
func TestLimits(t *testing.T) {
	key, _, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := newCSR(key)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(csr)
	bad[len(bad)-1] ^= 1
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(day)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	forged := bytes.Clone(certificate)
	forged[len(forged)-1] ^= 1
	if err := importLimit(certificate, certificate, 10); err != nil {
		t.Errorf("a good certificate: %v", err)
	}
	if importLimit(forged, certificate, 10) == nil {
		t.Error("a forged certificate was taken")
	}
	if issueLimit([][]byte{bad}, certificate, true) == nil {
		t.Error("a request without possession was taken")
	}
}
