package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"coldseal/protocol/keyfile"
)

// mostBackupMiB is of all processes that make, check or restore a backup: the state is larger.
const mostBackupMiB = 64

// limited gives a command whose processes may have no more data than dataLimit.
func limited(path string) []string {
	return []string{"-c", fmt.Sprintf(`ulimit -d %d; exec "$0" "$@"`, dataLimit>>10), path}
}

// box is an appliance whose commands have to do with little memory.
type box struct {
	*testing.T
	*world
}

func (b box) run(args ...string) error {
	b.Helper()
	return b.measure("coldseal-appliance", append(args, "--state", b.path(applianceDir), "--secret-file", b.path(secretFile))...)
}

func (b box) measure(program string, args ...string) error {
	b.Helper()
	u, err := execute(b.Context(), "/bin/sh", append(limited(filepath.Join(b.bin, program)), args...)...)
	if err != nil {
		return err
	}
	b.Logf("%s %s: %.1f s, peak of RssAnon %.1f MiB", args[0], args[1], u.seconds, u.peak)
	if u.peak > mostBackupMiB {
		b.Errorf("%s %s: peak of RssAnon is %.1f MiB, at most %d", args[0], args[1], u.peak, mostBackupMiB)
	}
	return nil
}

func (b box) backUp(name string) (medium string, shares []string) {
	b.Helper()
	medium, shares, err := b.world.backUp(name, b.run)
	if err != nil {
		b.Fatal(err)
	}
	return medium, shares
}

// restore goes on from a backup of long ago with all that the agent knows of the log.
func (b box) restore(medium string, shares []string) {
	b.Helper()
	log, order := b.path("log"), b.path("restore.order")
	if err := os.Mkdir(log, 0o700); err != nil {
		b.Fatal(err)
	}
	export := []string{"log", "export", "--state", b.path(agentDir), "--media", log}
	if err := b.measure("coldseal-agent", export...); err != nil {
		b.Fatal(err)
	}
	said, err := exec.Command(filepath.Join(b.bin, "coldseal-agent"), export...).CombinedOutput()
	if want := fmt.Sprintf("%d with what became of requests", manyItems+1); err != nil || !strings.Contains(string(said), want) { // and the approver's
		b.Fatalf("%v, want %s\n%s", err, want, said)
	}
	if err := os.Rename(b.path(applianceDir), b.path("dead")); err != nil {
		b.Fatal(err)
	}
	approve := []string{"console", "order", "--request", order, "--yes"}
	for i, key := range b.officer[:2] {
		data, err := keyfile.Encode(key, nil)
		if err != nil {
			b.Fatal(err)
		}
		name := b.path(strconv.Itoa(i) + ".key")
		if err := os.WriteFile(name, data, 0o600); err != nil {
			b.Fatal(err)
		}
		approve = append(approve, "--officer", name)
	}
	for _, args := range [][]string{
		{"restore", "open", "--media", medium, "--digest", b.digest, "--share", shares[0], "--share", shares[2]},
		{"restore", "leaves", "--media", log}, {"restore", "order", "--out", order}, approve,
	} {
		if err := b.run(args...); err != nil {
			b.Fatal(err)
		}
	}
	out, err := exec.CommandContext(context.Background(), filepath.Join(b.bin, "coldseal-appliance"), "log", "list", "--state", b.path(applianceDir), "--secret-file", b.path(secretFile)).Output()
	if err != nil || strings.Count(string(out), " restored ") != 1 || strings.Count(string(out), " refused ") < manyItems-issuedLast {
		b.Errorf("it was not restored with all that is known of the log: %v", err)
	}
}
