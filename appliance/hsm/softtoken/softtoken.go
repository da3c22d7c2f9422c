// Package softtoken makes tokens of software, SoftHSM's and NSS's, for tests and measurements. No program that holds
// keys imports it.
package softtoken

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
)

// Where Debian has the libraries.
const (
	SoftHSMModule = "/usr/lib/softhsm/libsofthsm2.so"
	NSSModule     = "/usr/lib/x86_64-linux-gnu/libsoftokn3.so"
)

// PIN and SOPIN are those of all tokens made here.
const (
	PIN   = "4711-0815"
	SOPIN = "8765-4321"
)

// Token is a token of software: its locator, and what it is made of.
type Token struct {
	Module      string
	Label       string
	InitArgs    string
	Environment string
	Dir         string
}

// Locator names the token; more is what else the locator says, such as "&use=ca".
func (t Token) Locator(more string) string {
	l := "pkcs11:token=" + url.PathEscape(t.Label) + "?module-path=" + t.Module
	if t.Environment != "" {
		l += "&environment=" + url.QueryEscape(t.Environment)
	}
	if t.InitArgs != "" {
		l += "&init-args=" + url.PathEscape(t.InitArgs)
	}
	return l + more
}

// SoftHSM makes a token of SoftHSM in dir, beside those that are there.
func SoftHSM(dir, label string) (Token, error) {
	t, err := OpenSoftHSM(dir, label)
	if err != nil {
		return t, err
	}
	return t, t.run("softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", SOPIN)
}

// OpenSoftHSM gives a token that is in dir, which may have been copied there.
func OpenSoftHSM(dir, label string) (Token, error) {
	conf := filepath.Join(dir, "softhsm2.conf")
	tokens := filepath.Join(dir, "tokens")
	if err := os.MkdirAll(tokens, 0o700); err != nil {
		return Token{}, err
	}
	text := "directories.tokendir = " + tokens + "\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return Token{}, err
	}
	return Token{Module: SoftHSMModule, Label: label, Environment: "SOFTHSM2_CONF=" + conf, Dir: dir}, nil
}

// NSS makes a database of NSS in dir, whose softokn library is a token with the label that NSS always gives it.
func NSS(dir string) (Token, error) {
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte(PIN+"\n"), 0o600); err != nil {
		return Token{}, err
	}
	t := Token{
		Module: NSSModule, Label: "NSS Certificate DB", Dir: dir,
		InitArgs: "configDir='sql:" + dir + "' certPrefix='' keyPrefix='' secmod='secmod.db' flags=",
	}
	return t, t.run("certutil", "-N", "-d", "sql:"+dir, "-f", password)
}

// run runs one of the library's own tools on the token.
func (t Token) run(name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), t.Environment)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, said)
	}
	return nil
}

// Tool runs pkcs11-tool on the token, logged in.
func (t Token) Tool(args ...string) (string, error) {
	cmd := exec.Command("pkcs11-tool", append([]string{"--module", t.Module, "--token-label", t.Label, "--login", "--pin", PIN}, args...)...)
	cmd.Env = append(os.Environ(), t.Environment)
	said, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("pkcs11-tool: %w: %s", err, said)
	}
	return string(said), nil
}
