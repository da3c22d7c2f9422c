// Package fire is the proof for the worst day: the real programs are killed, their system calls fail, their disk is full,
// older states are put back, ledgers edited, media torn, changed and taken away, and then it is asked what was lost. It
// holds tests only.
//
// A world is an appliance, an agent and a stick, made once by public commands and copied for each misfortune. What must
// hold afterwards is in check_test.go and is the same whatever happened: the command given again finishes; the log
// verifies and its audit finds nothing; no serial is there twice; what was asked for is issued once, imported once and
// logged; all that the signer was ever asked to sign was announced in the log before, and what was announced is issued or
// burned and on the CRL; the response is the same bytes whenever it is asked for.
//
// What kills and failing calls can't show is what a power cut leaves on the disk, for nothing written is lost by them.
// That is put together from a journal of all that was written (disk_test.go).
//
// Much is sampled in a usual run. FIRE_KILLS=5000 says how many kills there are, FIRE_CUTS=20000 how many power cuts,
// FIRE_ALL=1 leaves nothing out, and FIRE_SEED=N draws again what a failed run drew.
package fire

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// home is what all tests share: the programs, and worlds to copy.
var home struct {
	dir     string
	libexec string
}

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "coldseal-signer" {
		os.Exit(tap())
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "fire-")
	if err == nil {
		defer os.RemoveAll(dir)
		home.dir, home.libexec = dir, os.Getenv(apartVariable)
	}
	if err == nil && home.libexec == "" {
		err = build()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fire:", err)
		return 1
	}
	go starter()
	return m.Run()
}

// build makes the programs, and the folder in which the appliance finds its workers: there the tap stands for the
// signer.
func build() error {
	home.libexec = filepath.Join(home.dir, "libexec")
	real := filepath.Join(home.libexec, realDir)
	if err := os.MkdirAll(real, 0o755); err != nil {
		return err
	}
	made := exec.Command("go", "build", "-o", real+"/", "../cmd/...")
	made.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := made.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.Symlink(self, filepath.Join(home.libexec, "coldseal-signer")); err != nil {
		return err
	}
	return os.Symlink(filepath.Join(real, "coldseal-lint"), filepath.Join(home.libexec, "coldseal-lint"))
}

// everything tells whether nothing is to be left out.
func everything() bool { return os.Getenv("FIRE_ALL") == "1" }

// number reads a number from the environment.
func number(t *testing.T, name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// dice gives random numbers that a failed test can be given again.
func dice(t *testing.T) *rand.Rand {
	seed := number(t, "FIRE_SEED", int(time.Now().UnixNano()&0xffffff))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("drawn with FIRE_SEED=%d", seed)
		}
	})
	return rand.New(rand.NewPCG(uint64(seed), 0))
}
