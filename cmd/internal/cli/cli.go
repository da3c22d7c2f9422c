// Package cli is the edge that all our programs share: exit codes, errors and hints on stderr, JSON with a schema
// number, secrets that never come by argv, questions at a terminal, digests as people type them, and man pages.
//
// It exists so that scripts and people meet the same behaviour everywhere (DESIGN section 6). It knows nothing of what a
// command does.
package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/media"
	"coldseal/protocol/show"
)

// Exit codes. 2 is that of a Go panic and never ours.
const (
	ExitOK        = 0
	ExitFailure   = 1  // reject or failure
	ExitNotFound  = 3  // no such file or thing
	ExitPolicy    = 4  // refused by policy
	ExitApprovals = 5  // approvals missing
	ExitDevice    = 6  // device, PIN or passphrase
	ExitVerify    = 7  // verification failed; verify itself gives 1
	ExitUsage     = 64 // the command line is wrong
)

// Count says how many there are of something, "1 key is" or "2 keys are".
func Count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// ExitError says with which code the program ends. Err may be nil: then nothing more is to be said.
type ExitError struct {
	Code int
	Err  error
	Hint string // what to do next, in a sentence; may be empty
}

func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

// Unwrap gives the cause.
func (e *ExitError) Unwrap() error { return e.Err }

// Fail makes an ExitError.
func Fail(code int, hint, format string, a ...any) error {
	return &ExitError{Code: code, Err: fmt.Errorf(format, a...), Hint: hint}
}

// Usage makes the error of a command line that can't be followed.
func Usage(format string, a ...any) error {
	return &ExitError{Code: ExitUsage, Err: fmt.Errorf(format, a...)}
}

// Refused makes an error of a refusal, with its words and hint; nil gives nil.
func Refused(r *protocol.Refusal) error {
	if r == nil {
		return nil
	}
	code := ExitPolicy
	switch r.Code {
	case protocol.CodeApprovalsMissing, protocol.CodeSamePerson, protocol.CodeStatementMissing, protocol.CodeConsoleRequired,
		protocol.CodeApprovalExpired, protocol.CodeApprovalVoid, protocol.CodeOneAtATime:
		code = ExitApprovals
	case protocol.CodeBadSeal, protocol.CodeWrongAppliance, protocol.CodeApprovalInvalid, protocol.CodePossession, protocol.CodeNotForAgent,
		protocol.CodeOlderLog:
		code = ExitVerify
	case protocol.CodeMalformed, protocol.CodeTooLarge, protocol.CodeFault, protocol.CodeNoSpace, protocol.CodeClock:
		code = ExitFailure
	}
	return &ExitError{Code: code, Err: errors.New(r.Words()), Hint: r.Hint()}
}

// Main runs a program and ends it. Passphrases, PINs and keys pass through ours for a moment: none leaves a core dump.
func Main(root *cobra.Command) {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		fmt.Fprintln(os.Stderr, "error: forbid core dumps:", err)
		os.Exit(ExitFailure)
	}
	os.Exit(Run(root, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// Run runs a program and returns its exit code. Whatever fails before a command begins is the command line's fault.
func Run(root *cobra.Command, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	began := false
	dress(root)
	prepare(root, &began)
	root.SilenceErrors, root.SilenceUsage = true, true
	if root.Version == "" {
		root.Version = version()
	}
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	command, err := root.ExecuteC()
	if err == nil {
		return ExitOK
	}
	code, hint := Judge(err)
	if !began {
		code, err = ExitUsage, plain(err)
	}
	if code == ExitUsage && hint == "" {
		hint = command.CommandPath() + " --help shows how it is used"
	}
	if silent := new(ExitError); errors.As(err, &silent) && silent.Err == nil {
		return code
	}
	// Nothing more can be done where stderr can't be written.
	_, _ = fmt.Fprintln(stderr, "error: "+show.Lines(err.Error()))
	if hint != "" {
		_, _ = fmt.Fprintln(stderr, "hint: "+show.Lines(hint))
	}
	return code
}

// Judge gives the exit code and the hint of an error: those of an ExitError in it, else what its kind says.
func Judge(err error) (code int, hint string) {
	if known := new(ExitError); errors.As(err, &known) {
		code, hint = known.Code, known.Hint
	}
	if hinted := interface{ Hint() string }(nil); hint == "" && errors.As(err, &hinted) {
		hint = hinted.Hint()
	}
	if hint == "" {
		hint = diskHint(err)
	}
	switch {
	case code != 0:
	case errors.Is(err, cose.ErrSignature), errors.Is(err, auditlog.ErrCheckpoint), errors.Is(err, auditlog.ErrProof), errors.Is(err, media.ErrSealed):
		code = ExitVerify
	case errors.Is(err, media.ErrKey):
		code = ExitDevice
	case errors.Is(err, fs.ErrNotExist):
		code = ExitNotFound
	default:
		code = ExitFailure
	}
	return code, hint
}

// diskHint says what to do about a disk that does not do its work, where nobody knew better.
func diskHint(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "make room on this machine's disk, then run the same command again"
	case errors.Is(err, syscall.EIO), errors.Is(err, syscall.EROFS):
		return "check this machine's disk, then run the same command again"
	}
	return ""
}

// Sentences of cobra's, with the flags that they are about.
var (
	missing   = regexp.MustCompile(`^required flag\(s\) (".*") not set$`)
	noneOf    = regexp.MustCompile(`^at least one of the flags in the group \[(.*)\] is required$`)
	exclusive = regexp.MustCompile(`^if any flags in the group \[.*\] are set none of the others can be; \[(.*)\] were all set$`)
)

// plain says in our words what cobra says about flags; another error stays as it is.
func plain(err error) error {
	list := func(names, between string) string {
		return "--" + strings.Join(strings.Fields(strings.NewReplacer(`"`, "", ",", "").Replace(names)), between+"--")
	}
	text := err.Error()
	if m := missing.FindStringSubmatch(text); m != nil {
		return errors.New("missing: " + list(m[1], ", "))
	}
	if m := noneOf.FindStringSubmatch(text); m != nil {
		return errors.New("missing: " + list(m[1], " or "))
	}
	if m := exclusive.FindStringSubmatch(text); m != nil {
		return errors.New(list(m[1], " and ") + " exclude each other")
	}
	return err
}

// dress gives what cobra adds the words of our own commands, and says no usage of a command that only has others below.
func dress(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "{{if .Runnable}}", "{{if and .Runnable (not .HasAvailableSubCommands)}}", 1))
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			c.Short = "show how a command is used"
		case "completion":
			c.Short = "write the script by which a shell completes commands"
			for _, shell := range c.Commands() {
				shell.Short = "write the script for " + shell.Name()
			}
		}
	}
}

// prepare marks when a command begins, and makes a command that only has others below it say so when none is named.
func prepare(c *cobra.Command, began *bool) {
	for _, child := range c.Commands() {
		prepare(child, began)
	}
	if c.Run == nil && c.RunE == nil && c.HasSubCommands() {
		c.Args, c.RunE = cobra.ArbitraryArgs, group
	}
	if run := c.RunE; run != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			*began = true
			return run(c, args)
		}
	}
}

func group(c *cobra.Command, args []string) error {
	var names []string
	for _, child := range c.Commands() {
		if child.IsAvailableCommand() {
			names = append(names, child.Name())
		}
	}
	if len(args) > 0 {
		c.SuggestionsMinimumDistance = 2
		if near := c.SuggestionsFor(args[0]); len(near) > 0 {
			names = near
		}
		return Usage("%s has no command %q; there is %s", c.CommandPath(), args[0], strings.Join(names, ", "))
	}
	return Usage("%s: which command? there is %s", c.CommandPath(), strings.Join(names, ", "))
}

// version is what the program was built from: a release, or a revision.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	text := info.Main.Version
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" || setting.Key == "vcs.modified" && setting.Value == "true" {
			text += " " + setting.Key[len("vcs."):] + " " + setting.Value
		}
	}
	return text
}
