package fire

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The tracer runs a program and all that it starts, and may make any one of its calls to the system fail. strace does
// this too, but counts for each thread apart, and a Go program changes threads as it likes: only one count over all of
// them tells the calls of two runs to be the same. It knows the registers of one architecture, which the file's name says.

// call is one call about a file of the world, or that sends something to another process.
type call struct {
	number int    // of those that are counted, from 1
	name   string // such as pwrite64
	path   string // relative to the world, or socket
	reads  bool   // it changes nothing
}

func (c call) String() string { return fmt.Sprintf("%d %s %s", c.number, c.name, c.path) }

// writes tells whether a call may do half of what it was asked.
func (c call) writes() bool { return strings.Contains(c.name, "write") }

// fate is what becomes of a call: it fails with the error, writes half of what it was given, or does not come about
// because its program is killed.
type fate struct {
	errno syscall.Errno
	short bool
	kill  bool
}

// tracer runs one command.
type tracer struct {
	before func(call) fate // may be nil
	after  func(call)      // may be nil; the thread that made the call stands still meanwhile
	calls  []call

	journal *journal // writes down what is done; may be nil

	dir     string
	self    string
	threads map[int]*thread
}

type thread struct {
	apart   bool // of a program that is not watched
	pending *call
	fate    fate
	third   uint64 // register that a short write changed
}

// counted are the calls, by number, and what says which file they are about.
var counted = map[uint64]struct {
	name  string
	about argument
}{
	unix.SYS_WRITE: {"write", descriptor}, unix.SYS_PWRITE64: {"pwrite64", descriptor}, unix.SYS_WRITEV: {"writev", descriptor},
	unix.SYS_FSYNC: {"fsync", descriptor}, unix.SYS_FDATASYNC: {"fdatasync", descriptor}, unix.SYS_SYNCFS: {"syncfs", descriptor},
	unix.SYS_FTRUNCATE: {"ftruncate", descriptor}, unix.SYS_TRUNCATE: {"truncate", path}, unix.SYS_FALLOCATE: {"fallocate", descriptor},
	unix.SYS_COPY_FILE_RANGE: {"copy_file_range", secondDescriptor}, unix.SYS_SENDFILE: {"sendfile", descriptor},
	unix.SYS_RENAME: {"rename", path}, unix.SYS_RENAMEAT: {"renameat", pathIn}, unix.SYS_RENAMEAT2: {"renameat2", pathIn},
	unix.SYS_MKDIRAT: {"mkdirat", pathIn}, unix.SYS_UNLINKAT: {"unlinkat", pathIn}, unix.SYS_OPENAT: {"openat", pathIn},
	unix.SYS_READ: {"read", descriptor}, unix.SYS_PREAD64: {"pread64", descriptor}, unix.SYS_GETDENTS64: {"getdents64", descriptor},
}

// argument is how a call says which file it is about.
type argument int

const (
	descriptor       argument = iota // the first argument
	secondDescriptor                 // the third: what is copied to
	path                             // the first argument
	pathIn                           // the second argument, below the descriptor that is the first
)

// syscallInfo is struct ptrace_syscall_info.
type syscallInfo struct {
	op     uint8
	_      [3]uint8
	_      uint32
	_, _   uint64
	number uint64
	args   [6]uint64
	_      uint64
}

const (
	ptraceGetSyscallInfo = 0x420e
	infoEntry            = 1
	infoExit             = 2
	traceOptions         = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_EXITKILL
)

// run runs a command to its end.
func (t *tracer) run(cmd *exec.Cmd) (outcome, error) {
	runtime.LockOSThread() // only the thread that began to trace may go on
	defer runtime.UnlockOSThread()
	var err error
	if t.self, err = os.Executable(); err != nil {
		return outcome{}, err
	}
	t.dir, t.threads = cmd.Dir, map[int]*thread{}
	said, err := os.MkdirTemp(home.dir, "said-")
	if err != nil {
		return outcome{}, err
	}
	defer os.RemoveAll(said)
	out, err := os.Create(filepath.Join(said, "out"))
	if err != nil {
		return outcome{}, err
	}
	defer out.Close()
	words, err := os.Create(filepath.Join(said, "words"))
	if err != nil {
		return outcome{}, err
	}
	defer words.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return outcome{}, err
	}
	defer null.Close()
	process, err := os.StartProcess(cmd.Path, cmd.Args, &os.ProcAttr{Dir: cmd.Dir, Env: os.Environ(), Files: []*os.File{null, out, words}, Sys: &syscall.SysProcAttr{Ptrace: true}})
	if err != nil {
		return outcome{}, err
	}
	hung := false
	watch := time.AfterFunc(patience, func() { hung = process.Kill() == nil })
	status, err := t.follow(process.Pid)
	watch.Stop()
	if err = errors.Join(err, process.Release()); err == nil && hung {
		err = errors.New("it hung")
	}
	if err != nil {
		return outcome{}, err
	}
	o := outcome{code: status.ExitStatus()}
	if status.Signaled() {
		o.signal = status.Signal()
	}
	for file, text := range map[*os.File]*string{out: &o.out, words: &o.words} {
		data, err := os.ReadFile(file.Name())
		if err != nil {
			return outcome{}, err
		}
		*text = string(bytes.TrimSpace(data)) + "\n"
	}
	return o, nil
}

// follow goes with the program until nobody of it is left, and gives how it ended.
func (t *tracer) follow(root int) (end syscall.WaitStatus, err error) {
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(root, &status, syscall.WALL, nil); err != nil || !status.Stopped() {
		return end, fmt.Errorf("wait for the program to begin: %v, %w", status, err)
	}
	if err := syscall.PtraceSetOptions(root, traceOptions); err != nil {
		return end, fmt.Errorf("trace: %w", err)
	}
	t.threads[root] = &thread{}
	for tid, signal := root, 0; ; {
		// A thread that was killed while it stood still is gone, which is told below.
		if err := syscall.PtraceSyscall(tid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return end, fmt.Errorf("go on: %w", err)
		}
		for {
			if tid, err = syscall.Wait4(-1, &status, syscall.WALL|unix.WNOTHREAD, nil); !errors.Is(err, syscall.EINTR) {
				break
			}
		}
		switch {
		case errors.Is(err, syscall.ECHILD):
			return end, nil
		case err != nil:
			return end, fmt.Errorf("wait: %w", err)
		case status.Stopped():
			if signal, err = t.stopped(tid, status); err != nil && !errors.Is(err, syscall.ESRCH) {
				return end, err
			}
			continue
		}
		delete(t.threads, tid)
		if tid == root {
			end = status
		}
	}
}

// stopped deals with one stop, and gives the signal to hand on.
func (t *tracer) stopped(tid int, status syscall.WaitStatus) (signal int, err error) {
	th := t.threads[tid]
	if th == nil {
		th = &thread{apart: t.isApart(tid)}
		t.threads[tid] = th
		if status.StopSignal() == syscall.SIGSTOP {
			return 0, nil // how a new thread begins
		}
	}
	switch stop := status.StopSignal(); {
	case stop == syscall.SIGTRAP|0x80:
		if th.apart {
			return 0, nil
		}
		return 0, t.syscall(tid, th)
	case stop == syscall.SIGTRAP && status.TrapCause() > 0:
		if status.TrapCause() == unix.PTRACE_EVENT_EXEC {
			th.apart = t.isApart(tid)
		}
		return 0, nil
	default:
		return int(stop), nil
	}
}

// isApart tells whether a thread is of the tap, which is no part of the product.
func (t *tracer) isApart(tid int) bool {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", tid))
	return err == nil && exe == t.self
}

func (t *tracer) syscall(tid int, th *thread) error {
	var info syscallInfo
	size := unsafe.Sizeof(info)
	if _, _, errno := syscall.Syscall6(syscall.SYS_PTRACE, ptraceGetSyscallInfo, uintptr(tid), size, uintptr(unsafe.Pointer(&info)), 0, 0); errno != 0 {
		return errno
	}
	if t.journal != nil {
		switch info.op {
		case infoEntry:
			t.journal.enter(tid, &info)
		case infoExit:
			t.journal.leave(tid, int64(info.number)) // there the kernel puts the result
		}
	}
	switch {
	case info.op == infoEntry:
		return t.enter(tid, th, &info)
	case info.op == infoExit && th.pending != nil:
		return t.leave(tid, th)
	}
	return nil
}

func (t *tracer) enter(tid int, th *thread, info *syscallInfo) error {
	k, known := counted[info.number]
	if !known {
		return nil
	}
	c := call{number: len(t.calls) + 1, name: k.name}
	switch k.name {
	case "read", "pread64", "getdents64":
		c.reads = true
	case "openat":
		c.reads = info.args[2]&(unix.O_CREAT|unix.O_TRUNC) == 0
	}
	full, err := t.file(tid, k.about, info.args)
	below := strings.TrimPrefix(full, t.dir+"/")
	switch {
	case err != nil:
		return nil // it fails anyway, or is the signer's, which shows its descriptors to root only
	case strings.HasPrefix(full, "socket:") && !c.reads:
		c.path = "socket"
	case below != full:
		c.path = below
	default:
		return nil // its own business: standard output, the runtime's descriptors
	}
	t.calls = append(t.calls, c)
	th.pending, th.fate = &c, fate{}
	if t.before != nil {
		th.fate = t.before(c)
	}
	if th.fate == (fate{}) {
		return nil
	}
	var regs syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(tid, &regs); err != nil {
		return err
	}
	if th.fate.short {
		th.third = regs.Rdx
		regs.Rdx /= 2
	} else {
		regs.Orig_rax = ^uint64(0) // no such call: nothing is done
	}
	if err := syscall.PtraceSetRegs(tid, &regs); err != nil || !th.fate.kill {
		return err
	}
	return syscall.Kill(tid, syscall.SIGKILL) // all threads of that program
}

// file finds the name of the file that a call is about.
func (t *tracer) file(tid int, about argument, args [6]uint64) (string, error) {
	at := fmt.Sprintf("/proc/%d/fd/%d", tid, int32(args[0]))
	switch about {
	case descriptor:
		return os.Readlink(at)
	case secondDescriptor:
		return os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, int32(args[2])))
	}
	address := args[0]
	if about == pathIn {
		address = args[1]
	}
	name := make([]byte, unix.PathMax)
	n, err := syscall.PtracePeekData(tid, uintptr(address), name)
	if end := bytes.IndexByte(name[:n], 0); end >= 0 {
		name, err = name[:end], nil
	}
	if err != nil || filepath.IsAbs(string(name)) {
		return filepath.Clean(string(name)), err
	}
	if about == path || int32(args[0]) == unix.AT_FDCWD {
		at = fmt.Sprintf("/proc/%d/cwd", tid)
	}
	dir, err := os.Readlink(at)
	return filepath.Join(dir, string(name)), err
}

func (t *tracer) leave(tid int, th *thread) error {
	c := th.pending
	th.pending = nil
	if th.fate != (fate{}) {
		var regs syscall.PtraceRegs
		if err := syscall.PtraceGetRegs(tid, &regs); err != nil {
			return err
		}
		if th.fate.short {
			regs.Rdx = th.third
		} else {
			regs.Rax = uint64(-int64(th.fate.errno))
		}
		if err := syscall.PtraceSetRegs(tid, &regs); err != nil {
			return err
		}
	}
	if t.after != nil {
		t.after(*c)
	}
	return nil
}
