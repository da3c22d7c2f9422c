package main

import (
	"bytes"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coldseal/cmd/internal/person"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/keyfile"
	"coldseal/protocol/media"
)

// bundle is a small bundle of an agent's, in clear.
func (s *site) bundle(agent *site, seal byte) []byte {
	s.t.Helper()
	raw := s.issue("it-workstation", "it/058091", "058091-PC-0001", ecKey(s.t, 40), nil)
	var rest, all bytes.Buffer
	if err := protocol.WriteGroup(&rest, protocol.Group{Section: protocol.SectionRequests, Items: [][]byte{marshal(s.t, protocol.Item{Request: raw})}}); err != nil {
		s.t.Fatal(err)
	}
	h := protocol.BundleHeader{Version: 1, From: "desk", To: s.digest, Sequence: 7, Created: 1800000000, Expires: 1800600000, Items: 1, Rest: protocol.DigestOf(rest.Bytes())}
	if err := protocol.WriteHeader(&all, h, ecKey(s.t, seal)); err != nil {
		s.t.Fatal(err)
	}
	return append(all.Bytes(), rest.Bytes()...)
}

func (s *site) sealTo(name string, plain []byte, receiver byte) {
	s.t.Helper()
	var sealed bytes.Buffer
	public, err := protocol.ReceiverKey(spkiOf(s.t, ecKey(s.t, receiver)))
	if err != nil {
		s.t.Fatal(err)
	}
	w := must[io.WriteCloser](s.t)(media.Encrypt(&sealed, public))
	if _, err := w.Write(plain); err != nil {
		s.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		s.t.Fatal(err)
	}
	s.write(name, sealed.Bytes())
}

// samples writes one file of each sort that inspect knows.
func samples(t testing.TB) *site {
	s := newSite(t)
	request := s.issue("it-workstation", "it/058091", "PC\x1b[2J\u202e", ecKey(t, 40), nil)
	s.write("request", request)
	s.ok("approve --key @OFFICER1.key $KNOWN --request @request --statement fingerprint --yes --out @approval")
	s.write("party", marshal(t, protocol.Party{Version: 1, Name: "desk", Role: protocol.RoleAgent, Seal: spkiOf(t, ecKey(t, 21)), Receiver: spkiOf(t, ecKey(t, 22)),
		Bodies: []string{"it"}, BundlesPerDay: 5, ItemsPerDay: 50}))
	s.write("receipt", must[[]byte](t)(cose.Sign(s.seal, protocol.ContextReceipt, marshal(t, protocol.Receipt{Appliance: s.digest, Request: protocol.ID(request),
		Outcome: protocol.OutcomeRevoked, Issuer: s.digest, Serial: []byte{1}, Time: 1800000000}))))
	s.write("genesis", s.genesis)
	s.write("policy", s.state.Policy)
	s.write("roster", s.state.Roster)
	s.write("result", marshal(t, protocol.Result{ID: protocol.ID(request), Outcome: protocol.OutcomeRefused, Refusal: protocol.Refuse(protocol.CodeWeakKey, "reason", "small")}))
	s.write("item", marshal(t, protocol.Item{Request: request, Requester: []byte{1}}))
	origin := auditlog.Origin(s.digest)
	s.write("checkpoint", must[[]byte](t)(auditlog.SignCheckpoint(auditlog.CheckpointText(origin, 2, auditlog.Hash{1}), origin, s.log)))
	s.write("bundle", s.bundle(s, 21))
	s.write("receiver.key", must[[]byte](t)(keyfile.Encode(ecKey(t, 7), nil)))
	s.sealTo("sealed", s.bundle(s, 21), 7)
	csr := must[[]byte](t)(person.MakeCSR(ecKey(t, 40), ""))
	s.write("csr.der", csr)
	s.write("csr.pem", append([]byte("Certificate request:\n"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})...))
	s.ok("key public --key @OFFICER1.key --out @OFFICER1.pub")
	for _, name := range []string{"gr-servant.cer", "issuing-P-256.crl"} {
		data := must[[]byte](t)(os.ReadFile(filepath.Join("../../appliance/issue/testdata", name)))
		s.write(name, data)
	}
	leaf := must[[]byte](t)(auditlog.Leaf{Kind: auditlog.Step, Number: 4}.Encode())
	s.write("leaf", leaf)
	return s
}

func TestInspect(t *testing.T) {
	s := samples(t)
	for _, test := range []struct {
		line  string
		wants []string
	}{
		{"@request", []string{"type           request", `PC\u{001b}[2J\u{202e}`, "058091"}},
		{"@approval", []string{"type           approval", "NOT VERIFIED", "fingerprint"}},
		{"@approval $KNOWN", []string{"signed by      it:OFFICER1", "signature      verified"}},
		{"@receipt $KNOWN", []string{"type           receipt", "the appliance vault", "revoked"}},
		{"@party", []string{"type           party", "desk"}},
		{"@genesis", []string{"type           genesis", s.digest.Groups()}},
		{"@policy", []string{"type           policy", "it-workstation"}},
		{"@roster", []string{"type           roster", "OFFICER3"}},
		{"@result", []string{"type           result", "weak-key", "make a new key"}},
		{"@item", []string{"type           request", "requester"}},
		{"@checkpoint", []string{"type           checkpoint", "NOT VERIFIED"}},
		{"@leaf", []string{"type           log entry", "step"}},
		{"@introduction $KNOWN", []string{"type           introduction", "signature      verified"}},
		{"@bundle", []string{"type           bundle", "NOT VERIFIED", "sequence       7", "are those that the header names"}},
		{"@bundle --party @party", []string{"agent desk, as ", "signature      verified"}},
		{"@bundle --full", []string{"- type       request"}},
		{"@sealed --key @receiver.key", []string{"type           bundle", "sequence       7"}},
		{"@csr.der", []string{"type           csr", "P-256"}},
		{"@csr.pem", []string{"type           csr", "P-256"}},
		{"@OFFICER1.pub", []string{"type           public key"}},
		{"@gr-servant.cer", []string{"type           certificate", "CN=Γεώργιος"}},
		{"@issuing-P-256.crl", []string{"type           crl", "certificateHold"}},
	} {
		stdout, _ := s.ok("inspect " + test.line)
		for _, want := range test.wants {
			if !strings.Contains(stdout, want) {
				t.Errorf("inspect %s: %q is missing in\n%s", test.line, want, stdout)
			}
		}
		if strings.ContainsAny(stdout, "\x1b\u202e") {
			t.Errorf("inspect %s drives the terminal", test.line)
		}
		asJSON, _ := s.ok("inspect --json " + test.line)
		for line := range strings.Lines(asJSON) {
			var v struct {
				Type string `json:"type"`
			}
			if s.json(line, &v); v.Type == "" {
				t.Errorf("inspect --json %s: %s", test.line, line)
			}
		}
	}
	name := strings.Fields("@request")[0]
	data := s.read(name[1:])
	if stdout, _ := s.ok("inspect @request"); !strings.Contains(stdout, protocol.DigestOf(data).Groups()) {
		t.Error("the digest is not shown in groups")
	}
}

func TestInspectRefuses(t *testing.T) {
	s := newSite(t)
	s.sealTo("sealed", []byte("x"), 7)
	s.write("receiver.key", must[[]byte](t)(keyfile.Encode(ecKey(t, 7), nil)))
	s.write("other.key", must[[]byte](t)(keyfile.Encode(ecKey(t, 6), nil)))
	s.write("cut", s.read("sealed")[:len(s.read("sealed"))-3])
	s.write("junk", []byte("hello"))
	s.write("map", []byte{0xa1, 1, 2})
	s.write("empty", nil)
	s.write("wrongseal", flip(s.bundle(s, 21), 120))
	s.write("party", marshal(t, protocol.Party{Version: 1, Name: "desk", Role: protocol.RoleAgent, Seal: spkiOf(t, ecKey(t, 21)), Receiver: spkiOf(t, ecKey(t, 22)),
		Bodies: []string{"it"}, BundlesPerDay: 5, ItemsPerDay: 50}))
	bundle := s.bundle(s, 21)
	s.write("altered", flip(bundle, len(bundle)-5))
	s.fails([]failure{
		{"inspect @sealed", 64, "--key"},
		{"inspect @sealed --key @other.key", 1, "another receiver"},
		{"inspect @cut --key @receiver.key", 7, "not intact"},
		{"inspect @sealed --key @receiver.key", 1, "no file that crosses the gap"},
		{"inspect @junk", 1, "no file that crosses the gap"},
		{"inspect @map", 1, "not one of the messages"},
		{"inspect @empty", 1, "empty"},
		{"inspect @absent", 3, "absent"},
		{"inspect @", 1, "not a regular file"},
		{"inspect @introduction", 64, "typed"},
		{"inspect @introduction --digest " + protocol.DigestOf(nil).String() + " --introduction @introduction", 7, "typed was"},
		{"inspect @OFFICER1.key", 1, "private key"},
		{"inspect @wrongseal --party @party", 7, "signature does not verify"},
		{"inspect @altered --party @party", 7, "the header says"},
		{"inspect", 64, "accepts 1 arg"},
	})
}

func flip(data []byte, i int) []byte {
	data = bytes.Clone(data)
	data[i] ^= 1
	return data
}

func TestMedia(t *testing.T) {
	s := newSite(t)
	s.write("file", []byte("content"))
	if err := os.Mkdir(s.path("stick"), 0o700); err != nil {
		t.Fatal(err)
	}
	const name = "coldseal/8f3a91c0/to-appliance/desk-0000000007.bundle"
	s.ok("media put @stick @file " + name)
	s.ok("media put @stick @file coldseal/8f3a91c0/clear/root.pem")
	s.ok("media put @stick @file coldseal/8f3a91c0/to-agent/desk/0000000007.response")
	if err := os.WriteFile(s.path("stick/coldseal/8f3a91c0/clear/\x1b.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	stdout, stderr := s.ok("media ls @stick")
	const want = "bundle    " + name + "\npublic    coldseal/8f3a91c0/clear/root.pem\nresponse  coldseal/8f3a91c0/to-agent/desk/0000000007.response\n"
	if stdout != want || !strings.Contains(stderr, `not ours: coldseal/8f3a91c0/clear/\u{001b}.txt`) {
		t.Errorf("ls printed %q, %q", stdout, stderr)
	}
	asJSON, _ := s.ok("media ls --json @stick")
	var j struct {
		Kind     string `json:"kind"`
		Agent    string `json:"agent"`
		Sequence uint64 `json:"sequence"`
	}
	first, _, _ := strings.Cut(asJSON, "\n")
	if s.json(first, &j); j.Kind != "bundle" || j.Agent != "desk" || j.Sequence != 7 {
		t.Errorf("ls --json printed %s", asJSON)
	}
	s.ok("media get @stick " + name + " --out @copy")
	if stdout, _ := s.ok("media get @stick " + name + " --out -"); stdout != "content" || string(s.read("copy")) != "content" {
		t.Errorf("got %q and %q", stdout, s.read("copy"))
	}
	s.write("file", []byte("other"))
	s.fails([]failure{
		{"media put @stick @file " + name, 1, "different file"},
		{"media put @stick @file ../out", 1, "name"},
		{"media put @stick @file a/", 64, "not the name"},
		{"media put @stick @absent a", 3, "absent"},
		{"media get @stick absent --out @x", 3, "absent"},
		{"media get @stick " + name, 64, "--out"},
		{"media ls @file", 64, "not a folder"},
		{"media ls @nowhere", 3, "nowhere"},
	})
	s.ok("media put --replace @stick @file " + name)
	if got := s.read("stick/" + name); string(got) != "other" {
		t.Errorf("the medium holds %q", got)
	}
}

func TestLint(t *testing.T) {
	s := newSite(t)
	// A linter that prints its arguments: the real one has tests of its own.
	fake := "#!/bin/sh\necho \"$@\"\nexit ${LINT_EXIT:-0}\n"
	if err := os.WriteFile(s.path("coldseal-lint"), []byte(fake), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", s.dir+":"+os.Getenv("PATH"))
	if stdout, _ := s.ok("lint cert --set rfc5280 --ignore a,b --json x.pem"); stdout != "cert --set rfc5280 --ignore a,b --json -- x.pem\n" {
		t.Errorf("the linter got %q", stdout)
	}
	t.Setenv("LINT_EXIT", "1")
	s.fails([]failure{{"lint crl x.crl", 1, ""}, {"lint", 64, "cert"}, {"lint cert", 64, "accepts 1 arg"}})
	t.Setenv("PATH", "/nonexistent")
	s.fails([]failure{{"lint ocsp x", 3, "find coldseal-lint"}})
}
