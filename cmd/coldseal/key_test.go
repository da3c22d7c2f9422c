package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"coldseal/protocol"
	"coldseal/protocol/cose"
	"coldseal/protocol/csr"
	"coldseal/protocol/keyfile"
)

func TestKey(t *testing.T) {
	s := newSite(t)
	s.write("secret", []byte("correct horse\n"))
	s.write("wrong", []byte("battery staple\n"))
	for _, kind := range []string{"P-256", "P-384", "Ed25519"} {
		name := "k-" + kind
		stdout, _ := s.ok("key new --type " + kind + " --out @" + name + " --passphrase-file @secret")
		public := must[[]byte](t)(os.ReadFile(s.path(name + ".pub")))
		key, err := cose.NewKey(must[any](t)(keyfile.DecodePublic(public)))
		if err != nil {
			t.Fatal(err)
		}
		id := protocol.Digest(key.ID())
		if stdout != id.String()+"\n"+id.Groups()+"\n" {
			t.Errorf("%s: printed %q, the key is %s", kind, stdout, id)
		}
		if info := must[os.FileInfo](t)(os.Stat(s.path(name))); info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v", kind, info.Mode())
		}
		again, _ := s.ok("key public --key @" + name + " --passphrase-file @secret --out @" + name + ".again")
		if again != stdout || string(s.read(name+".again")) != string(public) {
			t.Errorf("%s: key public printed %q", kind, again)
		}
		var j struct {
			Key    string `json:"key"`
			Groups string `json:"key_groups"`
			Type   string `json:"key_type"`
		}
		asJSON, _ := s.ok("key public --json --key @" + name + " --passphrase-file @secret")
		if s.json(asJSON, &j); j.Key != id.String() || j.Groups != id.Groups() || j.Type != kind {
			t.Errorf("%s: JSON %s", kind, asJSON)
		}
		s.ok("key csr --key @" + name + " --passphrase-file @secret --out @" + name + ".csr --cn Approver")
		der, err := csr.DecodePEM(s.read(name + ".csr"))
		if err != nil {
			t.Fatal(err)
		}
		r, err := csr.Check(der)
		if err != nil || protocol.DigestOf(r.SPKI) != id {
			t.Errorf("%s: request %v, %v", kind, r, err)
		}
		if out, err := exec.Command("openssl", "req", "-verify", "-noout", "-in", s.path(name+".csr")).CombinedOutput(); err != nil {
			t.Errorf("%s: openssl: %v, %s", kind, err, out)
		}
		digest := protocol.DigestOf([]byte("roster"))
		s.ok("key possess --key @"+name+" --passphrase-file @secret --out @"+name+".proof --digest", digest.Groups())
		if err := protocol.VerifyID(s.read(name+".proof"), protocol.ContextPossession, key, digest); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	s.fails([]failure{
		{"key new --out @k-P-256 --no-passphrase", 1, "different file"},
		{"key new --no-passphrase", 64, "--out"},
		{"key new --out - --no-passphrase", 64, "--out"},
		{"key new --type RSA-1024 --out @x --no-passphrase", 64, "RSA-1024"},
		{"key new --out @x --passphrase-file @absent", 3, "absent"},
		{"key public --key @k-P-256 --passphrase-file @wrong", 6, "passphrase is wrong"},
		{"key public --key @absent", 3, "absent"},
		{"key public", 64, "--key"},
		{"key public --key @k-P-256.pub", 1, "it is a public key"},
		{"key csr --key @k-P-256 --passphrase-file @secret", 64, "--out"},
		{"key possess --key @k-P-256 --passphrase-file @secret --out @p", 64, "--digest"},
		{"key public --key @k-P-256 --passphrase correct", 64, "unknown flag"},
	})
	if _, err := os.Stat(filepath.Join(s.dir, "x")); err == nil {
		t.Error("a command that failed left a key")
	}
	if _, stderr := s.ok("key new --out @plain --no-passphrase"); strings.Contains(stderr, "PRIVATE") {
		t.Error("a private key was printed")
	}
}
