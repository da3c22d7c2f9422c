// Command pivtest is a smart card for tests: a PIV applet of our own behind the real pcscd and the real virtual readers
// of vsmartcard. What talks PC/SC (our programs, OpenSC, yubico-piv-tool, ykcs11) talks to it as it would to a card.
//
// The applet is that of NIST SP 800-73-4 with Yubico's extensions, or, where it is asked to be plain, without. It is a
// test double: its keys lie in a file, and its attestations lead to nobody's root.
//
//	pivtest [--dir DIR] [--readers N] [COMMAND…]
//
// DIR keeps the cards and gets the sockets; without it they are gone at the end. The command runs with two variables more:
// PCSCLITE_CSOCK_NAME, by which PC/SC clients find this pcscd, and PIVTEST, the socket where cards are put in and pulled
// (control.go). Without a command the two are printed, and it ends with its standard input. It needs no root: pcscd and
// its port have namespaces to themselves, so that many run side by side.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

func main() {
	err := run(os.Args[1:])
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "pivtest:", err)
		os.Exit(1)
	}
}

func run(args []string) (err error) {
	flags := flag.NewFlagSet("pivtest", flag.ContinueOnError)
	dir := flags.String("dir", "", "`directory` of cards and sockets")
	readers := flags.Int("readers", 2, "how many readers there are: an even number up to 16")
	inside := flags.Bool("inside", false, "for pivtest itself: the namespaces are there already")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *inside {
		return serve(*dir, *readers)
	}
	if *dir == "" {
		if *dir, err = os.MkdirTemp("", "pivtest-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(*dir)) }()
	}
	w, environment, err := apart(*dir, *readers)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.end()) }()
	if flags.NArg() == 0 {
		fmt.Println(strings.Join(environment, "\n"))
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	}
	c := exec.Command(flags.Arg(0), flags.Args()[1:]...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.Env = append(os.Environ(), environment...)
	return c.Run()
}

// world is this program once more, in namespaces of its own, with pcscd and the cards.
type world struct {
	process *exec.Cmd
	stdin   io.Closer
}

// begin starts the world and waits until its cards can be reached.
func begin(c *exec.Cmd) (*world, []string, error) {
	c.Stderr = os.Stderr
	stdin, errIn := c.StdinPipe()
	stdout, errOut := c.StdoutPipe()
	if err := errors.Join(errIn, errOut); err != nil {
		return nil, nil, err
	}
	if err := c.Start(); err != nil {
		return nil, nil, err
	}
	w := &world{c, stdin}
	var environment []string
	for lines := bufio.NewScanner(stdout); len(environment) < 2; {
		if !lines.Scan() {
			return nil, nil, errors.Join(errors.New("the world of pcscd did not come about"), w.end())
		}
		environment = append(environment, lines.Text())
	}
	return w, environment, nil
}

// end lets the world end, and pcscd with it.
func (w *world) end() error { return errors.Join(w.stdin.Close(), w.process.Wait()) }
