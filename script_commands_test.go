package coldseal

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// verb is a command of the scripts that can fail as a program does: with an exit code.
type verb func(ts *testscript.TestScript, args []string) error

// verbs are programs with the flags that all scripts give alike, and the handles people turn in a row.
func verbs() map[string]verb {
	return map[string]verb{
		"coldseal": func(ts *testscript.TestScript, args []string) error { return ts.Exec("coldseal", args...) },
		"station":  func(ts *testscript.TestScript, args []string) error { return ts.Exec("coldseal-station", args...) },
		"appliance": func(ts *testscript.TestScript, args []string) error {
			args = append(args, strings.Fields(ts.Getenv("DEVICES"))...) // where there are any (script_device_test.go)
			return ts.Exec("coldseal-appliance", append(args, missing(args, "--state", "appliance", "--secret-file", "secret")...)...)
		},
		"agent": func(ts *testscript.TestScript, args []string) error {
			return ts.Exec("coldseal-agent", append(args, missing(args, "--state", "agent")...)...)
		},
		"order":       order,
		"approve":     approve,
		"carry":       carry,
		"workstation": workstation,
		"batch":       batch,
	}
}

// missing is the flags, in pairs of name and value, unless the first of them is given already.
func missing(args []string, flags ...string) []string {
	for _, a := range args {
		if a == flags[0] {
			return nil
		}
	}
	return flags
}

// order NAME ARGS… takes an order from nothing to done: coldseal order ARGS, carried out at the console by two officers.
func order(ts *testscript.TestScript, args []string) error {
	file := args[0] + ".order"
	return steps(ts,
		[]string{"appliance", "export", "introduction", "--out", "introduction"},
		append([]string{"coldseal", "order"}, append(args[1:], "--introduction", "introduction", "--digest", ts.Getenv("DIGEST"), "--out", file)...),
		[]string{"appliance", "console", "order", "--request", file, "--officer", "officers/1.key", "--officer", "officers/2.key", "--yes"},
	)
}

// approve KEY STATEMENTS ID… is one person approving: the requests' bytes, looked at, signed, and the approvals attached.
// STATEMENTS may be "-".
func approve(ts *testscript.TestScript, args []string) error {
	dir, err := os.MkdirTemp(ts.MkAbs("."), "approve-")
	if err != nil {
		return err
	}
	for _, id := range args[2:] {
		if err := steps(ts, []string{"agent", "show", id, "--raw", "--out", dir + "/" + id + ".request"}); err != nil {
			return err
		}
	}
	command := []string{"coldseal", "approve", "--key", args[0], "--introduction", "introduction", "--digest", ts.Getenv("DIGEST"),
		"--dir", dir, "--yes", "--out", dir + "/by/"}
	if args[1] != "-" {
		command = append(command, "--statement", args[1])
	}
	if err := steps(ts, command); err != nil {
		return err
	}
	files, err := filepath.Glob(dir + "/by/*")
	if err != nil {
		return err
	}
	return steps(ts, append([]string{"agent", "attach"}, files...))
}

// workstation NUMBER… asks for a certificate of a workstation of it/058091, approved by the administrator; its id is then
// in $PC<number>.
func workstation(ts *testscript.TestScript, args []string) error {
	for _, number := range args {
		err := steps(ts, []string{"agent", "request", "issue", "--profile", "it-workstation", "--body", "it/058091", "--subject", "058091-PC-" + number,
			"--field", "number=" + number, "--new-key", "P-256"})
		if err != nil {
			return err
		}
		id := strings.TrimSpace(ts.ReadFile("stdout"))
		ts.Setenv("PC"+number, id)
		if err := approve(ts, []string{"approvers/administrator.key", "-", id}); err != nil {
			return err
		}
	}
	return nil
}

// carry ARGS… carries the stick to the appliance and back: export ARGS, process, import.
func carry(ts *testscript.TestScript, args []string) error {
	return steps(ts,
		append([]string{"agent", "export", "--media", "stick"}, args...),
		[]string{"appliance", "process", "--media", "stick"},
		[]string{"agent", "import", "--media", "stick"},
	)
}

func steps(ts *testscript.TestScript, lines ...[]string) error {
	for _, line := range lines {
		ts.Logf("  $ %s", strings.Join(line, " "))
		if err := verbs()[line[0]](ts, line[1:]); err != nil {
			return err
		}
	}
	return nil
}

// commands are the verbs and what only looks.
func commands() map[string]func(*testscript.TestScript, bool, []string) {
	all := map[string]func(*testscript.TestScript, bool, []string){
		"exits": exits, "let": let, "json": jsonHas, "flip": flip, "await": await, "strike": strike, "same": same, "umount": umount, "record": record, "undo": undo, "pestered": pestered, "card": card,
	}
	for name, do := range verbs() {
		all[name] = func(ts *testscript.TestScript, neg bool, args []string) {
			if neg {
				ts.Fatalf("say with exits which code is wanted")
			}
			want(ts, 0, do(ts, args))
		}
	}
	return all
}

// exits CODE VERB ARGS…: the command ends with this exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	code, err := strconv.Atoi(args[0])
	if err != nil || neg || verbs()[args[1]] == nil {
		ts.Fatalf("usage: exits CODE VERB ARGS…")
	}
	want(ts, code, verbs()[args[1]](ts, args[2:]))
}

func want(ts *testscript.TestScript, code int, err error) {
	var exit *exec.ExitError
	switch got := 0; {
	case errors.As(err, &exit):
		got = exit.ExitCode()
		fallthrough
	case err == nil:
		if got != code {
			ts.Fatalf("exit code %d, want %d", got, code)
		}
	default:
		ts.Fatalf("%v", err)
	}
}

// found gives the values at a path, such as refusal.code, in the lines of JSON on stdout.
func found(ts *testscript.TestScript, path string) (values []string) {
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		d := json.NewDecoder(strings.NewReader(line))
		d.UseNumber()
		var at any
		if err := d.Decode(&at); err != nil {
			ts.Fatalf("stdout is not JSON: %v", err)
		}
		for _, name := range strings.Split(path, ".") {
			if list, isList := at.([]any); isList {
				if i, err := strconv.Atoi(name); err == nil && i < len(list) {
					at = list[i]
					continue
				}
			}
			object, _ := at.(map[string]any)
			at = object[name]
		}
		if at != nil {
			values = append(values, fmt.Sprint(at))
		}
	}
	return values
}

// let NAME [PATH] keeps the first line of stdout, or what its JSON says at a path, as $NAME.
func let(ts *testscript.TestScript, _ bool, args []string) {
	value, _, _ := strings.Cut(strings.TrimSpace(ts.ReadFile("stdout")), "\n")
	if len(args) > 1 {
		values := found(ts, args[1])
		if len(values) == 0 {
			ts.Fatalf("nothing at %s", args[1])
		}
		value = values[0]
	}
	ts.Setenv(args[0], value)
}

// json PATH VALUE…: the lines of JSON on stdout that have something at the path have these values there, in this order.
func jsonHas(ts *testscript.TestScript, neg bool, args []string) {
	if got := found(ts, args[0]); strings.Join(got, " ") == strings.Join(args[1:], " ") == neg {
		ts.Fatalf("%s is %q", args[0], got)
	}
}

// same FILE FILE: the two files, of any bytes, hold the same.
func same(ts *testscript.TestScript, neg bool, args []string) {
	if (ts.ReadFile(args[0]) == ts.ReadFile(args[1])) == neg {
		ts.Fatalf("%s and %s: same is %v", args[0], args[1], neg)
	}
}

// flip FILE [OFFSET] turns one bit of a file around, in its middle or at an offset.
func flip(ts *testscript.TestScript, _ bool, args []string) {
	data := []byte(ts.ReadFile(args[0]))
	offset := len(data) / 2
	if len(args) > 1 {
		var err error
		offset, err = strconv.Atoi(args[1])
		ts.Check(err)
	}
	data[offset] ^= 1
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o600))
}

// batch N asks for certificates of workstations 0001 to N, whose keys and CSRs are made here, approved by the administrator
// in as many approvals as it takes.
func batch(ts *testscript.TestScript, args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	dir := ts.MkAbs("machines")
	if err := csrs(dir, n); err != nil {
		return err
	}
	err = steps(ts,
		[]string{"agent", "request", "batch", "--profile", "it-workstation", "--dir", dir, "--csv", dir + "/table.csv", "--origin", "holder"},
		[]string{"agent", "pending", "--out", "pending"},
		[]string{"coldseal", "approve", "--key", "approvers/administrator.key", "--statement", "fingerprint", "--introduction", "introduction",
			"--digest", ts.Getenv("DIGEST"), "--dir", "pending", "--yes", "--out", "approvals/"},
	)
	if err != nil {
		return err
	}
	files, err := filepath.Glob(ts.MkAbs("approvals/*"))
	if err != nil {
		return err
	}
	return steps(ts, append([]string{"agent", "attach"}, files...))
}

func csrs(dir string, n int) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	var table bytes.Buffer
	table.WriteString("csr,body,subject,number\n")
	for i := 1; i <= n; i++ {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			return err
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
		if err := os.WriteFile(fmt.Sprintf("%s/%04d.csr", dir, i), text, 0o644); err != nil {
			return err
		}
		fmt.Fprintf(&table, "%04d.csr,it/058091,058091-PC-%04d,%04d\n", i, i, i)
	}
	return os.WriteFile(dir+"/table.csv", table.Bytes(), 0o644)
}
