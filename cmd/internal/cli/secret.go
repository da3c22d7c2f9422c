package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// MaxSecret bounds a secret from a file or descriptor, in bytes.
const MaxSecret = 1024

// Secret is the flags by which a command gets a passphrase: a file, a descriptor, or a question at the terminal.
type Secret struct {
	name, what string
	file       string
	descriptor int
	none       bool
}

// AddSecret adds --NAME-file and --NAME-fd, and --no-NAME where it may be left out. What is how the terminal asks
// for it, such as "passphrase of the key".
func AddSecret(c *cobra.Command, name, what string, mayBeNone bool) *Secret {
	s := &Secret{name: name, what: what}
	c.Flags().StringVar(&s.file, name+"-file", "", "read the "+what+" from this `file`")
	c.Flags().IntVar(&s.descriptor, name+"-fd", -1, "read the "+what+" from this file `descriptor`")
	c.Flags().Lookup(name + "-fd").DefValue = "0" // so that help does not offer -1 as a descriptor
	names := []string{name + "-file", name + "-fd"}
	if mayBeNone {
		c.Flags().BoolVar(&s.none, "no-"+name, false, "do without the "+what)
		names = append(names, "no-"+name)
	}
	c.MarkFlagsMutuallyExclusive(names...)
	return s
}

// NewSecret makes a secret whose flags are the caller's: it is read from file if that is named, from the descriptor if it
// is not negative, and else asked for.
func NewSecret(name, what, file string, descriptor int) *Secret {
	return &Secret{name: name, what: what, file: file, descriptor: descriptor}
}

// Given tells whether a flag says where the secret is, so that no terminal is needed.
func (s *Secret) Given() bool { return s.none || s.file != "" || s.descriptor >= 0 }

// None tells whether --no-NAME was given.
func (s *Secret) None() bool { return s.none }

// Read gets a secret that exists: without its last line end, 1 to MaxSecret bytes. It is nil where --no-NAME was given.
func (s *Secret) Read() ([]byte, error) { return s.read(false) }

// ReadNew gets a new secret: at a terminal it is asked for twice.
func (s *Secret) ReadNew() ([]byte, error) { return s.read(true) }

func (s *Secret) read(twice bool) ([]byte, error) {
	switch {
	case s.none:
		return nil, nil
	case s.file != "":
		f, err := os.Open(s.file)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", s.name, err)
		}
		defer f.Close()
		return s.from(f)
	case s.descriptor >= 0:
		f := os.NewFile(uintptr(s.descriptor), s.name)
		if f == nil {
			return nil, Usage("--%s-fd %d is not an open descriptor", s.name, s.descriptor)
		}
		defer f.Close()
		return s.from(f)
	}
	first, err := s.ask(s.what)
	if err != nil || !twice {
		return first, err
	}
	second, err := s.ask(s.what + ", again")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, second) {
		return nil, Fail(ExitDevice, "run the command again", "the two %ss are not the same", s.name)
	}
	return first, nil
}

func (s *Secret) from(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxSecret+3))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", s.name, err)
	}
	return s.check(bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r")))
}

func (s *Secret) check(secret []byte) ([]byte, error) {
	if len(secret) == 0 || len(secret) > MaxSecret {
		return nil, Fail(ExitDevice, "give it again", "the %s has %d bytes, from 1 to %d are possible", s.what, len(secret), MaxSecret)
	}
	return secret, nil
}

func (s *Secret) ask(what string) ([]byte, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, &ExitError{Code: ExitUsage, Err: fmt.Errorf("no terminal to ask for the %s: %w", s.what, err),
			Hint: fmt.Sprintf("give --%s-file or --%s-fd", s.name, s.name)}
	}
	defer tty.Close()
	if _, err := fmt.Fprintf(tty, "%s: ", what); err != nil {
		return nil, fmt.Errorf("ask for the %s: %w", s.what, err)
	}
	secret, err := readUnseen(tty)
	if err != nil {
		return nil, fmt.Errorf("ask for the %s: %w", s.what, err)
	}
	if _, err := fmt.Fprintln(tty); err != nil {
		return nil, fmt.Errorf("ask for the %s: %w", s.what, err)
	}
	return s.check(secret)
}

// readUnseen reads a line without showing it. Whoever interrupts gets the terminal back as it was.
func readUnseen(tty *os.File) ([]byte, error) {
	before, err := term.GetState(int(tty.Fd()))
	if err != nil {
		return nil, err
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(interrupted)
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-interrupted:
			_ = term.Restore(int(tty.Fd()), before) // the program ends either way
			fmt.Fprintln(tty)
			os.Exit(ExitFailure)
		case <-done:
		}
	}()
	return term.ReadPassword(int(tty.Fd()))
}

// Confirm asks a question at the terminal; only "yes", typed out, is yes. With yes already given nothing is asked.
func Confirm(question string, yes bool) (bool, error) {
	if yes {
		return true, nil
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return false, &ExitError{Code: ExitUsage, Err: fmt.Errorf("no terminal to ask %q: %w", question, err), Hint: "give --yes"}
	}
	defer tty.Close()
	if _, err := fmt.Fprintf(tty, "%s [yes/no] ", question); err != nil {
		return false, fmt.Errorf("ask %q: %w", question, err)
	}
	answer, err := readLine(tty)
	if err != nil {
		return false, fmt.Errorf("ask %q: %w", question, err)
	}
	return answer == "yes", nil
}

// Ask asks for a line at the terminal, which is shown as it is typed.
func Ask(what string) (string, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", &ExitError{Code: ExitUsage, Err: fmt.Errorf("no terminal to ask for %s: %w", what, err), Hint: "give files instead"}
	}
	defer tty.Close()
	if _, err := fmt.Fprintf(tty, "%s: ", what); err != nil {
		return "", fmt.Errorf("ask for %s: %w", what, err)
	}
	return readLine(tty)
}

// IsTerminal tells whether a file is one.
func IsTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// readLine reads byte by byte, so that nothing is taken that a later question should get.
func readLine(r io.Reader) (string, error) {
	var line []byte
	for one := make([]byte, 1); len(line) < MaxSecret; {
		n, err := r.Read(one)
		if n == 1 && one[0] == '\n' || err == io.EOF && len(line) > 0 {
			return string(bytes.TrimSpace(line)), nil
		}
		if err != nil {
			return "", err
		}
		line = append(line, one[:n]...)
	}
	return "", fmt.Errorf("a line of more than %d bytes", MaxSecret)
}
