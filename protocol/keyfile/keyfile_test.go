package keyfile

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"
)

func keys(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	all := map[string]crypto.Signer{}
	for name, curve := range map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = key
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	all["Ed25519"] = ed
	if all["RSA-2048"], err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	return all
}

func same(a, b crypto.Signer) bool {
	return a.(interface{ Equal(crypto.PrivateKey) bool }).Equal(b)
}

func TestRoundTrip(t *testing.T) {
	for name, key := range keys(t) {
		for _, passphrase := range []string{"", "correct horse battery staple"} {
			data, err := Encode(key, []byte(passphrase))
			if name == "P-521" {
				if err == nil {
					t.Error("a P-521 key was encoded")
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if Encrypted(data) != (passphrase != "") {
				t.Errorf("%s: Encrypted = %v", name, Encrypted(data))
			}
			got, err := Decode(data, []byte(passphrase))
			if err != nil || !same(got, key) {
				t.Errorf("%s: decoded %v, %v", name, got, err)
			}
			if got, err = Decode(data, []byte("another")); passphrase != "" && (!errors.Is(err, ErrPassphraseWrong) || got != nil) {
				t.Errorf("%s: under a wrong passphrase: %v", name, err)
			}
			if got, err = Decode(data, nil); passphrase != "" && (!errors.Is(err, ErrPassphraseNeeded) || got != nil) {
				t.Errorf("%s: without its passphrase: %v", name, err)
			}
		}
		public, err := EncodePublic(key.Public())
		if (err == nil) != (name != "P-521") {
			t.Errorf("%s: encode public key: %v", name, err)
		} else if err == nil {
			got, err := DecodePublic(public)
			if err != nil || !got.(interface{ Equal(crypto.PublicKey) bool }).Equal(key.Public()) {
				t.Errorf("%s: public key %v, %v", name, got, err)
			}
		}
	}
}

// TestAge opens a file with age alone, as a person without our programs would.
func TestAge(t *testing.T) {
	key := keys(t)["P-256"]
	data, err := Encode(key, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	identity, err := age.NewScryptIdentity("secret")
	if err != nil {
		t.Fatal(err)
	}
	identity.SetMaxWorkFactor(workFactor)
	r, err := age.Decrypt(armor.NewReader(bytes.NewReader(data)), identity)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil || !bytes.HasPrefix(text, []byte("-----BEGIN PRIVATE KEY-----\n")) {
		t.Errorf("%q, %v", text, err)
	}
}

func TestOpenSSL(t *testing.T) {
	dir := t.TempDir()
	for name, args := range map[string][]string{
		"P-256":    {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"},
		"Ed25519":  {"-algorithm", "ED25519"},
		"RSA-3072": {"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"},
	} {
		file := filepath.Join(dir, name)
		if out, err := exec.Command("openssl", append([]string{"genpkey", "-out", file}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(data, nil); err != nil {
			t.Errorf("%s of openssl: %v", name, err)
		}
	}
	for name, key := range keys(t) {
		if name == "P-521" {
			continue
		}
		data, err := Encode(key, nil)
		if err != nil {
			t.Fatal(err)
		}
		c := exec.Command("openssl", "pkey", "-noout", "-check")
		c.Stdin = bytes.NewReader(data)
		if out, err := c.CombinedOutput(); err != nil && !strings.Contains(string(out), "not supported") {
			t.Errorf("openssl on %s: %v: %s", name, err, out)
		}
	}
}

func TestRefusals(t *testing.T) {
	all := keys(t)
	good, err := Encode(all["P-256"], nil)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := Encode(all["P-256"], []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	pkcs8 := func(key any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	}
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(all["P-256"].(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	seal := func(text []byte, factor int) []byte {
		r, err := age.NewScryptRecipient("secret")
		if err != nil {
			t.Fatal(err)
		}
		r.SetWorkFactor(factor)
		var out bytes.Buffer
		w, err := age.Encrypt(&out, r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(text); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	hostile := bytes.Replace(seal(good, 10), []byte(" 10\n"), []byte(" 30\n"), 1)
	x, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	var other bytes.Buffer
	w, err := age.Encrypt(&other, x.Recipient())
	if err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"nothing":             nil,
		"text":                []byte("hello"),
		"text before":         append([]byte("key:\n"), good...),
		"text after":          append(bytes.Clone(good), "x"...),
		"two keys":            append(bytes.Clone(good), good...),
		"headers":             bytes.Replace(good, []byte("KEY-----\n"), []byte("KEY-----\nProc-Type: 4\n\n"), 1),
		"SEC 1":               pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1}),
		"SEC 1 in disguise":   pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: sec1}),
		"P-521":               pkcs8(all["P-521"]),
		"X25519":              pkcs8(x25519),
		"RSA-1024":            pkcs8(small),
		"too large":           append(bytes.Clone(good), bytes.Repeat([]byte("\n"), MaxSize)...),
		"cut armor":           sealed[:len(sealed)/2],
		"cut":                 seal(good, 10)[:300],
		"flipped":             flip(seal(good, 10)),
		"not a key inside":    seal([]byte("hello"), 10),
		"nothing inside":      seal(nil, 10),
		"sealed twice":        seal(seal(good, 10), 10),
		"work beyond measure": hostile,
		"for a recipient":     other.Bytes(),
	} {
		if key, err := Decode(data, []byte("secret")); err == nil || key != nil {
			t.Errorf("%s: decoded %T, %v", name, key, err)
		}
	}
	if _, err := Encode(all["P-256"], bytes.Repeat([]byte("x"), MaxPassphrase+1)); err == nil {
		t.Error("a passphrase beyond the limit was taken")
	}
	if _, err := Decode(seal(good, 10), bytes.Repeat([]byte("x"), MaxPassphrase+1)); !errors.Is(err, ErrPassphraseWrong) {
		t.Errorf("a passphrase beyond the limit: %v", err)
	}
	if _, err := DecodePublic(good); err == nil {
		t.Error("a private key was decoded as a public one")
	}
	if _, err := DecodePublic(make([]byte, MaxSize+1)); err == nil {
		t.Error("a public key beyond the limit was decoded")
	}
}

func flip(data []byte) []byte {
	data[len(data)-1] ^= 1
	return data
}

func FuzzDecode(f *testing.F) {
	for _, key := range keys(f) {
		if data, err := Encode(key, nil); err == nil {
			f.Add(data, []byte(nil))
		}
	}
	f.Add([]byte(ageIntro+"-> scrypt AAAAAAAAAAAAAAAAAAAAAA 1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n--- \n"), []byte("x"))
	f.Add([]byte(armor.Header+"\nYWdl\n"+armor.Footer), []byte("x"))
	f.Fuzz(func(t *testing.T, data, passphrase []byte) {
		if Encrypted(data) && bytes.Contains(data, []byte(" 18\n")) {
			return // a second each
		}
		key, err := Decode(data, passphrase)
		if err != nil {
			return
		}
		again, err := Encode(key, nil)
		if err != nil {
			t.Fatalf("%x was decoded and can't be encoded: %v", data, err)
		}
		if second, err := Decode(again, nil); err != nil || !same(second, key) {
			t.Errorf("%x was decoded, encoded, and is now %v, %v", data, second, err)
		}
	})
}

func FuzzDecodePublic(f *testing.F) {
	for _, key := range keys(f) {
		if data, err := EncodePublic(key.Public()); err == nil {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		key, err := DecodePublic(data)
		if err != nil {
			return
		}
		again, err := EncodePublic(key)
		if err != nil {
			t.Fatalf("%x was decoded and can't be encoded: %v", data, err)
		}
		if second, err := DecodePublic(again); err != nil || !second.(interface{ Equal(crypto.PublicKey) bool }).Equal(key) {
			t.Errorf("%x was decoded, encoded, and is now %v, %v", data, second, err)
		}
	})
}
