//go:build cgo

package hsm

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"slices"
	"strings"
	"sync"
	"testing"

	"coldseal/appliance/hsm/softtoken"
	"coldseal/appliance/signer"
)

func softHSM(t testing.TB) softtoken.Token {
	t.Helper()
	token, err := softtoken.SoftHSM(t.TempDir(), "coldseal test")
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func nss(t testing.TB) softtoken.Token {
	t.Helper()
	token, err := softtoken.NSS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func locator(t testing.TB, text string) signer.Locator {
	t.Helper()
	l, err := signer.ParseLocator(text)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func open(t testing.TB, text string) *Token {
	t.Helper()
	device, err := Open(locator(t, text), []byte(softtoken.PIN))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { device.Close() })
	return device.(*Token)
}

func create(t testing.TB, d signer.Device, label string, purpose signer.Purpose, algorithm signer.Algorithm) signer.KeyInfo {
	t.Helper()
	key, attestation, err := d.Create(label, purpose, algorithm)
	if err != nil {
		t.Fatal(err)
	}
	if attestation != nil {
		t.Error("PKCS#11 has no attestation")
	}
	return key
}

func verifies(t testing.TB, k signer.KeyInfo, scheme signer.Scheme, input, signature []byte) bool {
	t.Helper()
	public, err := k.Check()
	if err != nil {
		t.Fatal(err)
	}
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(p, input, signature)
	case ed25519.PublicKey:
		return ed25519.Verify(p, input, signature)
	case *rsa.PublicKey:
		if pss, ok := scheme.Options().(*rsa.PSSOptions); ok {
			return rsa.VerifyPSS(p, pss.Hash, input, signature, pss) == nil
		}
		return rsa.VerifyPKCS1v15(p, scheme.Options().HashFunc(), input, signature) == nil
	}
	return false
}

var schemes = map[signer.Algorithm][]signer.Scheme{
	signer.P256:    {signer.ECDSASHA256},
	signer.P384:    {signer.ECDSASHA384},
	signer.RSA3072: {signer.PKCS1SHA256, signer.PKCS1SHA384, signer.PKCS1SHA512, signer.PSSSHA256, signer.PSSSHA384, signer.PSSSHA512},
	signer.RSA4096: {signer.PKCS1SHA256, signer.PSSSHA512},
	signer.Ed25519: {signer.Ed25519Message},
}

func input(scheme signer.Scheme) []byte {
	b := make([]byte, 48)
	if hash := scheme.Options().HashFunc(); hash != crypto.Hash(0) {
		b = make([]byte, hash.Size())
	}
	rand.Read(b)
	return b
}

// TestEveryKind makes a key of every kind in both tokens, uses it, finds it again after the token was opened anew, and
// destroys it.
func TestEveryKind(t *testing.T) {
	for name, token := range map[string]softtoken.Token{"SoftHSM": softHSM(t), "NSS": nss(t)} {
		t.Run(name, func(t *testing.T) {
			d := open(t, token.Locator(""))
			var made []signer.KeyInfo
			for _, algorithm := range []signer.Algorithm{signer.P256, signer.P384, signer.RSA3072, signer.RSA4096, signer.Ed25519} {
				if has := d.Holds(signer.CA, algorithm); has != (algorithm != signer.Ed25519 || name == "SoftHSM") {
					t.Errorf("%s: holds is %v", algorithm, has)
				} else if !has {
					_, _, err := d.Create("none", signer.CA, algorithm)
					wantTrouble(t, err, signer.MechanismMissing)
					continue
				}
				made = append(made, create(t, d, "ca-"+string(algorithm), signer.CA, algorithm))
			}
			made = append(made, create(t, d, "receiver", signer.Receiver, signer.P256))
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			d = open(t, token.Locator(""))
			found, err := d.Keys()
			if err != nil {
				t.Fatal(err)
			}
			slices.SortFunc(made, func(a, b signer.KeyInfo) int { return strings.Compare(a.Label, b.Label) })
			if !slices.EqualFunc(found, made, func(a, b signer.KeyInfo) bool {
				return a.Label == b.Label && a.Purpose == b.Purpose && a.Algorithm == b.Algorithm && bytes.Equal(a.SPKI, b.SPKI)
			}) {
				t.Errorf("made %d keys, found %d", len(made), len(found))
			}
			for _, k := range found {
				if k.Purpose == signer.Receiver {
					agree(t, d, k)
					continue
				}
				for _, scheme := range schemes[k.Algorithm] {
					in := input(scheme)
					signature, err := d.Sign(k.ID(), scheme, in)
					if err != nil || !verifies(t, k, scheme, in, signature) {
						t.Errorf("%s with %s: %v", scheme, k.Algorithm, err)
					}
				}
			}
			if objects, err := d.Objects(); err != nil || len(objects) < 2*len(found) {
				t.Errorf("%d objects: %v", len(objects), err)
			}
			for _, k := range found {
				if err := d.Destroy(k.ID()); err != nil {
					t.Errorf("destroy %s: %v", k.Label, err)
				}
				if _, err := d.Sign(k.ID(), signer.ECDSASHA256, make([]byte, 32)); err == nil {
					t.Errorf("%s signs after it was destroyed", k.Label)
				}
			}
			if objects, err := d.Objects(); err != nil || slices.ContainsFunc(objects, func(o signer.Object) bool { return o.Class == "private key" }) {
				t.Errorf("what is left: %v, %v", objects, err)
			}
			if left, err := open(t, token.Locator("")).Keys(); err != nil || len(left) != 0 {
				t.Errorf("%d keys are left: %v", len(left), err)
			}
		})
	}
}

func agree(t *testing.T, d signer.Device, k signer.KeyInfo) {
	t.Helper()
	public, err := k.Check()
	if err != nil {
		t.Fatal(err)
	}
	point, err := public.(*ecdsa.PublicKey).ECDH()
	if err != nil {
		t.Fatal(err)
	}
	for range 20 { // a shared secret that begins with a zero is still of 32 bytes; see also TestLeadingZero
		own, err := ecdh.P256().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		want, err := own.ECDH(point)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := d.ECDH(k.ID(), own.PublicKey()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("agreed on %x, want %x: %v", got, want, err)
		}
	}
}

// TestLeadingZero looks for a peer with which the shared x begins with a zero byte: libraries are known to cut it.
func TestLeadingZero(t *testing.T) {
	for name, token := range map[string]softtoken.Token{"SoftHSM": softHSM(t), "NSS": nss(t)} {
		t.Run(name, func(t *testing.T) {
			d := open(t, token.Locator(""))
			k := create(t, d, "receiver", signer.Receiver, signer.P256)
			public, err := k.Check()
			if err != nil {
				t.Fatal(err)
			}
			point, err := public.(*ecdsa.PublicKey).ECDH()
			if err != nil {
				t.Fatal(err)
			}
			for {
				own, err := ecdh.P256().GenerateKey(rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				want, err := own.ECDH(point)
				if err != nil {
					t.Fatal(err)
				}
				if want[0] != 0 {
					continue
				}
				if got, err := d.ECDH(k.ID(), own.PublicKey()); err != nil || !bytes.Equal(got, want) {
					t.Errorf("agreed on %x, want %x: %v", got, want, err)
				}
				return
			}
		})
	}
}

// TestKeysDoNotLeave asks the token itself, with another tool.
func TestKeysDoNotLeave(t *testing.T) {
	token := softHSM(t)
	d := open(t, token.Locator(""))
	create(t, d, "issuing", signer.CA, signer.P256)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	said, err := token.Tool("--list-objects", "--type", "privkey")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"issuing", "sensitive, always sensitive, never extractable, local", hex.EncodeToString([]byte("coldseal:ca:"))} {
		if !strings.Contains(said, want) {
			t.Errorf("pkcs11-tool does not say %q:\n%s", want, said)
		}
	}
}

// TestManyAtOnce signs in as many sessions as there are.
func TestManyAtOnce(t *testing.T) {
	for name, token := range map[string]softtoken.Token{"SoftHSM": softHSM(t), "NSS": nss(t)} {
		t.Run(name, func(t *testing.T) {
			d := open(t, token.Locator(""))
			k := create(t, d, "ca", signer.CA, signer.P256)
			var all sync.WaitGroup
			for range 16 {
				all.Go(func() {
					for range 25 {
						in := input(signer.ECDSASHA256)
						signature, err := d.Sign(k.ID(), signer.ECDSASHA256, in)
						if err != nil || !verifies(t, k, signer.ECDSASHA256, in, signature) {
							t.Errorf("sign: %v", err)
							return
						}
					}
				})
			}
			all.Wait()
		})
	}
}
