package auditlog

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/*.json anew")

// python is Debian's own interpreter: the packages of another one may lack python3-cbor2 and python3-cryptography.
const python = "/usr/bin/python3"

// vector is testdata/log.json; every byte string is hexadecimal.
type vector struct {
	About       string       `json:"about"`
	Genesis     string       `json:"genesis_digest"`
	LogKey      string       `json:"log_key"`
	Approver    string       `json:"approver_key"`
	Leaves      []vectorLeaf `json:"leaves"`
	Known       vectorTree   `json:"known"`
	Newest      vectorTree   `json:"newest"`
	Restored    vectorTree   `json:"restored"`
	Included    int64        `json:"inclusion_index"`
	Inclusion   []string     `json:"inclusion"`
	Consistency []string     `json:"consistency"`
	Range       []string     `json:"range"`
	File        vectorFile   `json:"inclusion_file"`
}

type vectorLeaf struct {
	About   string `json:"about"`
	Kind    Kind   `json:"kind"`
	Time    int64  `json:"time"`
	Issuer  string `json:"issuer"`
	Serial  string `json:"serial"`
	Status  Status `json:"status"`
	Profile string `json:"profile"`
	Number  uint64 `json:"number"`
	Salt    string `json:"salt"`
	Body    string `json:"body"`
	Leaf    string `json:"leaf"`
	Hash    string `json:"hash"`
}

// vectorFile is an inclusion proof as a file, of a log of its own, since it holds a genesis.
type vectorFile struct {
	Genesis string `json:"genesis_digest"`
	File    string `json:"file"`
}

type vectorTree struct {
	Size       int64  `json:"size"`
	Root       string `json:"root"`
	Checkpoint string `json:"checkpoint"`
}

// makeVector plays a short log: a certificate is issued, one signing is interrupted, then a certificate is held and a
// request withdrawn; the appliance is restored from a backup of what is known, and goes on.
func makeVector(t testing.TB) vector {
	const known, included, newest = 9, 5, 20
	genesis := sha256.Sum256([]byte("genesis statement"))
	v := vector{
		About: "log.md: a log of 20 leaves, with checkpoints at 9 and 20, the inclusion of leaf 5 under 20, and the " +
			"consistency and range proofs from 9 to 20; then a restore from a backup of 9, to which the leaves 9 to 19 were brought, that of the order " +
			"without its body, with a checkpoint at 26; and a file with the inclusion of leaf 1 in another log; the log keys' seed is 32 bytes 07, " +
			"that of the approver 32 bytes 0a; the bodies of intents and of the restore are real ones, the others stand for such",
		Genesis: hex.EncodeToString(genesis[:]), LogKey: hex.EncodeToString(logPub), Included: included,
		Approver: hex.EncodeToString(approverKey.Public().(ed25519.PublicKey)),
	}
	var hashes stored
	bodies := makeIntents(t, genesis)
	appender := NewAppender(Range{})
	edge := func(size int64) Range {
		at, err := ReadRange(size, hashes)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	for i, entry := range []struct {
		about string
		leaf  Leaf
		body  string
	}{
		{"the appliance began", Leaf{Kind: Genesis}, "genesis statement"},
		{"the counter moves to 1", Leaf{Kind: Step, Number: 1}, ""},
		{"bundle number 1 was used", Leaf{Kind: Bundle, Number: 1}, "bundle record"},
		{"two certificates are going to be signed", Leaf{Kind: Intents, Number: 2}, bodies.certificates},
		{"the counter moves to 2, then keys are used", Leaf{Kind: Step, Number: 2}, ""},
		{"a certificate was issued", Leaf{Kind: Issued, Issuer: issuer, Serial: []byte{0x4f, 0, 0x17}, Status: Active, Profile: "it-workstation"}, "result 1"},
		{"the signing of the other was interrupted", Leaf{Kind: Burned, Issuer: issuer, Serial: []byte{0x4f, 0, 0x18}, Status: Revoked, Profile: "it-workstation"}, "intent 2"},
		{"a request was refused for good", Leaf{Kind: Refused}, "result 3"},
		{"the counter moves to 3, then the response is stored", Leaf{Kind: Step, Number: 3}, ""},
		{"bundle number 2 was used", Leaf{Kind: Bundle, Number: 2}, "bundle record"},
		{"a certificate is about to be held", Leaf{Kind: Intents, Number: 1}, bodies.hold},
		{"the certificate was held", Leaf{Kind: Changed, Issuer: issuer, Serial: []byte{0x4f, 0, 0x17}, Status: Held}, "result 4"},
		{"an order was carried out", Leaf{Kind: Order}, "result 5"},
		{"a request is about to be withdrawn", Leaf{Kind: Intents, Number: 1}, bodies.withdrawal},
		{"the counter moves to 4", Leaf{Kind: Step, Number: 4}, ""},
		{"a request was withdrawn", Leaf{Kind: Withdrawn}, "result 6"},
		{"a CRL is going to be signed", Leaf{Kind: Intents, Number: 1}, bodies.crl},
		{"the counter moves to 5, then the CRL is signed", Leaf{Kind: Step, Number: 5}, ""},
		{"CRL number 1", Leaf{Kind: CRL, Issuer: issuer, Number: 1}, "CRL record"},
		{"the counter moves to 6", Leaf{Kind: Step, Number: 6}, ""},
		{"the appliance was restored from a backup of 9 leaves; its device's counter is at 40", Leaf{Kind: Restored, Number: 40}, ""},
		{"the counter moves to 41", Leaf{Kind: Step, Number: 41}, ""},
		{"a CRL is going to be signed", Leaf{Kind: Intents, Number: 1}, bodies.crl},
		{"the counter moves to 42, then the CRL is signed", Leaf{Kind: Step, Number: 42}, ""},
		{"CRL number 1002, above all that may be known", Leaf{Kind: CRL, Issuer: issuer, Number: restoredFloor + 1}, "CRL record"},
		{"the counter moves to 43", Leaf{Kind: Step, Number: 43}, ""},
	} {
		l := entry.leaf
		if l.Kind == Restored {
			entry.body = makeRestored(t, genesis, known, uint64(i), edge(int64(i)).Root())
		}
		l.Time = 1_800_000_000 + int64(i)
		shown := vectorLeaf{About: entry.about, Kind: l.Kind, Time: l.Time, Issuer: hex.EncodeToString(l.Issuer),
			Serial: hex.EncodeToString(l.Serial), Status: l.Status, Profile: l.Profile, Number: l.Number}
		if entry.body != "" {
			salt := [16]byte(bytes.Repeat([]byte{byte(i)}, 16))
			l.Body = BodyDigest(salt, []byte(entry.body))
			shown.Salt, shown.Body = hex.EncodeToString(salt[:]), hex.EncodeToString([]byte(entry.body))
		}
		data, err := l.Encode()
		if err != nil {
			t.Fatal(err)
		}
		hash := LeafHash(data)
		shown.Leaf, shown.Hash = hex.EncodeToString(data), hex.EncodeToString(hash[:])
		v.Leaves = append(v.Leaves, shown)
		_, more := appender.Append(data)
		hashes = append(hashes, more...)
	}
	tree := func(size int64) vectorTree {
		top := edge(size).Root()
		name := Origin(genesis)
		signed, err := SignCheckpoint(CheckpointText(name, size, top), name, logKey)
		if err != nil {
			t.Fatal(err)
		}
		return vectorTree{Size: size, Root: hex.EncodeToString(top[:]), Checkpoint: string(signed)}
	}
	v.Known, v.Newest, v.Restored = tree(known), tree(newest), tree(int64(len(v.Leaves)))
	show := func(proof [][]byte, err error) (out []string) {
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range proof {
			out = append(out, hex.EncodeToString(h))
		}
		return out
	}
	v.Inclusion = show(ProveInclusion(newest, included, hashes))
	v.Consistency = show(ProveConsistency(known, newest, hashes))
	v.Range = show(ProveRange(known, hashes))
	v.File = makeFile(t)
	return v
}

func marshal(t *testing.T, v vector) []byte {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(data, '\n')
}

func TestVector(t *testing.T) {
	want := marshal(t, makeVector(t))
	if *update {
		if err := os.WriteFile("testdata/log.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("testdata/log.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("testdata/log.json is not what the code makes; if that is meant, run the test with -update")
	}
}

func TestSpecificationShowsTheVector(t *testing.T) {
	spec, err := os.ReadFile("../log.md")
	if err != nil {
		t.Fatal(err)
	}
	v := makeVector(t)
	shown := append([]string{v.Newest.Checkpoint, v.LogKey, v.Leaves[v.Included].Leaf, v.Leaves[v.Included].Hash}, v.Inclusion...)
	shown = append(append(shown, v.Consistency...), v.Range...)
	shown = append(shown, v.Leaves[13].Body, v.Leaves[v.Newest.Size].Leaf, hex.EncodeToString(restoreOf(t, v).Content))
	for _, text := range shown {
		if !strings.Contains(string(spec), text) {
			t.Errorf("log.md does not show %s", text)
		}
	}
}

// judgeVector has code that is not ours decode and verify a vector.
func judgeVector(v []byte) error {
	cmd := exec.Command(python, "testdata/judge.py")
	cmd.Stdin = bytes.NewReader(v)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("judge.py: %w\n%s", err, out)
	}
	if string(out) != "accepted\n" {
		return fmt.Errorf("judge.py said %q", out)
	}
	return nil
}

func TestJudgeAcceptsTheVector(t *testing.T) {
	data, err := os.ReadFile("testdata/log.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := judgeVector(data); err != nil {
		t.Error(err)
	}
}

// TestJudgeRefusesBrokenVectors shows that the judge looks at each part.
func TestJudgeRefusesBrokenVectors(t *testing.T) {
	flip := func(text *string) {
		digits := []byte(*text)
		if last := len(digits) - 1; digits[last] == '0' {
			digits[last] = '1'
		} else {
			digits[last] = '0'
		}
		*text = string(digits)
	}
	for name, breakIt := range map[string]func(*vector){
		"leaf":        func(v *vector) { v.Leaves[3].Leaf = v.Leaves[2].Leaf },
		"leaf hash":   func(v *vector) { flip(&v.Leaves[3].Hash) },
		"serial":      func(v *vector) { flip(&v.Leaves[5].Serial) },
		"salt":        func(v *vector) { flip(&v.Leaves[5].Salt) },
		"root":        func(v *vector) { flip(&v.Known.Root) },
		"checkpoint":  func(v *vector) { v.Newest.Checkpoint = strings.Replace(v.Newest.Checkpoint, "20", "21", 1) },
		"intents":     func(v *vector) { flip(&v.Leaves[10].Body) },
		"backup":      func(v *vector) { v.Known.Size-- },
		"after it":    func(v *vector) { v.Restored.Checkpoint = strings.Replace(v.Restored.Checkpoint, "26", "27", 1) },
		"end":         func(v *vector) { flip(&v.Restored.Root) },
		"log key":     func(v *vector) { flip(&v.LogKey) },
		"approver":    func(v *vector) { flip(&v.Approver) },
		"origin":      func(v *vector) { v.Genesis = strings.Repeat("0", 64) },
		"inclusion":   func(v *vector) { flip(&v.Inclusion[1]) },
		"file":        func(v *vector) { flip(&v.File.File) },
		"file digest": func(v *vector) { flip(&v.File.Genesis) },
		"consistency": func(v *vector) { flip(&v.Consistency[1]) },
		"range":       func(v *vector) { flip(&v.Range[1]) },
		"no range":    func(v *vector) { v.Range = nil },
	} {
		v := makeVector(t)
		breakIt(&v)
		if err := judgeVector(marshal(t, v)); err == nil || !strings.Contains(err.Error(), "refused: ") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
