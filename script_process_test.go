package coldseal

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// patience is how long anything in a script may be waited for.
const patience = 90 * time.Second

func until(ts *testscript.TestScript, what string, done func() bool) {
	for end := time.Now().Add(patience); !done(); time.Sleep(200 * time.Microsecond) {
		if time.Now().After(end) {
			ts.Fatalf("waited %s for %s", patience, what)
		}
	}
}

// await FILE waits for a file to be there.
func await(ts *testscript.TestScript, _ bool, args []string) {
	until(ts, args[0], func() bool {
		_, err := os.Stat(ts.MkAbs(args[0]))
		return err == nil
	})
}

// strike SIGNAL PROGRAM STEPS sends a signal, by process id, to the appliance that was last started in the background
// or to a worker of it, once the counter of appliance/ has moved so many times: intents were logged then and wait for signatures.
func strike(ts *testscript.TestScript, _ bool, args []string) {
	signal, known := map[string]syscall.Signal{"KILL": syscall.SIGKILL, "STOP": syscall.SIGSTOP}[args[0]]
	steps, err := strconv.Atoi(args[2])
	background := ts.BackgroundCmds()
	if !known || err != nil || len(background) == 0 {
		ts.Fatalf("usage: strike KILL|STOP PROGRAM STEPS, with an appliance in the background")
	}
	parent := background[len(background)-1].Process.Pid
	counter := func() string { return ts.ReadFile("appliance/keys/counter") }
	before := counter()
	until(ts, "the counter to move", func() bool {
		if now := counter(); now != before {
			before = now
			steps--
		}
		return steps <= 0
	})
	pid := parent
	if args[1] != "coldseal-appliance" {
		pid = child(ts, parent, args[1])
	}
	ts.Check(syscall.Kill(pid, signal))
	ts.Logf("%s sent to %s, process %d", args[0], args[1], pid)
}

// child finds the process of a program that another one started.
func child(ts *testscript.TestScript, parent int, program string) int {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	ts.Check(err)
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it ended in the meantime
		}
		// pid (name) state ppid …; a name may hold anything but is cut after 15 bytes
		name, rest, _ := strings.Cut(string(stat), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == fmt.Sprint(parent) && strings.HasSuffix(name, "("+program[:min(len(program), 15)]) {
			pid, err := strconv.Atoi(name[:strings.Index(name, " ")])
			ts.Check(err)
			return pid
		}
	}
	ts.Fatalf("process %d has no child %s", parent, program)
	return 0
}

// umount DIR takes a medium out when the script ends, if nobody did before.
func umount(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Defer(func() {
		if err := syscall.Unmount(dir, 0); err != nil && err != syscall.EINVAL {
			ts.Logf("unmount %s: %v", dir, err)
		}
	})
}
