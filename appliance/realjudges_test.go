package appliance_test

import (
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The judges are validators that are not ours: openssl, GnuTLS, and the two of NSS, its classic one and libpkix.

const nssTime = "060102150405Z" // UTC; years from 1950 to 2049

// exception is what a judge refuses, with its words, and why that is not ours to mend. What is empty is any.
type exception struct{ judge, ca, profile, key, purpose, says, why string }

func exceptions() []exception {
	const old = "Debian 12 has NSS 3.87, and NSS verifies no Ed25519 signatures before 3.99"
	return []exception{
		{judge: "NSS", ca: "Ed25519", profile: "root", says: "could not add certificate", why: old},
		{judge: "NSS", ca: "Ed25519", profile: "issuing-ca", says: "could not add certificate", why: old},
		{judge: "NSS CRL", ca: "Ed25519", says: "issuer is not recognized", why: old},
		{judge: "NSS", ca: "Ed25519", says: "ERROR -81", why: old},
		{judge: "NSS libpkix", ca: "Ed25519", says: "ERROR -81", why: old},
		{judge: "NSS", profile: "approver", says: "ERROR -8101", why: "NSS knows no usage for which an extended key usage of our own is right"},
		{judge: "NSS libpkix", profile: "approver", says: "ERROR -8101", why: "as above"},
		{judge: "NSS", key: "Ed25519", purpose: "server", says: "ERROR -8102", why: "of a key that it doesn't know, NSS asks that it enciphers or agrees on keys; Ed25519 does neither (RFC 8410 section 5)"},
		{judge: "NSS libpkix", key: "Ed25519", purpose: "server", says: "ERROR -8102", why: "as above"},
		{judge: "NSS libpkix", key: "Ed25519", says: "ERROR -8049", why: "libpkix of NSS 3.87 knows no Ed25519 keys"},
	}
}

// exhibit is a certificate before the judges.
type exhibit struct {
	name, profile, key, path string
	purposes                 []purpose
	bad                      string // a word of why it must be refused
}

// trial is one hierarchy with its certificates and CRLs in PEM files.
type trial struct {
	*testing.T
	ca       string // type of its keys
	dir      string
	files    map[string]string // root, issuing: certificates; root.crl, issuing.crl
	exhibits []exhibit
}

// judge puts all certificates and CRLs of the world to all judges.
func (w *realWorld) judge(t *testing.T, ca string, wishes []*wish) {
	t.Helper()
	j := newTrial(t, ca, w.caCertificates())
	j.addCRLs(w.crls())
	for _, x := range wishes {
		j.add(x)
	}
	i := slices.IndexFunc(wishes, func(x *wish) bool { return x.profile == "it-server" && x.key == "P-256" })
	forged := j.exhibits[i]
	forged.name, forged.bad = "a forged "+forged.name, "signature"
	der := slices.Clone(wishes[i].result.Certificate)
	der[len(der)-3] ^= 1
	forged.path = j.put("forged.pem", "CERTIFICATE", der)
	j.exhibits = append(j.exhibits, forged)
	j.all()
}

func (j *trial) all() {
	j.openssl()
	j.gnutls()
	j.nss()
}

func newTrial(t *testing.T, ca string, cas map[string][]byte) *trial {
	j := &trial{T: t, ca: ca, dir: t.TempDir(), files: map[string]string{}}
	for label, der := range cas {
		j.files[label] = j.put(label+".pem", "CERTIFICATE", der)
	}
	return j
}

func (j *trial) add(x *wish) exhibit {
	e := exhibit{name: x.String(), profile: x.profile, key: x.key, purposes: x.purposes}
	if x.gone {
		e.bad = "revoked"
	}
	e.path = j.put(x.profile+"-"+x.file+".pem", "CERTIFICATE", x.result.Certificate)
	j.exhibits = append(j.exhibits, e)
	return e
}

func (j *trial) addCRLs(crls map[string][]byte) {
	for label, der := range crls {
		j.files[label+".crl"] = j.put(label+".crl.pem", "X509 CRL", der)
	}
}

func (j *trial) put(name, kind string, der []byte) string {
	path := filepath.Join(j.dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		j.Fatal(err)
	}
	return path
}

// concatenate makes one file of several.
func (j *trial) concatenate(name string, paths ...string) string {
	var all []byte
	for _, path := range paths {
		all = append(all, must[[]byte](j)(os.ReadFile(path))...)
	}
	path := filepath.Join(j.dir, name)
	if err := os.WriteFile(path, all, 0o600); err != nil {
		j.Fatal(err)
	}
	return path
}

// run gives what a tool says and whether it is content. A tool that is missing fails the test.
func (j *trial) run(name string, args ...string) (string, bool) {
	j.Helper()
	if _, err := exec.LookPath(name); err != nil {
		j.Fatalf("%v: the judges are openssl, certtool (gnutls-bin) and certutil, crlutil, vfychain (libnss3-tools)", err)
	}
	out, err := exec.Command(name, args...).CombinedOutput()
	return string(out), err == nil
}

// verdict compares what a judge says with what it should say.
func (j *trial) verdict(judge string, e exhibit, p purpose, words string, content bool) {
	j.Helper()
	says, why := "", ""
	for _, x := range exceptions() {
		if x.judge == judge && (x.ca == "" || x.ca == j.ca) && (x.profile == "" || x.profile == e.profile) &&
			(x.key == "" || x.key == e.key) && (x.purpose == "" || x.purpose == p.name) {
			says, why = x.says, "because "+x.why
			break
		}
	}
	if says == "" && e.bad != "" {
		says, why = e.bad, "rightly"
	}
	switch {
	case says == "" && !content:
		j.Errorf("%s refuses %s for %s under %s:\n%s", judge, e.name, p.name, j.ca, words)
	case says != "" && (content || !strings.Contains(words, says)):
		j.Errorf("%s should refuse %s for %s under %s with %q, %s, and says:\n%s", judge, e.name, p.name, j.ca, says, why, words)
	}
}

// openssl judges all certificates of one purpose at once.
func (j *trial) openssl() {
	common := []string{"verify", "-x509_strict", "-crl_check_all", "-CAfile", j.files["root"], "-CRLfile", j.files["root.crl"]}
	if words, content := j.run("openssl", append(common, j.files["root"], j.files["issuing"])...); !content {
		j.Errorf("openssl refuses the CAs under %s: %s", j.ca, words)
	}
	common = append(common, "-CRLfile", j.files["issuing.crl"], "-untrusted", j.files["issuing"])
	for _, p := range []purpose{client(), server(), mail(), responder(), approving()} {
		args := append(common[:len(common):len(common)], "-purpose", p.openssl)
		options := len(args)
		for _, e := range j.exhibits {
			if slices.Contains(e.purposes, p) {
				args = append(args, e.path)
			}
		}
		if len(args) == options {
			continue
		}
		words, _ := j.run("openssl", args...)
		for _, e := range j.exhibits {
			if slices.Contains(e.purposes, p) {
				j.verdict("openssl", e, p, words, strings.Contains(words, e.path+": OK\n"))
			}
		}
	}
	for crl, ca := range map[string]string{"root.crl": "root", "issuing.crl": "issuing"} {
		if words, content := j.run("openssl", "crl", "-in", j.files[crl], "-CAfile", j.files[ca], "-noout"); !content || !strings.Contains(words, "verify OK") {
			j.Errorf("openssl refuses %s under %s: %s", crl, j.ca, words)
		}
	}
}

// gnutls judges each certificate with the CRLs in its chain, then for each purpose.
func (j *trial) gnutls() {
	const verified = "Chain verification output: Verified"
	for _, e := range append([]exhibit{{name: "the issuing CA", profile: "issuing-ca", key: j.ca, path: j.files["issuing"]}}, j.exhibits...) {
		paths := []string{e.path, j.files["issuing"], j.files["root"], j.files["issuing.crl"], j.files["root.crl"]}
		if e.profile == "issuing-ca" {
			paths = paths[1:]
		}
		chain := j.concatenate("chain.pem", paths...)
		words, content := j.run("certtool", "--verify-chain", "--verify-profile", "medium", "--infile", chain)
		j.verdict("GnuTLS", e, purpose{name: "anything, with CRLs"}, words, content && strings.Contains(words, verified) && strings.Contains(words, "Checked against CRL"))
		e.bad = strings.TrimPrefix(e.bad, "revoked") // there are no CRLs below
		chain = j.concatenate("chain.pem", e.path, j.files["issuing"])
		for _, p := range e.purposes {
			words, content := j.run("certtool", "--verify", "--verify-profile", "medium", "--verify-purpose", p.gnutls, "--load-ca-certificate", j.files["root"], "--infile", chain)
			j.verdict("GnuTLS", e, p, words, content && strings.Contains(words, verified))
		}
	}
	for crl, ca := range map[string]string{"root.crl": "root", "issuing.crl": "issuing"} {
		if words, content := j.run("certtool", "--verify-crl", "--load-ca-certificate", j.files[ca], "--infile", j.files[crl]); !content || !strings.Contains(words, "Verified") {
			j.Errorf("GnuTLS refuses %s under %s: %s", crl, j.ca, words)
		}
	}
}

// nssDatabase has the CAs, if NSS takes them at that time, and their CRLs.
func (j *trial) nssDatabase(at time.Time) string {
	dir := j.TempDir()
	db := "sql:" + dir
	if words, content := j.run("certutil", "-N", "--empty-password", "-d", db); !content {
		j.Fatalf("certutil: %s", words)
	}
	ca := purpose{name: "a CA", nss: "3"}
	for _, e := range []exhibit{{name: "root", profile: "root", key: j.ca}, {name: "issuing", profile: "issuing-ca", key: j.ca}} {
		trust := map[string]string{"root": "CT,C,C", "issuing": ",,"}[e.name]
		words, content := j.run("certutil", "-A", "-d", db, "-n", e.name, "-t", trust, "-a", "-i", j.files[e.name])
		if content {
			words, content = j.run("certutil", "-V", "-e", "-d", db, "-n", e.name, "-u", "L", "-b", at.Format(nssTime))
			content = content && strings.Contains(words, "certificate is valid")
		}
		j.verdict("NSS", e, ca, words, content)
		crl, found := j.files[e.name+".crl"]
		if !found {
			continue
		}
		block, _ := pem.Decode(must[[]byte](j)(os.ReadFile(crl)))
		der := filepath.Join(dir, e.name+".der")
		if err := os.WriteFile(der, block.Bytes, 0o600); err != nil {
			j.Fatal(err)
		}
		words, content = j.run("crlutil", "-I", "-d", db, "-i", der)
		j.verdict("NSS CRL", e, ca, words, content)
	}
	return db
}

// nss judges each certificate for each usage, first as programs do, then with libpkix, which wants a CRL for all.
func (j *trial) nss() {
	db := j.nssDatabase(time.Now().UTC())
	crls := strings.Fields("-pp -g leaf -m crl -s forbidFetching -s failIfNoInfo -g chain -m crl -s forbidFetching -s failIfNoInfo")
	for _, e := range j.exhibits {
		for _, p := range e.purposes {
			for judge, options := range map[string][]string{"NSS": nil, "NSS libpkix": crls} {
				words, content := j.run("vfychain", append(options[:len(options):len(options)], "-d", db, "-u", p.nss, "-a", e.path)...)
				j.verdict(judge, e, p, words, content && strings.Contains(words, "Chain is good!"))
			}
		}
	}
}
