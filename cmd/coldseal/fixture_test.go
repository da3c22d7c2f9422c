package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"coldseal/cmd/internal/cli"
	"coldseal/cmd/internal/person"
	"coldseal/protocol"
	"coldseal/protocol/cose"
	"coldseal/protocol/keyfile"
	"coldseal/protocol/policy"
)

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// site is a folder with an appliance's introduction and the keys of its officers.
type site struct {
	t        testing.TB
	dir      string
	digest   protocol.Digest
	genesis  []byte
	log      ed25519.PrivateKey
	seal     *ecdsa.PrivateKey
	officers []crypto.Signer
	roster   *policy.Roster
	policy   *policy.Policy
	state    protocol.State
}

func ecKey(t testing.TB, n byte) *ecdsa.PrivateKey {
	t.Helper()
	return must[*ecdsa.PrivateKey](t)(ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{n}, 32)))
}

func spkiOf(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	return must[[]byte](t)(x509.MarshalPKIXPublicKey(key.Public()))
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	return must[[]byte](t)(cose.Marshal(v))
}

func officer(n int) string { return "it:OFFICER" + string(rune('0'+n)) }

func newSite(t testing.TB) *site {
	s := &site{t: t, dir: t.TempDir(), log: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, 32)), seal: ecKey(t, 8)}
	s.roster = &policy.Roster{Version: 1}
	for n := 1; n <= 3; n++ {
		key := ecKey(t, byte(n))
		s.officers = append(s.officers, key)
		s.roster.Officers = append(s.roster.Officers, policy.Officer{Person: officer(n), Name: "Officer", Keys: [][]byte{spkiOf(t, key)},
			Roles: []string{"security-officer"}, Scopes: []protocol.Scope{{Profile: protocol.Any, Body: protocol.Any}}})
		s.write(officer(n)[3:]+".key", must[[]byte](t)(keyfile.Encode(key, nil)))
	}
	for _, kind := range protocol.RuledOrders() {
		s.roster.Orders = append(s.roster.Orders, policy.OrderRule{Kind: kind, Persons: 2, Role: "security-officer"})
	}
	s.write("main.yaml", []byte("policy: test\nclock_ahead: 100 days\n"))
	s.policy = must[*policy.Policy](t)(cli.LoadPolicy([]string{s.path("main.yaml"), "library:all"}))
	s.state = protocol.State{Policy: must[[]byte](t)(policy.Encode(s.policy)), Roster: must[[]byte](t)(policy.EncodeRoster(s.roster))}
	s.genesis = marshal(t, protocol.Genesis{Version: 1, Name: "vault", Nonce: [16]byte{7}, Created: 1800000000, Log: spkiOf(t, s.log),
		Receiver: spkiOf(t, ecKey(t, 7)), Seal: spkiOf(t, s.seal), Roster: s.state.Roster, Policy: s.state.Policy})
	s.digest = protocol.DigestOf(s.genesis)
	s.introduce()
	return s
}

func (s *site) introduce() {
	s.write("introduction", must[[]byte](s.t)(protocol.MakeIntroduction(s.genesis, nil, s.state, s.seal)))
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) write(name string, data []byte) string {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), data, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return s.path(name)
}

func (s *site) read(name string) []byte {
	s.t.Helper()
	return must[[]byte](s.t)(os.ReadFile(s.path(name)))
}

// run runs coldseal with the words of line; @NAME is a file of the site, $DIGEST its digest, $KNOWN the two flags.
func (s *site) run(line string, more ...string) (code int, stdout, stderr string) {
	s.t.Helper()
	line = strings.ReplaceAll(line, "$KNOWN", "--introduction @introduction --digest $DIGEST")
	line = strings.ReplaceAll(line, "$DIGEST", s.digest.String())
	args := strings.Fields(line)
	for i, a := range args {
		args[i] = strings.ReplaceAll(a, "@", s.dir+"/")
	}
	var out, words bytes.Buffer
	code = cli.Run(rootCommand(), append(args, more...), strings.NewReader(""), &out, &words)
	return code, out.String(), words.String()
}

// ok runs a command that has to succeed.
func (s *site) ok(line string, more ...string) (stdout, stderr string) {
	s.t.Helper()
	code, stdout, stderr := s.run(line, more...)
	if code != 0 {
		s.t.Fatalf("%s: exit %d\n%s%s", line, code, stdout, stderr)
	}
	return stdout, stderr
}

// fails runs commands that have to fail with a code and words.
func (s *site) fails(tests []failure) {
	s.t.Helper()
	for _, test := range tests {
		code, stdout, stderr := s.run(test.line)
		if code != test.code || !strings.Contains(stderr, test.words) {
			s.t.Errorf("%s: exit %d, want %d with %q\n%s%s", test.line, code, test.code, test.words, stdout, stderr)
		}
	}
}

type failure struct {
	line  string
	code  int
	words string
}

func (s *site) json(text string, v any) {
	s.t.Helper()
	var schema struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal([]byte(text), &schema); err != nil || schema.Schema != 1 {
		s.t.Fatalf("JSON without its schema, %v: %s", err, text)
	}
	if err := json.Unmarshal([]byte(text), v); err != nil {
		s.t.Fatal(err)
	}
}

// issue makes a request for a certificate and returns its bytes.
func (s *site) issue(profile, body, subject string, key crypto.Signer, change func(*protocol.Request, *protocol.Issuance)) []byte {
	s.t.Helper()
	p, found := s.policy.Profile(profile)
	if !found {
		s.t.Fatalf("no profile %s", profile)
	}
	now := time.Now().Unix()
	r := protocol.Request{Version: 1, Appliance: s.digest, Kind: protocol.KindIssue, Issuer: protocol.DigestOf(spkiOf(s.t, ecKey(s.t, 20))), Profile: profile,
		ProfileDigest: must[protocol.Digest](s.t)(p.Digest()), Body: body, Subject: subject, Created: now, Expires: now + 86400}
	copy(r.Nonce[:], subject)
	c := protocol.Issuance{CSR: must[[]byte](s.t)(person.MakeCSR(key, "")), Origin: protocol.OriginHolder}
	if change != nil {
		change(&r, &c)
	}
	r.Content = marshal(s.t, c)
	raw := marshal(s.t, r)
	if _, refusal := protocol.ParseRequest(raw); refusal != nil {
		s.t.Fatal(refusal.Words())
	}
	return raw
}

// approvals reads the approvals in a file or folder, opened with the key.
func (s *site) approvals(name string, key crypto.Signer) []protocol.Approval {
	s.t.Helper()
	verifier := must[cose.Key](s.t)(cose.NewKey(key.Public()))
	files := []string{s.path(name)}
	if info := must[os.FileInfo](s.t)(os.Stat(s.path(name))); info.IsDir() {
		files = must[[]string](s.t)(filepath.Glob(s.path(name) + "/*.approval"))
	}
	slices.Sort(files)
	var all []protocol.Approval
	for _, f := range files {
		a, refusal := protocol.OpenApproval(must[[]byte](s.t)(os.ReadFile(f)), verifier)
		if refusal != nil {
			s.t.Fatal(refusal.Words())
		}
		all = append(all, a)
	}
	return all
}
