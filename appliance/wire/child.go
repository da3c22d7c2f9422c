package wire

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	closePatience = 2 * time.Second        // for a worker told to end
	exitPatience  = 500 * time.Millisecond // for one that closed its end
	ringSize      = 8 << 10                // of standard error kept, in bytes
)

// child is a started process and what it wrote to its standard error.
type child struct {
	cmd  *exec.Cmd
	said *ring
	gone chan struct{} // closed after Wait
}

// startChild starts path and gives the parent's end of the socket pair.
func startChild(path string, args []string, files []*os.File) (*child, *os.File, error) {
	// What this process was itself started with, perhaps carelessly, is not for the worker to inherit.
	if err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("close on exec: %w", err)
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socket pair: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "worker's end")
	defer theirs.Close()
	// Only a non-blocking descriptor is one whose reads and writes end when it is closed.
	if err := syscall.SetNonblock(pair[0], true); err != nil {
		syscall.Close(pair[0])
		return nil, nil, fmt.Errorf("socket pair: %w", err)
	}
	ours := os.NewFile(uintptr(pair[0]), "appliance's end")

	c := &child{said: new(ring), gone: make(chan struct{})}
	c.cmd = &exec.Cmd{
		Path:       path,
		Args:       append([]string{path}, args...),
		Env:        []string{},
		Stderr:     c.said,
		ExtraFiles: append([]*os.File{theirs}, files...),
		// A session of its own: no terminal to read, and an interrupt typed at ours is for us to pass on.
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true},
		WaitDelay:   closePatience / 2,
	}
	started := make(chan error)
	go func() {
		// The death signal is bound to the thread that forked, so that thread is kept as long as the child lives.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := c.cmd.Start()
		started <- err
		if err == nil {
			c.cmd.Wait() // how it ended is read from cmd.ProcessState
			close(c.gone)
		}
	}()
	if err := <-started; err != nil {
		ours.Close()
		return nil, nil, err
	}
	return c, ours, nil
}

// kill works on a stopped child too, and does nothing to one that is gone.
func (c *child) kill() { c.cmd.Process.Kill() }

func (c *child) wait(patience time.Duration) bool {
	select {
	case <-c.gone:
		return true
	case <-time.After(patience):
		return false
	}
}

// lastWords says how the child ended and what it last wrote, quoted since it goes to a terminal.
func (c *child) lastWords() string {
	select {
	case <-c.gone:
	default:
		return " (not gone yet)"
	}
	if said := c.said.String(); said != "" {
		return fmt.Sprintf(" (%v, said %q)", c.cmd.ProcessState, said)
	}
	return fmt.Sprintf(" (%v)", c.cmd.ProcessState)
}

// ring keeps the last ringSize bytes written to it.
type ring struct {
	mu   sync.Mutex
	kept []byte
}

func (r *ring) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept = append(r.kept, p[max(0, len(p)-ringSize):]...)
	if over := len(r.kept) - ringSize; over > 0 {
		r.kept = append(r.kept[:0], r.kept[over:]...)
	}
	return len(p), nil
}

func (r *ring) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return string(r.kept)
}
