package policy

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"coldseal/protocol"
)

// The examples of policy.md are read, keep the laws, and have the digests that stand there.
func TestSpecification(t *testing.T) {
	text, err := os.ReadFile("../policy.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for i, part := range strings.Split(string(text), "```") {
		if i%2 == 1 {
			blocks = append(blocks, part)
		}
	}
	if len(blocks) != 4 {
		t.Fatalf("policy.md has %d blocks", len(blocks))
	}
	p, err := Load(File{"policy.md", []byte(strings.TrimPrefix(blocks[0], "yaml\n"))})
	if err != nil {
		t.Fatal(err)
	}
	o, err := LoadRoster(File{"policy.md", []byte(strings.TrimPrefix(blocks[1], "yaml\n"))})
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range Check(p, o) {
		t.Error(problem)
	}
	data, err := Encode(p)
	if err != nil {
		t.Fatal(err)
	}
	roster, err := EncodeRoster(o)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	q, _ := c.Profile("it-workstation")
	r, err := Compile(p)
	if err != nil || r.Digest != c.Digest {
		t.Errorf("compiled twice: %s and %s, %v", c.Digest, r.Digest, err)
	}
	want := fmt.Sprintf("\npolicy          %5d bytes  %s\nroster          %5d bytes  %s\nit-workstation              %s\n",
		len(data), c.Digest, len(roster), protocol.DigestOf(roster), q.Digest)
	if blocks[2] != want {
		t.Errorf("digests are\n%s\nwant\n%s", blocks[2], want)
	}
}
