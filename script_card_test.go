package coldseal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// cards are smart cards behind pcscd, in a world of their own: agent/station/pivtest is a program, which ends with its
// standard input.
type cards struct {
	dir         string
	process     *exec.Cmd
	stdin       io.Closer
	environment map[string]string
}

// startCards starts them with four readers; the cards are kept in dir.
func startCards(dir string) (*cards, error) {
	program := filepath.Join(dir, "pivtest")
	if out, err := exec.Command("go", "build", "-o", program, "./agent/station/pivtest").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build pivtest: %w: %s", err, out)
	}
	c := &cards{dir: dir, process: exec.Command(program, "--dir", dir, "--readers", "4"), environment: map[string]string{}}
	c.process.Stderr = os.Stderr
	stdin, err := c.process.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := c.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.process.Start(); err != nil {
		return nil, err
	}
	c.stdin = stdin
	for lines := bufio.NewScanner(stdout); len(c.environment) < 2; {
		if !lines.Scan() {
			return nil, fmt.Errorf("pivtest: %w", c.process.Wait())
		}
		name, value, _ := strings.Cut(lines.Text(), "=")
		c.environment[name] = value
	}
	return c, nil
}

// stop lets them end; how they do is nobody's concern any more.
func (c *cards) stop() {
	_ = c.stdin.Close()
	_ = c.process.Wait()
}

// tell does one thing with the readers (agent/station/pivtest/control.go).
func (c *cards) tell(words ...string) error {
	_, err := c.ask(words...)
	return err
}

func (c *cards) ask(words ...string) (string, error) {
	conn, err := net.Dial("unix", c.environment["PIVTEST"])
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := fmt.Fprintln(conn, strings.Join(words, " ")); err != nil {
		return "", err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil || !strings.HasPrefix(answer, "ok") {
		return "", fmt.Errorf("%v: %s %w", words, strings.TrimSpace(answer), err)
	}
	return strings.TrimSpace(strings.TrimPrefix(answer, "ok")), nil
}

// card WORDS… does something with the readers of this script, which are there from the first time on; a card that is put
// in has the PIN 123456.
func card(ts *testscript.TestScript, _ bool, args []string) {
	all, _ := ts.Value(cardsKey{}).(**cards)
	if *all == nil {
		dir, err := os.MkdirTemp("", "cards-") // a short name: sockets are in it
		ts.Check(err)
		ts.Defer(func() { ts.Check(os.RemoveAll(dir)) })
		c, err := startCards(dir)
		ts.Check(err)
		ts.Defer(c.stop)
		*all = c
		for name, value := range c.environment {
			ts.Setenv(name, value)
		}
	}
	ts.Check((*all).tell(args...))
}

type cardsKey struct{}

// newCards are cards for a test, and where pcscd is found.
func newCards(t *testing.T) *cards {
	t.Helper()
	dir, err := os.MkdirTemp("", "cards-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c, err := startCards(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	return c
}

// locator is how the appliance is told of the card that was put in first.
func (c *cards) locator() string {
	return "piv:serial=9000001;socket=" + c.environment["PCSCLITE_CSOCK_NAME"]
}

// boxPIV has the keys on a card whose management key lies under its PIN.
func boxPIV(t *testing.T) box {
	return newCards(t).box(t)
}

func (c *cards) box(t *testing.T) box {
	t.Helper()
	if err := c.tell("new", "0", "appliance"); err != nil {
		t.Fatal(err)
	}
	const management = "a1a2a3a4a5a6a7a8b1b2b3b4b5b6b7b8c1c2c3c4c5c6c7c8"
	tool := func(stdin string, args ...string) error {
		p := exec.Command("yubico-piv-tool", args...)
		p.Env = append(os.Environ(), "PCSCLITE_CSOCK_NAME="+c.environment["PCSCLITE_CSOCK_NAME"])
		p.Stdin = strings.NewReader(stdin)
		out, err := p.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("yubico-piv-tool %v: %w: %s", args, err, out)
		}
		return err
	}
	err := errors.Join(tool("", "-a", "set-mgm-key", "-n", management), tool("881a8918"+management, "--key="+management, "-a", "write-object", "--id", "0x5fc109"))
	if err != nil {
		t.Fatal(err)
	}
	return box{
		locator: c.locator(), log: "softkey:", takes: takesPIV, pin: "123456",
		commands: map[string]func(*testscript.TestScript, bool, []string){
			"card": func(ts *testscript.TestScript, _ bool, args []string) { ts.Check(c.tell(args...)) },
			"log":  logHas,
			"piv":  func(ts *testscript.TestScript, _ bool, args []string) { ts.Check(tool("", args...)) },
		},
	}
}
