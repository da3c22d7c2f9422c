package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// usage is what a program took, with the processes it started.
type usage struct {
	seconds float64
	cpu     float64 // seconds of processor
	peak    float64 // highest sum of RssAnon, in MiB
}

// sampling is how often memory is looked at.
const sampling = 20 * time.Millisecond

// execute runs a program to its end.
func execute(ctx context.Context, path string, args ...string) (usage, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return usage{}, fmt.Errorf("start %s: %w", path, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(sampling)
	defer tick.Stop()
	var peak int
	for {
		select {
		case <-tick.C:
			peak = max(peak, anonymous(cmd.Process.Pid))
		case err := <-ended:
			if err != nil {
				return usage{}, fmt.Errorf("%s %s: %w: %s", filepath.Base(path), args[0], err, said.String())
			}
			state := cmd.ProcessState // its times are those of the workers too, which it waited for
			return usage{time.Since(start).Seconds(), (state.UserTime() + state.SystemTime()).Seconds(), float64(peak) / 1024}, nil
		}
	}
}

// anonymous is RssAnon in KiB of a process and its children; zero of one that is gone.
func anonymous(pid int) (kib int) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	if _, after, found := strings.Cut(string(status), "RssAnon:"); found {
		fmt.Sscan(after, &kib) // a kernel thread or zombie has none
	}
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return kib
	}
	for _, list := range lists {
		children, err := os.ReadFile(list)
		if err != nil {
			continue // that thread has ended
		}
		for _, child := range strings.Fields(string(children)) {
			var id int
			if _, err := fmt.Sscan(child, &id); err == nil {
				kib += anonymous(id)
			}
		}
	}
	return kib
}

// cpuSeconds is what this process took so far.
func cpuSeconds() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // only a wrong constant makes it fail
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}
