package issue

import (
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coldseal/protocol"
	"coldseal/protocol/policy"
)

// The judges are validators that aren't ours. GnuTLS takes no time to judge at, so what they judge is valid now.
func lately() int64 { return time.Now().Unix() - 3600 }

var subjectTypes = []string{"RSA-2048", "RSA-3072", "P-256", "P-384", "Ed25519"}

// exception is something a judge refuses, and why that is not ours to mend.
type exception struct{ judge, ca, subject, profile, why string } // "" is any

var exceptions = []exception{
	{judge: "certutil", ca: "Ed25519", why: "NSS verifies no Ed25519 signatures on certificates"},
	{judge: "certutil", subject: "Ed25519", why: "NSS knows no Ed25519 keys in certificates"},
}

func excepted(judge, ca, subject, profile string) bool {
	for _, e := range exceptions {
		if e.judge == judge && (e.ca == "" || e.ca == ca) && (e.subject == "" || e.subject == subject) && (e.profile == "" || e.profile == profile) {
			return true
		}
	}
	return false
}

// run gives what a tool says and whether it is content. A tool that is missing fails the test.
func run(t *testing.T, name string, args ...string) (string, bool) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("%v: the judges are openssl, certtool (gnutls-bin) and certutil, crlutil (libnss3-tools)", err)
	}
	out, err := exec.Command(name, args...).CombinedOutput()
	return string(out), err == nil
}

// put writes PEM blocks to a file.
func put(t *testing.T, dir, name, kind string, ders ...[]byte) string {
	t.Helper()
	var all []byte
	for _, der := range ders {
		all = append(all, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, all, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// leaf is one certificate before the judges.
type leaf struct {
	name, subject, profile, path string
	use                          string // certutil's letter; "" is none that NSS can be asked for
}

func leaves(t *testing.T, dir string, h hierarchy) []leaf {
	keys := testKeys(t)
	var list []leaf
	for i, s := range samples() {
		use := ""
		for _, purpose := range s.profile.ExtUsage {
			switch purpose {
			case "serverAuth":
				use = "V"
			case "clientAuth":
				use = "C"
			case "OCSPSigning":
				use = "O"
			}
		}
		for j, kind := range subjectTypes {
			c := s.of(spkiOf(t, keys["subject-"+kind]), byte(16*i+j))
			c.NotBefore, c.NotAfter = lately(), max(c.NotAfter, lately()+30*day)
			der := h.issue(t, h.issuing, h.signer, &s.profile, c)
			name := s.profile.Name + "-" + kind
			list = append(list, leaf{name, kind, s.profile.Name, put(t, dir, name+".pem", "CERTIFICATE", der), use})
		}
	}
	return list
}

// TestJudges puts every profile with every type of key under every type of CA to openssl, GnuTLS and NSS.
func TestJudges(t *testing.T) {
	for _, kind := range caTypes {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			h := newHierarchy(t, testKeys(t), kind)
			all := leaves(t, dir, h)
			root, issuing := put(t, dir, "root.pem", "CERTIFICATE", h.rootDER), put(t, dir, "issuing.pem", "CERTIFICATE", h.issuingDER)
			judgeOpenSSL(t, kind, root, issuing, all)
			judgeGnuTLS(t, kind, dir, h, all)
			judgeNSS(t, kind, dir, root, issuing, all)
			judgeCRLs(t, kind, dir, h, root, issuing)
		})
	}
}

func report(t *testing.T, judge, ca string, l leaf, content bool, words string) {
	t.Helper()
	if excepted(judge, ca, l.subject, l.profile) {
		if content {
			t.Errorf("%s accepts %s under %s: the exception is no longer true", judge, l.name, ca)
		}
		return
	}
	if !content {
		t.Errorf("%s refuses %s under %s:\n%s", judge, l.name, ca, words)
	}
}

func judgeOpenSSL(t *testing.T, kind, root, issuing string, all []leaf) {
	args := []string{"verify", "-x509_strict", "-CAfile", root, "-untrusted", issuing}
	for _, l := range all {
		args = append(args, l.path)
	}
	words, _ := run(t, "openssl", args...)
	for _, l := range all {
		report(t, "openssl", kind, l, strings.Contains(words, l.path+": OK\n"), words)
	}
	if words, content := run(t, "openssl", "verify", "-x509_strict", "-CAfile", root, issuing); !content {
		t.Errorf("openssl refuses the issuing CA: %s", words)
	}
	if words, content := run(t, "openssl", "verify", "-x509_strict", "-attime", fmt.Sprint(at("2052-01-01T00:00:00Z")), "-CAfile", root, "-untrusted", issuing, all[0].path); content || !strings.Contains(words, "expired") {
		t.Errorf("openssl would accept anything: %s", words)
	}
}

func judgeGnuTLS(t *testing.T, kind, dir string, h hierarchy, all []leaf) {
	for _, l := range all {
		data, err := os.ReadFile(l.path)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(data)
		chain := put(t, dir, "chain.pem", "CERTIFICATE", block.Bytes, h.issuingDER, h.rootDER)
		words, content := run(t, "certtool", "--verify-chain", "--infile", chain)
		report(t, "certtool", kind, l, content && strings.Contains(words, "Chain verification output: Verified"), words)
	}
}

func judgeNSS(t *testing.T, kind, dir, root, issuing string, all []leaf) {
	db := "sql:" + filepath.Join(dir, "nss")
	if err := os.Mkdir(filepath.Join(dir, "nss"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"-N", "--empty-password", "-d", db},
		{"-A", "-d", db, "-n", "root", "-t", "CT,C,C", "-a", "-i", root},
		{"-A", "-d", db, "-n", "issuing", "-t", ",,", "-a", "-i", issuing},
	} {
		if words, content := run(t, "certutil", args...); !content {
			if !excepted("certutil", kind, "", "") {
				t.Fatalf("certutil %v: %s", args, words)
			}
		}
	}
	for _, l := range all {
		if l.use == "" {
			continue
		}
		words, content := run(t, "certutil", "-A", "-d", db, "-n", l.name, "-t", ",,", "-a", "-i", l.path)
		if content {
			words, content = run(t, "certutil", "-V", "-e", "-d", db, "-n", l.name, "-u", l.use)
		}
		report(t, "certutil", kind, l, content && strings.Contains(words, "certificate is valid"), words)
	}
}

// judgeCRLs has openssl and GnuTLS verify CRLs and find the revoked certificate on them.
func judgeCRLs(t *testing.T, kind, dir string, h hierarchy, root, issuing string) {
	s := samples()[0]
	point := policy.URL(crlURL, "issuing", 0)
	revoked := s.of(spkiOf(t, testKeys(t)["subject-P-256"]), 0xff)
	revoked.NotBefore, revoked.NotAfter = lately(), lately()+day
	good := revoked
	good.Serial = []byte{1}
	path := put(t, dir, "revoked.pem", "CERTIFICATE", h.issue(t, h.issuing, h.signer, &s.profile, revoked))
	fine := put(t, dir, "fine.pem", "CERTIFICATE", h.issue(t, h.issuing, h.signer, &s.profile, good))
	entries := append(crlSample()[:4], Revoked{Serial: revoked.Serial, Time: lately(), Reason: protocol.ReasonCertificateHold})
	for name, points := range map[string][]string{"whole": nil, "shard": {point}} {
		crl := put(t, dir, name+".crl", "X509 CRL", h.crl(t, "issuing", lately(), entries, points...))
		rootCRL := put(t, dir, name+"-root.crl", "X509 CRL", h.crl(t, "root", lately(), nil))
		for file, ca := range map[string]string{crl: issuing, rootCRL: root} {
			if words, content := run(t, "openssl", "crl", "-in", file, "-CAfile", ca, "-noout"); !content || !strings.Contains(words, "verify OK") {
				t.Errorf("openssl refuses %s: %s", file, words)
			}
			if words, content := run(t, "certtool", "--verify-crl", "--load-ca-certificate", ca, "--infile", file); !content || !strings.Contains(words, "Verified") {
				t.Errorf("certtool refuses %s: %s", file, words)
			}
		}
		check := func(certificate string) (string, bool) {
			return run(t, "openssl", "verify", "-x509_strict", "-crl_check_all", "-extended_crl",
				"-CAfile", root, "-untrusted", issuing, "-CRLfile", crl, "-CRLfile", rootCRL, certificate)
		}
		if words, content := check(fine); !content {
			t.Errorf("%s under %s: openssl refuses a good certificate with CRLs: %s", name, kind, words)
		}
		if words, content := check(path); content || !strings.Contains(words, "certificate revoked") {
			t.Errorf("%s under %s: openssl does not find the revoked certificate: %s", name, kind, words)
		}
	}
}
