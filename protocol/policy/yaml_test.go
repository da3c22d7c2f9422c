package policy

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"coldseal/protocol"
)

const smallPolicy = `policy: small
clock_ahead: 36 hours
profiles:
  pc:
    use: machine
    issuers: [issuing]
    bodies: [it/058091, 058091]
    subject:
      - CN: "{body-path} {n}"
    names:
      - {uri: "urn:x:{body-path}"}
    fields:
      n: {pattern: 058091, max: 6}
    machine: "{body-path} {n}"
    unique: >-
      {body-path}
      {n}
    keys: [RSA-2048, P-256]
    origins: [current, agent]
    extras: drop
    days: 10
    key_usage: [digitalSignature]
    policies: [2.999.3, 1.2]
    crl_url: http://x.example
    lint: [rfc5280]
    approve: {persons: 2, roles: [approver, a], statements: [fingerprint, presence], alone: true}
    renew: {window_days: 3, since_days: 4}
`

func TestLoad(t *testing.T) {
	p, err := Load(File{"a.yaml", []byte(smallPolicy)})
	if err != nil {
		t.Fatal(err)
	}
	want := &Policy{Version: 1, Name: "small", ClockAhead: 36 * 3600, Profiles: []Profile{{
		Name: "pc", Use: UseMachine, Issuers: []string{"issuing"}, Bodies: []string{"058091", "it/058091"},
		Subject: []Attribute{{Type: "CN", Value: "{body-path} {n}"}}, Names: []AltName{{Type: "uri", Value: "urn:x:{body-path}"}},
		Fields: []Field{{Name: "n", Pattern: "058091", Max: 6}}, Machine: "{body-path} {n}", Unique: "{body-path} {n}",
		Keys: []string{"P-256", "RSA-2048"}, Origins: []protocol.Origin{protocol.OriginCurrent, protocol.OriginAgent}, DropExtras: true,
		Days: 10, MaxDays: 10, KeyUsage: []string{"digitalSignature"}, Policies: []string{"1.2", "2.999.3"}, CRLURL: "http://x.example", Lint: []string{"rfc5280"},
		Approve: Rule{Persons: 2, Roles: []string{"a", "approver"}, Statements: []protocol.Statement{protocol.StatementPresence, protocol.StatementFingerprint}, Alone: true},
		Renew:   Renewal{WindowDays: 3, SinceDays: 4},
	}}}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("got  %+v\nwant %+v", p, want)
	}
	if _, err := Encode(p); err != nil {
		t.Error(err)
	}
}

func TestLoadRefuses(t *testing.T) {
	change := func(old, new string) string {
		if !strings.Contains(smallPolicy, old) {
			t.Fatalf("the policy doesn't have %q", old)
		}
		return strings.Replace(smallPolicy, old, new, 1)
	}
	for _, c := range []struct{ name, yaml, want string }{
		{"unknown key", change("    days: 10", "    days: 10\n    dais: 11"), `p.yaml:22:5: unknown key "dais"`},
		{"unknown key at the top", change("clock_ahead", "clock"), `p.yaml:2:1: unknown key "clock"`},
		{"unknown key in flow", change("max: 6", "max: 6, min: 1"), `p.yaml:13:36: unknown key "min"`},
		{"key twice", change("    days: 10", "    days: 10\n    days: 11"), `p.yaml:22:5: `},
		{"key twice in flow", change("max: 6", "max: 6, max: 7"), `p.yaml:13:36: `},
		{"profile twice", smallPolicy + strings.SplitAfter(smallPolicy, "profiles:\n")[1], `p.yaml:28:3: `},
		{"missing key", change("    days: 10\n", ""), `p.yaml:4:3: days is missing`},
		{"missing key of a field", change(", max: 6", ""), `p.yaml:13:7: max is missing`},
		{"unknown use", change("machine", "machin"), `p.yaml:5:10: "machin" is not one of machine, person`},
		{"unknown origin", change("[current, agent]", "[current, agnt]"), `p.yaml:19:24: "agnt" is not one of attested`},
		{"unknown statement", change("[fingerprint, ", "[fingers, "), `p.yaml:26:62: "fingers" is not presence or fingerprint`},
		{"unknown extras", change("drop", "keep"), `p.yaml:20:13: "keep" is not drop or refuse`},
		{"twice in a list", change("[RSA-2048, P-256]", "[P-256, P-256]"), `p.yaml:18:19: stands twice in the list`},
		{"number as text", change("days: 10", "days: ten"), `p.yaml:21:11: wants a whole number, not "ten"`},
		{"octal", change("days: 10", "days: 010"), `p.yaml:21:11: wants a whole number, not "010"`},
		{"negative", change("days: 10", "days: -1"), `p.yaml:21:11: wants a whole number, not "-1"`},
		{"too large", change("days: 10", "days: 99999999999"), `p.yaml:21:11: wants a whole number`},
		{"yes", change("alone: true", "alone: yes"), `p.yaml:26:93: wants true or false`},
		{"no value", change("days: 10", "days:"), `p.yaml:21:10: has no value`},
		{"list where a text is wanted", change("days: 10", "days: [10]"), `p.yaml:21:11: wants a text`},
		{"text where a list is wanted", change("[issuing]", "issuing"), `p.yaml:6:14: wants a list`},
		{"text where a mapping is wanted", change("{window_days: 3, since_days: 4}", "3"), `p.yaml:27:12: wants keys and values`},
		{"truth where a text is wanted", change("{pattern: 058091", "{pattern: true"), `p.yaml:13:20: wants a text`},
		{"two attributes", change(`- CN: "{body-path} {n}"`, `- {CN: "{body-path} {n}", O: x}`), `p.yaml:9:9: wants one attribute`},
		{"two names", change(`{uri: "urn:x:{body-path}"}`, `{uri: "urn:x:{body-path}", dns: x}`), `p.yaml:11:36: unknown key "dns"`},
		{"no name", change(`{uri: "urn:x:{body-path}"}`, `{optional: true}`), `p.yaml:11:9: wants a name`},
		{"anchor", change("use: machine", "use: &a machine"), `p.yaml:5:10: "&" is YAML that is not taken here`},
		{"alias", change("use: machine", "use: *a"), `p.yaml:5:10: "*" is YAML that is not taken here`},
		{"merge", change("    use: machine", "    <<: {use: machine}"), `p.yaml:5:5: "<<" is YAML that is not taken here`},
		{"tag", change("use: machine", "use: !!str machine"), `p.yaml:5:10: "!!str" is YAML that is not taken here`},
		{"directive", "%YAML 1.2\n---\n" + smallPolicy, `p.yaml:1:1: "%" is YAML that is not taken here`},
		{"question mark", "? policy\n: small\n", `p.yaml:1:1: "?" is YAML that is not taken here`},
		{"two documents", smallPolicy + "---\npolicy: other\n", `p.yaml: has 2 documents`},
		{"nothing", "", `p.yaml: has `},
		{"comments only", "# nothing\n", `p.yaml: has `},
		{"tab", change("    days", "\tdays"), `p.yaml: has a tab`},
		{"not UTF-8", smallPolicy + "\xff", `p.yaml: not UTF-8`},
		{"byte order mark", "\ufeff" + smallPolicy, `p.yaml: has a tab or another control character, or a byte order mark`},
		{"too long", smallPolicy + "#" + strings.Repeat(" ", MaxYAML), `p.yaml: 262821 bytes, at most 262144`},
		{"too many keys", strings.Repeat("a: b\n", 5000), `p.yaml:4097:2: has more than 4096 keys`},
		{"too long a list", change("it/058091, 058091", func() string {
			var b strings.Builder
			for i := range MaxList {
				fmt.Fprintf(&b, "it/%d, ", i)
			}
			return b.String() + "it/x"
		}()), `p.yaml:7:452: the list has more than 64 entries`},
		{"too deep in flow", "policy: " + strings.Repeat("[", 1000), `p.yaml:1:25: is nested too deeply`},
		{"too deep in lists", "policy:\n  " + strings.Repeat("- ", 100000), `p.yaml:2:129: is too far to the right`},
		{"too deep in mappings", func() string {
			var b strings.Builder
			for i := range 500 {
				b.WriteString(strings.Repeat(" ", i) + "a:\n")
			}
			return b.String()
		}(), `p.yaml:128:129: is too far to the right`},
		{"unclosed", change("[issuing]", "[issuing"), `p.yaml:`},
		{"no unit", change("36 hours", "36"), `p.yaml:2:14: wants days, hours or minutes`},
		{"no policy", strings.Replace(smallPolicy, "policy: small\n", "", 1), `read policy: one of the files has to have the keys policy and clock_ahead`},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := Load(File{"p.yaml", []byte(c.yaml)})
			if err == nil {
				t.Fatalf("read %+v", p)
			}
			if !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("%q, want %q", err, c.want)
			}
		})
	}
}

func TestLoadSeveralFiles(t *testing.T) {
	pc := File{"pc.yaml", []byte(strings.Replace(smallPolicy, "policy: small\nclock_ahead: 36 hours\n", "", 1))}
	head := File{"head.yaml", []byte("policy: small\nclock_ahead: 36 hours\n")}
	p, err := Load(pc, head)
	if err != nil || len(p.Profiles) != 1 || p.Name != "small" {
		t.Fatalf("%+v, %v", p, err)
	}
	for want, files := range map[string][]File{
		"again.yaml:3:5: profile pc is also at pc.yaml:3": {head, pc, {"again.yaml", pc.Data}},
		"again.yaml:1:9: policy is also at head.yaml:1":   {head, pc, {"again.yaml", head.Data}},
	} {
		if _, err := Load(files...); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func rosterYAML(t testing.TB) string {
	der := spki(t, "a")
	block := strings.ReplaceAll(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki(t, "b")})), "\n", "\n        ")
	return `officers:
  it:SMPBRN79S03F205N:
    name: Bruno Esempio
    keys:
      - ` + base64.StdEncoding.EncodeToString(der) + `
      - |
        ` + block + `
    roles: [security-officer]
    scopes:
      - {profile: "*", body: "*"}
  it:PRVLCU91M67L736T:
    name: Lucia Prova
    keys: [` + base64.StdEncoding.EncodeToString(spki(t, "c")) + `]
    roles: [ra, auditor]
    scopes: [{profile: it-workstation, body: it/058091}, {profile: it-server, body: it}]
    suspended: true
orders:
  crl: {persons: 1, role: security-officer}
  policy: {persons: 2, role: security-officer}
`
}

// What is said of the others holds for every kind of order that is not named.
func TestOtherOrders(t *testing.T) {
	text := strings.Replace(rosterYAML(t), "crl:", "others:", 1)
	o, err := LoadRoster(File{"r.yaml", []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range protocol.RuledOrders() {
		want := OrderRule{Kind: kind, Persons: 1, Role: "security-officer"}
		if kind == protocol.KindPolicy {
			want.Persons = 2
		}
		if got, found := o.Order(kind); !found || got != want {
			t.Errorf("%s: %+v, want %+v", kind, got, want)
		}
	}
}

func TestLoadRoster(t *testing.T) {
	o, err := LoadRoster(File{"r.yaml", []byte(rosterYAML(t))})
	if err != nil {
		t.Fatal(err)
	}
	keys := [][]byte{spki(t, "a"), spki(t, "b")}
	if bytes.Compare(keys[0], keys[1]) > 0 {
		keys[0], keys[1] = keys[1], keys[0]
	}
	want := &Roster{Version: 1, Officers: []Officer{
		{Person: "it:PRVLCU91M67L736T", Name: "Lucia Prova", Keys: [][]byte{spki(t, "c")}, Roles: []string{"auditor", "ra"},
			Scopes: []protocol.Scope{{Profile: "it-server", Body: "it"}, {Profile: "it-workstation", Body: "it/058091"}}, Suspended: true},
		{Person: "it:SMPBRN79S03F205N", Name: "Bruno Esempio", Keys: keys, Roles: []string{"security-officer"}, Scopes: []protocol.Scope{{Profile: "*", Body: "*"}}},
	}, Orders: []OrderRule{{Kind: protocol.KindPolicy, Persons: 2, Role: "security-officer"}, {Kind: protocol.KindCRL, Persons: 1, Role: "security-officer"}}}
	if !reflect.DeepEqual(o, want) {
		t.Errorf("got  %+v\nwant %+v", o, want)
	}
	for old, c := range map[string]struct{ new, want string }{
		"crl:":                {"issue:", `r.yaml:22:3: "issue" is not a kind of order that has a rule`},
		"policy: {":           {"polcy: {", `r.yaml:23:3: "polcy" is not a kind of order`},
		"name: Lucia Prova":   {"nome: Lucia Prova", `r.yaml:16:5: unknown key "nome"`},
		"keys: [":             {"keys: [A", `r.yaml:17:12: wants a public key, as PEM or base64`},
		"BEGIN PUBLIC":        {"BEGIN PRIVATE", `r.yaml:6:9: wants a public key`},
		`{profile: "*", `:     {`{`, `r.yaml:14:9: profile is missing`},
		"it-server, body: it": {"it-workstation, body: it/058091", `r.yaml:19:58: stands twice in the list`},
		"orders:":             {"order:", `r.yaml:21:1: unknown key "order"`},
	} {
		text := rosterYAML(t)
		if !strings.Contains(text, old) {
			t.Fatalf("the roster doesn't have %q", old)
		}
		_, err := LoadRoster(File{"r.yaml", []byte(strings.Replace(text, old, c.new, 1))})
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%q: %v, want %s", c.new, err, c.want)
		}
	}
}

// FuzzYAML: whatever is read can be encoded or is refused, and nothing panics.
func FuzzYAML(f *testing.F) {
	f.Add([]byte(smallPolicy))
	f.Add([]byte(rosterYAML(f)))
	files, err := Files(Library())
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		f.Add(append(file.Data, "policy: test\nclock_ahead: 100 days\n"...))
	}
	for _, s := range []string{"a: {b: [c, *d]}", "- - - a", "a: |\n  b\n c", "'a\n", "\"\\x\"", "? a\n: b", "a: !!map {}", "--- a\n...", "[a: b]", "{a, b}", "a:\n- b\n-", ": a", "-"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Load(File{"f", data})
		if err == nil {
			if encoded, err := Encode(p); err == nil {
				if again, err := Decode(encoded); err != nil {
					t.Fatalf("%+v was encoded and not decoded: %v", again, err)
				}
			}
			var problem Problem
			if _, err := Compile(p); err != nil && !errors.As(err, &problem) {
				t.Fatal(err)
			}
			Check(p, nil)
		}
		if o, err := LoadRoster(File{"f", data}); err == nil {
			if encoded, err := EncodeRoster(o); err == nil {
				if _, err := DecodeRoster(encoded); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
