package csr_test

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coldseal/protocol/csr"
)

const directory = "../../testdata/csr"

const (
	opensslNames = "[ws-0042.it.example ws-0042] [desk@example.org] [192.0.2.42 2001:db8::42] [https://example.org/ws/0042] 0"
	otherNames   = "[ws-0042.it.example] [desk@example.org] [192.0.2.42] [https://example.org/ws/0042] 0"
	dnsName      = "[ws-0042.it.example] [] [] [] 0"
	greek        = "Γεώργιος Παπαδόπουλος"
	ukrainian    = "Олександр Шевченко"
	vietnamese   = "Nguyễn Thị Hồng Nhung"
)

// accepted is every request in testdata/csr that must pass.
var accepted = []struct {
	file       string
	keyType    string
	extensions int
	names      string // empty for none
	subject    string // a part of it
}{
	{"certtool-ed25519-san", "Ed25519", 4, otherNames, "Comune"},
	{"certtool-ed25519-ukrainian", "Ed25519", 2, "", ukrainian},
	{"certtool-p256-greek", "P-256", 2, "", greek},
	{"certtool-p256-plain", "P-256", 2, "", "ws-0042"},
	{"certtool-p256-san", "P-256", 4, otherNames, "Comune"},
	{"certtool-p384-san", "P-384", 4, otherNames, "Comune"},
	{"certtool-rsa2048-san", "RSA-2048", 4, otherNames, "Comune"},
	{"certtool-rsa2048-vietnamese", "RSA-2048", 2, "", vietnamese},
	{"certtool-rsa3072-san", "RSA-3072", 4, otherNames, "Comune"},
	{"certutil-p256-greek", "P-256", 0, "", greek},
	{"certutil-p256-plain", "P-256", 0, "", "ws-0042"},
	{"certutil-p256-san", "P-256", 1, otherNames, "ws-0042"},
	{"certutil-p384-plain", "P-384", 0, "", "ws-0042"},
	{"certutil-p384-ukrainian", "P-384", 0, "", ukrainian},
	{"certutil-rsa2048-plain", "RSA-2048", 0, "", "ws-0042"},
	{"certutil-rsa2048-san", "RSA-2048", 1, otherNames, "ws-0042"},
	{"certutil-rsa2048-vietnamese", "RSA-2048", 0, "", vietnamese},
	{"certutil-rsa3072-plain", "RSA-3072", 0, "", "ws-0042"},
	{"forge-p256-bmpsubject-good", "P-256", 0, "", "\x03\x93\x03\x99"},
	{"forge-p256-emailsubject-good", "P-256", 0, "", "desk@example.org"},
	{"forge-p256-sanother-good", "P-256", 1, "[ws-0042.it.example] [] [] [] 3", "ws-0042"},
	{"forge-p256-windows-good", "P-256", 1, dnsName, "ws-0042"},
	{"keytool-ed25519-greek", "Ed25519", 1, "", greek},
	{"keytool-ed25519-plain", "Ed25519", 1, "", "ws-0042"},
	{"keytool-ed25519-san", "Ed25519", 2, otherNames, "ws-0042"},
	{"keytool-ed25519-vietnamese", "Ed25519", 1, "", vietnamese},
	{"keytool-p256-plain", "P-256", 1, "", "ws-0042"},
	{"keytool-p256-san", "P-256", 2, otherNames, "ws-0042"},
	{"keytool-p256-ukrainian", "P-256", 1, "", ukrainian},
	{"keytool-p384-plain", "P-384", 1, "", "ws-0042"},
	{"keytool-p384-vietnamese", "P-384", 1, "", vietnamese},
	{"keytool-rsa2048-plain", "RSA-2048", 1, "", "ws-0042"},
	{"keytool-rsa2048-pss", "RSA-2048", 1, "", "ws-0042"},
	{"keytool-rsa2048-san", "RSA-2048", 2, otherNames, "ws-0042"},
	{"keytool-rsa3072-greek", "RSA-3072", 1, "", greek},
	{"keytool-rsa3072-plain", "RSA-3072", 1, "", "ws-0042"},
	{"openssl-ed25519-plain", "Ed25519", 0, "", "ws-0042"},
	{"openssl-ed25519-san", "Ed25519", 1, opensslNames, "ws-0042"},
	{"openssl-ed25519-usages", "Ed25519", 3, "", "public servant"},
	{"openssl-p256-challenge", "P-256", 1, dnsName, "ws-0042"},
	{"openssl-p256-emptysubject", "P-256", 1, opensslNames, "\x30\x00"},
	{"openssl-p256-greek", "P-256", 0, "", greek},
	{"openssl-p256-multirdn", "P-256", 0, "", "ws-0042"},
	{"openssl-p256-plain", "P-256", 0, "", "ws-0042"},
	{"openssl-p256-san", "P-256", 1, opensslNames, "ws-0042"},
	{"openssl-p384-plain", "P-384", 0, "", "ws-0042"},
	{"openssl-p384-ukrainian", "P-384", 0, "", ukrainian},
	{"openssl-rsa2048-plain", "RSA-2048", 0, "", "ws-0042"},
	{"openssl-rsa2048-pss", "RSA-2048", 0, "", "ws-0042"},
	{"openssl-rsa2048-pss-longsalt", "RSA-2048", 0, "", "ws-0042"},
	{"openssl-rsa2048-san", "RSA-2048", 1, opensslNames, "ws-0042"},
	{"openssl-rsa3072-plain", "RSA-3072", 0, "", "ws-0042"},
	{"openssl-rsa3072-sha512", "RSA-3072", 0, "", "ws-0042"},
	{"openssl-rsa3072-vietnamese", "RSA-3072", 0, "", vietnamese},
	{"openssl-rsa4096-plain", "RSA-4096", 0, "", "ws-0042"},
}

// refused is every request in testdata/csr that must not pass, with a part of the detail, so that it is refused for
// what is wrong with it and not for something before that.
var refused = []struct {
	file   string
	reason csr.Reason
	detail string
}{
	{"forge-p256-badbmp", csr.Form, "tag 30"},
	{"forge-p256-badia5", csr.Form, "tag 22"},
	{"forge-p256-badoid", csr.Form, "not DER"},
	{"forge-p256-badprintable", csr.Form, "tag 19"},
	{"forge-p256-badutf8", csr.Form, "tag 12"},
	{"forge-p256-criticalfalse", csr.Form, "critical FALSE written out"},
	{"forge-p256-criticalone", csr.Form, "not DER"},
	{"forge-p256-deep", csr.Form, "not one DER value"},
	{"forge-p256-emptyrdn", csr.Form, "empty relative distinguished name"},
	{"forge-p256-extensionber", csr.Form, "not one DER value"},
	{"forge-p256-extensionempty", csr.Form, "not one DER value"},
	{"forge-p256-extensiontrailing", csr.Form, "not one DER value"},
	{"forge-p256-extrafield", csr.Form, "not one CertificationRequest"},
	{"forge-p256-extrainfo", csr.Form, "not one CertificationRequestInfo"},
	{"forge-p256-extrasubject", csr.Form, "not a type with one value"},
	{"forge-p256-indefinite", csr.Form, "not a DER sequence"},
	{"forge-p256-longlength", csr.Form, "not a DER sequence"},
	{"forge-p256-longversion", csr.Form, "not DER"},
	{"forge-p256-manyextensions", csr.Form, "more than 32 extensions"},
	{"forge-p256-noattributes", csr.Form, "not one CertificationRequestInfo"},
	{"forge-p256-noextensions", csr.Form, "without extensions"},
	{"forge-p256-novalue", csr.Form, "set of one value"},
	{"forge-p256-nullparameters", csr.Form, "wrong parameters"},
	{"forge-p256-oversized", csr.Form, "at most 16384"},
	{"forge-p256-pss-hugesalt", csr.Form, "salt of 2147483647 bytes"},
	{"forge-p256-pss-negativesalt", csr.Form, "salt of -1 bytes"},
	{"forge-p256-pss-nosalt", csr.Form, "salt of 0 bytes"},
	{"forge-p256-pss-notmgf1", csr.Form, "not MGF1"},
	{"forge-p256-pss-trailer", csr.Form, "not RSASSA-PSS parameters"},
	{"forge-p256-pss-twohashes", csr.Form, "different hashes"},
	{"forge-p256-pss-writtensalt", csr.Form, "default written out"},
	{"forge-p256-sanconstructed", csr.Form, "unknown tag 162"},
	{"forge-p256-sanempty", csr.Form, "without names"},
	{"forge-p256-sanemptyname", csr.Form, "DNS name empty"},
	{"forge-p256-sanip5", csr.Form, "IP address of 5 bytes"},
	{"forge-p256-sannul", csr.Form, "DNS name empty or not visible"},
	{"forge-p256-sanspace", csr.Form, "e-mail name empty or not visible"},
	{"forge-p256-santrailing", csr.Form, "not one DER value"},
	{"forge-p256-sanunknown", csr.Form, "unknown tag 137"},
	{"forge-p256-sanutf8", csr.Form, "URI empty or not visible"},
	{"forge-p256-sha3", csr.Form, "2.16.840.1.101.3.4.3.10 is not accepted"},
	{"forge-p256-surrogatebmp", csr.Form, "tag 30"},
	{"forge-p256-teletexsubject", csr.Form, "tag 20"},
	{"forge-p256-trailing", csr.Form, "1 bytes after the request"},
	{"forge-p256-truncated", csr.Form, "cut off"},
	{"forge-p256-twiceattribute", csr.Form, "1.2.840.113549.1.9.7 given twice"},
	{"forge-p256-twiceextension", csr.Form, "2.5.29.17 given twice"},
	{"forge-p256-twiceextensionrequest", csr.Form, "1.2.840.113549.1.9.14 given twice"},
	{"forge-p256-twicerdn", csr.Form, "not sorted"},
	{"forge-p256-twovalues", csr.Form, "set of one value"},
	{"forge-p256-unknownattribute", csr.Form, "2.999.1 is not one we know"},
	{"forge-p256-unsorted", csr.Form, "not a sorted set"},
	{"forge-p256-unsortedrdn", csr.Form, "not sorted"},
	{"forge-p256-unusedbits", csr.Form, "not one CertificationRequest"},
	{"forge-p256-version1", csr.Form, "version 1"},
	{"forge-ed25519-parameters", csr.Form, "Ed25519 key with parameters"},
	{"forge-rsa2048-noparameters", csr.Form, "parameters other than NULL"},

	{"certutil-p521-plain", csr.KeyType, "1.3.132.0.35"},
	{"openssl-p521-badkey", csr.KeyType, "1.3.132.0.35"},
	{"openssl-secp256k1-badkey", csr.KeyType, "1.3.132.0.10"},
	{"openssl-p256explicit-badkey", csr.KeyType, "without a named curve"},
	{"openssl-p256compressed-badkey", csr.KeyType, "compressed"},
	{"openssl-rsapss-badkey", csr.KeyType, "1.2.840.113549.1.1.10"},
	{"openssl-dsa2048-badkey", csr.KeyType, "1.2.840.10040.4.1"},
	{"openssl-ed448-badkey", csr.KeyType, "1.3.101.113"},

	{"openssl-rsa1024-badkey", csr.WeakKey, "1024 bits"},
	{"openssl-rsa2048e3-badkey", csr.WeakKey, "exponent"},
	{"forge-rsa2047-badkey", csr.WeakKey, "2047 bits"},
	{"forge-rsa8200-badkey", csr.WeakKey, "8200 bits"},
	{"forge-rsa2048-roca", csr.WeakKey, "ROCA"},
	{"forge-rsa2048-nextprime", csr.WeakKey, "too close"},
	{"forge-rsa2048-closeprimes", csr.WeakKey, "too close"},
	{"forge-rsa2048-square", csr.WeakKey, "too close"},
	{"forge-rsa2048-evenmodulus", csr.WeakKey, "even"},
	{"forge-rsa2048-negativemodulus", csr.WeakKey, "not positive"},
	{"forge-rsa2048-factor3", csr.WeakKey, "divisible by 3"},
	{"forge-rsa2048-factor751", csr.WeakKey, "divisible by 751"},
	{"forge-rsa2048-evenexponent", csr.WeakKey, "exponent"},
	{"forge-rsa2048-exponent1", csr.WeakKey, "exponent"},
	{"forge-rsa2048-exponent65535", csr.WeakKey, "exponent"},
	{"forge-rsa2048-longexponent", csr.WeakKey, "exponent"},
	{"forge-rsa2048-negativeexponent", csr.WeakKey, "exponent"},
	{"forge-p256-offcurve", csr.WeakKey, "not on P-256"},
	{"forge-p256-wrongcurve", csr.WeakKey, "97 bytes is not on P-256"},
	{"forge-p256-identity", csr.WeakKey, "not on P-256"},
	{"forge-p256-zeropoint", csr.WeakKey, "not on P-256"},
	{"forge-p256-primepoint", csr.WeakKey, "not on P-256"},
	{"forge-p256-emptypoint", csr.WeakKey, "not on P-256"},
	{"forge-p256-hybrid", csr.WeakKey, "not on P-256"},
	{"forge-ed25519-order1", csr.WeakKey, "small order"},
	{"forge-ed25519-order2", csr.WeakKey, "small order"},
	{"forge-ed25519-order2signed", csr.WeakKey, "small order"},
	{"forge-ed25519-order4", csr.WeakKey, "small order"},
	{"forge-ed25519-order4signed", csr.WeakKey, "small order"},
	{"forge-ed25519-order8a", csr.WeakKey, "small order"},
	{"forge-ed25519-order8asign", csr.WeakKey, "small order"},
	{"forge-ed25519-order8b", csr.WeakKey, "small order"},
	{"forge-ed25519-order8bsign", csr.WeakKey, "small order"},
	{"forge-ed25519-aboveprime", csr.WeakKey, "below the prime"},
	{"forge-ed25519-short", csr.WeakKey, "31 bytes"},

	{"openssl-rsa2048-md5", csr.WeakHash, "1.2.840.113549.1.1.4"},
	{"openssl-rsa2048-sha1", csr.WeakHash, "1.2.840.113549.1.1.5"},
	{"openssl-p256-sha1", csr.WeakHash, "1.2.840.10045.4.1"},
	{"openssl-rsa2048-pss-sha1", csr.WeakHash, "SHA-1"},
	{"keytool-rsa2048-sha1", csr.WeakHash, "1.2.840.113549.1.1.5"},
	{"forge-p256-sha224", csr.WeakHash, "1.2.840.10045.4.3.1"},
	{"forge-p256-pss-defaults", csr.WeakHash, "SHA-1"},
	{"forge-p256-pss-sha1mask", csr.WeakHash, "1.3.14.3.2.26"},

	{"forge-p256-brokensignature", csr.Possession, "P-256"},
	{"forge-p256-trailingsignature", csr.Possession, "P-256"},
	{"forge-p256-emptysignature", csr.Possession, "P-256"},
	{"forge-p256-zerosignature", csr.Possession, "P-256"},
	{"forge-p256-othersubject", csr.Possession, "P-256"},
	{"forge-p256-otherkey", csr.Possession, "P-256"},
	{"forge-p256-rsaalgorithm", csr.Possession, "P-256"},
	{"forge-rsa2048-brokensignature", csr.Possession, "RSA-2048"},
}

// load reads a file of testdata/csr. One is larger than DecodePEM's callers ever see, but not than DecodePEM takes.
func load(t testing.TB, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(directory, file+".csr"))
	if err != nil {
		t.Fatal(err)
	}
	der, err := csr.DecodePEM(text)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return der
}

func TestAccepted(t *testing.T) {
	for _, c := range accepted {
		der := load(t, c.file)
		r, err := csr.Check(der)
		if err != nil {
			t.Errorf("%s: %v", c.file, err)
			continue
		}
		names := ""
		if !r.Names.IsZero() {
			names = fmt.Sprint(r.Names.DNS, r.Names.Email, r.Names.IP, r.Names.URI, len(r.Names.Other))
		}
		if r.KeyType != c.keyType || len(r.Extensions) != c.extensions || names != c.names {
			t.Errorf("%s: %s with %d extensions and names %q, want %s with %d and %q",
				c.file, r.KeyType, len(r.Extensions), names, c.keyType, c.extensions, c.names)
		}
		if !bytes.Contains(r.Subject, []byte(c.subject)) {
			t.Errorf("%s: subject %q without %q", c.file, r.Subject, c.subject)
		}
		agree(t, der, r)
	}
}

func TestRefused(t *testing.T) {
	for _, c := range refused {
		r, err := csr.Check(load(t, c.file))
		var refusal *csr.Error
		if r != nil || !errors.As(err, &refusal) {
			t.Errorf("%s: accepted", c.file)
			continue
		}
		if refusal.Reason != c.reason || !strings.Contains(refusal.Detail, c.detail) {
			t.Errorf("%s: %s (%s), want %s (… %s …)", c.file, refusal.Reason, refusal.Detail, c.reason, c.detail)
		}
	}
}

// TestEveryFileListed keeps a file that make.sh adds from being tested by nobody.
func TestEveryFileListed(t *testing.T) {
	listed := map[string]bool{}
	for _, c := range accepted {
		listed[c.file] = true
	}
	for _, c := range refused {
		listed[c.file] = true
	}
	files, err := filepath.Glob(filepath.Join(directory, "*.csr"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if name := strings.TrimSuffix(filepath.Base(file), ".csr"); !listed[name] {
			t.Errorf("%s is in no table", name)
		}
	}
	if len(files) != len(accepted)+len(refused) {
		t.Errorf("%d files, %d rows", len(files), len(accepted)+len(refused))
	}
}

func TestDecodePEM(t *testing.T) {
	der := load(t, "openssl-p256-plain")
	block := func(kind string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	good := block("CERTIFICATE REQUEST")
	for _, text := range []string{
		good,
		block("NEW CERTIFICATE REQUEST"),
		"Common Name: ws-0042\n\n" + good,
		good + "\r\n \n",
		strings.ReplaceAll(good, "\n", "\r\n"),
	} {
		if got, err := csr.DecodePEM([]byte(text)); err != nil || !bytes.Equal(got, der) {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{
		"",
		string(der),
		good + "x",
		good + good,
		good + "-----BEGIN ",
		good[:len(good)-10],
		"-----BEGIN CERTIFICATE REQUEST-----\nTruncated",
		block("CERTIFICATE"),
		block("PRIVATE KEY"),
		strings.Replace(good, "-----\n", "-----\nName: value\n\n", 1),
		strings.Replace(good, "M", "?", 1),
		good + strings.Repeat("\n", 64<<10),
	} {
		var refusal *csr.Error
		if _, err := csr.DecodePEM([]byte(text)); !errors.As(err, &refusal) || refusal.Reason != csr.Form {
			t.Errorf("%q: %v", text, err)
		}
	}
}
