package fire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long any command may take.
const patience = 2 * time.Minute

// world is a folder with an appliance, an agent and a stick.
type world struct {
	dir    string
	digest string // of genesis
	root   string // id of its key
	load   load
	run    func(cmd *exec.Cmd) (outcome, error) // how commands are run; nil is as they are
}

// load is what the agent of a world has to send.
type load struct {
	issue  []string // ids of requests that are to be issued
	done   []string // of those that something else becomes of: revoked, held, released, refused for good
	open   []string // of those that lack approvals
	listed []string // serials that the CRL then has
}

func (w *world) path(parts ...string) string {
	return filepath.Join(append([]string{w.dir}, parts...)...)
}

// outcome is how a command ended.
type outcome struct {
	code   int // -1 if it was killed
	signal syscall.Signal
	out    string
	words  string // for people, on stderr
}

// command makes a program's command line. The first word is coldseal, agent or appliance; the last two get the flags
// that say where their state is.
func (w *world) command(line ...string) *exec.Cmd {
	program, args := line[0], line[1:]
	switch program {
	case "appliance":
		args = append(slices.Clone(args), "--state", "appliance", "--secret-file", "secret", "--libexec", home.libexec)
	case "agent":
		args = append(slices.Clone(args), "--state", "agent")
	}
	if program != "coldseal" {
		program = "coldseal-" + program
	}
	cmd := exec.Command(filepath.Join(home.libexec, realDir, program), args...)
	cmd.Dir = w.dir
	return cmd
}

// try runs a command to its end, whatever that is.
func (w *world) try(t *testing.T, line ...string) outcome {
	t.Helper()
	run := w.run
	if run == nil {
		run = execute
	}
	o, err := run(w.command(line...))
	if err != nil {
		t.Fatalf("%s: %v", strings.Join(line, " "), err)
	}
	if o.code == 2 || strings.Contains(o.words, "goroutine ") {
		t.Fatalf("%s panicked: %s", strings.Join(line, " "), o.words)
	}
	return o
}

func execute(cmd *exec.Cmd) (outcome, error) { return watched(cmd, nil) }

// starts are done by one thread, which does nothing else: tracers wait for all children of their threads, and must not
// find those of others there.
var starts = make(chan func())

func starter() {
	runtime.LockOSThread()
	for f := range starts {
		f()
	}
}

func start(cmd *exec.Cmd) error {
	started := make(chan error)
	starts <- func() { started <- cmd.Start() }
	return <-started
}

// watched runs a command and calls began, if there is one, beside it.
func watched(cmd *exec.Cmd, began func(pid int, ended <-chan struct{})) (outcome, error) {
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	if err := start(cmd); err != nil {
		return outcome{}, err
	}
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	hung := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() }) // it may have ended just now
	ended := make(chan struct{})
	var beside sync.WaitGroup
	if began != nil {
		beside.Go(func() { began(cmd.Process.Pid, ended) })
	}
	err := cmd.Wait()
	close(ended)
	beside.Wait()
	if !hung() {
		return outcome{}, fmt.Errorf("it hung: %s", words.String())
	}
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		return outcome{}, err
	}
	o := outcome{code: cmd.ProcessState.ExitCode(), out: out.String(), words: words.String()}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		o.signal = status.Signal()
	}
	return o, nil
}

// must runs a command that has to succeed, and gives what it prints.
func (w *world) must(t *testing.T, line ...string) string {
	t.Helper()
	o := w.try(t, line...)
	if o.code != 0 {
		t.Fatalf("%s: exit %d %v\n%s%s", strings.Join(line, " "), o.code, o.signal, o.out, o.words)
	}
	return strings.TrimSpace(o.out)
}

// copy gives a world that may be used up.
func (w *world) copy(t *testing.T) *world {
	t.Helper()
	again := *w
	again.dir, again.run = t.TempDir(), nil
	copyTree(t, w.dir, again.dir)
	return &again
}

// copyTree copies files as they are, with the holes that databases have.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if o, err := execute(exec.Command("cp", "-a", from+"/.", to)); err != nil || o.code != 0 {
		t.Fatalf("copy %s to %s: %v: %s", from, to, err, o.words)
	}
}

// finish gives a command until it is done, as a person does who is told that it was done before.
func (w *world) finish(t *testing.T, line []string) {
	t.Helper()
	o := w.try(t, line...)
	if o.code == 3 && strings.Contains(o.words, "--again 4") {
		o = w.try(t, "agent", "export", "--media", "stick", "--again", "4")
	}
	if o.code != 0 {
		t.Fatalf("%s: exit %d\n%s%s", strings.Join(line, " "), o.code, o.out, o.words)
	}
}
