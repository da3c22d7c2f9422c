package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A patch is red, or the run says what is wrong with it.
func TestVerdicts(t *testing.T) {
	t.Chdir(t.TempDir())
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module house\n\ngo 1.26\n")
	write("door.go", "package house\n\nfunc Shut(locked bool) bool {\n\treturn locked\n}\n")
	write("door_test.go", `package house

import "testing"

func TestShut(t *testing.T) {
	t.Run("a lock", func(t *testing.T) {
		if !Shut(true) {
			t.Error("open")
		}
	})
}

func TestOpen(t *testing.T) {
	if Shut(false) {
		t.Error("shut")
	}
}

func TestRed(t *testing.T) { t.Error("always") }
`)
	for _, words := range [][]string{{"init", "-q"}, {"add", "."}} {
		if out, err := exec.Command("git", words...).CombinedOutput(); err != nil {
			t.Fatalf("git: %v\n%s", err, out)
		}
	}
	diff := func(from, to string) string {
		return "--- a/door.go\n+++ b/door.go\n@@ -2,4 +2,4 @@\n \n func Shut(locked bool) bool {\n-\treturn " + from + "\n+\treturn " + to + "\n }\n"
	}
	for name, test := range map[string]struct{ test, diff, want string }{
		"found":      {"TestShut/a lock", diff("locked", "false"), "red"},
		"not found":  {"TestOpen", diff("locked", "false"), "SURVIVED"},
		"moved away": {"TestShut", diff("closed", "false"), "UNAPPLIED"},
		"no program": {"TestShut", diff("locked", "maybe"), "UNBUILT"},
		"no failure": {"TestShut", diff("locked", "locked && func() bool { panic(1) }()"), "red"},
		"red before": {"TestRed", diff("locked", "false"), "is red while nothing is broken"},
		"no test":    {"TestShut/a bolt", diff("locked", "false"), "has no test TestShut/a bolt"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "door.patch")
			write(file, "why: the door\ntest: . "+test.test+"\n\n"+test.diff)
			patches, err := load(dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			got := "nothing"
			bad, err := try(t.TempDir(), 2, patches, func(r result) { got = r.verdict })
			if err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, test.want) || bad == 1 != (test.want == strings.ToUpper(test.want)) {
				t.Errorf("%d not found: %s, want %s", bad, got, test.want)
			}
		})
	}
	t.Run("no header", func(t *testing.T) {
		dir := t.TempDir()
		write(filepath.Join(dir, "door.patch"), diff("locked", "false"))
		if _, err := load(dir, nil); err == nil {
			t.Error("it was read")
		}
	})
}

// All patches apply to the tree as it is, and name tests that are there. Whether these turn red is for make sabotage.
func TestPatches(t *testing.T) {
	t.Chdir("..")
	patches, err := load("sabotage", nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(patches) < 25 {
		t.Errorf("%d patches", len(patches))
	}
	for _, p := range patches {
		if out, err := exec.Command("git", "apply", "--check", p.file).CombinedOutput(); err != nil {
			t.Errorf("%s does not apply: %v\n%s", p.name, err, out)
		}
		files, err := filepath.Glob(filepath.Join(p.pkg, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			found = found || strings.Contains(string(text), "\nfunc "+p.top()+"(t *testing.T) {")
		}
		if !found {
			t.Errorf("%s: %s has no test %s", p.name, p.pkg, p.top())
		}
	}
}
