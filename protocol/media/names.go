package media

import (
	"encoding/hex"
	"fmt"
	"path"
	"strconv"
	"strings"
)

const (
	// MaxBundleBytes is the largest file FAT32 can hold: 4 GiB less one byte.
	MaxBundleBytes = 1<<32 - 1

	// MaxClearBytes bounds a file that is read into memory: a CRL of a million entries takes about 40 MB.
	MaxClearBytes = 64 << 20

	// MaxDirEntries bounds a listing: far above what sticks carry, and at most 2.5 MB of names.
	MaxDirEntries = 10_000

	// MaxSequence is what ten digits can say; at a bundle a second they last three centuries.
	MaxSequence = 9_999_999_999

	// MaxAgentName leaves room on every file system for the longest path made of it.
	MaxAgentName = 32

	maxClearName = 100
	digits       = 10
)

// Kind tells which way a file travels, and with that its folder and the form of its name.
type Kind int

const (
	Bundle   Kind = iota + 1 // agent to appliance, sealed and encrypted
	Response                 // appliance to agent, sealed and encrypted
	Clear                    // appliance to everyone, public: certificates, CRLs, the checkpoint, the receipt
	Leaves                   // agent to an appliance that is restored: the log as the agent knows it, encrypted
	Backup                   // appliance to itself: its state, encrypted, in parts, and what may be read of it
)

// Name is the place of a file on a medium. The fields that Kind does not use are zero.
type Name struct {
	Kind      Kind
	Appliance string // Tag of the appliance
	Agent     string // Bundle, Response and Leaves: [a-z0-9-]{1,32}
	Sequence  uint64 // Bundle and Response: 1 to MaxSequence; 0 in a Response is the notice, the answer to a refused bundle
	Set       string // Backup: the name of the set of shares that opens it, 16 hexadecimal digits
	File      string // Clear: *.pem, *.crl, *.receipt or checkpoint; Backup: part-0001 to part-9999, unchecked or backup
}

// Tag is the part of an appliance's genesis digest that stands in file names: its first 8 hexadecimal digits. It tells
// media apart for people; what a file belongs to is decided by its content.
func Tag(genesis [32]byte) string { return hex.EncodeToString(genesis[:4]) }

// Dir returns the folder of n, slash-separated, without looking at Sequence or File. The error is an *Error of kind ErrName.
func (n Name) Dir() (string, error) {
	if !isTag(n.Appliance) {
		return "", n.bad("appliance %q is not 8 hexadecimal digits", n.Appliance)
	}
	base := "coldseal/" + n.Appliance
	switch n.Kind {
	case Bundle:
		return base + "/to-appliance", nil
	case Response:
		if !IsAgentName(n.Agent) {
			return "", n.bad("agent %q is not [a-z0-9-]{1,32}", n.Agent)
		}
		return base + "/to-agent/" + n.Agent, nil
	case Clear:
		return base + "/clear", nil
	case Leaves:
		return base + "/leaves", nil
	case Backup:
		if !isSet(n.Set) {
			return "", n.bad("set %q is not 16 hexadecimal digits", n.Set)
		}
		return base + "/backup/" + n.Set, nil
	}
	return "", n.bad("unknown kind %d", n.Kind)
}

// Path returns the whole name, slash-separated and relative to the top of the medium. It refuses with kind ErrName
// whatever ParseName would not give back.
func (n Name) Path() (string, error) {
	dir, err := n.Dir()
	if err != nil {
		return "", err
	}
	if n.Set != "" && n.Kind != Backup {
		return "", n.bad("set %q is out of place", n.Set)
	}
	switch n.Kind {
	case Clear:
		if n.Agent != "" || n.Sequence != 0 || !isClearName(n.File) {
			return "", n.bad("%q is not *.pem, *.crl, *.receipt or checkpoint", n.File)
		}
		return dir + "/" + n.File, nil
	case Leaves:
		if n.Sequence != 0 || n.File != "" || !IsAgentName(n.Agent) {
			return "", n.bad("agent %q, sequence %d", n.Agent, n.Sequence)
		}
		return dir + "/" + n.Agent + leavesSuffix, nil
	case Backup:
		if n.Agent != "" || n.Sequence != 0 || !isBackupName(n.File) {
			return "", n.bad("%q is not part-0001 to part-9999, unchecked or backup", n.File)
		}
		return dir + "/" + n.File, nil
	}
	if n.Kind == Response && n.Sequence == 0 && n.File == "" {
		return dir + "/" + noticeFile, nil
	}
	if n.File != "" || !IsAgentName(n.Agent) || n.Sequence < 1 || n.Sequence > MaxSequence {
		return "", n.bad("agent %q, sequence %d", n.Agent, n.Sequence)
	}
	if n.Kind == Bundle {
		return fmt.Sprintf("%s/%s-%0*d.bundle", dir, n.Agent, digits, n.Sequence), nil
	}
	return fmt.Sprintf("%s/%0*d.response", dir, digits, n.Sequence), nil
}

// ParseName reads what Path writes, and nothing else. The error is an *Error of kind ErrName.
func ParseName(name string) (Name, error) {
	n, ok := parse(name)
	if ok {
		// One name for one place: whatever would not be written this way is not ours.
		if again, err := n.Path(); err == nil && again == name {
			return n, nil
		}
	}
	return Name{}, &Error{Op: "read", Path: strconv.Quote(name), Kind: ErrName}
}

func parse(name string) (Name, bool) {
	parts := strings.Split(name, "/")
	if len(parts) < 4 {
		return Name{}, false
	}
	n := Name{Appliance: parts[1]}
	file := parts[len(parts)-1]
	var ok bool
	switch {
	case parts[2] == "clear":
		n.Kind, n.File = Clear, file
		return n, true
	case parts[2] == "leaves":
		n.Kind = Leaves
		n.Agent, ok = strings.CutSuffix(file, leavesSuffix)
		return n, ok
	case parts[2] == "backup":
		n.Kind, n.Set, n.File = Backup, parts[3], file
		return n, true
	case parts[2] == "to-appliance":
		n.Kind = Bundle
		if file, ok = strings.CutSuffix(file, ".bundle"); !ok {
			return n, false
		}
		// An agent's name may contain hyphens; the number has a fixed width.
		cut := len(file) - digits - 1
		if cut < 1 || file[cut] != '-' {
			return n, false
		}
		n.Agent, file = file[:cut], file[cut+1:]
	case parts[2] == "to-agent":
		n.Kind, n.Agent = Response, parts[3]
		if file == noticeFile {
			return n, true
		}
		if file, ok = strings.CutSuffix(file, ".response"); !ok {
			return n, false
		}
	default:
		return n, false
	}
	sequence, err := strconv.ParseUint(file, 10, 64)
	n.Sequence = sequence
	return n, err == nil
}

// IsAgentName reports whether s is [a-z0-9-]{1,32}: safe in a file name on every file system, whatever its case rules.
func IsAgentName(s string) bool {
	if len(s) < 1 || len(s) > MaxAgentName {
		return false
	}
	return only(s, "abcdefghijklmnopqrstuvwxyz0123456789-")
}

// noticeFile answers a bundle that was refused as a whole and used no number; the next one replaces it.
const noticeFile = "notice.response"

func isClearName(s string) bool {
	if s == "checkpoint" {
		return true
	}
	ext := path.Ext(s)
	stem := strings.TrimSuffix(s, ext)
	// A leading dot hides the file, a leading hyphen makes it an option of a command.
	return (ext == ".pem" || ext == ".crl" || ext == ".receipt") && len(s) <= maxClearName && stem != "" && !strings.ContainsAny(stem[:1], ".-") &&
		only(stem, "abcdefghijklmnopqrstuvwxyz0123456789._-")
}

const leavesSuffix = ".leaves"

// MaxParts is how many parts a backup may have, of at most MaxPartBytes each: more than any disk that an appliance has.
const (
	MaxParts     = 9999
	MaxPartBytes = 1 << 30 // far below what FAT32 can hold, so that a part that failed costs little
)

// PartName is the name of a part of a backup, counted from 1.
func PartName(n int) string { return fmt.Sprintf("part-%04d", n) }

func isBackupName(s string) bool {
	var n int
	_, err := fmt.Sscanf(s, "part-%04d", &n)
	return s == "backup" || s == "unchecked" || err == nil && n >= 1 && n <= MaxParts && s == PartName(n)
}

func isSet(s string) bool { return len(s) == 16 && only(s, "0123456789abcdef") }

func isTag(s string) bool { return len(s) == 8 && only(s, "0123456789abcdef") }

func only(s, allowed string) bool { return strings.Trim(s, allowed) == "" }

func (n Name) bad(format string, args ...any) error {
	return &Error{Op: "name", Kind: ErrName, Err: fmt.Errorf(format, args...)}
}
