package policy

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"testing"

	"coldseal/protocol"
)

// python is Debian's own interpreter: another one may lack python3-cbor2.
const python = "/usr/bin/python3"

// vector is testdata/library.json: all profiles that we ship and a roster, compiled; byte strings are hexadecimal.
type vector struct {
	Policy string `json:"policy"`
	Roster string `json:"roster"`
}

// digests is what the judge finds.
type digests struct {
	Policy   string            `json:"policy"`
	Roster   string            `json:"roster"`
	Profiles map[string]string `json:"profiles"`
}

func TestVector(t *testing.T) {
	files, err := Files(Library())
	if err != nil {
		t.Fatal(err)
	}
	p, err := Load(append(files, File{"base.yaml", []byte("policy: library\nclock_ahead: 400 days\n")})...)
	if err != nil {
		t.Fatal(err)
	}
	r := &Roster{Version: protocol.Version}
	for i, person := range []string{"it:A", "it:B", "it:C"} {
		seed := bytes.Repeat([]byte{byte(i + 1)}, ed25519.SeedSize)
		key, err := x509.MarshalPKIXPublicKey(ed25519.NewKeyFromSeed(seed).Public())
		if err != nil {
			t.Fatal(err)
		}
		r.Officers = append(r.Officers, Officer{Person: person, Name: person, Keys: [][]byte{key}, Roles: []string{"security-officer"}})
	}
	for _, k := range protocol.RuledOrders() {
		r.Orders = append(r.Orders, OrderRule{Kind: k, Persons: 2, Role: "security-officer"})
	}
	policyData, err := Encode(p)
	if err != nil {
		t.Fatal(err)
	}
	rosterData, err := EncodeRoster(r)
	if err != nil {
		t.Fatal(err)
	}
	made, err := json.MarshalIndent(vector{hex.EncodeToString(policyData), hex.EncodeToString(rosterData)}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	made = append(made, '\n')
	const file = "testdata/library.json"
	if *update {
		if err := os.WriteFile(file, made, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(kept, made) {
		t.Error("the library compiles to other bytes than the vector's; if that is meant, run go test -run TestVector -update")
	}

	var found digests
	if err := json.Unmarshal(judge(t, kept), &found); err != nil {
		t.Fatal(err)
	}
	c, err := Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	if found.Policy != c.Digest.String() || found.Roster != protocol.DigestOf(rosterData).String() || len(found.Profiles) != len(p.Profiles) {
		t.Errorf("the judge finds %+v", found)
	}
	for name, digest := range found.Profiles {
		if q, known := c.Profile(name); !known || q.Digest.String() != digest {
			t.Errorf("the judge finds digest %s of profile %s", digest, name)
		}
	}
}

// TestJudgeRefuses shows that the judge does judge: each byte of the roster changed, and it must not say the same.
func TestJudgeRefuses(t *testing.T) {
	kept, err := os.ReadFile("testdata/library.json")
	if err != nil {
		t.Fatal(err)
	}
	good := judge(t, kept)
	var v vector
	if err := json.Unmarshal(kept, &v); err != nil {
		t.Fatal(err)
	}
	data, err := hex.DecodeString(v.Roster)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{0, 1, 2, len(data) / 2, len(data) - 1} {
		bad := bytes.Clone(data)
		bad[at] ^= 1
		broken, err := json.Marshal(vector{v.Policy, hex.EncodeToString(bad)})
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(python, "testdata/judge.py")
		cmd.Stdin = bytes.NewReader(broken)
		if out, err := cmd.Output(); err == nil && bytes.Equal(out, good) {
			t.Errorf("byte %d of the roster changed: the judge says the same", at)
		}
	}
}

func judge(t *testing.T, v []byte) []byte {
	t.Helper()
	cmd := exec.Command(python, "testdata/judge.py")
	cmd.Stdin = bytes.NewReader(v)
	var words bytes.Buffer
	cmd.Stderr = &words
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("judge: %v\n%s", err, words.Bytes())
	}
	return out
}
