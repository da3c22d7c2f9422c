package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	stdx509 "crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	zl "github.com/zmap/zlint/v3/lint"
	"golang.org/x/crypto/ocsp"

	"coldseal/appliance/lint"
	"coldseal/appliance/wire"
	"coldseal/protocol/cose"
)

var epoch = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

// samples are DER made for one test; good ones have no finding at all.
type samples struct{ good, bad, crl, badCRL, response []byte }

func makeSamples(tb testing.TB) samples {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	ca := &stdx509.Certificate{
		Subject:      pkix.Name{Country: []string{"IT"}, CommonName: "Issuing CA"},
		SubjectKeyId: []byte{1, 2, 3, 4},
		KeyUsage:     stdx509.KeyUsageCertSign | stdx509.KeyUsageCRLSign,
		IsCA:         true,
	}
	certificate := func(country string) []byte {
		der, err := stdx509.CreateCertificate(rand.Reader, &stdx509.Certificate{
			SerialNumber: big.NewInt(77),
			Subject:      pkix.Name{Country: []string{country}, CommonName: "058091-PC-0001"},
			NotBefore:    epoch,
			NotAfter:     epoch.AddDate(1, 0, 0),
			KeyUsage:     stdx509.KeyUsageDigitalSignature,
			SubjectKeyId: []byte{5, 6, 7, 8},
			ExtKeyUsage:  []stdx509.ExtKeyUsage{stdx509.ExtKeyUsageClientAuth},
			DNSNames:     []string{"pc-0001.example.org"},

			CRLDistributionPoints: []string{"http://crl.example.org/issuing.crl"},
		}, ca, key.Public(), key)
		if err != nil {
			tb.Fatal(err)
		}
		return der
	}
	crl := func(revoked time.Time) []byte {
		der, err := stdx509.CreateRevocationList(rand.Reader, &stdx509.RevocationList{
			Number:     big.NewInt(7),
			ThisUpdate: epoch,
			NextUpdate: epoch.AddDate(0, 0, 7),
			RevokedCertificateEntries: []stdx509.RevocationListEntry{
				{SerialNumber: big.NewInt(77), RevocationTime: revoked, ReasonCode: 1}},
		}, ca, key)
		if err != nil {
			tb.Fatal(err)
		}
		return der
	}
	s := samples{good: certificate("IT"), bad: certificate("it"), crl: crl(epoch.Add(-time.Hour)), badCRL: crl(epoch.Add(time.Hour))}
	issuer, err := stdx509.ParseCertificate(s.good)
	if err != nil {
		tb.Fatal(err)
	}
	s.response, err = ocsp.CreateResponse(issuer, issuer, ocsp.Response{
		Status: ocsp.Good, SerialNumber: big.NewInt(77), ThisUpdate: time.Now().Add(24 * time.Hour), NextUpdate: time.Now().Add(48 * time.Hour),
	}, key)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestCommandLine(t *testing.T) {
	s := makeSamples(t)
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pemOf := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	good, bad := file("good.der", s.good), file("bad.der", s.bad)
	const clean = `{"schema":1,"findings":[]}` + "\n"
	tests := []struct {
		name   string
		args   []string
		exit   int
		stdout string // contained, or the whole if it ends a line
		stderr string // contained
	}{
		{"good", []string{"cert", good}, 0, "", "no findings"},
		{"good, JSON", []string{"cert", good, "--json"}, 0, clean, ""},
		{"flags before the file", []string{"--json", "cert", "--set", "rfc5280", good}, 0, clean, ""},
		{"bad", []string{"cert", bad}, 1, "error  e_subj_country_not_uppercase", ""},
		{"bad, other set", []string{"cert", bad, "--set", "rfc5280"}, 0, "", "no findings"},
		{"bad, ignored", []string{"cert", bad, "--ignore", "e_subj_country_not_uppercase"}, 0, "", "no findings"},
		{"standard input", []string{"cert", "-", "--json"}, 0, clean, ""},
		{"PEM", []string{"cert", file("good.pem", pemOf("CERTIFICATE", s.good)), "--json"}, 0, clean, ""},
		{"PEM with text before", []string{"cert", file("text.pem", append([]byte("Certificate:\n"), pemOf("CERTIFICATE", s.good)...)), "--json"}, 0, clean, ""},
		{"CRL", []string{"crl", file("good.crl", s.crl), "--json"}, 0, clean, ""},
		{"CRL as PEM", []string{"crl", file("crl.pem", pemOf("X509 CRL", s.crl)), "--json"}, 0, clean, ""},
		{"bad CRL", []string{"crl", file("bad.crl", s.badCRL)}, 1, "e_crl_revocation_time_after_this_update", ""},
		{"OCSP", []string{"ocsp", file("response.der", s.response)}, 1, "e_this_update_not_after_produced_at", ""},
		{"garbage", []string{"cert", file("garbage", []byte("hello")), "--json"}, 1, `"lint":"unparseable","status":"fatal"`, ""},
		{"empty", []string{"cert", file("empty", nil)}, 1, "fatal  unparseable", ""},
		{"CRL as certificate", []string{"cert", filepath.Join(dir, "good.crl")}, 1, "unparseable", ""},
		{"wrong PEM", []string{"cert", filepath.Join(dir, "crl.pem")}, 1, "", `"X509 CRL", expected "CERTIFICATE"`},
		{"two PEM blocks", []string{"cert", file("two.pem", append(pemOf("CERTIFICATE", s.good), pemOf("CERTIFICATE", s.bad)...))}, 1, "", "more than one PEM block"},
		{"no such file", []string{"cert", filepath.Join(dir, "nothing")}, 1, "", "nothing"},
		{"too large", []string{"cert", file("large", make([]byte, maxFile+1))}, 1, "", "over"},
		{"help", []string{"--help"}, 0, usage, ""},
		{"nothing", nil, 64, "", "usage:"},
		{"no file", []string{"cert"}, 64, "", "usage:"},
		{"two files", []string{"cert", good, bad}, 64, "", "usage:"},
		{"other kind", []string{"csr", good}, 64, "", `not "csr"`},
		{"unknown flag", []string{"cert", good, "--fast"}, 64, "", "--fast"},
		{"unknown set", []string{"cert", good, "--set", "mozilla"}, 64, "", `no lint set "mozilla"`},
		{"no set", []string{"cert", good, "--set", ""}, 64, "", "no lint set"},
		{"unknown lint", []string{"cert", good, "--ignore", "e_nothing"}, 64, "", `no lint "e_nothing"`},
		{"worker without a parent", []string{"worker", "now"}, 64, "", "usage:"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			exit := run(test.args, bytes.NewReader(s.good), &stdout, &stderr)
			if exit != test.exit || !strings.Contains(stderr.String(), test.stderr) {
				t.Errorf("exit %d, want %d; %q on stderr, want %q", exit, test.exit, &stderr, test.stderr)
			}
			if got := stdout.String(); !strings.Contains(got, test.stdout) || test.stdout == "" && got != "" ||
				strings.HasSuffix(test.stdout, "\n") && got != test.stdout {
				t.Errorf("%q on stdout, want %q", got, test.stdout)
			}
		})
	}
}

func TestJSON(t *testing.T) {
	var stdout bytes.Buffer
	if err := show([]lint.Finding{{Lint: "e_x", Status: lint.Error, Details: "\x1b[2J"}}, true, &stdout, nil); err != nil {
		t.Fatal(err)
	}
	var got report
	if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Schema != 1 || !slices.Equal(got.Findings, []finding{{"e_x", "error", "\x1b[2J"}}) {
		t.Errorf("%s", &stdout)
	}
	stdout.Reset()
	if err := show([]lint.Finding{{Lint: "e_x", Status: lint.Error, Details: "\x1b[2J\u202e"}}, false, &stdout, nil); err != nil {
		t.Fatal(err)
	}
	if want := `error  e_x  "\x1b[2J\u202e"` + "\n"; stdout.String() != want {
		t.Errorf("%q, want %q", &stdout, want)
	}
}

// Our selection must be what zlint's own filter by source selects, and our run find what zlint's finds.
func TestSelectionIsZlints(t *testing.T) {
	s := makeSamples(t)
	for _, names := range [][]string{{"rfc5280"}, {"community"}, {"rfc5280", "community"}} {
		ours, refused := choose(lint.Config{Sets: names, Threshold: lint.Warn})
		if refused != nil {
			t.Fatal(refused)
		}
		var sources zl.SourceList
		for _, name := range names {
			of, ok := set(name)
			if !ok {
				t.Fatal(name)
			}
			sources = append(sources, of...)
		}
		theirs, err := zl.GlobalRegistry().Filter(zl.FilterOptions{IncludeSources: sources})
		if err != nil {
			t.Fatal(err)
		}
		if a, b := len(ours.certificates), len(theirs.CertificateLints().Lints()); a != b || a == 0 {
			t.Errorf("%v: %d certificate lints, zlint says %d", names, a, b)
		}
		if a, b := len(ours.crls), len(theirs.RevocationListLints().Lints()); a != b || a == 0 {
			t.Errorf("%v: %d CRL lints, zlint says %d", names, a, b)
		}
		for _, der := range [][]byte{s.good, s.bad} {
			c, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for name, result := range zlint.LintCertificateEx(c, theirs).Results {
				if result.Status >= zl.Warn {
					want = append(want, name)
				}
			}
			slices.Sort(want)
			var got []string
			for _, f := range ours.check(examineCertificate, der) {
				got = append(got, f.Lint)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%v: found %v, zlint found %v", names, got, want)
			}
		}
	}
}

type explosive struct{}

func (explosive) CheckApplies(*x509.Certificate) bool           { return true }
func (explosive) Execute(*x509.Certificate) *zl.LintResult      { panic("boom") }
func (explosive) forCRL() zl.RevocationListLintInterface        { return explosiveCRL{} }
func (e explosive) forCertificate() zl.CertificateLintInterface { return e }

type explosiveCRL struct{}

func (explosiveCRL) CheckApplies(*x509.RevocationList) bool      { panic("boom") }
func (explosiveCRL) Execute(*x509.RevocationList) *zl.LintResult { return nil }

func TestPanicsAreFindings(t *testing.T) {
	s := makeSamples(t)
	community, refused := choose(lint.Config{Sets: []string{"community"}, Threshold: lint.Error})
	if refused != nil {
		t.Fatal(refused)
	}
	meta := zl.LintMetadata{Name: "e_explosive", Source: zl.Community}
	community.certificates = slices.Insert(community.certificates, 0, &zl.CertificateLint{LintMetadata: meta, Lint: explosive{}.forCertificate})
	community.crls = slices.Insert(community.crls, 0, &zl.RevocationListLint{LintMetadata: meta, Lint: explosive{}.forCRL})

	got := community.checkAll(examineCertificate, [][]byte{s.bad, {0}})
	if len(got) != 2 || len(got[0]) != 2 || got[0][0].Lint != "e_subj_country_not_uppercase" {
		t.Fatalf("the panic hides the rest: %v", got)
	}
	found := got[0][1:]
	found = append(found, community.check(examineCRL, s.crl)...)
	found = append(found, community.check(func(*selection, []byte, func(string, *zl.LintResult)) error { panic("parser boom") }, nil)...)
	if len(found) != 3 {
		t.Fatalf("found %v", found)
	}
	for _, f := range found {
		if f.Lint != lint.Panicked || f.Status != lint.Fatal || !strings.Contains(f.Details, "boom") {
			t.Errorf("%+v", f)
		}
	}
	if !strings.Contains(found[0].Details, "e_explosive") || !strings.Contains(found[1].Details, "e_explosive") {
		t.Errorf("the lint is not named: %v", found)
	}
}

func TestClip(t *testing.T) {
	for _, details := range []string{"", "short", strings.Repeat("x", lint.MaxDetails), strings.Repeat("x", lint.MaxDetails+1),
		strings.Repeat("щ", lint.MaxDetails), "\xff\xfe", strings.Repeat("\x80", 2*lint.MaxDetails), strings.Repeat("€\xff", lint.MaxDetails)} {
		got := clip(details)
		if len(got) > lint.MaxDetails || !utf8.ValidString(got) {
			t.Errorf("%d bytes, valid %v", len(got), utf8.ValidString(got))
		}
		if len(details) <= lint.MaxDetails && utf8.ValidString(details) && got != details {
			t.Errorf("%q became %q", details, got)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	s := makeSamples(f)
	for _, items := range [][][]byte{{s.good, s.bad}, {s.crl}, {{}}, nil} {
		seed, err := cose.Marshal(lint.Batch{Sets: []string{"rfc5280", "community"}, Threshold: lint.Warn, Items: items})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, op := range []uint64{lint.OpCertificates, lint.OpCRLs} {
			reply, err := answer(op, body)
			if _, refused := err.(*wire.Refused); err != nil && !refused {
				t.Fatalf("a fault: %v", err)
			}
			if err != nil {
				continue
			}
			if _, err := cose.Marshal(reply); err != nil {
				t.Fatalf("an answer that can't be sent: %v", err)
			}
		}
	})
}

// FuzzCheck puts hostile bytes straight to the parser and the lints.
func FuzzCheck(f *testing.F) {
	s := makeSamples(f)
	for _, der := range [][]byte{s.good, s.bad, s.crl, s.badCRL, s.response} {
		f.Add(der)
	}
	selection, refused := choose(lint.Config{Sets: []string{"rfc5280", "community"}, Threshold: lint.Warn})
	if refused != nil {
		f.Fatal(refused)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		for _, examine := range []examination{examineCertificate, examineCRL, examineResponse} {
			for _, finding := range selection.check(examine, der) {
				if finding.Lint == "" || finding.Status < lint.Warn || len(finding.Details) > lint.MaxDetails || !utf8.ValidString(finding.Details) {
					t.Fatalf("%+v", finding)
				}
			}
		}
	})
}

// The floor under appliance/lint's benchmark: the same certificate on all processors, without a process between.
func BenchmarkCheck(b *testing.B) {
	s := makeSamples(b)
	selection, refused := choose(lint.Config{Sets: []string{"rfc5280", "community"}, Threshold: lint.Error})
	if refused != nil {
		b.Fatal(refused)
	}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if found := selection.check(examineCertificate, s.good); found != nil {
				b.Error(found)
			}
		}
	})
}

// What a caller of the library pays for the same.
func BenchmarkZlint(b *testing.B) {
	s := makeSamples(b)
	registry, err := zl.GlobalRegistry().Filter(zl.FilterOptions{IncludeSources: zl.SourceList{
		zl.RFC3279, zl.RFC5280, zl.RFC5480, zl.RFC5891, zl.RFC6960, zl.RFC6962, zl.RFC8813, zl.Community}})
	if err != nil {
		b.Fatal(err)
	}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c, err := x509.ParseCertificate(s.good)
			if err != nil {
				b.Error(err)
			} else if zlint.LintCertificateEx(c, registry).ErrorsPresent {
				b.Error("errors")
			}
		}
	})
}
