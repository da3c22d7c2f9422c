package shamir

import (
	"bytes"
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

var update = flag.Bool("update", false, "write testdata/shares.json anew")

// vector is testdata/shares.json; bytes are hexadecimal.
type vector struct {
	About  string   `json:"about"`
	Secret string   `json:"secret"`
	Random string   `json:"random"` // what Split draws: the set's name, then the coefficients
	K      int      `json:"k"`
	N      int      `json:"n"`
	Shares []string `json:"shares"`
	Words  []string `json:"words"`
	Texts  []string `json:"texts"`
}

// makeVector splits a secret with numbers that anybody can make again.
func makeVector(t *testing.T) vector {
	v := vector{About: "share.md: a secret split 3 of 5; the secret is the bytes 00 to 1f, random are SHA-256 of 00, 01, …", K: 3, N: 5}
	var secret [SecretSize]byte
	for i := range secret {
		secret[i] = byte(i)
	}
	var random []byte
	for i := byte(0); len(random) < idSize+2*SecretSize; i++ {
		sum := sha256.Sum256([]byte{i})
		random = append(random, sum[:]...)
	}
	random = random[:idSize+2*SecretSize]
	_, shares, err := Split(secret, v.K, v.N, bytes.NewReader(random))
	if err != nil {
		t.Fatal(err)
	}
	v.Secret, v.Random = hex.EncodeToString(secret[:]), hex.EncodeToString(random)
	for _, s := range shares {
		v.Shares = append(v.Shares, hex.EncodeToString(s.Encode()))
		v.Words = append(v.Words, strings.Join(s.Words(), " "))
		v.Texts = append(v.Texts, s.Text())
	}
	return v
}

func TestVector(t *testing.T) {
	want, err := json.MarshalIndent(makeVector(t), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		if err := os.WriteFile("testdata/shares.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("testdata/shares.json")
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("testdata/shares.json is not what the code makes (%v); -update writes it", err)
	}
}

// TestJudge has the vector, and a secret split anew, made and opened by a program that shares nothing with this one.
func TestJudge(t *testing.T) {
	fresh := makeVector(t)
	secret := secretOf(t)
	_, shares := split(t, secret, 4, 16)
	fresh.K, fresh.N, fresh.Secret, fresh.Random, fresh.Shares, fresh.Words, fresh.Texts = 4, 16, hex.EncodeToString(secret[:]), "", nil, nil, nil
	for _, s := range shares {
		fresh.Shares = append(fresh.Shares, hex.EncodeToString(s.Encode()))
		fresh.Words = append(fresh.Words, strings.Join(s.Words(), " "))
		fresh.Texts = append(fresh.Texts, s.Text())
	}
	made, err := json.Marshal(fresh)
	if err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile("testdata/shares.json")
	if err != nil {
		t.Fatal(err)
	}
	judge := func(in []byte) (string, error) {
		cmd := exec.Command("/usr/bin/python3", "testdata/judge.py")
		cmd.Stdin = bytes.NewReader(in)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for name, in := range map[string][]byte{"written": written, "fresh": made} {
		if out, err := judge(in); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	if out, err := judge(bytes.Replace(written, []byte(`"secret": "00`), []byte(`"secret": "01`), 1)); err == nil {
		t.Errorf("the judge finds no fault in another secret: %s", out)
	}
}

// TestWordList holds the list to the one that BIP-39 publishes.
func TestWordList(t *testing.T) {
	const want = "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda"
	if got := fmt.Sprintf("%x", sha256.Sum256([]byte(english))); got != want {
		t.Errorf("SHA-256 of words.txt is %s, want %s", got, want)
	}
	if list := wordList(); len(list) != 1<<wordBits {
		t.Errorf("%d words", len(list))
	}
}

// TestSpec holds the example of share.md to the vector.
func TestSpec(t *testing.T) {
	spec, err := os.ReadFile("share.md")
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParseText(makeVector(t).Words[1])
	if err != nil {
		t.Fatal(err)
	}
	section := func(name string) string {
		_, rest, _ := strings.Cut(string(spec), name+":\n\n```\n")
		text, _, _ := strings.Cut(rest, "```")
		return text
	}
	var bytes string
	for line := range strings.Lines(section(" (`testdata/shares.json`)")) {
		data, _, _ := strings.Cut(line, "#")
		bytes += strings.TrimSpace(data)
	}
	if bytes != hex.EncodeToString(s.Encode()) {
		t.Errorf("the bytes of share.md are %s", bytes)
	}
	for _, name := range []string{"As words", "As the text of a QR code"} {
		if got, err := ParseText(section(name)); err != nil || got != s {
			t.Errorf("%s: %v", name, err)
		}
	}
}
