package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coldseal/appliance"
	"coldseal/protocol"
	"coldseal/protocol/cose"
	"coldseal/protocol/media"
	"coldseal/protocol/shamir"
)

// TestMistypedShare has somebody type what is no share: it is asked for again, and what else was typed is not lost.
func TestMistypedShare(t *testing.T) {
	dir := t.TempDir()
	b := appliance.Backup{
		Version: 1, Appliance: protocol.Digest{1}, Name: "test", Created: 1, Size: 2, Root: protocol.Digest{2}, Ledger: 3, Parts: 1,
		Set: shamir.Set{Threshold: 2, Digests: make([][16]byte, 3)},
	}
	header, bad := cose.Marshal(b)
	path, err := media.Name{Kind: media.Backup, Appliance: media.Tag(b.Appliance), Set: b.Set.ID.String(), File: "backup"}.Path()
	if err := errors.Join(bad, err, os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o700), os.WriteFile(filepath.Join(dir, path), header, 0o600)); err != nil {
		t.Fatal(err)
	}
	args := []string{"restore", "open", "--state", filepath.Join(dir, "state"), "--media", dir, "--digest", b.Appliance.String(), "--ask"}
	code, said := atTerminal(t, args, true, strings.Repeat("zoo ", 46)+"zoö\n", "hunter2\n", "\n")
	if code != 6 || strings.Count(said, "; type it again") != 2 || !strings.Contains(said, "too few shares") {
		t.Errorf("exit %d, %s", code, said)
	}
	if strings.Count(said, "hunter2") != 1 {
		t.Errorf("a word of what is no share is told: %s", said)
	}
}
