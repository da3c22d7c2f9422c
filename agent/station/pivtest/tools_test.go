package main

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMain runs the tests in a world with cards, and is that world when it is started again.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "--inside" {
		main()
		return
	}
	os.Exit(withCards(m))
}

func withCards(m *testing.M) int {
	dir, err := os.MkdirTemp("", "pivtest-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	w, environment, err := apart(dir, 8)
	if err != nil {
		panic(err)
	}
	defer w.end()
	for _, line := range environment {
		name, value, _ := strings.Cut(line, "=")
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	return m.Run()
}

// told does one thing with the readers.
func told(t testing.TB, line string) string {
	t.Helper()
	conn, err := net.Dial("unix", os.Getenv("PIVTEST"))
	if err != nil {
		t.Error(err)
		return ""
	}
	defer conn.Close()
	fmt.Fprintln(conn, line)
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.HasPrefix(answer, "ok") {
		t.Errorf("%s: %s %v", line, answer, err)
	}
	return strings.TrimSpace(strings.TrimPrefix(answer, "ok"))
}

// bench is a folder where a tool works.
type bench struct {
	*testing.T
	dir string
}

func (b bench) path(name string) string { return filepath.Join(b.dir, name) }

func (b bench) read(name string) []byte {
	b.Helper()
	data, err := os.ReadFile(b.path(name))
	if err != nil {
		b.Fatal(err)
	}
	return data
}

func (b bench) write(name string, data []byte) {
	b.Helper()
	if err := os.WriteFile(b.path(name), data, 0o600); err != nil {
		b.Fatal(err)
	}
}

func (b bench) try(line ...string) (string, error) {
	c := exec.Command(line[0], line[1:]...)
	c.Dir = b.dir
	out, err := c.CombinedOutput()
	return string(out), err
}

// run runs a tool, which has to succeed.
func (b bench) run(line ...string) string {
	b.Helper()
	out, err := b.try(line...)
	if err != nil {
		b.Fatalf("%s: %v\n%s", strings.Join(line, " "), err, out)
	}
	return out
}

// public reads a public key that a tool wrote.
func (b bench) public(name string) crypto.PublicKey {
	b.Helper()
	block, _ := pem.Decode(b.read(name))
	if block == nil {
		b.Fatalf("%s: no PEM: %s", name, b.read(name))
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		b.Fatal(err)
	}
	return key
}

// certify writes a certificate for a public key, by a key that nobody keeps.
func (b bench) certify(name string, public crypto.PublicKey) {
	b.Helper()
	issuer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotAfter: time.Now().AddDate(1, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement | x509.KeyUsageKeyEncipherment}
	parent := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "nobody"}}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, issuer)
	if err != nil {
		b.Fatal(err)
	}
	b.write(name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func (b bench) yubico(words string) string {
	b.Helper()
	return b.run(append([]string{"yubico-piv-tool"}, strings.Fields(words)...)...)
}

// refused wants a tool to fail with these words.
func (b bench) refused(want, words string) {
	b.Helper()
	out, err := b.try(append([]string{"yubico-piv-tool"}, strings.Fields(words)...)...)
	if err == nil || !strings.Contains(out, want) {
		b.Errorf("%s: %v, want %q in\n%s", words, err, want, out)
	}
}

func TestYubicoTool(t *testing.T) {
	b := bench{t, t.TempDir()}
	told(t, "new 0 yubico")
	for _, k := range []struct{ slot, algorithm string }{{"9a", "RSA2048"}, {"9c", "ECCP256"}, {"9d", "ECCP384"}, {"9e", "ECCP256"}, {"82", "ECCP384"}, {"95", "ECCP256"}} {
		b.yubico("-a generate -s " + k.slot + " -A " + k.algorithm + " -o " + k.slot + ".pub")
		b.certify(k.slot+".pem", b.public(k.slot+".pub"))
		b.yubico("-a import-certificate -s " + k.slot + " -i " + k.slot + ".pem")
		b.yubico("-a verify-pin -P 123456 -a test-signature -s " + k.slot + " -i " + k.slot + ".pem")
		b.yubico("-a verify-pin -P 123456 -a test-decipher -s " + k.slot + " -i " + k.slot + ".pem")
		b.write("attested", []byte(b.yubico("-a attest -s "+k.slot)))
		b.write("root", []byte(b.yubico("-a read-certificate -s f9")))
		b.run("openssl", "verify", "-ignore_critical", "-check_ss_sig", "-CAfile", "root", "attested")
		if text := b.run("openssl", "x509", "-in", "attested", "-noout", "-pubkey", "-subject"); !strings.Contains(text, string(b.read(k.slot+".pub"))) || !strings.Contains(text, "Attestation "+k.slot) {
			t.Errorf("attested is another key:\n%s", text)
		}
	}
	if text := b.yubico("-a status"); strings.Count(text, "Subject DN") != 6 || !strings.Contains(text, "5.4.3") || !strings.Contains(text, "PIN tries left:\t3") {
		t.Errorf("status\n%s", text)
	}
	b.yubico("-a delete-certificate -s 95")

	b.refused("2 tries left", "-a verify-pin -P 123457")
	b.yubico("-a change-pin -P 123456 -N 12345678")
	b.refused("2 tries left", "-a verify-pin -P 123456")
	b.refused("1 tries left", "-a verify-pin -P 123456")
	b.refused("blocked", "-a verify-pin -P 123456")
	b.refused("blocked", "-a verify-pin -P 12345678")
	b.yubico("-a unblock-pin -P 12345678 -N 123456")
	b.yubico("-a change-puk -P 12345678 -N 87654321")
	b.yubico("-a verify-pin -P 123456 -a pin-retries --pin-retries 5 --puk-retries 4")
	if text := b.yubico("-a status"); !strings.Contains(text, "PIN tries left:\t5") {
		t.Errorf("status\n%s", text)
	}

	const key = "a1a2a3a4a5a6a7a8b1b2b3b4b5b6b7b8c1c2c3c4c5c6c7c8"
	b.yubico("-a set-mgm-key -n " + key)
	b.refused("authentication", "-a generate -s 95 -A ECCP256")
	b.yubico("--key=" + key + " -a generate -s 95 -A ECCP256")
	b.write("object", []byte(strings.Repeat("4f", 3000)))
	b.yubico("--key=" + key + " -a write-object --id 0x5fc121 -i object")
	b.refused("Failed", "-a read-object --id 0x5fc121")
	if got := b.yubico("-a verify-pin -P 123456 -a read-object --id 0x5fc121"); !strings.Contains(got, strings.Repeat("4f", 3000)) {
		t.Errorf("object of %d bytes", len(got))
	}
	for _, kind := range []string{"EC -pkeyopt ec_paramgen_curve:P-256", "EC -pkeyopt ec_paramgen_curve:P-384", "RSA -pkeyopt rsa_keygen_bits:2048"} {
		b.run(append([]string{"openssl", "genpkey", "-out", "in.key", "-algorithm"}, strings.Fields(kind)...)...)
		b.run("openssl", "pkey", "-in", "in.key", "-pubout", "-out", "in.pub")
		b.certify("in.pem", b.public("in.pub"))
		b.yubico("--key=" + key + " -a import-key -s 83 -i in.key")
		b.yubico("-a verify-pin -P 123456 -a test-signature -s 83 -i in.pem")
	}
	b.refused("Failed", "-a attest -s 83")

	b.refused("Reset failed", "-a reset")
	for range 5 {
		if out, err := b.try("yubico-piv-tool", "-a", "verify-pin", "-P", "000000"); err == nil {
			t.Errorf("a wrong PIN: %s", out)
		}
		if out, err := b.try("yubico-piv-tool", "-a", "change-puk", "-P", "00000000", "-N", "11111111"); err == nil {
			t.Errorf("a wrong PUK: %s", out)
		}
	}
	b.yubico("-a reset")
	if text := b.yubico("-a verify-pin -P 123456 -a status"); strings.Contains(text, "Subject DN") {
		t.Errorf("after the reset\n%s", text)
	}
}

// TestLibraries has OpenSC and Yubico's own PKCS#11 library use the keys of one card.
func TestLibraries(t *testing.T) {
	b := bench{t, t.TempDir()}
	told(t, "new 0 libraries")
	for _, k := range []struct{ slot, algorithm string }{{"9a", "RSA2048"}, {"9c", "ECCP256"}, {"9d", "ECCP384"}} {
		b.yubico("-a generate -s " + k.slot + " -A " + k.algorithm + " -o " + k.slot + ".pub")
		b.certify(k.slot+".pem", b.public(k.slot+".pub"))
		b.yubico("-a import-certificate -s " + k.slot + " -i " + k.slot + ".pem")
	}
	for _, module := range []string{"opensc-pkcs11.so", "libykcs11.so"} {
		t.Run(module, func(t *testing.T) {
			b := bench{t, b.dir}
			b.rsa("/usr/lib/x86_64-linux-gnu/"+module, "01", "9a.pub")
			b.curves("/usr/lib/x86_64-linux-gnu/"+module, "02", "9c.pub", "03", "9d.pub")
		})
	}
	told(t, "remove 0")
}

// onCard is the public half of a key as PEM, out of the card's file.
func (b bench) onCard(name string, slot byte) []byte {
	b.Helper()
	s, err := load(filepath.Join(filepath.Dir(os.Getenv("PIVTEST")), name+".card"), state{})
	if err != nil || s.Keys[slot] == nil {
		b.Fatalf("no key in slot %x: %v", slot, err)
	}
	private, ok := s.Keys[slot].private()
	if !ok {
		b.Fatalf("slot %x holds no key", slot)
	}
	spki, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		b.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})
}

// TestPlainCard has keys made by piv-tool, which knows nothing of Yubico, under both kinds of management keys. It has the
// card make keys, but fails on its own when it writes their public halves with OpenSSL 3: they are read from the card.
func TestPlainCard(t *testing.T) {
	b := bench{t, t.TempDir()}
	b.write("management", []byte("01:02:03:04:05:06:07:08:01:02:03:04:05:06:07:08:01:02:03:04:05:06:07:08"))
	t.Setenv("PIV_EXT_AUTH_KEY", b.path("management"))
	for _, card := range []struct{ name, kind, management string }{{"plain", "plain", "03"}, {"aes", "5.7.1", "0A"}} {
		told(t, "new 1 "+card.name+" "+card.kind)
		for _, k := range []struct {
			slot, kind string
			ref        byte
		}{{"9A", "07", 0x9a}, {"9C", "11", 0x9c}, {"9D", "14", 0x9d}} {
			tool := []string{"piv-tool", "--reader", readerName(1), "--admin", "M:9B:" + card.management}
			out, err := b.try(append(tool, "--genkey", k.slot+":"+k.kind, "--out", k.slot+".raw")...)
			if err != nil && !strings.Contains(out, "unable to gen ") {
				t.Fatalf("%v: %s", err, out)
			}
			b.write(k.slot+".pub", b.onCard(card.name, k.ref))
			b.certify(k.slot+".pem", b.public(k.slot+".pub"))
			// What it exits with is how many bytes it wrote; the certificate is looked at below.
			if out, err := b.try(append(tool, "--cert", k.slot, "--in", k.slot+".pem")...); out != "" {
				t.Fatalf("%v: %s", err, out)
			}
		}
		b.rsa("/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so", "01", "9A.pub")
		b.curves("/usr/lib/x86_64-linux-gnu/opensc-pkcs11.so", "02", "9C.pub", "03", "9D.pub")
	}
	told(t, "remove 1")
}

func (b bench) tool(module, words string) {
	b.Helper()
	b.run(append([]string{"pkcs11-tool", "--module", module, "--login", "--pin", "123456"}, strings.Fields(words)...)...)
}

// rsa signs and decrypts with an RSA key.
func (b bench) rsa(module, id, public string) {
	b.Helper()
	message := []byte("what is signed")
	digest := sha256.Sum256(message)
	b.write("message", message)
	b.write("digest", digest[:])
	b.tool(module, "--sign --id "+id+" --mechanism SHA256-RSA-PKCS --input-file message --output-file rsa.sig")
	key := b.public(public).(*rsa.PublicKey)
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], b.read("rsa.sig")); err != nil {
		b.Errorf("RSA: %v", err)
	}
	b.tool(module, "--sign --id "+id+" --mechanism RSA-PKCS-PSS --hash-algorithm SHA256 --mgf MGF1-SHA256 --salt-len 32 --input-file digest --output-file pss.sig")
	if err := rsa.VerifyPSS(key, crypto.SHA256, digest[:], b.read("pss.sig"), &rsa.PSSOptions{SaltLength: 32}); err != nil {
		b.Errorf("RSA-PSS: %v", err)
	}
	b.run("openssl", "pkeyutl", "-encrypt", "-pubin", "-inkey", public, "-in", "message", "-out", "sealed")
	b.tool(module, "--decrypt --id "+id+" --mechanism RSA-PKCS --input-file sealed --output-file opened")
	if !bytes.Equal(b.read("opened"), message) {
		b.Error("RSA does not decrypt")
	}
}

// curves signs with a key on P-256 and agrees with one on P-384.
func (b bench) curves(module, signs, signer, agrees, agreeing string) {
	b.Helper()
	digest := sha256.Sum256([]byte("what is signed"))
	b.write("digest", digest[:])
	b.tool(module, "--sign --id "+signs+" --mechanism ECDSA --input-file digest --output-file ec.sig")
	raw := b.read("ec.sig")
	der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:len(raw)/2]), new(big.Int).SetBytes(raw[len(raw)/2:])})
	if err != nil || !ecdsa.VerifyASN1(b.public(signer).(*ecdsa.PublicKey), digest[:], der) {
		b.Errorf("ECDSA: %v", err)
	}
	peer, err := ecdh.P384().GenerateKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(peer.PublicKey())
	if err != nil {
		b.Fatal(err)
	}
	b.write("peer", spki)
	b.tool(module, "--derive --id "+agrees+" --mechanism ECDH1-DERIVE --input-file peer --output-file shared")
	own, err := b.public(agreeing).(*ecdsa.PublicKey).ECDH()
	if err != nil {
		b.Fatal(err)
	}
	want, err := peer.ECDH(own)
	if err != nil || !bytes.Equal(b.read("shared"), want) {
		b.Errorf("ECDH: %x, want %x, %v", b.read("shared"), want, err)
	}
}

// TestPull pulls the card after each command of a session of yubico-piv-tool, each time in another reader: the tool fails,
// and the next session is whole again.
func TestPull(t *testing.T) {
	b := bench{t, t.TempDir()}
	generate := func(reader int) (string, error) {
		return b.try("yubico-piv-tool", "--reader", readerName(reader), "-a", "generate", "-s", "9c", "-A", "ECCP256")
	}
	told(t, "new 7 pulled")
	if out, err := generate(7); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var n int
	if _, err := fmt.Sscan(told(t, "count 7"), &n); err != nil || n < 7 {
		t.Fatalf("%d commands, %v", n, err)
	}
	var readers sync.WaitGroup
	for reader := range 7 {
		readers.Go(func() {
			for after := reader + 1; after <= n; after += 7 {
				told(t, fmt.Sprintf("copy %d pulled pulled%d", reader, reader))
				told(t, fmt.Sprintf("pull %d %d", reader, after))
				if out, err := generate(reader); err == nil {
					t.Errorf("pulled after %d of %d commands, and it succeeds: %s", after, n, out)
				}
				told(t, fmt.Sprintf("insert %d pulled%d", reader, reader))
				if out, err := generate(reader); err != nil {
					t.Errorf("after it was pulled: %v: %s", err, out)
				}
			}
		})
	}
	readers.Wait()
}
