package signer

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"coldseal/appliance/wire"
)

// program is coldseal-signer, built once.
var program string

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "liar" {
		fmt.Fprintln(os.Stderr, "liar:", lie(os.Args[2]))
		os.Exit(1)
	}
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "coldseal-signer-test")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		program = filepath.Join(dir, "coldseal-signer")
		build := exec.Command("go", "build", "-o", program, "coldseal/cmd/coldseal-signer")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build coldseal-signer: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// home is a directory for a keystore and a secret file beside it.
func home(t testing.TB) (dir string, args []string) {
	t.Helper()
	dir = t.TempDir()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("0123456789abcdef0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(dir, "keys")
	return keys, []string{"--dir", keys, "--secret-file", secret, "--fd", "3"}
}

func start(t testing.TB, args []string, opts Options) *Client {
	t.Helper()
	c, err := Start(context.Background(), program, args, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func create(t testing.TB, c *Client, label string, purpose Purpose, algorithm Algorithm) *Key {
	t.Helper()
	key, err := c.CreateKey(label, purpose, algorithm)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func digests(n int) [][]byte {
	inputs := make([][]byte, n)
	for i := range inputs {
		sum := sha256.Sum256(number(i))
		inputs[i] = sum[:]
	}
	return inputs
}

func number(i int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(i)) }

func wantRefusal(t *testing.T, err error, code string) {
	t.Helper()
	refused, ok := errors.AsType[*wire.Refused](err)
	if !ok || refused.Code != code || errors.Is(err, wire.ErrFault) {
		t.Errorf("got %v, want refusal %s", err, code)
	}
}

// wantFault checks that err is a fault that says why, that the client is dead from then on and the process gone.
func wantFault(t *testing.T, c *Client, err error, why ...string) {
	t.Helper()
	if !errors.Is(err, wire.ErrFault) {
		t.Fatalf("got %v, want a fault", err)
	}
	for _, word := range why {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("fault %q does not say %q", err, word)
		}
	}
	select {
	case <-c.Dead():
	case <-time.After(5 * time.Second):
		t.Fatal("a fault, and not dead")
	}
	if _, err := c.Counter(); !errors.Is(err, wire.ErrFault) {
		t.Errorf("counter after a fault: %v", err)
	}
	if _, err := c.CreateKey("after", CA, P256); !errors.Is(err, wire.ErrFault) {
		t.Errorf("create after a fault: %v", err)
	}
	if !errors.Is(c.Err(), wire.ErrFault) || !errors.Is(c.Close(), wire.ErrFault) {
		t.Error("Err or Close does not give the fault")
	}
	if err := syscall.Kill(c.Pid(), 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d after Close: %v", c.Pid(), err)
	}
}

func TestEveryAlgorithm(t *testing.T) {
	_, args := home(t)
	c := start(t, args, Options{})
	hello := c.Hello()
	if hello.Backend != "softkey" || hello.Capabilities["counter"] != "file" || hello.Capabilities["memory"] == "" {
		t.Errorf("hello: %+v", hello)
	}
	message := []byte("message")
	d256, d384, d512 := sha256.Sum256(message), sha512.Sum384(message), sha512.Sum512(message)
	pss := func(h crypto.Hash) *rsa.PSSOptions {
		return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: h}
	}
	signed := make(map[string][]byte)
	try := func(c *Client, again bool) {
		for _, k := range []struct {
			algorithm Algorithm
			opts      []crypto.SignerOpts
		}{
			{P256, []crypto.SignerOpts{crypto.SHA256}},
			{P384, []crypto.SignerOpts{crypto.SHA384}},
			{Ed25519, []crypto.SignerOpts{crypto.Hash(0)}},
			{RSA3072, []crypto.SignerOpts{crypto.SHA256, crypto.SHA384, crypto.SHA512, pss(crypto.SHA256), pss(crypto.SHA384), pss(crypto.SHA512)}},
			{RSA4096, []crypto.SignerOpts{crypto.SHA256, pss(crypto.SHA512)}},
		} {
			label := "ca/" + string(k.algorithm)
			if !again {
				create(t, c, label, CA, k.algorithm)
			}
			key, err := c.KeyLabelled(label, CA)
			if err != nil {
				t.Fatal(err)
			}
			for _, opts := range k.opts {
				input := map[crypto.Hash][]byte{0: message, crypto.SHA256: d256[:], crypto.SHA384: d384[:], crypto.SHA512: d512[:]}[opts.HashFunc()]
				signature, err := key.Sign(rand.Reader, input, opts)
				if err != nil {
					t.Fatalf("%s, %v: %v", label, opts, err)
				}
				// The library's own verification, apart from that in the client.
				var good bool
				switch public := key.Public().(type) {
				case *ecdsa.PublicKey:
					good = ecdsa.VerifyASN1(public, input, signature)
				case ed25519.PublicKey:
					good = ed25519.Verify(public, input, signature)
				case *rsa.PublicKey:
					if p, ok := opts.(*rsa.PSSOptions); ok {
						good = rsa.VerifyPSS(public, p.Hash, input, signature, p) == nil
					} else {
						good = rsa.VerifyPKCS1v15(public, opts.HashFunc(), input, signature) == nil
					}
				}
				if !good {
					t.Errorf("%s, %v: signature does not verify", label, opts)
				}
				if _, ok := opts.(*rsa.PSSOptions); ok {
					continue
				}
				name := fmt.Sprint(label, opts.HashFunc())
				if again && string(signature) != string(signed[name]) {
					t.Errorf("%s: another signature over the same input", name)
				}
				signed[name] = signature
			}
			if _, err := key.Sign(rand.Reader, d256[:20], crypto.SHA1); err == nil {
				t.Errorf("%s signs SHA-1", label)
			}
		}
	}
	try(c, false)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	try(start(t, args, Options{}), true)
}

// TestKeyIssuesCertificates has x509 use keys as it would use any crypto.Signer.
func TestKeyIssuesCertificates(t *testing.T) {
	_, args := home(t)
	c := start(t, args, Options{})
	for _, algorithm := range []Algorithm{P256, P384, Ed25519, RSA3072} {
		key := create(t, c, string(algorithm), CA, algorithm)
		template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if err := certificate.CheckSignatureFrom(certificate); err != nil {
			t.Errorf("%s: %v", algorithm, err)
		}
	}
}

func TestRefusalsOfAProcess(t *testing.T) {
	_, args := home(t)
	c := start(t, args, Options{})
	ca, log := create(t, c, "ca", CA, P256), create(t, c, "log", Log, Ed25519)
	receiver := create(t, c, "receiver", Receiver, P256)

	_, err := c.CreateKey("ca", CA, P256)
	wantRefusal(t, err, RefusedDuplicate)
	_, err = c.SignBatch(ca.ID(), Seal, ECDSASHA256, digests(1))
	wantRefusal(t, err, RefusedPurpose)
	_, err = c.SignBatch([32]byte{1}, CA, ECDSASHA256, digests(1))
	wantRefusal(t, err, RefusedKey)
	_, err = c.SignBatch(ca.ID(), CA, ECDSASHA256, digests(MaxBatch+1))
	wantRefusal(t, err, RefusedBatch)
	_, err = c.SignBatch(ca.ID(), CA, ECDSASHA384, digests(1))
	wantRefusal(t, err, RefusedScheme)
	_, err = log.Sign(nil, []byte("not a head"), crypto.Hash(0))
	wantRefusal(t, err, RefusedCheckpoint)
	if _, err := log.Sign(nil, []byte(head), crypto.Hash(0)); err != nil {
		t.Error(err)
	}
	_, err = c.ECDH(receiver.ID(), []byte{0})
	wantRefusal(t, err, RefusedPoint)
	_, err = c.ECDH(ca.ID(), make([]byte, 65))
	wantRefusal(t, err, RefusedPurpose)
	wantRefusal(t, c.Advance(2), RefusedCounter)
	if err := c.Pin([32]byte{}); err == nil || errors.Is(err, wire.ErrFault) {
		t.Errorf("zeros pinned: %v", err)
	}
	if err := c.Pin([32]byte{1}); err != nil {
		t.Error(err)
	}
	wantRefusal(t, c.Pin([32]byte{2}), RefusedPin)
	if err := c.Err(); err != nil {
		t.Errorf("refusals were taken for a fault: %v", err)
	}
}

func TestStateSurvivesRestartAndKill(t *testing.T) {
	_, args := home(t)
	c := start(t, args, Options{})
	if pinned, ok, err := c.Pinned(); ok || err != nil {
		t.Errorf("new signer is pinned: %x, %v", pinned, err)
	}
	key := create(t, c, "ca", CA, P256)
	pin := sha256.Sum256([]byte("genesis"))
	if err := c.Pin(pin); err != nil {
		t.Fatal(err)
	}
	for to := uint64(1); to <= 5; to++ {
		if err := c.Advance(to); err != nil {
			t.Fatal(err)
		}
		if err := c.Advance(to); err != nil {
			t.Fatalf("asked again: %v", err)
		}
	}
	// Killed, it must have kept what it answered; the next one is started at once.
	if err := syscall.Kill(c.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c = start(t, args, Options{})
	if value, err := c.Counter(); value != 5 || err != nil {
		t.Errorf("counter: %d, %v", value, err)
	}
	if got, ok, err := c.Pinned(); got != pin || !ok || err != nil {
		t.Errorf("pin: %x, %v", got, err)
	}
	if keys := c.Keys(); len(keys) != 1 || keys[0].ID() != key.ID() || keys[0].Purpose != CA {
		t.Errorf("keys: %v", keys)
	}
}

func TestReceiverAgrees(t *testing.T) {
	_, args := home(t)
	c := start(t, args, Options{})
	receiver := create(t, c, "receiver", Receiver, P256)
	point, err := receiver.Public().(*ecdsa.PublicKey).ECDH()
	if err != nil {
		t.Fatal(err)
	}
	sender, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := c.ECDH(receiver.ID(), sender.PublicKey().Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if ours, err := sender.ECDH(point); err != nil || string(ours) != string(theirs[:]) {
		t.Errorf("%x and %x, %v", ours, theirs, err)
	}
	other, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.ECDH(receiver.ID(), other.PublicKey().Bytes()); err == nil {
		t.Error("agrees with a point of another curve")
	}
}

func TestConcurrentUse(t *testing.T) {
	_, args := home(t)
	c := start(t, args, Options{})
	ca, seal := create(t, c, "ca", CA, P256), create(t, c, "seal", Seal, Ed25519)
	var users sync.WaitGroup
	for range 8 {
		users.Go(func() {
			for range 5 {
				if _, err := c.SignBatch(ca.ID(), CA, ECDSASHA256, digests(200)); err != nil {
					t.Error(err)
				}
				if _, err := seal.Sign(nil, []byte("m"), crypto.Hash(0)); err != nil {
					t.Error(err)
				}
				if _, err := c.Counter(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	users.Go(func() {
		for to := uint64(1); to <= 20; to++ {
			if err := c.Advance(to); err != nil {
				t.Error(err)
			}
		}
	})
	users.Go(func() {
		for i := range 4 {
			create(t, c, fmt.Sprint("more-", i), CA, Ed25519)
		}
	})
	users.Wait()
}

func TestPassphrase(t *testing.T) {
	dir, _ := home(t)
	with := func(passphrase string) (*Client, error) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if _, err := io.WriteString(w, passphrase); err != nil {
			t.Fatal(err)
		}
		w.Close()
		c, err := Start(t.Context(), program, []string{"--dir", dir, "--passphrase-fd", "4"}, Options{Files: []*os.File{r}})
		if err == nil {
			t.Cleanup(func() { c.Close() })
		}
		return c, err
	}
	c, err := with("correct horse battery staple\n")
	if err != nil {
		t.Fatal(err)
	}
	create(t, c, "ca", CA, P256)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = with("incorrect horse")
	if trouble, found := AsTrouble(err); !found || trouble.Code != StoreClosed || trouble.What != "the key store does not open: open keys in "+dir+": wrong passphrase" {
		t.Errorf("wrong passphrase: %v", err)
	} else if strings.Contains(err.Error(), "horse") {
		t.Errorf("the passphrase is in the error: %v", err)
	}
	if _, err = with(""); err == nil || !strings.Contains(err.Error(), "read passphrase") {
		t.Errorf("no passphrase: %v", err)
	}
	if c, err = with("correct horse battery staple"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.KeyLabelled("ca", CA); err != nil {
		t.Error(err)
	}
}

// TestSignerWithoutCgo says which devices it was built without, and how to get them; it begins no keystore before.
func TestSignerWithoutCgo(t *testing.T) {
	_, args := home(t)
	pin := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(pin, []byte("4711"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(pin)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c, err := Start(t.Context(), program, append(args, "--keys", "pkcs11:token=prod?module-path=/usr/lib/m.so", "--pin-fd", "4"), Options{Files: []*os.File{f}})
	if err == nil {
		c.Close()
	}
	trouble, ok := AsTrouble(err)
	if !ok || trouble.Code != NotBuilt || !errors.Is(err, wire.ErrFault) || !strings.Contains(trouble.Hint(), "make build") {
		t.Fatalf("%v", err)
	}
	if c, err = Start(t.Context(), program, append(args, "--keys", "pkcs11:token=prod?module-path=/usr/lib/m.so"), Options{}); err == nil {
		c.Close()
	}
	if trouble, ok := AsTrouble(err); !ok || trouble.Code != PINNeeded {
		t.Fatalf("without a PIN: %v", err)
	}
	if _, err := Start(t.Context(), program, append(args, "--keys", "softkey:"), Options{}); err != nil {
		t.Errorf("the key store, named: %v", err)
	}
}
