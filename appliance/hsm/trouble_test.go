//go:build cgo

package hsm

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"coldseal/appliance/hsm/softtoken"
	"coldseal/appliance/signer"
)

func wantTrouble(t testing.TB, err error, code signer.TroubleCode, says ...string) {
	t.Helper()
	trouble, ok := signer.AsTrouble(err)
	if !ok || trouble.Code != code {
		t.Errorf("got %v, want trouble %s", err, code)
		return
	}
	for _, word := range says {
		if !strings.Contains(trouble.Error()+"\n"+trouble.Hint(), word) {
			t.Errorf("trouble %q (%q) does not say %q", trouble, trouble.Hint(), word)
		}
	}
}

func TestTroublesOfOpening(t *testing.T) {
	token := softHSM(t)
	empty := t.TempDir()
	bare := token
	bare.Environment = "SOFTHSM2_CONF=" + filepath.Join(empty, "softhsm2.conf")
	if err := os.WriteFile(filepath.Join(empty, "softhsm2.conf"), []byte("directories.tokendir = "+empty+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	noConf := token
	noConf.Environment = "SOFTHSM2_CONF=" + filepath.Join(empty, "absent.conf")
	notOne := token
	notOne.Module = filepath.Join(empty, "softhsm2.conf")
	absent := token
	absent.Module = filepath.Join(empty, "absent.so")
	noDatabase := softtoken.Token{Module: softtoken.NSSModule, Label: "NSS Certificate DB", InitArgs: "configDir='sql:" + filepath.Join(empty, "absent") + "' certPrefix='' keyPrefix='' secmod='secmod.db' flags=readOnly"}
	other := token
	other.Label = "another"
	twice := softHSM(t)
	if _, err := softtoken.SoftHSM(twice.Dir, twice.Label); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		locator string
		pin     string
		code    signer.TroubleCode
		says    string
	}{
		"no library":         {absent.Locator(""), softtoken.PIN, signer.ModuleMissing, "pkcs11-tool --module " + absent.Module},
		"not a library":      {notOne.Locator(""), softtoken.PIN, signer.ModuleMissing, "not a PKCS#11 library"},
		"no configuration":   {noConf.Locator(""), softtoken.PIN, signer.ModuleFails, "init-args"},
		"no database":        {noDatabase.Locator(""), softtoken.PIN, signer.ModuleFails, "init-args"},
		"no token":           {bare.Locator(""), softtoken.PIN, signer.TokenAbsent, "plug the device in"},
		"wrong label":        {other.Locator(""), softtoken.PIN, signer.TokenLabel, `there are "coldseal test"`},
		"label twice":        {twice.Locator(""), softtoken.PIN, signer.TokenLabel, "2 tokens have this label"},
		"wrong serial":       {strings.Replace(token.Locator(""), "?", ";serial=0000?", 1), softtoken.PIN, signer.TokenSwapped, "serial number"},
		"wrong manufacturer": {strings.Replace(token.Locator(""), "?", ";manufacturer=Thales?", 1), softtoken.PIN, signer.TokenSwapped, "serial number"},
		"wrong PIN":          {token.Locator(""), "0000", signer.PINWrong, "few tries left"},
		"PIN too short":      {token.Locator(""), "0", signer.PINWrong, ""},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := Open(locator(t, c.locator), []byte(c.pin))
			if err == nil {
				d.Close()
			}
			wantTrouble(t, err, c.code, c.says)
			if err != nil && strings.Contains(err.Error(), softtoken.PIN) {
				t.Errorf("%v says the PIN", err)
			}
		})
	}
	open(t, token.Locator("")) // all that time there was nothing wrong with it
}

// TestTokenSwapped puts another token of the same label in the place of the one that is open.
func TestTokenSwapped(t *testing.T) {
	token := softHSM(t)
	d := open(t, token.Locator(""))
	k := create(t, d, "ca", signer.CA, signer.P256)
	if err := os.RemoveAll(filepath.Join(token.Dir, "tokens")); err != nil {
		t.Fatal(err)
	}
	if _, err := softtoken.SoftHSM(token.Dir, token.Label); err != nil {
		t.Fatal(err)
	}
	_, err := d.Sign(k.ID(), signer.ECDSASHA256, make([]byte, 32))
	wantTrouble(t, err, signer.TokenSwapped)
	d.Close()
	if keys, err := open(t, token.Locator("")).Keys(); err != nil || len(keys) != 0 {
		t.Errorf("the other token has %d of our keys: %v", len(keys), err)
	}
}

// TestKeyGoneForAWhile takes a key's objects away while its session is lost, and puts them back.
func TestKeyGoneForAWhile(t *testing.T) {
	text, faults, ca, receiver := faulty(t)
	d := open(t, text)
	tokens := ""
	for assignment := range strings.SplitSeq(d.locator.Attribute("environment"), ",") {
		if conf, found := strings.CutPrefix(assignment, "SOFTHSM2_CONF="); found {
			tokens = filepath.Join(filepath.Dir(conf), "tokens")
		}
	}
	objects, err := filepath.Glob(filepath.Join(tokens, "*", "*.object"))
	if err != nil || len(objects) < 4 {
		t.Fatalf("%v, %v", objects, err)
	}
	var moved []string
	for _, object := range objects {
		data, err := os.ReadFile(object)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), "coldseal:ca:") && !strings.HasSuffix(object, "token.object") {
			moved = append(moved, object)
			if err := os.Rename(object, object+".away"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(moved) == 0 {
		t.Fatal("no file of the key was found")
	}
	faults.Arm(softtoken.SignInit, 1, softtoken.Return, 0xb3)
	_, err = d.Sign(ca.ID(), signer.ECDSASHA256, make([]byte, 32))
	wantTrouble(t, err, signer.KeyMissing, "coldseal-appliance keys")
	for _, object := range moved {
		if err := os.Rename(object+".away", object); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.Sign(ca.ID(), signer.ECDSASHA256, make([]byte, 32)); err != nil {
		t.Errorf("after it was put back: %v", err)
	}
	agree(t, d, receiver)
}

// TestStrangers leaves alone what is not ours, and does not use what only claims to be.
func TestStrangers(t *testing.T) {
	token := softHSM(t)
	d := open(t, token.Locator(""))
	k := create(t, d, "issuing", signer.CA, signer.P256)
	receiver := create(t, d, "receiver", signer.Receiver, signer.P256)
	d.Close()
	const id = "636f6c647365616c3a63613a" // coldseal:ca:
	for _, args := range [][]string{
		{"--keypairgen", "--key-type", "EC:prime256v1", "--label", "foreign", "--id", "01"},
		{"--keypairgen", "--key-type", "EC:prime256v1", "--label", "issuing", "--id", id + "30303030303030303030303030303030"},
		{"--keypairgen", "--key-type", "EC:prime256v1", "--label", "leaves", "--extractable", "--id", id + "31313131313131313131313131313131"},
		{"--keypairgen", "--key-type", "EC:secp521r1", "--label", "curve", "--id", id + "32323232323232323232323232323232"},
		{"--keypairgen", "--key-type", "rsa:2048", "--label", "short", "--id", id + "33333333333333333333333333333333"},
		{"--keypairgen", "--key-type", "EC:prime256v1", "--label", "halved", "--id", id + "34343434343434343434343434343434"},
		{"--delete-object", "--type", "pubkey", "--label", "halved"},
	} {
		if _, err := token.Tool(args...); err != nil {
			t.Fatal(err)
		}
	}
	d = open(t, token.Locator(""))
	keys, err := d.Keys()
	if err != nil || len(keys) != 1 || keys[0].ID() != receiver.ID() {
		t.Errorf("keys %v, %v; want the receiver alone: of the label issuing there are two", keys, err)
	}
	objects, err := d.Objects()
	if err != nil {
		t.Fatal(err)
	}
	for label, want := range map[string]string{
		"foreign": "", "issuing": "another key has the same label", "leaves": "can leave the device", "curve": "of a kind that there is none of",
		"short": "of a kind", "halved": "no public key", "receiver": "",
	} {
		i := slices.IndexFunc(objects, func(o signer.Object) bool { return o.Label == label && o.Class == "private key" })
		if i < 0 || !strings.Contains(objects[i].Note, want) || (want == "") != (objects[i].Note == "") {
			t.Errorf("%s: %+v", label, objects)
		}
	}
	_, _, err = d.Create("halved", signer.CA, signer.P256)
	wantTrouble(t, err, signer.KeyWrong, "halved already")
	if _, err := token.Tool("--delete-object", "--type", "privkey", "--id", id+"30303030303030303030303030303030"); err != nil {
		t.Fatal(err)
	}
	if _, err := token.Tool("--delete-object", "--type", "pubkey", "--id", id+"30303030303030303030303030303030"); err != nil {
		t.Fatal(err)
	}
	d.Close()
	if keys, err := open(t, token.Locator("")).Keys(); err != nil || !slices.ContainsFunc(keys, func(o signer.KeyInfo) bool { return o.ID() == k.ID() }) {
		t.Errorf("without its double, issuing is %v, %v", keys, err)
	}
}
