package lint

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"
)

var epoch = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// ca issues what the tests lint.
type ca struct {
	tb   testing.TB
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newCA(tb testing.TB) *ca {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return &ca{tb, key, &x509.Certificate{
		Subject:      pkix.Name{Country: []string{"IT"}, Organization: []string{"Coldseal"}, CommonName: "Issuing CA"},
		SubjectKeyId: []byte{1, 2, 3, 4, 5, 6, 7, 8},
		KeyUsage:     x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}}
}

// certificate issues a good workstation certificate after change has had its way with the template.
func (c *ca) certificate(change func(*x509.Certificate)) []byte {
	c.tb.Helper()
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes([]byte{0x40, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}),
		Subject:      pkix.Name{Country: []string{"IT"}, Organization: []string{"Coldseal"}, CommonName: "058091-PC-0001"},
		NotBefore:    epoch,
		NotAfter:     epoch.AddDate(1, 0, 0),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		DNSNames:     []string{"pc-0001.example.org"},
		SubjectKeyId: []byte{8, 7, 6, 5, 4, 3, 2, 1},

		CRLDistributionPoints: []string{"http://crl.example.org/issuing.crl"},
	}
	parent := *c.cert
	if change != nil {
		change(template)
	}
	if template.AuthorityKeyId != nil {
		parent.SubjectKeyId = nil
	}
	der, err := x509.CreateCertificate(rand.Reader, template, &parent, c.key.Public(), c.key)
	if err != nil {
		c.tb.Fatal(err)
	}
	return der
}

// crl issues a good CRL of two entries after change has had its way with the template.
func (c *ca) crl(change func(*x509.RevocationList)) []byte {
	c.tb.Helper()
	template := &x509.RevocationList{
		Number:     big.NewInt(7),
		ThisUpdate: epoch,
		NextUpdate: epoch.AddDate(0, 0, 7),
		RevokedCertificateEntries: []x509.RevocationListEntry{
			{SerialNumber: big.NewInt(1001), RevocationTime: epoch.Add(-time.Hour), ReasonCode: 1},
			{SerialNumber: big.NewInt(1002), RevocationTime: epoch.Add(-time.Hour)},
		},
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, c.cert, c.key)
	if err != nil {
		c.tb.Fatal(err)
	}
	return der
}

func extension(oid asn1.ObjectIdentifier, value ...byte) pkix.Extension {
	return pkix.Extension{Id: oid, Value: value}
}
