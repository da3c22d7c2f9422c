package coldseal

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScript plays the journeys in testdata/script with the real programs: each is a short story of what people do and
// see. They all begin where testdata/begin.txt ends, with an appliance, its officers, an agent and two approvers.
func TestScript(t *testing.T) {
	bin, begun := build(t), filepath.Join(t.TempDir(), "begun")
	tree, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	outset := func(env *testscript.Env) {
		env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
		env.Setenv("CSR", filepath.Join(tree, "testdata/csr"))
		env.Setenv("LIBRARY", filepath.Join(tree, "protocol/policy/library"))
	}
	params := testscript.Params{Cmds: commands(), Condition: condition}

	first := params
	first.Files = []string{"testdata/begin.txt"}
	first.Setup = func(env *testscript.Env) error {
		outset(env)
		env.Defer(func() {
			if err := copyTree(env.WorkDir, begun); err != nil {
				t.Error(err)
			}
		})
		return nil
	}
	testscript.RunT(at(t), first)
	if t.Failed() {
		return
	}
	digest, err := os.ReadFile(filepath.Join(begun, "digest"))
	if err != nil {
		t.Fatal(err)
	}

	params.Dir = "testdata/script"
	params.Setup = func(env *testscript.Env) error {
		outset(env)
		typed := strings.TrimSpace(string(digest))
		env.Setenv("DIGEST", typed)
		env.Setenv("FOLDER", "coldseal/"+typed[:8])
		env.Setenv("STICK", "stick/coldseal/"+typed[:8])
		env.Values[cardsKey{}] = new(*cards)
		return copyTree(begun, env.WorkDir)
	}
	testscript.Run(t, params)
}

// build builds all programs as the Makefile does: static, but for those that load libraries of devices.
func build(t *testing.T) (bin string) {
	t.Helper()
	bin = filepath.Join(t.TempDir(), "bin")
	devices := []string{"coldseal-signer", "coldseal-station"}
	for _, programs := range []struct {
		cgo  string
		what []string
	}{{"CGO_ENABLED=0", []string{"./cmd/..."}}, {"CGO_ENABLED=1", []string{"./cmd/" + devices[0], "./cmd/" + devices[1]}}} {
		build := exec.Command("go", append([]string{"build", "-o", bin + "/" + programs.cgo + "/"}, programs.what...)...)
		build.Env = append(os.Environ(), programs.cgo)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
	}
	for _, name := range devices {
		if err := os.Rename(bin+"/CGO_ENABLED=1/"+name, bin+"/CGO_ENABLED=0/"+name); err != nil {
			t.Fatal(err)
		}
	}
	return bin + "/CGO_ENABLED=0"
}

// copyTree copies files as they are, with the holes that databases have.
func copyTree(from, to string) error {
	if out, err := exec.Command("cp", "-a", from+"/.", to).CombinedOutput(); err != nil {
		return fmt.Errorf("copy %s to %s: %w: %s", from, to, err, out)
	}
	return nil
}

func condition(name string) (bool, error) {
	if name == "root" {
		return os.Getuid() == 0, nil
	}
	return false, fmt.Errorf("unknown condition %q", name)
}

// here runs a script within the test that asks for it, so that choosing scripts by -run does not leave it out.
type here struct{ *testing.T }

func at(t *testing.T) testscript.T { return here{t} }

func (h here) Run(_ string, f func(testscript.T)) { f(h) }

func (h here) Parallel() {}

func (h here) Verbose() bool { return testing.Verbose() }
