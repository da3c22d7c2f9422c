package lint

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"strings"
	"testing"

	"coldseal/protocol/cose"
)

// dummyOf replaces the signature of a certificate or CRL.
func dummyOf(t *testing.T, der []byte) []byte {
	t.Helper()
	tbs, algorithm, err := parts(der)
	if err != nil {
		t.Fatal(err)
	}
	dummy := Dummy(tbs, algorithm, 71)
	if dummy == nil {
		t.Fatal("no dummy")
	}
	return dummy
}

func TestDummyAndSame(t *testing.T) {
	issuer := newCA(t)
	certificate, crl := issuer.certificate(nil), issuer.crl(nil)
	for name, final := range map[string][]byte{"certificate": certificate, "CRL": crl} {
		if err := Same(dummyOf(t, final), final); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	parsed, err := x509.ParseCertificate(dummyOf(t, certificate))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(parsed.Signature, make([]byte, 71)) {
		t.Errorf("signature %x", parsed.Signature)
	}
	original, err := x509.ParseCertificate(certificate)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(parsed.RawTBSCertificate, original.RawTBSCertificate) || parsed.SignatureAlgorithm != original.SignatureAlgorithm {
		t.Error("TBS or algorithm changed")
	}
	for _, length := range []int{0, 64, 127, 128, 256, 512, 5000} {
		if dummy := Dummy(original.RawTBSCertificate, []byte{0x30, 0}, length); Same(dummy, dummy) != nil {
			t.Errorf("a signature of %d bytes: %x", length, dummy)
		}
	}
}

// Every single byte that differs before the signature is seen, and none in the signature matters.
func TestSameSeesEveryByte(t *testing.T) {
	final := newCA(t).certificate(nil)
	tbs, algorithm, err := parts(final)
	if err != nil {
		t.Fatal(err)
	}
	linted := dummyOf(t, final)
	begin := len(linted) - 3 - 71 - len(algorithm) - len(tbs)
	for i := range linted {
		changed := bytes.Clone(linted)
		changed[i] ^= 1
		err := Same(changed, final)
		if inSignature := i >= len(linted)-71; (err == nil) != inSignature {
			t.Errorf("byte %d of %d (TBS from %d) changed: %v", i, len(linted), begin, err)
		}
	}
}

func TestSameRefuses(t *testing.T) {
	issuer := newCA(t)
	a := issuer.certificate(nil)
	b := issuer.certificate(func(c *x509.Certificate) { c.Subject.CommonName = "058091-PC-0002" })
	tbs, algorithm, err := parts(a)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name          string
		linted, final []byte
		want          string
	}{
		{"another TBS", a, b, "TBS differs"},
		{"another algorithm", a, Dummy(tbs, []byte{0x30, 0}, 71), "algorithm differs"},
		{"linted is nothing", nil, a, "what was linted: not a signed structure"},
		{"final is nothing", a, nil, "what was signed: not a signed structure"},
		{"trailing byte", a, append(bytes.Clone(a), 0), "what was signed"},
		{"no signature", a, sequence(tbs, algorithm), "what was signed"},
		{"more than a signature", a, sequence(tbs, algorithm, []byte{3, 1, 0}, []byte{5, 0}), "what was signed"},
		{"bits left over", a, sequence(tbs, algorithm, []byte{3, 2, 1, 0}), "what was signed"},
		{"length not shortest", append([]byte{0x30, 0x83, 0}, a[2:]...), a, "what was linted"},
	}
	for _, test := range tests {
		if err := Same(test.linted, test.final); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

// sequence is a DER SEQUENCE of 256 to 65,535 bytes.
func sequence(elements ...[]byte) []byte {
	content := bytes.Join(elements, nil)
	return append([]byte{0x30, 0x82, byte(len(content) >> 8), byte(len(content))}, content...)
}

func TestDummyRefuses(t *testing.T) {
	good := []byte{0x30, 0}
	for name, dummy := range map[string][]byte{
		"no TBS":             Dummy(nil, good, 1),
		"TBS and more":       Dummy([]byte{0x30, 0, 0}, good, 1),
		"no algorithm":       Dummy(good, nil, 1),
		"algorithm no SEQ":   Dummy(good, []byte{0x31, 0}, 1),
		"negative signature": Dummy(good, good, -1),
		"endless signature":  Dummy(good, good, 1<<30),
	} {
		if dummy != nil {
			t.Errorf("%s: %x", name, dummy)
		}
	}
}

func FuzzSame(f *testing.F) {
	f.Add([]byte{0x30, 0x0a, 0x30, 0, 0x30, 0, 3, 4, 0, 0, 0, 0})
	f.Add([]byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, der []byte) {
		tbs, algorithm, err := parts(der)
		if err != nil {
			if Same(der, der) == nil {
				t.Fatal("same, but not a signed structure")
			}
			return
		}
		dummy := Dummy(tbs, algorithm, 64)
		if err := Same(dummy, der); err != nil {
			t.Fatalf("dummy %x of %x: %v", dummy, der, err)
		}
	})
}

// The example of lint.md.
func TestExample(t *testing.T) {
	for name, example := range map[string]struct {
		message any
		want    string
	}{
		"batch": {Batch{Sets: []string{"community", "rfc5280"}, Threshold: Error, Items: [][]byte{{0}}},
			"a4018269636f6d6d756e6974796772666335323830028003020481" + "4100"},
		"report": {Report{Findings: [][]Finding{{{Lint: Unparseable, Status: Fatal, Details: "trailing data"}}}},
			"a1018181836b756e706172736561626c65036d747261696c696e672064617461"},
	} {
		got, err := cose.Marshal(example.message)
		if err != nil {
			t.Fatal(err)
		}
		if hex.EncodeToString(got) != example.want {
			t.Errorf("%s: %x, want %s", name, got, example.want)
		}
	}
}

func FuzzMessages(f *testing.F) {
	for _, message := range []any{
		Batch{Sets: []string{"rfc5280"}, Threshold: Error, Items: [][]byte{{0}}},
		Report{Findings: [][]Finding{nil, {{Lint: "e_x", Status: Error, Details: "why"}}}},
	} {
		seed, err := cose.Marshal(message)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, into := range []any{new(Batch), new(Report)} {
			if cose.Unmarshal(data, into) != nil {
				continue
			}
			again, err := cose.Marshal(into)
			if err != nil || !bytes.Equal(again, data) {
				t.Fatalf("%x decoded, encoded as %x, %v", data, again, err)
			}
		}
	})
}
