package main

import (
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/keyfile"
	"coldseal/protocol/policy"
)

// ordered reads an order back, and asks the appliance's own code whether officers could carry it out.
func (s *site) ordered(name string) (protocol.Request, *protocol.Refusal) {
	s.t.Helper()
	state := must[*auditlog.State](s.t)(auditlog.NewState(s.genesis, s.digest))
	root := spkiOf(s.t, ecKey(s.t, 20))
	state.CAs[protocol.DigestOf(root)] = auditlog.CA{Label: "root", SPKI: root}
	raw := s.read(name)
	req, refusal := protocol.ParseRequest(raw)
	if refusal != nil {
		s.t.Fatal(refusal.Words())
	}
	challenge := make([]byte, 16)
	var approvals [][]byte
	for _, key := range s.officers[:2] {
		a := protocol.Approval{Version: 1, Appliance: s.digest, Created: req.Created, Expires: req.Created + 3600, Challenge: challenge,
			Entries: []protocol.ApprovalEntry{{ID: protocol.ID(raw)}}, Manifest: protocol.ManifestOf([]protocol.Request{req})}
		approvals = append(approvals, must[[]byte](s.t)(cose.Sign(key, protocol.ContextApproval, must[[]byte](s.t)(a.Encode()))))
	}
	_, refusal = state.Authorize(raw, approvals, challenge, req.Created)
	return req, refusal
}

func (s *site) rosterYAML(officers int) string {
	var b strings.Builder
	b.WriteString("officers:\n")
	for n := 1; n <= officers; n++ {
		fmt.Fprintf(&b, "  %s:\n    name: Officer\n    keys: [%s]\n    roles: [security-officer]\n    scopes: [{profile: \"*\", body: \"*\"}]\n",
			officer(n), base64.StdEncoding.EncodeToString(spkiOf(s.t, ecKey(s.t, byte(n)))))
	}
	b.WriteString("orders:\n")
	for _, kind := range protocol.RuledOrders() {
		fmt.Fprintf(&b, "  %s: {persons: 2, role: security-officer}\n", kind)
	}
	return b.String()
}

func TestOrders(t *testing.T) {
	s := newSite(t)
	root := protocol.DigestOf(spkiOf(t, ecKey(t, 20))).String()
	party := protocol.Party{Version: 1, Name: "desk", Role: protocol.RoleAgent, Seal: spkiOf(t, ecKey(t, 21)), Receiver: spkiOf(t, ecKey(t, 22)),
		Bodies: []string{"it"}, BundlesPerDay: 5, ItemsPerDay: 50}
	s.write("agent", marshal(t, party))
	station := protocol.Party{Version: 1, Name: "desk-1", Role: protocol.RoleStation, Seal: spkiOf(t, ecKey(t, 23)), Bodies: []string{"gr"}}
	s.write("station", marshal(t, station))
	s.write("new.yaml", []byte("policy: newer\nclock_ahead: 50 days\n"))
	s.write("roster.yaml", []byte(s.rosterYAML(4)))
	s.write("OFFICER4.key", must[[]byte](t)(keyfile.Encode(ecKey(t, 4), nil)))
	compiled, _ := s.ok("roster compile @roster.yaml --out @roster")
	digest := strings.Fields(compiled)[0]
	s.ok("key possess --key @OFFICER4.key --out @proof --digest " + digest)

	for name, test := range map[string]struct {
		line  string
		kind  protocol.Kind
		check func(r *protocol.Request) bool
	}{
		"create-key": {"create-key --label issuing --algorithm P-256", protocol.KindCreateKey, func(r *protocol.Request) bool {
			c, refusal := r.CreateKey()
			return refusal == nil && c.Label == "issuing" && c.Algorithm == "P-256"
		}},
		"the long way": {"new create-key --label issuing", protocol.KindCreateKey, func(r *protocol.Request) bool {
			c, refusal := r.CreateKey()
			return refusal == nil && c.Algorithm == "P-384"
		}},
		"sign-ca": {"sign-ca --profile root --key " + root + " --field name=Root --field country=IT --not-after 2040-12-31", protocol.KindSignCA, func(r *protocol.Request) bool {
			c, refusal := r.SignCA()
			end := time.Date(2040, 12, 31, 23, 59, 59, 0, time.UTC).Unix()
			return refusal == nil && r.Issuer == c.Key && c.Fields["country"] == "IT" && c.NotAfter == end
		}},
		"policy": {"policy --policy @new.yaml --policy library:all", protocol.KindPolicy, func(r *protocol.Request) bool {
			c, refusal := r.Replacement()
			return refusal == nil && c.Replaces == protocol.DigestOf(s.state.Policy)
		}},
		"roster": {"roster --roster @roster.yaml --possession @proof", protocol.KindRoster, func(r *protocol.Request) bool {
			c, refusal := r.Replacement()
			return refusal == nil && protocol.DigestOf(c.New).String() == digest
		}},
		"agent": {"agent --party @agent", protocol.KindAgent, func(r *protocol.Request) bool {
			_, p, refusal := r.Enrolment()
			return refusal == nil && p.Name == "desk" && p.BundlesPerDay == 5
		}},
		"station": {"station --party @station --bodies it,gr", protocol.KindStation, func(r *protocol.Request) bool {
			_, p, refusal := r.Enrolment()
			return refusal == nil && strings.Join(p.Bodies, " ") == "gr it"
		}},
		"set-time": {"set-time --time 2027-01-15T08:00:00Z", protocol.KindSetTime, func(r *protocol.Request) bool {
			c, refusal := r.SetTime()
			return refusal == nil && c.Time == 1800000000 && r.Created == 1800000000
		}},
	} {
		out := strings.ReplaceAll(name, " ", "-") + ".order"
		stdout, stderr := s.ok("order " + test.line + " $KNOWN --out @" + out)
		r, refusal := s.ordered(out)
		if refusal != nil {
			t.Errorf("%s: officers could not order it: %s", name, refusal.Words())
		}
		id := protocol.ID(s.read(out))
		if r.Kind != test.kind || !test.check(&r) || stdout != id.String()+"\n" || !strings.Contains(stderr, id.Groups()) {
			t.Errorf("%s: request %+v, stdout %q, stderr %s", name, r, stdout, stderr)
		}
	}
	stdout, _ := s.ok("order agent --party @agent $KNOWN --retire --items-per-day 9 --replaces @agent --json --out @retire")
	r, refusal := protocol.ParseRequest(s.read("retire"))
	c, p, _ := r.Enrolment()
	if refusal != nil || !p.Retired || p.ItemsPerDay != 9 || c.Replaces != protocol.DigestOf(s.read("agent")) {
		t.Errorf("retire: %+v %+v", c, p)
	}
	var j struct {
		ID string `json:"id"`
	}
	if s.json(stdout, &j); j.ID != protocol.ID(s.read("retire")).String() {
		t.Errorf("JSON %s", stdout)
	}
	s.ok("order crl $KNOWN --issuer " + root + " --replaces " + digest + " --out @crl.order")
	if r, refusal := protocol.ParseRequest(s.read("crl.order")); refusal != nil || r.Issuer.String() != root {
		t.Errorf("crl: %+v", r)
	}
	top := s.newPKI().root
	s.state.CAs, s.state.Labels = [][]byte{top.Raw}, []string{"top"}
	s.introduce()
	for _, name := range []string{"top", top.Subject.CommonName} {
		s.ok("order crl $KNOWN --out @"+name, "--issuer", name)
		if r, refusal := protocol.ParseRequest(s.read(name)); refusal != nil || r.Issuer != protocol.DigestOf(top.RawSubjectPublicKeyInfo) {
			t.Errorf("crl of %q: %+v", name, r)
		}
	}
	s.fails([]failure{{"order crl $KNOWN --issuer root --out @x", 3, "one of the labels: top"}})
}

func TestOrderRefuses(t *testing.T) {
	s := newSite(t)
	s.write("roster.yaml", []byte(s.rosterYAML(4)))
	s.write("two.yaml", []byte(s.rosterYAML(2)))
	s.write("bad.yaml", []byte("policy: x\nclock_ahead: 1 day\nprofiles:\n  pc:\n    dais: 3\n"))
	key := strings.Repeat("01", 32)
	s.fails([]failure{
		{"order create-key $KNOWN --label root", 64, "--out"},
		{"order suspend $KNOWN --person it:VRDLSN85B41F205Z --out @x", 3, "it:VRDLSN85B41F205Z is no officer"},
		{"order create-key $KNOWN --label Root --out @x", 1, "label"},
		{"order create-key $KNOWN --label root --algorithm DSA --out @x", 1, "DSA"},
		{"order create-key --label root --out @x", 64, "--introduction and --digest"},
		{"order sign-ca $KNOWN --profile none --key " + key + " --out @x", 4, "no profile none"},
		{"order sign-ca $KNOWN --profile root --key 01 --out @x", 64, "--key"},
		{"order sign-ca $KNOWN --profile root --field name --key " + key + " --out @x", 64, "name=value"},
		{"order sign-ca $KNOWN --profile root --field a=1 --field a=2 --key " + key + " --out @x", 64, "twice"},
		{"order sign-ca $KNOWN --profile root --not-after tomorrow --key " + key + " --out @x", 64, "tomorrow"},
		{"order sign-ca $KNOWN --profile issuing-ca --key " + key + " --out @x", 64, "--issuer says which CA signs"},
		{"order sign-ca $KNOWN --profile issuing-ca --issuer Root --key " + key + " --out @x", 3, "no CA"},
		{"order roster $KNOWN --roster @roster.yaml --out @x", 5, "key possess --digest"},
		{"order roster $KNOWN --roster @two.yaml --out @x", 4, "the loss of one"},
		{"order roster $KNOWN --out @x", 64, "--roster"},
		{"order policy $KNOWN --policy @bad.yaml --out @x", 4, "bad.yaml:5:5"},
		{"order policy $KNOWN --out @x", 64, "--policy"},
		{"order agent $KNOWN --party @roster.yaml --out @x", 1, "roster.yaml"},
		{"order agent $KNOWN --out @x", 64, "--party"},
		{"order set-time $KNOWN --time noon --out @x", 64, "noon"},
		{"order crl $KNOWN --issuer Nobody --out @x", 3, "Nobody"},
		{"order create-key $KNOWN --label root --expires 0d --out @x", 64, "--expires"},
		{"order destroy-key $KNOWN --key nobody --out @x", 3, "no CA"},
		{"order cross-certify $KNOWN --issuer nobody --profile root --certificate @roster.yaml --out @x", 3, "no CA"},
		{"order revoke-ca $KNOWN --issuer " + key + " --serial xyz --out @x", 64, "not hexadecimal"},
		{"order revoke-ca $KNOWN --issuer " + key + " --serial 01 --reason bored --out @x", 64, "cACompromise"},
		{"order foreign-ca $KNOWN --name ministry --out @x", 64, "--certificate"},
		{"order foreign-ca $KNOWN --name Ministry --certificate @roster.yaml --out @x", 1, "name"},
		{"order recovery $KNOWN --roster @roster.yaml --out @x", 4, "names nobody for recovery"},
		{"order suspend $KNOWN --person Bruno --out @x", 1, "not a person"},
		{"key station --key @it:A.key --name Desk --bodies it --out @x", 3, "A.key"},
		{"key station --name desk --bodies it --out @x", 64, "--key"},
		{"key station --name desk", 64, "--bodies"},
		{"order", 64, "create-key"},
		{"order nonsense", 64, "nonsense"},
	})
	if _, err := os.Stat(s.path("x")); err == nil {
		t.Error("something was ordered")
	}
}

func TestPolicy(t *testing.T) {
	s := newSite(t)
	s.write("roster.yaml", []byte(s.rosterYAML(3)))
	s.write("few.yaml", []byte(s.rosterYAML(2)))
	s.write("unknown.yaml", []byte("policy: x\nclock_ahead: 1 day\nprofiles:\n  pc:\n    dais: 3\n"))
	s.write("broken.yaml", []byte("policy: x\nclock_ahead: 1 day\nprofiles: {}\n"))
	if _, stderr := s.ok("policy check @main.yaml library:all --roster @roster.yaml"); !strings.Contains(stderr, "no problem") {
		t.Errorf("check: %s", stderr)
	}
	stdout, _ := s.ok("policy compile @main.yaml library:all --roster @roster.yaml --out @policy")
	d := protocol.DigestOf(s.state.Policy)
	if stdout != d.String()+"\n"+d.Groups()+"\n" || string(s.read("policy")) != string(s.state.Policy) {
		t.Errorf("compile printed %q, want %s", stdout, d)
	}
	s.ok("policy check @policy")
	s.write("longer.yaml", []byte("policy: test\nclock_ahead: 200 days\n"))
	if stdout, _ := s.ok("policy diff @policy @policy"); stdout != "" {
		t.Errorf("the same policy differs: %s", stdout)
	}
	if stdout, _ := s.ok("policy diff --old @policy --new @longer.yaml --new library:all"); !strings.Contains(stdout, "200 days") {
		t.Errorf("diff: %s", stdout)
	}
	if stdout, _ := s.ok("policy diff $KNOWN --new @longer.yaml --new library:all --json"); !strings.Contains(stdout, "200 days") || !strings.HasPrefix(stdout, `{"schema":1,"changes":[`) {
		t.Errorf("diff: %s", stdout)
	}
	if stdout, _ := s.ok("policy library"); !strings.Contains(stdout, "library:it-workstation ") {
		t.Errorf("library: %s", stdout)
	}
	if stdout, _ := s.ok("policy library it-workstation"); !strings.Contains(stdout, "profiles:\n  it-workstation:") {
		t.Errorf("library: %s", stdout)
	}
	code, stdout, _ := s.run("policy check @main.yaml library:all --roster @few.yaml --json")
	var j struct {
		Problems []problem `json:"problems"`
	}
	if s.json(stdout, &j); code != 4 || len(j.Problems) == 0 || j.Problems[0].Where == "" || j.Problems[0].Hint == "" {
		t.Errorf("exit %d, %s", code, stdout)
	}
	s.fails([]failure{
		{"policy check @unknown.yaml", 4, "unknown.yaml:5:5: unknown key"},
		{"policy check @broken.yaml", 4, "there are 0"},
		{"policy check @absent.yaml", 3, "absent.yaml"},
		{"policy check library:none", 3, "none"},
		{"policy check", 64, "at least 1"},
		{"policy compile @main.yaml library:all", 64, "--out"},
		{"policy compile @broken.yaml --out @x", 4, "there are 0"},
		{"policy diff @policy", 64, "old policy"},
		{"policy diff @policy @policy @policy", 64, "at most 2"},
		{"policy library none", 3, "none"},
	})
}

func TestRoster(t *testing.T) {
	s := newSite(t)
	s.write("roster.yaml", []byte(s.rosterYAML(3)))
	s.write("few.yaml", []byte(s.rosterYAML(2)))
	s.write("unknown.yaml", []byte("officers:\n  it:A:\n    nam: x\n"))
	s.ok("roster check @roster.yaml")
	s.ok("roster check @roster.yaml --policy @main.yaml --policy library:all")
	stdout, _ := s.ok("roster compile @roster.yaml --json --out @roster")
	var j struct {
		Digest string `json:"digest"`
		Groups string `json:"digest_groups"`
	}
	d := protocol.DigestOf(s.state.Roster)
	if s.json(stdout, &j); j.Digest != d.String() || j.Groups != d.Groups() {
		t.Errorf("compile printed %s, want %s", stdout, d)
	}
	if _, err := policy.DecodeRoster(s.read("roster")); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"roster", "roster.yaml"} {
		if stdout, _ := s.ok("roster show @" + name); !strings.Contains(stdout, officer(2)) || !strings.Contains(stdout, d.Groups()) {
			t.Errorf("show: %s", stdout)
		}
	}
	s.fails([]failure{
		{"roster check @few.yaml", 4, "the loss of one"},
		{"roster check @few.yaml --json", 4, ""},
		{"roster check @unknown.yaml", 4, "unknown.yaml:3:5"},
		{"roster check @absent", 3, "absent"},
		{"roster compile @roster.yaml", 64, "--out"},
		{"roster compile @few.yaml --out @x", 4, "the loss of one"},
		{"roster show @main.yaml", 4, "main.yaml"},
	})
}
