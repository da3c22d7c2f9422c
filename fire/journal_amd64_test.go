package fire

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A journal writes down what the programs that a tracer follows do to some folders, byte for byte. Whatever program does
// it, it is seen: bbolt's writes, the signer's, those to a medium. A call that it does not know but that changes a file is
// an error, and at the end the files have to be what the journal says (compare).
type journal struct {
	disk
	dir   string   // of the world
	on    []string // the folders
	now   image
	seen  map[key]*node
	calls []call // of the last command

	pending  map[int]func(result int64) error // by thread
	problems []error
}

// keep begins a journal of some folders in a world, which need not be there yet.
func keep(dir string, on ...string) (*journal, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	j := &journal{dir: dir, on: on, now: image{}, seen: map[key]*node{}, pending: map[int]func(int64) error{}}
	j.top, err = scan(dir, on, j.seen)
	return j, err
}

// run runs a command. before may let a call fail.
func (j *journal) run(before func(call) fate) func(*exec.Cmd) (outcome, error) {
	return func(cmd *exec.Cmd) (outcome, error) {
		tr := &tracer{before: before, journal: j}
		o, err := tr.run(cmd)
		clear(j.pending) // of those who were killed
		j.calls = tr.calls
		return o, errors.Join(append(j.problems, err)...)
	}
}

// compare asks whether the files are what the journal says.
func (j *journal) compare() error {
	there, err := scan(j.dir, j.on, map[key]*node{})
	if err != nil {
		return err
	}
	if (image{}).digest(there) != j.after(len(j.done)).digest(j.top) {
		return errors.New("the files are not what the journal says")
	}
	return nil
}

func (j *journal) add(what string, o operation) {
	o.what = what
	j.done = append(j.done, o)
	j.now.do(&o, pageSize, all, true)
}

// enter looks at a call that is about to be made.
func (j *journal) enter(tid int, info *syscallInfo) {
	f, err := j.begin(tid, info.number, info.args)
	if err != nil {
		j.problems = append(j.problems, err)
	}
	delete(j.pending, tid)
	if f != nil {
		j.pending[tid] = f
	}
}

// leave writes down a call that was made.
func (j *journal) leave(tid int, result int64) {
	f := j.pending[tid]
	delete(j.pending, tid)
	if f == nil || result < 0 {
		return
	}
	if err := f(result); err != nil {
		j.problems = append(j.problems, err)
	}
}

func (j *journal) begin(tid int, number uint64, args [6]uint64) (func(int64) error, error) {
	fd := int32(args[0])
	switch number {
	case unix.SYS_OPEN:
		return j.open(tid, unix.AT_FDCWD, args[0], args[1])
	case unix.SYS_OPENAT:
		return j.open(tid, fd, args[1], args[2])
	case unix.SYS_OPENAT2:
		how := make([]byte, 8)
		if err := peek(tid, args[2], how); err != nil {
			return nil, err
		}
		return j.open(tid, fd, args[1], uint64(how[0])|uint64(how[1])<<8|uint64(how[2])<<16|uint64(how[3])<<24)
	case unix.SYS_WRITE:
		return j.write(tid, fd, args[1], args[2], -1)
	case unix.SYS_PWRITE64:
		return j.write(tid, fd, args[1], args[2], int64(args[3]))
	case unix.SYS_FTRUNCATE:
		n, path := j.file(tid, fd)
		return j.when(n, func(int64) error {
			j.add("truncate "+path, operation{sized: n, size: int64(args[1])})
			return nil
		})
	case unix.SYS_FALLOCATE:
		n, path := j.file(tid, fd)
		if n != nil && args[1] != 0 {
			return nil, fmt.Errorf("the journal does not know fallocate with mode %#x, of %s", args[1], path)
		}
		return j.when(n, func(int64) error {
			j.add("allocate "+path, operation{sized: n, size: max(j.now.look(n).size, int64(args[2]+args[3]))})
			return nil
		})
	case unix.SYS_FSYNC, unix.SYS_FDATASYNC:
		n, path := j.file(tid, fd)
		covers := len(j.done)
		return j.when(n, func(int64) error {
			j.add("sync "+path, operation{synced: n, covers: covers})
			return nil
		})
	case unix.SYS_MKDIR:
		return j.mkdir(tid, unix.AT_FDCWD, args[0])
	case unix.SYS_MKDIRAT:
		return j.mkdir(tid, fd, args[1])
	case unix.SYS_UNLINK, unix.SYS_RMDIR:
		return j.rename(tid, unix.AT_FDCWD, args[0], 0, 0)
	case unix.SYS_UNLINKAT:
		return j.rename(tid, fd, args[1], 0, 0)
	case unix.SYS_RENAME:
		return j.rename(tid, unix.AT_FDCWD, args[0], unix.AT_FDCWD, args[1])
	case unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2:
		return j.rename(tid, fd, args[1], int32(args[2]), args[3])
	case unix.SYS_PRCTL:
		if args[0] == unix.PR_SET_DUMPABLE && args[1] == 0 {
			return j.bare(tid) // the signer hides from whoever is not root
		}
	}
	return nil, j.unknown(tid, number, args)
}

// unknown are calls that would change a file in a way that the journal does not know.
func (j *journal) unknown(tid int, number uint64, args [6]uint64) error {
	fd := -1
	switch number {
	case unix.SYS_WRITEV, unix.SYS_PWRITEV, unix.SYS_PWRITEV2, unix.SYS_SENDFILE, unix.SYS_SYNCFS, unix.SYS_SYNC_FILE_RANGE:
		fd = int(args[0])
	case unix.SYS_COPY_FILE_RANGE, unix.SYS_SPLICE:
		fd = int(args[2])
	case unix.SYS_MMAP:
		if args[2]&unix.PROT_WRITE == 0 || args[3]&unix.MAP_TYPE == unix.MAP_PRIVATE {
			return nil
		}
		fd = int(int32(args[4]))
	case unix.SYS_TRUNCATE, unix.SYS_LINK, unix.SYS_LINKAT, unix.SYS_SYMLINK, unix.SYS_SYMLINKAT, unix.SYS_SYNC, unix.SYS_CREAT:
		return fmt.Errorf("the journal does not know call %d", number)
	default:
		return nil
	}
	if n, path := j.file(tid, int32(fd)); n != nil {
		return fmt.Errorf("the journal does not know call %d, of %s", number, path)
	}
	return nil
}

func (j *journal) when(n *node, f func(int64) error) (func(int64) error, error) {
	if n == nil {
		return nil, nil
	}
	return f, nil
}

func (j *journal) open(tid int, fd int32, address, flags uint64) (func(int64) error, error) {
	if flags&(unix.O_CREAT|unix.O_TRUNC|unix.O_DSYNC) == 0 && flags&unix.O_TMPFILE != unix.O_TMPFILE {
		return nil, nil
	}
	p, path, err := j.place(tid, fd, address)
	if err != nil || p.folder == nil {
		return nil, err
	}
	if flags&unix.O_DSYNC != 0 || flags&unix.O_TMPFILE == unix.O_TMPFILE {
		return nil, fmt.Errorf("the journal does not know how to open %s with flags %#x", path, flags)
	}
	return func(opened int64) error {
		n := j.now.look(p.folder).names[p.name]
		switch {
		case n == nil:
			info, err := os.Stat(fmt.Sprintf("/proc/%d/fd/%d", tid, opened))
			if err != nil {
				return err
			}
			n = &node{mode: info.Mode()}
			j.seen[keyOf(info)] = n
			j.add("create "+path, operation{made: p, node: n})
		case flags&unix.O_TRUNC != 0 && j.now.look(n).size > 0:
			j.add("truncate "+path, operation{sized: n})
		}
		return nil
	}, nil
}

func (j *journal) write(tid int, fd int32, address, count uint64, at int64) (func(int64) error, error) {
	n, path := j.file(tid, fd)
	socket := strings.HasPrefix(path, "socket:")
	if n == nil && !socket {
		return nil, nil
	}
	data := make([]byte, count)
	if err := peek(tid, address, data); err != nil {
		return nil, err
	}
	return func(written int64) error {
		if socket {
			j.add("send", operation{said: path, spoken: data[:written]})
			return nil
		}
		if at < 0 {
			info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", tid, fd))
			if err != nil {
				return err
			}
			if _, err := fmt.Sscanf(string(info), "pos: %d", &at); err != nil {
				return fmt.Errorf("where %s was written: %w", path, err)
			}
			at -= written
		}
		j.add("write "+path, operation{written: n, at: at, bytes: data[:written]})
		return nil
	}, nil
}

func (j *journal) mkdir(tid int, fd int32, address uint64) (func(int64) error, error) {
	p, path, err := j.place(tid, fd, address)
	if err != nil || p.folder == nil {
		return nil, err
	}
	return func(int64) error {
		info, err := os.Lstat(filepath.Join(j.dir, path))
		if err != nil {
			return err
		}
		n := &node{mode: info.Mode()}
		n.first.names = map[string]*node{}
		j.seen[keyOf(info)] = n
		j.add("make folder "+path, operation{made: p, node: n})
		return nil
	}, nil
}

// rename removes a name where there is no other.
func (j *journal) rename(tid int, fd int32, address uint64, toFD int32, to uint64) (func(int64) error, error) {
	gone, path, err := j.place(tid, fd, address)
	if err != nil || gone.folder == nil {
		return nil, err
	}
	o, what := operation{gone: gone}, "remove "+path
	if to != 0 {
		made, toPath, err := j.place(tid, toFD, to)
		if err != nil {
			return nil, err
		}
		if made.folder == nil {
			return nil, fmt.Errorf("%s was moved out of what the journal is of", path)
		}
		o.made, what = made, "rename "+path+" to "+toPath
	}
	return func(int64) error {
		if o.made.folder != nil {
			o.node = j.now.look(gone.folder).names[gone.name]
		}
		j.add(what, o)
		return nil
	}, nil
}

// bare lets a call come to nothing that would hide a program.
func (j *journal) bare(tid int) (func(int64) error, error) {
	var regs syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(tid, &regs); err != nil {
		return nil, err
	}
	regs.Rdi = unix.PR_GET_DUMPABLE
	return nil, syscall.PtraceSetRegs(tid, &regs)
}
