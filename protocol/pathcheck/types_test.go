package pathcheck

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// TestGo has crypto/x509 make a hierarchy and CRLs with each type of key and signature.
func TestGo(t *testing.T) {
	signer := must[*rsa.PrivateKey](t)
	rsa2048, rsa1024 := signer(rsa.GenerateKey(rand.Reader, 2048)), weakRSA(t)
	p256, p384 := newKey(t), must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	p521 := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		algorithm x509.SignatureAlgorithm
		key       crypto.Signer
		want      Code
	}{
		{x509.ECDSAWithSHA256, p256, ""},
		{x509.ECDSAWithSHA384, p256, ""},
		{x509.ECDSAWithSHA256, p384, ""},
		{x509.ECDSAWithSHA384, p384, ""},
		{x509.ECDSAWithSHA512, p384, Algorithm},
		{x509.ECDSAWithSHA384, p521, Key},
		{x509.SHA256WithRSA, rsa2048, ""},
		{x509.SHA384WithRSA, rsa2048, ""},
		{x509.SHA512WithRSA, rsa2048, ""},
		{x509.SHA256WithRSAPSS, rsa2048, ""},
		{x509.SHA384WithRSAPSS, rsa2048, ""},
		{x509.SHA512WithRSAPSS, rsa2048, ""},
		{x509.SHA256WithRSA, rsa1024, Key},
		{x509.PureEd25519, edKey, ""},
	} {
		t.Run(fmt.Sprintf("%s/%T", c.algorithm, c.key), func(t *testing.T) {
			in := goHierarchy(t, c.key, c.algorithm)
			result := Chain(in)
			if result.Accept != (c.want == "") || c.want != "" && !slices.Contains(codes(result.Reasons), c.want) {
				t.Errorf("accept %v, %v, want %q", result.Accept, result.Reasons, c.want)
			}
			if c.want != "" {
				return
			}
			if words, ok := opensslVerify(t, in); !ok {
				t.Errorf("openssl does not accept it: %s", words)
			}
			for _, broken := range []*[]byte{&in.Leaf, &in.Intermediates[0], &in.CRLs[0], &in.CRLs[1]} {
				(*broken)[len(*broken)-1] ^= 1
				if Chain(in).Accept {
					t.Error("a signature with a wrong bit was accepted")
				}
				(*broken)[len(*broken)-1] ^= 1
			}
		})
	}
}

// weakRSA is made here, since crypto/rsa makes none that small, and signs with none either unless asked to.
func weakRSA(t *testing.T) *rsa.PrivateKey {
	t.Setenv("GODEBUG", "rsa1024min=0")
	return must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 1024))
}

func goHierarchy(t *testing.T, key crypto.Signer, algorithm x509.SignatureAlgorithm) Input {
	bytesOf := must[[]byte](t)
	template := func(cn string, serial int64, ca bool) *x509.Certificate {
		c := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: cn, Country: []string{"IT"}}, SignatureAlgorithm: algorithm,
			NotBefore: time.Unix(begin, 0), NotAfter: time.Unix(end, 0), KeyUsage: x509.KeyUsageDigitalSignature, DNSNames: []string{"a.example"},
		}
		if ca {
			c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.DNSNames = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, nil
			c.SubjectKeyId = []byte(cn)
		}
		return c
	}
	parse := must[*x509.Certificate](t)
	rootT := template("Root", 1, true)
	root := parse(x509.ParseCertificate(bytesOf(x509.CreateCertificate(rand.Reader, rootT, rootT, key.Public(), key))))
	issuing := parse(x509.ParseCertificate(bytesOf(x509.CreateCertificate(rand.Reader, template("Issuing", 2, true), root, key.Public(), key))))
	leaf := bytesOf(x509.CreateCertificate(rand.Reader, template("Leaf", 3, false), issuing, key.Public(), key))
	crl := func(ca *x509.Certificate) []byte {
		return bytesOf(x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
			SignatureAlgorithm: algorithm, Number: big.NewInt(200), ThisUpdate: time.Unix(now, 0), NextUpdate: time.Unix(now+3600, 0),
			RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(99), RevocationTime: time.Unix(begin, 0), ReasonCode: 4}},
		}, ca, key))
	}
	return Input{Leaf: leaf, Intermediates: [][]byte{issuing.Raw}, Anchors: [][]byte{root.Raw}, CRLs: [][]byte{crl(root), crl(issuing)}, Time: now}
}

// TestOpenSSLHierarchy has openssl make the hierarchy, as its manual shows.
func TestOpenSSLHierarchy(t *testing.T) {
	for _, c := range []struct {
		name         string
		newKey, sign []string
		accept       bool
	}{
		{"P-256", []string{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"}, nil, true},
		{"explicit curve", []string{"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit"}, nil, false},
		{"Ed25519", []string{"-algorithm", "ED25519"}, nil, true},
		{"Ed448", []string{"-algorithm", "ED448"}, nil, false},
		{"RSA", []string{"-algorithm", "RSA"}, nil, true},
		{"RSA with SHA-1", []string{"-algorithm", "RSA"}, []string{"-sha1"}, false},
		{"RSA-PSS", []string{"-algorithm", "RSA"}, []string{"-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"}, true},
		{"RSA-PSS with a long salt", []string{"-algorithm", "RSA"}, []string{"-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:max"}, false},
		{"RSA-PSS key", []string{"-algorithm", "RSA-PSS"}, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			run := func(args ...string) {
				t.Helper()
				if words, ok := openssl(t, dir, args...); !ok {
					t.Fatalf("openssl %s: %s", strings.Join(args, " "), words)
				}
			}
			ca := []string{"-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"}
			for _, who := range []string{"root", "leaf"} {
				run(append(append([]string{"genpkey"}, c.newKey...), "-out", who+".key")...)
			}
			run(slices.Concat([]string{"req", "-x509", "-new", "-key", "root.key", "-subj", "/CN=Root", "-days", "10", "-out", "root"}, ca, c.sign)...)
			run(slices.Concat([]string{"req", "-x509", "-new", "-key", "leaf.key", "-CA", "root", "-CAkey", "root.key", "-subj", "/CN=Leaf", "-days", "5",
				"-addext", "basicConstraints=CA:FALSE", "-addext", "authorityKeyIdentifier=keyid,issuer:always", "-out", "leaf"}, c.sign)...)
			in := Input{Leaf: readPEM(t, dir, "leaf"), Anchors: [][]byte{readPEM(t, dir, "root")}, Time: time.Now().Unix() + 60}
			if result := Chain(in); result.Accept != c.accept {
				t.Errorf("accept %v, want %v: %v", result.Accept, c.accept, result.Reasons)
			}
		})
	}
}

func readPEM(t *testing.T, dir, name string) []byte {
	t.Helper()
	block, _ := pem.Decode(must[[]byte](t)(os.ReadFile(filepath.Join(dir, name))))
	if block == nil {
		t.Fatalf("%s is not PEM", name)
	}
	return block.Bytes
}
