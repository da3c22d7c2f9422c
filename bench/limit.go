package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	zcrypto "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3/lint"
	_ "github.com/zmap/zlint/v3/lints/community"
	_ "github.com/zmap/zlint/v3/lints/rfc"
)

// pool calls f for 0 to n-1 on all processors.
func pool(n int, f func(i int) bool) error {
	var next, bad atomic.Int64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if !f(i) {
					bad.Add(1)
				}
			}
		})
	}
	workers.Wait()
	if bad.Load() != 0 {
		return errors.New("limit: a signature does not verify, or a lint found something")
	}
	return nil
}

// issueLimit is what issuing takes at least: for each item proof of possession, the CA's signature, its verification,
// one zlint pass with its parse, and for each thousand one approval (about 40 kB) verified. Signing and verifying the
// signature is left out where a device does the one and the signer's client the other.
func issueLimit(csrs [][]byte, certificate []byte, signs bool) error {
	ca, keyErr := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	approval := make([]byte, 40<<10)
	digest := sha256.Sum256(approval)
	approved, err := ca.Sign(nil, digest[:], crypto.SHA256)
	sets := []lint.LintSource{lint.RFC3279, lint.RFC5280, lint.RFC5480, lint.RFC5891, lint.RFC6960, lint.RFC6962, lint.RFC8813, lint.Community}
	lints := slices.DeleteFunc(lint.GlobalRegistry().CertificateLints().Lints(), func(l *lint.CertificateLint) bool { return !slices.Contains(sets, l.Source) })
	config := lint.NewEmptyConfig()
	return errors.Join(keyErr, err, pool(len(csrs), func(i int) bool {
		request, err := x509.ParseCertificateRequest(csrs[i])
		good := err == nil && request.CheckSignature() == nil
		digest := sha256.Sum256(certificate)
		if signs {
			signature, err := ca.Sign(nil, digest[:], crypto.SHA256)
			good = good && err == nil && ecdsa.VerifyASN1(&ca.PublicKey, digest[:], signature)
		}
		linted, err := zcrypto.ParseCertificate(certificate)
		for _, l := range lints {
			good = good && err == nil && l.Execute(linted, config).Status < lint.Error
		}
		if i%1000 == 0 {
			digest = sha256.Sum256(approval)
			good = good && ecdsa.VerifyASN1(&ca.PublicKey, digest[:], approved)
		}
		return good
	}))
}

// importLimit is what an import takes at least: each certificate is parsed and the CA's signature on it verified. The
// log (three hashes of a leaf) and what is written down are left out.
func importLimit(certificate, issuer []byte, n int) error {
	ca, err := x509.ParseCertificate(issuer)
	return errors.Join(err, pool(n, func(int) bool {
		c, err := x509.ParseCertificate(certificate)
		return err == nil && ca.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
	}))
}
