package softkey

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coldseal/appliance/signer"
	"coldseal/protocol/cose"
)

func passphrase(t testing.TB, words string) Secret {
	t.Helper()
	secret, err := ReadPassphrase(strings.NewReader(words))
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func secretFile(t testing.TB, fill byte) Secret {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, bytes.Repeat([]byte{fill}, secretSize), 0o600); err != nil {
		t.Fatal(err)
	}
	secret, err := ReadSecretFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func reopen(t testing.TB, dir string, secret Secret) *Store {
	t.Helper()
	s, err := Open(dir, secret)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// filled is a keystore with a P-256 key and a pin, closed.
func filled(t testing.TB, secret Secret) (dir string, info signer.KeyInfo) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "keys")
	s := reopen(t, dir, secret)
	info, _, err := s.Create("ca", signer.CA, signer.P256)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Pin([32]byte{1}), s.Advance(1), s.Close()); err != nil {
		t.Fatal(err)
	}
	return dir, info
}

func TestReopen(t *testing.T) {
	for name, secret := range map[string]Secret{"passphrase": passphrase(t, "pass"), "secret file": secretFile(t, 7)} {
		t.Run(name, func(t *testing.T) {
			dir, info := filled(t, secret)
			s := reopen(t, dir, secret)
			keys, err := s.Keys()
			if err != nil || len(keys) != 1 || !bytes.Equal(keys[0].SPKI, info.SPKI) || keys[0].Label != "ca" || keys[0].Purpose != signer.CA || keys[0].Algorithm != signer.P256 {
				t.Errorf("keys %+v, %v", keys, err)
			}
			if pin, err := s.Pinned(); pin != [32]byte{1} || err != nil {
				t.Errorf("pin %x, %v", pin, err)
			}
			if value, err := s.Counter(); value != 1 || err != nil {
				t.Errorf("counter %d, %v", value, err)
			}
			digest := sha256.Sum256(nil)
			public, err := info.Check()
			if err != nil {
				t.Fatal(err)
			}
			first, err := s.Sign(info.ID(), signer.ECDSASHA256, digest[:])
			if err != nil || !ecdsa.VerifyASN1(public.(*ecdsa.PublicKey), digest[:], first) {
				t.Errorf("signature %x, %v", first, err)
			}
			if again, err := s.Sign(info.ID(), signer.ECDSASHA256, digest[:]); err != nil || !bytes.Equal(first, again) {
				t.Errorf("signed twice: %x and %x, %v", first, again, err)
			}
			if _, err := s.Sign([32]byte{}, signer.ECDSASHA256, digest[:]); err == nil {
				t.Error("signed with no key")
			}
			// One more key, after a restart, keeps the first.
			if _, _, err := s.Create("more", signer.Log, signer.Ed25519); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if keys, err := reopen(t, dir, secret).Keys(); err != nil || len(keys) != 2 || keys[0].Label != "ca" || keys[1].Label != "more" {
				t.Errorf("keys %+v, %v", keys, err)
			}
		})
	}
}

func TestWrongSecret(t *testing.T) {
	under := map[string]Secret{"passphrase": passphrase(t, "right"), "file": secretFile(t, 7)}
	for _, c := range []struct {
		keystore string
		secret   Secret
		want     string
	}{
		{"passphrase", passphrase(t, "wrong"), "wrong passphrase"},
		{"passphrase", secretFile(t, 7), "under a passphrase, not a secret file"},
		{"file", secretFile(t, 8), "wrong secret file"},
		{"file", passphrase(t, "right"), "under a secret file, not a passphrase"},
	} {
		dir, _ := filled(t, under[c.keystore])
		before := content(t, filepath.Join(dir, keystoreName))
		s, err := Open(dir, c.secret)
		if err == nil {
			s.Close()
			t.Errorf("%s opened", c.keystore)
		} else if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("got %v, want %s", err, c.want)
		}
		if !bytes.Equal(before, content(t, filepath.Join(dir, keystoreName))) {
			t.Error("the keystore changed")
		}
		reopen(t, dir, under[c.keystore])
	}
}

func content(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDamagedKeystore(t *testing.T) {
	secret := secretFile(t, 7)
	dir, _ := filled(t, secret)
	path := filepath.Join(dir, keystoreName)
	good := content(t, path)
	refused := func(what string, file []byte) {
		t.Helper()
		if _, _, err := unseal(file, secret); !errors.Is(err, errDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for n := range good {
		refused("truncated", good[:n])
		flipped := bytes.Clone(good)
		flipped[n] ^= 1
		refused("flipped", flipped)
	}
	refused("longer", append(bytes.Clone(good), 0))

	// Through the door, once.
	if err := os.WriteFile(path, good[:100], 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(dir, secret); !errors.Is(err, errDamaged) {
		s.Close()
		t.Error(err)
	}
	if err := os.WriteFile(path, make([]byte, maxKeystore+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(dir, secret); err == nil || !strings.Contains(err.Error(), "more than") {
		s.Close()
		t.Error(err)
	}
}

// TestForgedKeystore puts a right checksum over what is wrong, as somebody with the disk and without the secret could.
func TestForgedKeystore(t *testing.T) {
	secret := passphrase(t, "pass")
	dir, _ := filled(t, secret)
	good := content(t, filepath.Join(dir, keystoreName))
	for name, forge := range map[string]func(k *keystore, h *header){
		"sealed":      func(k *keystore, h *header) { k.Sealed[5] ^= 1 },
		"sealed cut":  func(k *keystore, h *header) { k.Sealed = k.Sealed[:10] },
		"nonce":       func(k *keystore, h *header) { k.Nonce[0] ^= 1 },
		"nonce cut":   func(k *keystore, h *header) { k.Nonce = k.Nonce[:4] },
		"salt":        func(k *keystore, h *header) { h.Salt[0] ^= 1 },
		"cheaper":     func(k *keystore, h *header) { h.LogN = 1 },
		"ruinous":     func(k *keystore, h *header) { h.LogN = 40 },
		"dearer":      func(k *keystore, h *header) { h.LogN = scryptLogN + 1 },
		"derivation":  func(k *keystore, h *header) { h.KDF = "none" },
		"version":     func(k *keystore, h *header) { h.Magic = "coldseal keystore 2" },
		"header gone": func(k *keystore, h *header) { *h = header{} },
	} {
		var k keystore
		var h header
		if err := errors.Join(cose.Unmarshal(good[:len(good)-sha256.Size], &k), cose.Unmarshal(k.Header, &h)); err != nil {
			t.Fatal(err)
		}
		forge(&k, &h)
		var err error
		if k.Header, err = cose.Marshal(h); err != nil {
			t.Fatal(err)
		}
		file, err := cose.Marshal(k)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(file)
		if _, c, err := unseal(append(file, sum[:]...), secret); err == nil || len(c.Keys) != 0 {
			t.Errorf("%s: opened", name)
		}
	}
}

func TestKeystoreHidesKeys(t *testing.T) {
	secret := secretFile(t, 7)
	dir, info := filled(t, secret)
	s := reopen(t, dir, secret)
	der, err := x509.MarshalPKCS8PrivateKey(s.keys[0].private)
	if err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		b := content(t, filepath.Join(dir, file.Name()))
		for _, hidden := range [][]byte{der[36:68], info.SPKI[27:], []byte("ca"), secret.bytes} {
			if bytes.Contains(b, hidden) && len(hidden) > 2 {
				t.Errorf("%s has %x in clear", file.Name(), hidden)
			}
		}
	}
}

func TestInterruptedBeginning(t *testing.T) {
	secret := secretFile(t, 7)
	dir := t.TempDir()
	// Stopped after the counter was made, and in the middle of writing the keystore.
	for name, b := range map[string][]byte{counterName: newCounter(), keystoreName + ".new": []byte("half")} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := reopen(t, dir, secret).Create("ca", signer.CA, signer.P256); err != nil {
		t.Fatal(err)
	}
}

func TestLostFiles(t *testing.T) {
	secret := secretFile(t, 7)
	for lost, want := range map[string]string{keystoreName: "keystore is gone", counterName: "no such file"} {
		dir, _ := filled(t, secret)
		if err := os.Remove(filepath.Join(dir, lost)); err != nil {
			t.Fatal(err)
		}
		s, err := Open(dir, secret)
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s lost: %v", lost, err)
		}
		if _, err := os.Stat(filepath.Join(dir, lost)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s was made anew: %v", lost, err)
		}
	}
}

func TestUnwritableDirectoryChangesNothing(t *testing.T) {
	secret := secretFile(t, 7)
	dir, _ := filled(t, secret)
	s := reopen(t, dir, secret)
	// A directory in the way of the file that is to be renamed stops root too, which permissions don't.
	if err := os.Mkdir(filepath.Join(dir, keystoreName+".new"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Create("new", signer.CA, signer.P256); err == nil {
		t.Error("created")
	}
	if err := s.Pin([32]byte{2}); err == nil {
		t.Error("pinned")
	}
	if keys, err := s.Keys(); err != nil || len(keys) != 1 {
		t.Errorf("keys %v, %v", keys, err)
	}
	if pin, err := s.Pinned(); err != nil || pin != [32]byte{1} {
		t.Errorf("pin %x, %v", pin, err)
	}
}

func TestReadSecret(t *testing.T) {
	for name, c := range map[string]struct {
		size int
		mode os.FileMode
		want string
	}{
		"good":      {32, 0o600, ""},
		"read-only": {32, 0o400, ""},
		"short":     {31, 0o600, "exactly 32 bytes"},
		"long":      {33, 0o600, "exactly 32 bytes"},
		"shared":    {32, 0o640, "chmod 600"},
	} {
		path := filepath.Join(t.TempDir(), "secret")
		if err := errors.Join(os.WriteFile(path, make([]byte, c.size), c.mode), os.Chmod(path, c.mode)); err != nil {
			t.Fatal(err)
		}
		_, err := ReadSecretFile(path)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for words, good := range map[string]bool{
		"a": true, "a\n": true, "a\r\n": true, "": false, "\n": false,
		strings.Repeat("a", maxPassphrase): true, strings.Repeat("a", maxPassphrase) + "\n": true, strings.Repeat("a", maxPassphrase+1): false,
	} {
		if s, err := ReadPassphrase(strings.NewReader(words)); (err == nil) != good || err == nil && bytes.ContainsAny(s.bytes, "\r\n") {
			t.Errorf("%d bytes: %v", len(words), err)
		}
	}
}

func FuzzUnseal(f *testing.F) {
	secret := secretFile(f, 7)
	dir, _ := filled(f, secret)
	good := content(f, filepath.Join(dir, keystoreName))
	f.Add(good[:len(good)-sha256.Size])
	f.Fuzz(func(t *testing.T, body []byte) {
		sum := sha256.Sum256(body)
		// Each fuzzing process has a keystore of its own under the same secret; what opens must be one of those.
		_, c, err := unseal(append(bytes.Clone(body), sum[:]...), secret)
		if err == nil && (len(c.Keys) != 1 || c.Keys[0].Label != "ca" || c.Pin != [32]byte{1}) {
			t.Fatalf("forged: pin %x, %d keys", c.Pin, len(c.Keys))
		}
	})
}

// TestDestroy looks for a key that was destroyed: in the store, in the store opened anew, and in the bytes of the file that had it.
func TestDestroy(t *testing.T) {
	secret := secretFile(t, 7)
	dir, info := filled(t, secret)
	s := reopen(t, dir, secret)
	other, _, err := s.Create("other", signer.CA, signer.P256)
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Open(filepath.Join(dir, keystoreName))
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	if err := s.Destroy(info.ID()); err != nil {
		t.Fatal(err)
	}
	if err := s.Destroy(info.ID()); err == nil {
		t.Error("it was destroyed twice")
	}
	old, err := io.ReadAll(before)
	if err != nil || len(bytes.Trim(old, "\x00")) != 0 {
		t.Errorf("the old keystore still has %d bytes, %v", len(bytes.Trim(old, "\x00")), err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	keys, err := reopen(t, dir, secret).Keys()
	if err != nil || len(keys) != 1 || keys[0].ID() != other.ID() {
		t.Errorf("keys %v, %v", keys, err)
	}
}
