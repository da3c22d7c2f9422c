package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain lets the test binary be the command.
func TestMain(m *testing.M) {
	if os.Getenv("APPLIANCE") == "run" {
		main()
	}
	os.Exit(m.Run())
}

// TestGenesisAsksTwice has somebody mistype what is chosen at genesis: the passphrase of the key store, and the PIN of a TPM.
// Nobody could open the appliance a second time.
func TestGenesisAsksTwice(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, program := range []string{"coldseal-signer", "coldseal-lint"} {
		write(program, []byte("#!/bin/false\n"))
	}
	args := []string{"genesis", "--state", filepath.Join(dir, "state"), "--libexec", dir, "--name", "vault", "--policy", "library:all",
		"--policy", write("main.yaml", []byte("policy: test\nclock_ahead: 100 days\n"))}
	for i := range 3 {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		spki, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		file := write(fmt.Sprintf("%d.pub", i), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))
		args = append(args, "--officer", fmt.Sprintf("it:OFFICER%d=%s", i, file))
	}
	tpm := append(args, "--secret-file", write("secret", nil), "--keys", "tpm:device=/dev/tpmrm0")
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"passphrase": {args, "the two passphrases are not the same"},
		"PIN":        {tpm, "the two pins are not the same"},
	} {
		if code, said := atTerminal(t, c.args, false, "one\n", "another\n"); code != 6 || !strings.Contains(said, c.want) {
			t.Errorf("%s: exit %d, %s", name, code, said)
		}
	}
}

// atTerminal runs the command at a terminal of its own, where somebody types a line whenever one is asked for, and unless lines are
// shown, waits until what is typed is seen no more.
func atTerminal(t *testing.T, args []string, shown bool, lines ...string) (code int, said string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err := errors.Join(err, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(os.Args[0], args...)
	c.Env = append(os.Environ(), "APPLIANCE=run")
	c.Stdin, c.Stdout, c.Stderr = slave, slave, slave
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := errors.Join(c.Start(), slave.Close()); err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	buffer := make([]byte, 4096)
	for {
		n, err := master.Read(buffer)
		all.Write(buffer[:n])
		if err != nil {
			break // the terminal is gone, and with it the command
		}
		if !strings.HasSuffix(all.String(), ": ") || len(lines) == 0 {
			continue
		}
		for !shown {
			state, err := unix.IoctlGetTermios(int(master.Fd()), unix.TCGETS)
			if err != nil {
				t.Fatal(err)
			}
			if state.Lflag&unix.ECHO == 0 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if _, err := master.WriteString(lines[0]); err != nil {
			t.Fatal(err)
		}
		lines = lines[1:]
	}
	err = c.Wait()
	if exit, is := errors.AsType[*exec.ExitError](err); is {
		return exit.ExitCode(), all.String()
	}
	if err != nil {
		t.Fatal(err)
	}
	return 0, all.String()
}
