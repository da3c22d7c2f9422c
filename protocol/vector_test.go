package protocol_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	gocose "github.com/veraison/go-cose"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
)

var update = flag.Bool("update", false, "write testdata/*.txt, the examples in the specifications and docs/refusals.md anew")

// python is Debian's own interpreter: the packages of another one may lack python3-cbor2 and python3-cryptography.
const python = "/usr/bin/python3"

// vector is a file of testdata.
type vector struct {
	name string
	text string
	data []byte
}

// makeVectors makes all vectors of the world.
func makeVectors(w *world) []vector {
	var all []vector
	add := func(name, about string, data []byte, parts ...part) {
		digest := protocol.DigestOf(data)
		text := annotate(w.t, []string{name + ": " + about, "SHA-256: " + digest.String()}, data, parts...)
		all = append(all, vector{name, text, data})
	}
	one := func(label string, like any, inside map[string]any) part {
		return part{label: label, like: like, inside: inside}
	}
	some := func(n int, label string, like any, inside map[string]any) []part {
		return slices.Repeat([]part{{label, like, true, inside}}, n)
	}
	for _, r := range requestVectors {
		add("request-"+r.name, r.about, w.requests[r.name], one("request", protocol.Request{}, map[string]any{
			"content": r.content, "party": protocol.Party{}, "evidence": message{protocol.KeyStatement{}}, "possession": message{},
		}))
	}
	for _, key := range []string{"approver-p256", "approver-p384", "approver-ed25519", "approver-rsa"} {
		add("approval-"+strings.TrimPrefix(key, "approver-"), "signed with the key "+key, w.approvals[key], one("approval", message{protocol.Approval{}}, nil))
	}
	add("item-renew", "signed by the current key and by the requester", w.signedItem(),
		one("item", protocol.Item{}, map[string]any{"current": message{}, "requester": message{}}))
	add("bundle", "something to take away, then two requests", w.bundle, slices.Concat(
		some(1, "header", message{protocol.BundleHeader{}}, nil),
		some(1, "group", groupHeader{}, nil), some(1, "item", protocol.Item{}, nil),
		some(1, "group", groupHeader{}, nil), some(2, "item", protocol.Item{}, nil))...)
	add("response", "the answer to bundle.txt", w.response, slices.Concat(
		some(1, "handovers", nil, nil), some(1, "header", message{protocol.ResponseHeader{}}, nil),
		some(3, "answer", protocol.Answer{}, map[string]any{"body": protocol.Result{}}),
		some(8, "leaf", auditlog.Leaf{}, nil), some(1, "crl", nil, nil))...)
	add("receipt", "for what bundle.txt takes away", w.receipt, one("receipt", message{protocol.Receipt{}}, nil))
	add("party-agent", "an agent", w.agent, one("party", protocol.Party{}, nil))
	add("party-station", "a station that was retired", w.station, one("party", protocol.Party{}, nil))
	add("genesis", "its SHA-256 is the appliance's identity", w.genesis, one("genesis", protocol.Genesis{}, nil))
	add("introduction", "genesis and state", w.introduction(),
		one("introduction", introduction{}, map[string]any{"genesis": protocol.Genesis{}, "signed": message{protocol.State{}}}))
	inHandover := map[string]any{"statement": message{protocol.Handover{}}, "possession": message{}}
	add("handover", "the seal key that stands in a log of more than 30 leaves", w.handed()[1], one("handover", handover{}, inHandover))
	inHandover["genesis"], inHandover["handover"], inHandover["signed"] = protocol.Genesis{}, handover{}, message{protocol.State{}}
	add("introduction-later", "after all three keys were replaced", w.later(), one("introduction", introduction{}, inHandover))
	var keys strings.Builder
	keys.WriteString("# The public keys of the vectors: name, SubjectPublicKeyInfo. Private keys are in keys_test.go.\n")
	for _, k := range testKeys {
		fmt.Fprintf(&keys, "%s %x\n", k.name, spki(w.t, k.name))
	}
	return append(all, vector{name: "keys", text: keys.String()})
}

// requestVectors says what each request shows; its content encodes a value of this type.
var requestVectors = []struct {
	name, about string
	content     any
}{
	{"issue", "a certificate for a machine, whose key the agent made", protocol.Issuance{}},
	{"issue-approver", "an approver certificate; a station vouches for the key", protocol.Issuance{}},
	{"renew", "with the current key", protocol.Issuance{}},
	{"revoke", "the key is compromised, since three days", protocol.Revocation{}},
	{"hold", "revoke for the time being", protocol.Revocation{}},
	{"release", "end the hold that is log leaf 1", protocol.Release{}},
	{"withdraw", "request-issue is not to be done", protocol.Withdrawal{}},
	{"create-key", "a key for a CA", protocol.CreateKey{}},
	{"sign-ca", "a certificate for that key", protocol.SignCA{}},
	{"roster", "a new roster; one new key's holder proves possession", protocol.Replacement{}},
	{"policy", "a new policy", protocol.Replacement{}},
	{"agent", "enrol an agent", protocol.Enrolment{}},
	{"station", "change the record of a station", protocol.Enrolment{}},
	{"set-time", "set the clock", protocol.SetTime{}},
	{"crl", "a CRL now", protocol.CRLOrder{}},
	{"restore", "go on from a backup and the leaves brought since; one order is lost", protocol.Restoration{}},
	{"destroy-key", "a key is to be destroyed", protocol.DestroyKey{}},
	{"rotate-key", "the appliance's seal key is to be replaced", protocol.Rotation{}},
	{"foreign-ca", "a CA that is not ours, by which people are known", protocol.ForeignEnrolment{}},
	{"recovery", "announce the roster of request-roster", protocol.Recovery{}},
	{"cross-certify", "certify another CA", protocol.CrossCertification{}},
	{"suspend", "an officer suspends themself", protocol.Suspension{}},
	{"revoke-ca", "revoke a CA's certificate", protocol.CARevocation{}},
}

// loaded are vectors that were read, by name: fuzz targets want one each time.
var loaded sync.Map

// load reads a vector from testdata.
func load(t testing.TB, name string) []byte {
	if data, found := loaded.Load(name); found {
		return bytes.Clone(data.([]byte))
	}
	text, err := os.ReadFile(filepath.Join("testdata", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	data := unannotate(t, string(text))
	loaded.Store(name, bytes.Clone(data))
	return data
}

func TestVectors(t *testing.T) {
	known := map[string]bool{"judge.py": true, "fuzz": true}
	for _, v := range makeVectors(makeWorld(t)) {
		known[v.name+".txt"] = true
		path := filepath.Join("testdata", v.name+".txt")
		if *update {
			if err := os.WriteFile(path, []byte(v.text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != v.text {
			t.Errorf("%s is not what the code makes; if that is meant, run the test with -update", path)
		}
		if v.data != nil && !bytes.Equal(unannotate(t, v.text), v.data) {
			t.Errorf("%s: the annotation does not have the bytes of the vector", v.name)
		}
	}
	entries, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !known[e.Name()] {
			t.Errorf("testdata/%s is nobody's", e.Name())
		}
	}
}

// TestSpecificationsShowTheVectors compares each example, the fenced text under a line <!-- testdata/NAME.txt -->, with
// the vector.
func TestSpecificationsShowTheVectors(t *testing.T) {
	for spec, names := range map[string][]string{
		"request.md": {"request-issue", "party-agent"}, "approval.md": {"approval-p256"}, "bundle.md": {"bundle"},
		"response.md": {"response", "receipt", "introduction", "handover"},
	} {
		data, err := os.ReadFile(spec)
		if err != nil {
			t.Fatal(err)
		}
		text := string(data)
		for _, name := range names {
			mark := "<!-- testdata/" + name + ".txt -->\n```\n"
			before, after, found := strings.Cut(text, mark)
			shown, end, closed := strings.Cut(after, "```\n")
			if !found || !closed {
				t.Errorf("%s does not show %s", spec, name)
				continue
			}
			vector, err := os.ReadFile(filepath.Join("testdata", name+".txt"))
			if err != nil {
				t.Fatal(err)
			}
			if shown != string(vector) && !*update {
				t.Errorf("%s shows another %s; if that is meant, run the test with -update", spec, name)
			}
			text = before + mark + string(vector) + "```\n" + end
		}
		if *update {
			if err := os.WriteFile(spec, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestGoCoseVerifies has a library that is not ours verify every message of the vectors.
func TestGoCoseVerifies(t *testing.T) {
	w := makeWorld(t)
	makeVectors(w)
	seen := map[string]bool{}
	for _, m := range w.messages {
		seen[m.context] = true
		key := publicKey(t, m.key)
		verifier, err := gocose.NewVerifier(gocose.Algorithm(key.Algorithm()), key.Public())
		if err != nil {
			t.Fatal(err)
		}
		var theirs gocose.Sign1Message
		if err := theirs.UnmarshalCBOR(m.message); err != nil {
			t.Fatalf("%s: %v", m.context, err)
		}
		if err := theirs.Verify([]byte(m.context), verifier); err != nil {
			t.Errorf("%s by %s: %v", m.context, m.key, err)
		}
	}
	if len(seen) != 10 {
		t.Errorf("%d contexts are signed for, want all 10", len(seen))
	}
}

// judge has code that is not ours decode and verify the vectors of a folder.
func judge(dir string) error {
	out, err := exec.Command(python, filepath.Join("testdata", "judge.py"), dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("judge.py: %w\n%s", err, out)
	}
	if string(out) != "accepted\n" {
		return fmt.Errorf("judge.py said %q", out)
	}
	return nil
}

func TestJudgeAcceptsTheVectors(t *testing.T) {
	if err := judge("testdata"); err != nil {
		t.Error(err)
	}
}

// TestJudgeRefusesBrokenVectors shows that the judge looks at each vector. Of what is signed a byte near the end is
// wrong, of all else the version.
func TestJudgeRefusesBrokenVectors(t *testing.T) {
	vectors := makeVectors(makeWorld(t))
	for _, broken := range vectors {
		if broken.data == nil {
			continue
		}
		t.Run(broken.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for _, v := range vectors {
				text := v.text
				if v.name == broken.name {
					data := slices.Clone(v.data)
					at := 2
					if data[2] != protocol.Version {
						at = len(data) * 2 / 3
					}
					data[at] ^= 3
					text = hex.EncodeToString(data)
				}
				if err := os.WriteFile(filepath.Join(dir, v.name+".txt"), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := judge(dir); err == nil || !strings.Contains(err.Error(), "refused: "+broken.name) {
				t.Errorf("got %v", err)
			}
		})
	}
}
