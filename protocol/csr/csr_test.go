package csr_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"coldseal/protocol/csr"
)

// agree asks two judges about an accepted request: it has only one encoding, and the standard library reads the same. A
// fuzzer finds names that only we pass on, such as URIs that don't parse; of those only the encoding is judged.
func agree(t *testing.T, der []byte, r *csr.Request) {
	t.Helper()
	again, ok := encode(der)
	if !ok || !bytes.Equal(again, der) {
		t.Fatalf("%x accepted, encoded again it is %x", der, again)
	}
	for _, e := range r.Extensions {
		if again, ok := encode(e.Value); !ok || !bytes.Equal(again, e.Value) {
			t.Fatalf("extension %s of %x accepted, encoded again it is %x", e.Id, e.Value, again)
		}
	}
	judge, err := x509.ParseCertificateRequest(der)
	if err != nil && strings.HasPrefix(t.Name(), "Fuzz") {
		return
	}
	if err != nil {
		t.Fatalf("%x accepted, but: %v", der, err)
	}
	if !bytes.Equal(judge.RawSubjectPublicKeyInfo, r.SPKI) || !bytes.Equal(judge.RawSubject, r.Subject) {
		t.Fatalf("%x: other key or subject than the standard library's", der)
	}
	key, ok := r.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !key.Equal(judge.PublicKey) {
		t.Fatalf("%x: key %v, the standard library has %v", der, r.PublicKey, judge.PublicKey)
	}
	if judge.SignatureAlgorithm != x509.UnknownSignatureAlgorithm { // a PSS salt of another length than the hash's
		if err := judge.CheckSignature(); err != nil {
			t.Fatalf("%x accepted, but: %v", der, err)
		}
	}
}

// encode reads DER values and writes them again, knowing nothing of what they mean.
func encode(in []byte) (out []byte, ok bool) {
	for len(in) > 0 {
		if len(in) < 2 {
			return nil, false
		}
		tag, length := in[0], int(in[1])
		in = in[2:]
		if length >= 0x80 {
			n := length & 0x7f
			if n == 0 || n > 2 || len(in) < n {
				return nil, false
			}
			length = 0
			for _, b := range in[:n] {
				length = length<<8 | int(b)
			}
			in = in[n:]
		}
		if len(in) < length {
			return nil, false
		}
		body := in[:length]
		in = in[length:]
		if tag&0x20 != 0 {
			if body, ok = encode(body); !ok {
				return nil, false
			}
		}
		switch out = append(out, tag); {
		case len(body) < 0x80:
			out = append(out, byte(len(body)))
		case len(body) < 0x100:
			out = append(out, 0x81, byte(len(body)))
		default:
			out = append(out, 0x82, byte(len(body)>>8), byte(len(body)))
		}
		out = append(out, body...)
	}
	return out, true
}

// TestFlipped changes every bit of good requests: none of the results is accepted.
func TestFlipped(t *testing.T) {
	for _, file := range []string{"openssl-p256-san", "openssl-ed25519-san", "certtool-rsa2048-san", "openssl-rsa2048-pss"} {
		good := load(t, file)
		for bit := range 8 * len(good) {
			bad := slices.Clone(good)
			bad[bit/8] ^= 1 << (bit % 8)
			if _, err := csr.Check(bad); err == nil {
				t.Errorf("%s: accepted with bit %d flipped", file, bit)
			}
		}
	}
}

func TestTruncated(t *testing.T) {
	good := load(t, "certtool-p256-san")
	for n := range good {
		var refusal *csr.Error
		if _, err := csr.Check(good[:n]); !errors.As(err, &refusal) || refusal.Reason != csr.Form {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
}

// TestResultIsItsOwn overwrites the input after the check, as a reader that reuses its buffer does.
func TestResultIsItsOwn(t *testing.T) {
	der := load(t, "openssl-p256-san")
	r, err := csr.Check(der)
	if err != nil {
		t.Fatal(err)
	}
	want := slices.Concat(r.SPKI, r.Subject, r.Extensions[0].Value)
	clear(der)
	if got := slices.Concat(r.SPKI, r.Subject, r.Extensions[0].Value); !bytes.Equal(got, want) {
		t.Error("what Check returned changed with the input")
	}
}

func FuzzCheck(f *testing.F) {
	files, err := filepath.Glob(filepath.Join(directory, "*.csr"))
	if err != nil || len(files) == 0 {
		f.Fatalf("%d seeds: %v", len(files), err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		f.Add(load(f, name[:len(name)-len(".csr")]))
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		r, err := csr.Check(der)
		if err != nil {
			var refusal *csr.Error
			if r != nil || !errors.As(err, &refusal) {
				t.Fatalf("refused with %T and %v", err, r)
			}
			return
		}
		agree(t, der, r)
	})
}

// FuzzSigned puts any bytes where subject and attributes stand and signs them, since a fuzzer can't: what FuzzCheck
// changes in a good request fails for the signature at the latest.
func FuzzSigned(f *testing.F) {
	private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	spki, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range accepted {
		judge, err := x509.ParseCertificateRequest(load(f, c.file))
		if err != nil {
			f.Fatal(err)
		}
		_, attributes, ok := bytes.Cut(judge.RawTBSCertificateRequest, judge.RawSubjectPublicKeyInfo)
		if !ok {
			f.Fatalf("%s: no key in it", c.file)
		}
		f.Add(judge.RawSubject, attributes)
	}
	f.Fuzz(func(t *testing.T, subject, attributes []byte) {
		var b cryptobyte.Builder
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1Int64(0)
			b.AddBytes(subject)
			b.AddBytes(spki)
			b.AddBytes(attributes)
		})
		signed := b.BytesOrPanic()
		b = cryptobyte.Builder{}
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes(signed)
			b.AddBytes([]byte("\x30\x05\x06\x03\x2b\x65\x70"))
			b.AddASN1BitString(ed25519.Sign(private, signed))
		})
		der := b.BytesOrPanic()
		r, err := csr.Check(der)
		if err == nil {
			agree(t, der, r)
			return
		}
		var refusal *csr.Error
		if !errors.As(err, &refusal) || refusal.Reason != csr.Form {
			t.Fatalf("%x signed well, refused with: %v", der, err)
		}
	})
}

// FuzzCheckKey: a key in a certificate is what the library reads in it.
func FuzzCheckKey(f *testing.F) {
	for _, c := range accepted {
		r, err := csr.Check(load(f, c.file))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(r.SPKI)
	}
	f.Fuzz(func(t *testing.T, spki []byte) {
		kind, err := csr.CheckKey(spki)
		var refusal *csr.Error
		if err != nil {
			if !errors.As(err, &refusal) || kind != "" {
				t.Fatalf("refused with %T and %q", err, kind)
			}
			return
		}
		public, err := x509.ParsePKIXPublicKey(spki)
		if err != nil {
			t.Fatalf("%s is accepted, and the library says %v", kind, err)
		}
		if again, err := x509.MarshalPKIXPublicKey(public); err != nil || !bytes.Equal(again, spki) {
			t.Errorf("accepted %x, encodes as %x, %v", spki, again, err)
		}
	})
}

func FuzzDecodePEM(f *testing.F) {
	f.Add([]byte("text\n-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := csr.DecodePEM(text); err != nil {
			var refusal *csr.Error
			if !errors.As(err, &refusal) {
				t.Fatalf("refused with %T", err)
			}
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	for _, file := range []string{"openssl-p256-san", "openssl-p384-plain", "openssl-ed25519-san", "openssl-rsa2048-san", "openssl-rsa4096-plain"} {
		der := load(b, file)
		b.Run(file, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := csr.Check(der); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkForm is everything but the verification: the key is of the wrong kind for the signature.
func BenchmarkForm(b *testing.B) {
	der := load(b, "forge-p256-rsaalgorithm")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := csr.Check(der); err == nil {
			b.Fatal("accepted")
		}
	}
}
