package main

import (
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"coldseal/protocol"
	"coldseal/protocol/keyfile"
)

func TestApproveTogether(t *testing.T) {
	s := newSite(t)
	approver := ecKey(t, 30)
	s.write("alp.key", must[[]byte](t)(keyfile.Encode(approver, nil)))
	if err := os.Mkdir(s.path("requests"), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range 12 {
		raw := s.issue("it-workstation", "it/058091", fmt.Sprintf("058091-PC-%04d", i), ecKey(t, byte(40+i)), nil)
		s.write(fmt.Sprintf("requests/%d.request", i), raw)
	}
	s.write("requests/again.request", s.read("requests/3.request"))
	stdout, stderr := s.ok("approve --key @alp.key $KNOWN --dir @requests --statement fingerprint --yes --expires 3d --out @one.approval")
	if stdout != s.path("one.approval")+"\n" || !strings.Contains(stderr, "12 × issue it-workstation for it/058091") || !strings.Contains(stderr, "not an officer's") {
		t.Errorf("stdout %q, stderr %q", stdout, stderr)
	}
	a := s.approvals("one.approval", approver)
	if len(a) != 1 || len(a[0].Entries) != 12 || a[0].Manifest[0].N != 12 || a[0].Expires-a[0].Created != 3*86400 || len(a[0].Challenge) != 0 {
		t.Errorf("approvals %+v", a)
	}
	for _, e := range a[0].Entries {
		if len(e.Statements) != 1 || !e.States(protocol.StatementFingerprint) {
			t.Errorf("statements %v", e.Statements)
		}
	}
	if _, stderr := s.ok("approve --key @alp.key $KNOWN --dir @requests --yes --out @warned"); !strings.Contains(stderr, "asks approvers to state fingerprint") {
		t.Errorf("no warning that the approval will not count: %s", stderr)
	}
	if stdout, _ := s.ok("approve --key @alp.key $KNOWN --dir @requests --dry-run --json"); !strings.HasPrefix(stdout, `{"schema":1,"requests":`) {
		t.Errorf("what would be approved, in JSON: %s", stdout)
	}
	if stdout, _ := s.ok("approve --key @alp.key $KNOWN --dir @requests --dry-run"); stdout != "" {
		t.Errorf("a dry run printed %q", stdout)
	}
}

func TestApproveAlone(t *testing.T) {
	s := newSite(t)
	ask := func(person string, n byte) []byte {
		return s.issue("approver", "it/058091", person, ecKey(t, n), func(_ *protocol.Request, c *protocol.Issuance) {
			c.Fields = map[string]string{"name": "Carla Fittizia"}
			c.Scopes = []protocol.Scope{{Profile: "it-workstation", Body: "it/058091"}}
		})
	}
	s.write("a.request", ask("it:FTTCRL84C52H501V", 50))
	s.write("b.request", ask("it:SMPBRN79S03F205N", 51))
	stdout, stderr := s.ok("approve --key @OFFICER1.key $KNOWN --request @a.request --request @b.request --statement presence,fingerprint --yes --json --out @both")
	var j struct {
		Approvals []struct {
			File     string   `json:"file"`
			Requests []string `json:"requests"`
		} `json:"approvals"`
	}
	if s.json(stdout, &j); len(j.Approvals) != 2 || len(j.Approvals[0].Requests) != 1 || strings.Contains(stderr, "warning") {
		t.Errorf("stdout %s, stderr %s", stdout, stderr)
	}
	for _, a := range s.approvals("both", s.officers[0]) {
		if len(a.Entries) != 1 || !a.Entries[0].States(protocol.StatementPresence) || !a.Entries[0].States(protocol.StatementFingerprint) {
			t.Errorf("approval %+v", a)
		}
	}
	s.ok("approve --key @OFFICER2.key $KNOWN --request @a.request --statement presence,fingerprint --yes --out @both")
	if entries := must[[]os.DirEntry](t)(os.ReadDir(s.path("both"))); len(entries) != 3 {
		t.Errorf("%d files of two officers", len(entries))
	}
}

func TestApproveOrder(t *testing.T) {
	s := newSite(t)
	s.ok("order create-key $KNOWN --label root --out @order")
	challenge := strings.Repeat("ab", 16)
	s.ok("approve --key @OFFICER1.key $KNOWN --request @order --yes --out @approval --challenge " + challenge)
	if a := s.approvals("approval", s.officers[0]); hex.EncodeToString(a[0].Challenge) != challenge {
		t.Errorf("challenge %x", a[0].Challenge)
	}
	if _, stderr := s.ok("approve --key @OFFICER1.key $KNOWN --request @order --yes --out @without"); !strings.Contains(stderr, "console") {
		t.Errorf("an order without a challenge: %s", stderr)
	}
}

func TestApproveRefuses(t *testing.T) {
	s := newSite(t)
	s.write("good", s.issue("it-workstation", "it/058091", "058091-PC-0001", ecKey(t, 40), nil))
	s.write("foreign", s.issue("it-workstation", "it/058091", "058091-PC-0001", ecKey(t, 40), func(r *protocol.Request, _ *protocol.Issuance) { r.Appliance[0] ^= 1 }))
	s.write("expired", s.issue("it-workstation", "it/058091", "058091-PC-0001", ecKey(t, 40), func(r *protocol.Request, _ *protocol.Issuance) {
		r.Created, r.Expires = time.Now().Unix()-86400, time.Now().Unix()-1
	}))
	s.write("changed", s.issue("it-workstation", "it/058091", "058091-PC-0001", ecKey(t, 40), func(r *protocol.Request, _ *protocol.Issuance) { r.ProfileDigest[0] ^= 1 }))
	s.write("junk", []byte("junk"))
	other := protocol.DigestOf([]byte("other")).String()
	s.fails([]failure{
		{"approve --key @OFFICER1.key $KNOWN --request @foreign --yes --out @x", 7, "addressed to the appliance"},
		{"approve --key @OFFICER1.key $KNOWN --request @expired --yes --out @x", 4, "could be used until"},
		{"approve --key @OFFICER1.key $KNOWN --request @junk --yes --out @x", 1, "cannot be read"},
		{"approve --key @OFFICER1.key $KNOWN --request @ --yes --out @x", 1, "it is a folder"},
		{"approve --key @OFFICER1.key $KNOWN --request @absent --yes --out @x", 3, "absent"},
		{"approve --key @OFFICER1.key $KNOWN --yes --out @x", 64, "--request"},
		{"approve --key @OFFICER1.key $KNOWN --dir @ --yes --out @x", 3, "no file"},
		{"approve --key @OFFICER1.key $KNOWN --request @good --yes", 64, "--out"},
		{"approve --key @OFFICER1.key $KNOWN --request @good --statement presents --yes --out @x", 64, "presents"},
		{"approve --key @OFFICER1.key $KNOWN --request @good --challenge abcd --yes --out @x", 64, "--challenge"},
		{"approve --key @OFFICER1.key $KNOWN --request @good --expires never --yes --out @x", 64, "--expires"},
		{"approve --key @OFFICER1.key $KNOWN --request @good --expires 999d --yes --out @x", 1, "too far apart"},
		{"approve --key @OFFICER1.key --introduction @introduction --request @good --yes --out @x", 64, "--digest"},
		{"approve --key @OFFICER1.key --digest $DIGEST --request @good --yes --out @x", 64, "--introduction"},
		{"approve --key @OFFICER1.key --introduction @introduction --digest " + other + " --request @good --yes --out @x", 7, "typed was"},
		{"approve $KNOWN --request @good --yes --out @x", 64, "--key"},
	})
	if _, err := os.Stat(s.path("x")); err == nil {
		t.Error("something was approved")
	}
	if _, stderr := s.ok("approve --key @OFFICER1.key $KNOWN --request @changed --yes --out @y"); !strings.Contains(stderr, "warning: the profile it-workstation") {
		t.Errorf("a changed profile: %s", stderr)
	}
}
