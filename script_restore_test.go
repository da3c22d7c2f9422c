package coldseal

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// pestered VERB ARGS… gives a command of the appliance or the agent again and again, and kills it, each time a little
// later, until it ends by itself; that has to be well. Whatever it had begun is left as it is.
func pestered(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || args[0] != "appliance" && args[0] != "agent" {
		ts.Fatalf("usage: pestered appliance|agent ARGS…")
	}
	line := append(args[1:], missing(args, "--state", args[0])...)
	if args[0] == "appliance" {
		line = append(line, missing(args, "--secret-file", "secret")...)
	}
	bin, _, _ := strings.Cut(ts.Getenv("PATH"), string(os.PathListSeparator))
	kills := 0
	for patience := 4 * time.Millisecond; ; patience += patience / 3 {
		ctx, stop := context.WithTimeout(context.Background(), patience)
		cmd := exec.CommandContext(ctx, filepath.Join(bin, "coldseal-"+args[0]), line...)
		cmd.Dir = ts.MkAbs(".")
		out, err := cmd.CombinedOutput()
		stop()
		exit, failed := errors.AsType[*exec.ExitError](err)
		if status, ok := sysStatus(exit); failed && ok && status.Signal() == syscall.SIGKILL {
			kills++
			continue
		}
		if errors.Is(err, context.DeadlineExceeded) { // it ended just when it was to be killed
			continue
		}
		if err != nil {
			ts.Fatalf("%s, after %d kills: %v\n%s", strings.Join(line, " "), kills, err, out)
		}
		ts.Logf("%s: done after %d kills\n%s", strings.Join(line, " "), kills, out)
		if kills == 0 {
			ts.Fatalf("it was never killed")
		}
		return
	}
}

func sysStatus(exit *exec.ExitError) (syscall.WaitStatus, bool) {
	if exit == nil {
		return 0, false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return status, ok && status.Signaled()
}
