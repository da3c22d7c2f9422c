package signer

import (
	"flag"
	"os"
	"strings"
	"testing"
)

func TestLocators(t *testing.T) {
	for text, says := range map[string]string{
		"softkey:":                                 "",
		"softkey:?use=seal,log":                    "",
		"tpm:device=/dev/tpmrm0":                   "",
		"tpm:socket=/run/tpm?index=1800ca0&use=ca": "",
		"piv:serial=12345678?use=ca":               "",
		"pkcs11:token=A%20b;serial=00ff?module-path=/usr/lib/m.so&init-args=configDir%3D%27sql:/x%27%20flags%3D&login=none&environment=A=b": "",

		"":                                "begins with none of",
		"hsm:":                            "begins with none of",
		"PKCS11:token=a?module-path=/m":   "begins with none of",
		"pkcs11:token=a":                  "does not say module-path",
		"pkcs11:?module-path=/m":          "does not say token",
		"pkcs11:token=a?module-path=m.so": "not an absolute path",
		"pkcs11:token=a?module-path=/usr/../m.so":          "not an absolute path",
		"pkcs11:token=a;slot-id=1?module-path=/m":          "slots move",
		"pkcs11:token=a;pin-value=1?module-path=/m":        "holds no PIN",
		"pkcs11:token=a?module-path=/m&pin-source=file:/x": "holds no PIN",
		"pkcs11:token=a;token=b?module-path=/m":            "there twice",
		"pkcs11:token=?module-path=/m":                     "no value",
		"pkcs11:token=%00?module-path=/m":                  "no value",
		"pkcs11:token=%zz?module-path=/m":                  "no value",
		"pkcs11:token=a?module-path=/m&login=maybe":        "login is user or none",
		"pkcs11:token=a?module-path=/m&environment=A":      "NAME=VALUE",
		"pkcs11:module-path=/m;token=a":                    "has no attribute",
		"tpm:":                                             "one of device",
		"tpm:device=/dev/tpm0;socket=/s":                   "one of device",
		"piv:":                                             "serial",
		"piv:serial=1?use=ca,tls":                          `not for "tls"`,
		"softkey:" + strings.Repeat("a", 1025):             "longer than",
	} {
		l, err := ParseLocator(text)
		if says == "" {
			if err != nil || l.String() != text {
				t.Errorf("%s: %q, %v", text, l, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", text, err, says)
		}
	}
	l, err := ParseLocator("pkcs11:token=A%20b?module-path=/m&use=ca,seal")
	if err != nil || l.Attribute("token") != "A b" || !l.Uses(CA) || l.Uses(Log) || !l.NeedsPIN() || l.Scheme() != PKCS11 {
		t.Errorf("%+v, %v", l, err)
	}
	if _, err := ParseLocator("pkcs11:token=a?module-path=/m&pin-value=4711"); err == nil || strings.Contains(err.Error(), "4711") {
		t.Errorf("it says the PIN: %v", err)
	}
}

func FuzzLocator(f *testing.F) {
	f.Add("pkcs11:token=A%20b;serial=1?module-path=/m&use=ca")
	f.Add("tpm:device=/dev/tpmrm0?index=1800ca0")
	f.Add("piv:serial=1;reader=x")
	f.Fuzz(func(t *testing.T, text string) {
		l, err := ParseLocator(text)
		if err != nil {
			return
		}
		again, err := ParseLocator(l.String())
		if err != nil || again.String() != text || strings.Contains(text, "pin-value=") {
			t.Fatalf("%q: %q, %v", text, again, err)
		}
	})
}

// TestTroublesAreWhole holds the table to saying something of each, once, and the codes to what programs may rely on.
func TestTroublesAreWhole(t *testing.T) {
	l, err := ParseLocator("pkcs11:token=prod?module-path=/usr/lib/m.so")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[TroubleCode]bool{}
	for _, row := range Troubles() {
		if seen[row.Code] || row.Meaning == "" || row.Mend == "" || strings.ToLower(string(row.Code)) != string(row.Code) {
			t.Errorf("%+v", row)
		}
		seen[row.Code] = true
		trouble := NewTrouble(row.Code, l, "tried")
		if strings.HasPrefix(row.Mend, "PKCS#11: ") && (strings.Contains(trouble.Hint(), "PKCS#11: ") || strings.Contains(trouble.Hint(), "PIV: ")) {
			t.Errorf("%s: what mends other devices is said: %s", row.Code, trouble.Hint())
		}
		if !strings.Contains(trouble.Error(), row.Meaning) || strings.Contains(trouble.Hint(), "MODULE") || strings.Contains(trouble.Hint(), "TOKEN") {
			t.Errorf("%s: %s; %s", row.Code, trouble, trouble.Hint())
		}
		back, ok := AsTrouble(trouble.refused())
		if !ok || *back != *trouble {
			t.Errorf("%s crosses the wire as %+v", row.Code, back)
		}
	}
}

var update = flag.Bool("update", false, "write the table of troubles in docs/devices.md anew")

// TestTroublesAreDocumented makes the end of the page about devices.
func TestTroublesAreDocumented(t *testing.T) {
	const page = "../../docs/devices.md"
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	head, _, found := strings.Cut(string(data), "-update -->\n")
	if !found {
		t.Fatal("the page has no place for the table")
	}
	want := head + "-update -->\n\n| code | what it is | what mends it |\n|---|---|---|\n"
	for _, row := range Troubles() {
		want += "| " + string(row.Code) + " | " + row.Meaning + " | " + row.Mend + " |\n"
	}
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(data) != want {
		t.Error("docs/devices.md is not what the table makes; run the test with -update")
	}
}
