package coldseal

import (
	"bytes"
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"coldseal/appliance/hsm/softtoken"
	"coldseal/appliance/tpm/swtpm"
)

// TestDevices plays testdata/begin.txt and the journeys of testdata/device with keys in devices: real libraries, real
// daemons, all programs as they are shipped.
func TestDevices(t *testing.T) {
	programs := build(t)
	for _, device := range []struct {
		name    string
		scripts []string
		make    func(t *testing.T) box
	}{
		{"SoftHSM", []string{"journey", "softhsm", "rotate", "restore"}, boxSoftHSM},
		{"NSS", []string{"journey"}, boxNSS},
		{"TPM", []string{"journey", "tpm"}, boxTPM},
		{"SoftHSM and TPM", []string{"journey", "both", "restore", "restored"}, boxBoth},
		{"SoftHSM and a TPM that is lost", []string{"counterlost"}, boxBoth},
		{"PIV", []string{"journey", "piv"}, boxPIV},
	} {
		t.Run(device.name, func(t *testing.T) {
			t.Parallel()
			b := device.make(t)
			begun := play(t, programs, b, "testdata/begin.txt", "")
			for _, script := range device.scripts {
				begun = play(t, programs, b, "testdata/device/"+script+".txt", begun)
			}
		})
	}
}

// TestKeyTable holds the table of docs/devices.md against what the devices above take.
func TestKeyTable(t *testing.T) {
	page, err := os.ReadFile("docs/devices.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(page), "\n| | ")
	if !found {
		t.Fatal("there is no table")
	}
	columns := strings.Split(table[:strings.Index(table, "\n")], " | ")
	for row, takes := range map[string][]string{"PKCS#11": {takesSoftHSM, takesNSS}, "TPM": {takesTPM}, "PIV": {takesPIV}} {
		_, line, found := strings.Cut(table, "\n| "+row+" | ")
		if !found {
			t.Errorf("there is no row %s", row)
			continue
		}
		for i, cell := range strings.Split(line[:strings.Index(line, "\n")], " | ")[:5] {
			for _, takes := range takes {
				for kind := range strings.SplitSeq(columns[i], ", ") {
					key := "ca " + kind
					if kind == "receiver" {
						key = "receiver P-256"
					}
					if there := strings.Contains(takes+",", key+","); there && cell == "no" || !there && cell == "yes" {
						t.Errorf("%s, %s: the page says %s", row, key, cell)
					}
				}
			}
		}
	}
}

// What the devices take, as doctor says it.
const (
	takesSoftHSM = "ca P-256, ca P-384, ca RSA-3072, ca RSA-4096, ca Ed25519, seal P-256, seal P-384, seal Ed25519, log Ed25519, receiver P-256"
	takesNSS     = "ca P-256, ca P-384, ca RSA-3072, ca RSA-4096, seal P-256, seal P-384, receiver P-256"
	takesTPM     = "ca P-256, ca P-384, seal P-256, seal P-384, receiver P-256"
	takesPIV     = takesTPM // with the firmware 5.4 of our cards
)

// box is a device, how the scripts name it, and what they can do to it.
type box struct {
	locator, log string
	takes        string
	more         string // other devices
	pin          string // where it is not that of all tokens
	commands     map[string]func(*testscript.TestScript, bool, []string)
}

// play plays a script from where another ended, and gives where it ends.
func play(t *testing.T, programs string, b box, script, begun string) string {
	t.Helper()
	end := t.TempDir()
	params := testscript.Params{Cmds: commands(), Condition: condition, Files: []string{script}}
	for name, do := range b.commands {
		params.Cmds[name] = do
	}
	params.Cmds["trouble"] = replaced
	params.Setup = func(env *testscript.Env) error {
		if begun != "" {
			if err := copyTree(begun, env.WorkDir); err != nil {
				return err
			}
			digest, err := os.ReadFile(filepath.Join(begun, "digest"))
			if err != nil {
				return err
			}
			typed := strings.TrimSpace(string(digest))
			env.Setenv("DIGEST", typed)
			env.Setenv("STICK", "stick/coldseal/"+typed[:8])
		}
		if err := os.WriteFile(filepath.Join(env.WorkDir, "pin"), []byte(cmp.Or(b.pin, softtoken.PIN)+"\n"), 0o600); err != nil {
			return err
		}
		env.Setenv("PATH", programs+string(os.PathListSeparator)+env.Getenv("PATH"))
		env.Setenv("DEVICE", b.locator)
		env.Setenv("TAKES", b.takes)
		env.Setenv("LOGDEVICE", b.log)
		env.Setenv("DEVICES", "--keys "+b.locator+" --pin-file pin"+b.more)
		env.Defer(func() {
			if err := copyTree(env.WorkDir, end); err != nil {
				t.Error(err)
			}
		})
		return nil
	}
	testscript.RunT(at(t), params)
	if t.Failed() {
		t.FailNow()
	}
	return end
}

// replaced sets $DEVICES to the first argument, with the second replaced by the third.
func replaced(ts *testscript.TestScript, _ bool, args []string) {
	if !strings.Contains(args[0], args[1]) {
		ts.Fatalf("%q is not in %q", args[1], args[0])
	}
	ts.Setenv("DEVICES", strings.Replace(args[0], args[1], args[2], 1))
}

func boxSoftHSM(t *testing.T) box {
	token, err := softtoken.SoftHSM(t.TempDir(), "coldseal test")
	if err != nil {
		t.Fatal(err)
	}
	tokens, away := filepath.Join(token.Dir, "tokens"), filepath.Join(token.Dir, "away")
	return box{
		locator: token.Locator(""), log: token.Locator(""), takes: takesSoftHSM,
		commands: map[string]func(*testscript.TestScript, bool, []string){
			"token": func(ts *testscript.TestScript, _ bool, args []string) {
				_, err := token.Tool(args...)
				ts.Check(err)
			},
			"swap": func(ts *testscript.TestScript, _ bool, args []string) {
				if len(args) > 0 {
					ts.Check(errors.Join(os.RemoveAll(tokens), os.Rename(away, tokens)))
					return
				}
				ts.Check(os.Rename(tokens, away))
				_, err := softtoken.SoftHSM(token.Dir, token.Label)
				ts.Check(err)
			},
		},
	}
}

func boxNSS(t *testing.T) box {
	token, err := softtoken.NSS(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return box{locator: token.Locator(""), log: "softkey:", takes: takesNSS}
}

// boxBoth has the keys in an HSM and the counter in a TPM.
func boxBoth(t *testing.T) box {
	b, other := boxSoftHSM(t), boxTPM(t)
	b.more = " --keys " + other.locator + " --pin-file pin"
	return b
}

func boxTPM(t *testing.T) box {
	machine, err := swtpm.Start(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { machine.Stop() })
	return box{
		locator: "tpm:socket=" + machine.Socket, log: "softkey:", takes: takesTPM,
		commands: map[string]func(*testscript.TestScript, bool, []string){
			"swtpm": func(ts *testscript.TestScript, _ bool, args []string) {
				switch args[0] {
				case "clear":
					ts.Check(machine.Clear())
				case "locked":
					ts.Check(machine.MaxTries(0))
				case "unlocked":
					ts.Check(machine.MaxTries(32))
				}
			},
			"log": logHas,
		},
	}
}

// logHas TEXT FILE: an exported log holds the text.
func logHas(ts *testscript.TestScript, _ bool, args []string) {
	if data := []byte(ts.ReadFile(args[1])); !bytes.Contains(data, []byte(args[0])) {
		ts.Fatalf("%s does not hold %s", args[1], args[0])
	}
}
