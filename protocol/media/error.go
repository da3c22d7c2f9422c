package media

import (
	"errors"
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
)

// Kinds of failure. Compare with errors.Is; Error.Hint says what a person can do about each.
//
// ErrSealed and ErrReceiver are refusals: the bytes are to blame. ErrKey, ErrSpace and ErrDisk are faults of this machine.
// The others tell about the medium, and the same command finishes once the medium is as it should be.
var (
	ErrFull       = errors.New("the medium is full")
	ErrReadOnly   = errors.New("the medium cannot be written")
	ErrGone       = errors.New("the medium or the file is gone")
	ErrTorn       = errors.New("what the medium holds is not what was written or announced")
	ErrTooLarge   = errors.New("larger than the limit")
	ErrNotRegular = errors.New("not a regular file in a plain folder")
	ErrExists     = errors.New("a different file has this name")
	ErrName       = errors.New("not a name that belongs on a medium")
	ErrSpace      = errors.New("not enough room on this machine's own disk")
	ErrDisk       = errors.New("this machine's own disk failed")
	ErrSealed     = errors.New("the encryption is not intact")
	ErrReceiver   = errors.New("encrypted for another receiver")
	ErrKey        = errors.New("the holder of the receiver key did not answer properly")
)

// Error is a failure of this package: what was tried, with which file, of which kind, and why.
type Error struct {
	Op   string // "open", "list", "read", "write", "remove", "spool", "decrypt", "name"
	Path string // as given by the caller; empty for an unnamed spool file
	Kind error  // one of the Err values, nil where none of them fits
	Err  error  // the cause, nil where Kind says it all
}

func (e *Error) Error() string {
	text := e.Op
	if e.Path != "" {
		text += " " + e.Path
	}
	if e.Kind != nil {
		text += ": " + e.Kind.Error()
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap lets errors.Is find both the kind and the cause.
func (e *Error) Unwrap() []error {
	var all []error
	if e.Kind != nil {
		all = append(all, e.Kind)
	}
	if e.Err != nil {
		all = append(all, e.Err)
	}
	return all
}

// Hint says in one English sentence what to do next; empty where there is nothing better than the error itself.
func (e *Error) Hint() string {
	switch e.Kind {
	case ErrFull:
		return "free some room on the medium or take a larger one, then run the same command again"
	case ErrReadOnly:
		return "open the write lock, mount the medium for writing or take another one, then run the same command again"
	case ErrGone:
		return "put the same medium back, wait until it is mounted, then run the same command again"
	case ErrTorn:
		return "the medium is failing, was exchanged, or the copy on it is incomplete: take another medium and run the same command again"
	case ErrTooLarge:
		return "split the work over several bundles; one file on a medium stays below 4 GiB"
	case ErrNotRegular:
		return "something on the medium is a link, a device or a folder where a file is expected: remove it or take a clean medium"
	case ErrExists:
		return "look at the file that is there; move it away, or give --replace if the command has it"
	case ErrName:
		return "files on a medium keep the names they were written with; rename the file back"
	case ErrSpace:
		return "make room on this machine's disk, then run the same command again; the medium is not at fault"
	case ErrDisk:
		return "check this machine's disk, then run the same command again; the medium is not at fault"
	case ErrSealed:
		return "the file was changed or cut short: have it written to the medium again"
	case ErrReceiver:
		return "the file is meant for another appliance or agent: check which medium belongs where"
	case ErrKey:
		return "check the signer process or the device that holds the receiver key, then run the same command again"
	}
	return ""
}

// mediumError wraps a failure of a medium, with the kind its system error number stands for.
func mediumError(op, path string, err error) error {
	return &Error{Op: op, Path: path, Kind: mediumKind(err), Err: bare(err)}
}

func mediumKind(err error) error {
	var number syscall.Errno
	if !errors.As(err, &number) {
		return nil
	}
	switch number {
	case unix.ENOSPC, unix.EDQUOT:
		return ErrFull
	case unix.EROFS, unix.EACCES, unix.EPERM:
		return ErrReadOnly
	// A stick that is pulled out answers with any of these, depending on how far down the request got.
	case unix.ENOENT, unix.EIO, unix.ENXIO, unix.ENODEV, unix.ENOMEDIUM, unix.EMEDIUMTYPE, unix.ESTALE, unix.ENOTCONN,
		unix.ESHUTDOWN, unix.EREMOTEIO, unix.ETIMEDOUT:
		return ErrGone
	case unix.EFBIG, unix.ENAMETOOLONG:
		return ErrTooLarge
	case unix.ELOOP, unix.ENOTDIR, unix.EISDIR:
		return ErrNotRegular
	case unix.EEXIST:
		return ErrExists
	case unix.EUCLEAN, unix.EBADMSG, unix.EILSEQ:
		return ErrTorn
	}
	return nil
}

// diskError wraps a failure of this machine's own disk, never of the medium.
func diskError(op, path string, err error) error {
	return &Error{Op: op, Path: path, Kind: diskKind(err), Err: bare(err)}
}

func diskKind(err error) error {
	switch kind := mediumKind(err); {
	case kind == ErrFull, errors.Is(err, unix.EFBIG):
		return ErrSpace
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return nil // a wrong name, or somebody else's folder, says it all
	case kind == ErrGone, kind == ErrReadOnly:
		return ErrDisk
	default:
		return kind
	}
}

// bare removes the file name that package os adds, because Error already says a better one.
func bare(err error) error {
	if p, ok := err.(*fs.PathError); ok {
		return p.Err
	}
	return err
}
