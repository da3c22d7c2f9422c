package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"coldseal/cmd/internal/cli"
	"coldseal/protocol"
	"coldseal/protocol/cose"
	"coldseal/protocol/policy"
)

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// introduction makes the file of an appliance, and the digest that somebody types.
func introduction(t *testing.T) (file string, digest protocol.Digest) {
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	log, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki := must[[]byte](t)(x509.MarshalPKIXPublicKey(key.Public()))
	files := append(must[[]policy.File](t)(policy.Files(policy.Library())), policy.File{Name: "test.yaml", Data: []byte("policy: test\nclock_ahead: 100 days\n")})
	roster := &policy.Roster{Version: 1}
	roster.Officers = []policy.Officer{{
		Person: "it:FTTCRL84C52H501V", Name: "Carla", Keys: [][]byte{spki}, Roles: []string{"security-officer"},
		Scopes: []protocol.Scope{{Profile: protocol.Any, Body: protocol.Any}},
	}}
	for _, k := range protocol.RuledOrders() {
		roster.Orders = append(roster.Orders, policy.OrderRule{Kind: k, Persons: 1, Role: "security-officer"})
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Issuing"}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	root := *template
	root.Subject.CommonName = "Root"
	rootDER := must[[]byte](t)(x509.CreateCertificate(rand.Reader, &root, &root, key.Public(), key))
	caKey := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, must[*x509.Certificate](t)(x509.ParseCertificate(rootDER)), caKey.Public(), key))
	state := protocol.State{
		Policy: must[[]byte](t)(policy.Encode(must[*policy.Policy](t)(policy.Load(files...)))), Roster: must[[]byte](t)(policy.EncodeRoster(roster)),
		CAs: [][]byte{rootDER, der}, Labels: []string{"root", "issuing"},
	}
	genesis := must[[]byte](t)(cose.Marshal(protocol.Genesis{
		Version: protocol.Version, Name: "box", Created: time.Now().Unix(), Log: must[[]byte](t)(x509.MarshalPKIXPublicKey(log)), Receiver: must[[]byte](t)(x509.MarshalPKIXPublicKey(caKey.Public())), Seal: spki,
		Roster: state.Roster, Policy: state.Policy,
	}))
	file = filepath.Join(t.TempDir(), "introduction")
	if err := os.WriteFile(file, must[[]byte](t)(protocol.MakeIntroduction(genesis, nil, state, key)), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, protocol.DigestOf(genesis)
}

func run(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = cli.Run(rootCommand(), args, strings.NewReader(""), &out, &err)
	return code, out.String(), err.String()
}

func TestCommands(t *testing.T) {
	file, digest := introduction(t)
	state, stick := filepath.Join(t.TempDir(), "agent"), t.TempDir()
	wrong := digest
	wrong[0] ^= 1
	var id string
	for _, test := range []struct {
		args   []string
		code   int
		stdout string // what it begins with
		stderr string // what it holds
	}{
		{[]string{"status"}, 64, "", "missing: --state"},
		{[]string{"nothing"}, 64, "", "no command"},
		{[]string{"status", "--state", state}, 3, "", "run coldseal-agent init first"},
		{[]string{"init", "--state", state, "--appliance", file, "--digest", "12", "--name", "a", "--bodies", "it"}, 64, "", "digest"},
		{[]string{"init", "--state", state, "--appliance", file, "--digest", wrong.String(), "--name", "a", "--bodies", "it"}, 7, "", "typed"},
		{[]string{"init", "--state", state, "--appliance", file + "x", "--digest", digest.String(), "--name", "a", "--bodies", "it"}, 3, "", "no such file"},
		{[]string{"init", "--state", state, "--appliance", file, "--digest", digest.Groups(), "--name", "A", "--bodies", "it"}, 64, "", "cannot be an agent"},
		{[]string{"init", "--state", state, "--appliance", file, "--digest", digest.Groups(), "--name", "a", "--bodies", "it"}, 0, "", "to be enrolled"},
		{[]string{"init", "--state", state, "--appliance", file, "--digest", digest.String(), "--name", "a", "--bodies", "it"}, 0, "", ""},
		{[]string{"export", "--state", state, "--media", stick}, 3, "", "nothing to export"},
		{[]string{"import", "--state", state, "--media", stick}, 3, "", "no response"},
		{[]string{"import", "--state", state, "--media", stick + "x"}, 3, "", "gone"},
		{[]string{"request", "issue", "--state", state, "--profile", "it-workstation", "--body", "it/058091", "--subject", "058091-PC-0001", "--new-key", "P-256"}, 4, "", "number"},
		{[]string{"request", "issue", "--state", state, "--profile", "it-workstation", "--body", "it/058091", "--subject", "058091-PC-0001", "--field", "number=0001"}, 64, "", "csr"},
		{[]string{"request", "issue", "--state", state, "--profile", "it-workstation", "--body", "it/058091", "--subject", "058091-PC-0001", "--field", "number=0001", "--new-key", "P-224"}, 64, "", "no key type"},
		{[]string{"request", "issue", "--state", state, "--profile", "it-workstation", "--body", "it/058091", "--subject", "058091-PC-0001", "--field", "number=0001", "--new-key", "P-256", "--expires", "never"}, 64, "", "--expires"},
		{[]string{"request", "issue", "--state", state, "--profile", "it-workstation", "--body", "it/058091", "--subject", "058091-PC-0001", "--field", "number=0001", "--new-key", "P-256", "--out", filepath.Join(stick, "raw")}, 0, "ID", ""},
		{[]string{"export", "--state", state, "--media", stick}, 5, "", "wait for approvals"},
		{[]string{"list", "--state", state, "--in", "nowhere"}, 64, "", "nowhere"},
		{[]string{"list", "--state", state, "--in", "requested"}, 0, "ID16", ""},
		{[]string{"list", "--state", state, "--in", "on medium"}, 0, "", ""},
		{[]string{"show", "--state", state, "ID"}, 0, "", ""},
		{[]string{"show", "--state", state, "ffffffff"}, 3, "", "no request"},
		{[]string{"key", "--state", state, "ID", "--out", "-"}, 0, "-----BEGIN PRIVATE KEY", ""},
		{[]string{"attach", "--state", state, file}, 7, "", "not an approval"},
		{[]string{"request", "revoke", "--state", state, "--serial", "0102"}, 3, "", "not one of this agent's"},
		{[]string{"request", "revoke", "--state", state, "--serial", "xy"}, 64, "", "hexadecimal"},
		{[]string{"request", "revoke", "--state", state, "--serial", "01", "--reason", "boredom"}, 64, "", "boredom"},
		{[]string{"export", "--state", state, "--media", stick, "--incomplete"}, 0, "bundle 1: 1 requests", ""},
		{[]string{"export", "--state", state, "--media", stick, "--again", "1"}, 0, "bundle 1: 1 requests", ""},
		{[]string{"export", "--state", state, "--media", stick, "--again", "7"}, 3, "", "no bundle 7"},
		{[]string{"status", "--state", state}, 0, "agent      a", ""},
		{[]string{"doctor", "--state", state}, 0, "ok", ""},
		{[]string{"history", "--state", state}, 0, "     1  ", ""},
		{[]string{"chain", "--state", state, "--out", filepath.Join(stick, "chain")}, 0, "", "3 files"},
	} {
		args := make([]string, len(test.args))
		for i, a := range test.args {
			args[i] = a
			if a == "ID" {
				args[i] = id
			}
		}
		code, stdout, stderr := run(args...)
		if test.stdout == "ID" {
			id = strings.TrimSpace(stdout)
			if _, err := protocol.ParseDigest(id); err != nil {
				t.Fatalf("%v: %q is not an id", args, stdout)
			}
			test.stdout = ""
		}
		if test.stdout == "ID16" {
			test.stdout = id[:16]
		}
		if code != test.code || !strings.HasPrefix(stdout, test.stdout) || !strings.Contains(stderr, test.stderr) {
			t.Errorf("%v: exit %d, want %d\nstdout %q\nstderr %q, want %q", args, code, test.code, stdout, stderr, test.stderr)
		}
	}
	raw, err := os.ReadFile(filepath.Join(stick, "raw"))
	if err != nil || protocol.ID(raw).String() != id {
		t.Errorf("the request's bytes: %v", err)
	}
	for _, args := range [][]string{{"status"}, {"list"}, {"show", id}, {"doctor"}, {"history"}} {
		code, stdout, stderr := run(append(args, "--json", "--state", state)...)
		for line := range strings.Lines(stdout) {
			var object struct{ Schema int }
			if err := json.Unmarshal([]byte(line), &object); err != nil || object.Schema != 1 {
				t.Errorf("%v: %q: %v", args, line, err)
			}
		}
		if code != 0 || stdout == "" {
			t.Errorf("%v: exit %d, %q", args, code, stderr)
		}
	}
}
