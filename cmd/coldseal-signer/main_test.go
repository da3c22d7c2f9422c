package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain lets the test binary be the command.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "run" {
		os.Args = append(os.Args[:1], os.Args[2:]...)
		main()
		return
	}
	os.Exit(m.Run())
}

func TestCommandLine(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	secret := []string{"--dir", dir, "--secret-file", "/nonexistent"}
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"nothing":       {nil, "--dir is missing"},
		"no secret":     {[]string{"--dir", dir}, "one of --secret-file and --passphrase-fd"},
		"two secrets":   {append(secret, "--passphrase-fd", "4"), "one of --secret-file and --passphrase-fd"},
		"same fd":       {[]string{"--dir", dir, "--passphrase-fd", "3"}, "both 3"},
		"locator":       {append(secret, "--keys", "hsm:"), "begins with none of piv:, pkcs11:, softkey:, tpm:"},
		"PIN in argv":   {append(secret, "--keys", "pkcs11:token=t?module-path=/m&pin-value=4711"), "holds no PIN"},
		"twice":         {append(secret, "--keys", "softkey:", "--keys", "softkey:"), "softkey: is there twice"},
		"PIN of nobody": {append(secret, "--pin-fd", "5"), "behind the --keys"},
		"two PINs":      {append(secret, "--keys", "piv:serial=1", "--pin-fd", "5", "--pin-fd", "6"), "behind the --keys"},
		"one PIN twice": {append(secret, "--keys", "piv:serial=1", "--pin-fd", "5", "--keys", "piv:serial=2", "--pin-fd", "5"), "both 5"},
		"PIN from fd":   {append(secret, "--keys", "piv:serial=1", "--pin-fd", "3"), "both 3"},
		"card and keys": {append(secret, "--card", "piv:serial=1", "--pin-fd", "5"), "alone"},
		"two cards":     {[]string{"--card", "piv:serial=1", "--pin-fd", "5", "--card", "piv:serial=2", "--pin-fd", "6"}, "alone"},
		"no PIV card":   {[]string{"--card", "tpm:device=/dev/tpm0", "--pin-fd", "5"}, "is a PIV card"},
		"card, no PIN":  {[]string{"--card", "piv:serial=1"}, "has its PIN"},
		"key of keys":   {append(secret, "--keys", "piv:serial=1", "--pin-fd", "5", "--management-key-fd", "6"), "belongs to --card"},
		"key from PIN":  {[]string{"--card", "piv:serial=1", "--pin-fd", "5", "--management-key-fd", "5"}, "both 5"},
		"argument":      {append(secret, "passphrase"), "unexpected argument"},
		"unknown flag":  {append(secret, "--passphrase", "x"), "not defined"},
		"no socket":     {secret, "hint: this program is not run by hand"},
		"no descriptor": {append(secret, "--fd", "99"), "descriptor 99 is not the appliance's socket"},
		"a terminal":    {append(secret, "--fd", "0"), "descriptor 0 is not the appliance's socket"},
	} {
		t.Run(name, func(t *testing.T) {
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(self, append([]string{"run"}, c.args...)...).CombinedOutput()
			exit, ok := errors.AsType[*exec.ExitError](err)
			if strings.Contains(string(out), "4711") {
				t.Errorf("it says the PIN: %s", out)
			}
			if !ok || exit.ExitCode() != exitUsage || !strings.Contains(string(out), c.want) {
				t.Errorf("%v: %s", err, out)
			}
			if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a keystore was begun: %v", err)
			}
		})
	}
}
