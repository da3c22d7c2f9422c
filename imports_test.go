// Package coldseal holds the tests of the whole: the journeys of testdata/script, played with the real programs, and who
// may import whom. A line of code has one place in this house (DESIGN section 4); imports_test.go keeps it there.
package coldseal

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"strings"
	"testing"
)

const module = "coldseal/"

// listed is what go list says of one package.
type listed struct {
	ImportPath string
	Imports    []string
	Deps       []string
	CgoFiles   []string
	GoFiles    []string
	Standard   bool
}

func list(t *testing.T, args ...string) []listed {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports,Deps,CgoFiles,GoFiles,Standard"}, args...)...).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// under tells whether a package is dir or below it, within our module.
func under(importPath, dir string) bool {
	return importPath == module+dir || strings.HasPrefix(importPath, module+dir+"/")
}

// onlyIn are packages that may be imported directly from the named places and from nowhere else.
var onlyIn = []struct {
	pkg    string
	places []string
	why    string
}{
	{"github.com/fxamacker/cbor/v2", []string{"protocol/cose"}, "one encoding of every message is accepted in one place"},
	{"go.etcd.io/bbolt", []string{"appliance/store", "agent/store"}, "what mentions a database is that side's store"},
	{"github.com/zmap/zlint/v3", []string{"cmd/coldseal-lint", "bench"}, "it links net/http; linting is a process of its own"},
	{"coldseal/appliance/softkey", []string{"cmd/coldseal-signer"}, "keys are in the signer process and nowhere else"},
	{"coldseal/appliance/hsm", []string{"cmd/coldseal-signer", "bench"}, "keys are in the signer process; bench uses its tokens of software"},
	{"coldseal/appliance/tpm", []string{"cmd/coldseal-signer", "bench"}, "keys are in the signer process; bench uses its TPMs of software"},
	{"github.com/miekg/pkcs11", []string{"appliance/hsm", "agent/station"}, "one way to a token on each side"},
	{"github.com/go-piv/piv-go/v2", []string{"appliance/piv", "agent/station"}, "one way to a card on each side"},
	{"github.com/google/go-tpm", []string{"appliance/tpm"}, "one way to a TPM"},
	{"github.com/go-piv/piv-go", []string{"appliance/piv", "agent/station"}, "what names a card is that side's door"},
	{"filippo.io/age", []string{"protocol/media", "protocol/keyfile"}, "encryption for the gap, and of key files"},
}

func TestWhoImportsWhom(t *testing.T) {
	for _, p := range list(t, "./...") {
		for _, imported := range p.Imports {
			check(t, p.ImportPath, imported)
		}
	}
}

func check(t *testing.T, p, imported string) {
	t.Helper()
	bad := func(why string) { t.Errorf("%s imports %s: %s", p, imported, why) }
	for _, rule := range onlyIn {
		if imported != rule.pkg && !strings.HasPrefix(imported, rule.pkg+"/") {
			continue
		}
		allowed := strings.HasPrefix(p, rule.pkg)
		for _, place := range rule.places {
			allowed = allowed || under(p, place)
		}
		if !allowed {
			bad(rule.why)
		}
	}
	if !strings.HasPrefix(imported, module) {
		pure(t, p, imported)
		return
	}
	parent, _ := strings.CutPrefix(path.Dir(p), module)
	switch {
	case under(p, "appliance") && under(imported, "agent"), under(p, "agent") && under(imported, "appliance"):
		bad("the two sides meet in protocol, and in scripts")
	case under(p, "protocol") && !under(imported, "protocol"):
		bad("protocol is what both sides stand on")
	case p == module+"protocol" && imported != module+"protocol/cose":
		bad("the messages need their encoding and nothing else of ours")
	case p == module+"protocol/cose":
		bad("the encoding knows no message")
	case !under(p, "cmd") && under(imported, "cmd"):
		bad("commands are where choices are made, not libraries")
	case imported == module+parent && !under(p, "protocol") && !under(p, "cmd"):
		bad("a child never imports its parent")
	}
}

// cores have no clock, disk, network or process of their own; what they need is passed in.
var cores = []string{"protocol", "protocol/cose", "protocol/policy", "protocol/auditlog", "protocol/csr", "protocol/x690", "protocol/pathcheck", "protocol/show", "protocol/keyfile", "protocol/shamir", "appliance/issue"}

func pure(t *testing.T, p, imported string) {
	t.Helper()
	for _, core := range cores {
		if p != module+core {
			continue
		}
		switch imported {
		case "os", "os/exec", "net", "net/http", "syscall", "log", "math/rand", "math/rand/v2", "database/sql":
			t.Errorf("%s imports %s: a core is pure", p, imported)
		}
	}
}

// TestWhatTheProgramsLink holds the processes of the appliance to law 13.
func TestWhatTheProgramsLink(t *testing.T) {
	for _, rule := range []struct {
		program string
		never   []string
		why     string
	}{
		{"coldseal-appliance", []string{"net/http", "crypto/tls"}, "the appliance has no network"},
		{"coldseal-appliance", []string{"coldseal/appliance/softkey", "coldseal/appliance/hsm", "coldseal/appliance/tpm", "coldseal/agent"}, "who parses a medium holds no key, and the sides are apart"},
		{"coldseal-signer", []string{"net/http", "crypto/tls", "coldseal/protocol/media", "coldseal/protocol/policy", "coldseal/appliance/hsm/softtoken", "coldseal/appliance/tpm/swtpm"}, "who holds keys parses no medium"},
		{"coldseal-agent", []string{"coldseal/appliance"}, "the sides are apart"},
	} {
		for _, p := range list(t, "./cmd/"+rule.program) {
			for _, dep := range p.Deps {
				for _, never := range rule.never {
					if dep == never || strings.HasPrefix(dep, never+"/") && strings.HasPrefix(never, module) {
						t.Errorf("%s links %s: %s", rule.program, dep, rule.why)
					}
				}
			}
		}
	}
}

// TestNoCgo keeps the programs static: keys in devices, which need cgo, come in packages of their own.
func TestNoCgo(t *testing.T) {
	for _, p := range list(t, "./...") {
		if len(p.CgoFiles) != 0 && !under(p.ImportPath, "appliance/hsm") && !under(p.ImportPath, "appliance/piv") && !under(p.ImportPath, "agent/station") {
			t.Errorf("%s uses cgo", p.ImportPath)
		}
	}
}

// TestNoDrawers keeps the house free of packages that can hold anything.
func TestNoDrawers(t *testing.T) {
	for _, p := range list(t, "./...") {
		switch path.Base(p.ImportPath) {
		case "util", "utils", "common", "types", "pkg", "helpers", "misc":
			t.Errorf("%s: name a package for what is in it", p.ImportPath)
		}
	}
}
