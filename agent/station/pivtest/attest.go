package main

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"
)

// Extensions of Yubico's attestations (developers.yubico.com/PIV/Introduction/PIV_attestation.html).
var (
	oidFirmware = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 3, 3}
	oidSerial   = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 3, 7}
	oidPolicy   = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 3, 8}
	oidForm     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 41482, 3, 9}
)

// Attestations have no times of their own: they say what is so.
var (
	attestedFrom = time.Date(2016, 3, 14, 0, 0, 0, 0, time.UTC)
	attestedTo   = time.Date(2052, 4, 17, 0, 0, 0, 0, time.UTC)
)

// attestationRoot is the certificate of slot F9, which nobody signed but the card itself.
func attestationRoot(private *ecdsa.PrivateKey, serial uint32) ([]byte, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(serial) + 1), Subject: pkix.Name{CommonName: fmt.Sprintf("Test PIV Attestation %d", serial)},
		NotBefore: attestedFrom, NotAfter: attestedTo, BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}
	return x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
}

// attest is Yubico's ATTEST: a certificate by the key in F9 that the key in a slot was made here. Of an imported one it
// says nothing.
func (c *card) attest(slot byte) ([]byte, status) {
	k, by := c.Keys[slot], c.Keys[refAttestation]
	object70, errOuter := parse(c.Objects[tagAttestation])
	der, _ := value(object70, 0x70)
	parent, err := x509.ParseCertificate(der)
	if k == nil || k.Imported || by == nil || errOuter != nil || err != nil || !isSlot(slot) {
		return nil, wrongData
	}
	subject, ok := k.private()
	signer, okSigner := by.private()
	serial, errSerial := asn1.Marshal(int64(c.Serial))
	if !ok || !okSigner || errSerial != nil {
		return nil, failed
	}
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(random(16)), Subject: pkix.Name{CommonName: fmt.Sprintf("YubiKey PIV Attestation %x", slot)},
		NotBefore: parent.NotBefore, NotAfter: parent.NotAfter,
		ExtraExtensions: []pkix.Extension{
			{Id: oidFirmware, Value: c.Version[:]}, {Id: oidSerial, Value: serial},
			{Id: oidPolicy, Value: []byte{k.PINPolicy, k.Touch}}, {Id: oidForm, Value: []byte{1}},
		},
	}
	out, err := x509.CreateCertificate(rand.Reader, template, parent, subject.Public(), signer)
	if err != nil {
		return nil, failed
	}
	return out, done
}
