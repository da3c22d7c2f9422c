package pathcheck

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func openssl(t *testing.T, dir string, args ...string) (string, bool) {
	t.Helper()
	c := exec.Command("openssl", args...)
	c.Dir = dir
	out, err := c.CombinedOutput()
	if exit := new(exec.ExitError); err != nil && !asExit(err, &exit) {
		t.Fatalf("openssl is needed as a judge: %v", err)
	}
	return string(out), err == nil
}

func asExit(err error, exit **exec.ExitError) bool {
	e, ok := err.(*exec.ExitError)
	*exit = e
	return ok
}

func writePEM(t *testing.T, path, kind string, ders ...[]byte) {
	t.Helper()
	var b bytes.Buffer
	for _, der := range ders {
		if err := pem.Encode(&b, &pem.Block{Type: kind, Bytes: der}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// opensslVerify lets openssl decide, as strictly as it can.
func opensslVerify(t *testing.T, in Input) (string, bool) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	writePEM(t, file("leaf"), "CERTIFICATE", in.Leaf)
	writePEM(t, file("anchors"), "CERTIFICATE", in.Anchors...)
	args := []string{"verify", "-x509_strict", "-no-CApath", "-no-CAstore", "-CAfile", "anchors", "-attime", fmt.Sprint(in.Time)}
	if len(in.Intermediates) > 0 {
		writePEM(t, file("untrusted"), "CERTIFICATE", in.Intermediates...)
		args = append(args, "-untrusted", "untrusted")
	}
	if len(in.CRLs) > 0 {
		writePEM(t, file("crls"), "X509 CRL", in.CRLs...)
		args = append(args, "-crl_check_all", "-extended_crl", "-CRLfile", "crls")
	}
	if in.Purpose != "" {
		args = append(args, "-purpose", "sslserver")
	}
	return openssl(t, dir, append(args, "leaf")...)
}

// TestOpenSSL compares every case with openssl. Where the two differ the case says why, and no case says it in vain.
func TestOpenSSL(t *testing.T) {
	for _, c := range slices.Concat(cases, crlCases) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c.change(t, w)
			in := w.input()
			words, accepts := opensslVerify(t, in)
			if agree := accepts == Chain(in).Accept; agree != (c.why == "") {
				t.Errorf("openssl accepts: %v, reason for a difference: %q\n%s", accepts, c.why, strings.TrimSpace(words))
			}
		})
	}
}
