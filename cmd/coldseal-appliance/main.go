// Command coldseal-appliance is the offline box: genesis, the bundles that are carried to it, the console, and what an
// operator or auditor asks of it. It starts the signer and the lint worker, opens the engine, and decides nothing itself.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"coldseal/appliance"
	"coldseal/appliance/lint"
	"coldseal/appliance/signer"
	"coldseal/appliance/wire"
	"coldseal/cmd/internal/cli"
	"coldseal/protocol/media"
)

// built is when the release was built, in unix seconds; the Makefile sets it. No clock is believed that is before it.
var built = "1763683200"

// The live heap is some 30 MiB while bundles of full groups are processed. Collecting at a fixed size, not at a multiple
// of what is live, makes memory the same for a thousand requests and a million. The limit is soft.
const (
	gcPercent   = 300
	memoryLimit = 64 << 20
)

func main() {
	// A passphrase and officers' keys pass through here for a moment; they never reach a disk.
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		fmt.Fprintln(os.Stderr, "error: forbid core dumps:", err)
		os.Exit(cli.ExitFailure)
	}
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	cli.Main(rootCommand())
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "coldseal-appliance",
		Short: "the offline certificate authority",
		Long:  "coldseal-appliance answers request bundles that people carry to it. It has no network and no configuration file:\nwhat it may do was typed at genesis or ordered since, and flags say where its devices are.",
	}
	root.AddCommand(genesisCommand(), processCommand(), serveCommand(), consoleCommand(), exportCommand(), statusCommand(),
		doctorCommand(), keysCommand(), logCommand(), cli.ManCommand())
	return root
}

// devices are the flags that say where things are.
type devices struct {
	state   string
	libexec string
	secret  string
	pass    *cli.Secret
	now     string
}

func addDevices(c *cobra.Command) *devices {
	d := &devices{}
	f := c.Flags()
	f.StringVar(&d.state, "state", "", "state `directory`: ledger, responses, keys")
	f.StringVar(&d.libexec, "libexec", "", "`directory` of coldseal-signer and coldseal-lint (default: beside this program)")
	f.StringVar(&d.secret, "secret-file", "", "`file` of 32 bytes that opens the key store, for unattended use; instead of a passphrase")
	d.pass = cli.AddSecret(c, "passphrase", "passphrase of the key store", false)
	f.StringVar(&d.now, "clock", "", "use this `time` (RFC 3339) instead of the system's clock; for tests and rehearsals")
	cli.Require(c, "state")
	cli.Hide(c, "clock")
	return d
}

func (d *devices) program(name string) (string, error) {
	dir := d.libexec
	if dir == "" {
		self, err := os.Executable()
		if err != nil {
			return "", fmt.Errorf("find %s: %w", name, err)
		}
		dir = filepath.Dir(self)
	}
	path, err := filepath.Abs(filepath.Join(dir, name))
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		return "", cli.Fail(cli.ExitNotFound, "install it beside coldseal-appliance, or say where with --libexec", "find %s: %w", name, err)
	}
	return path, nil
}

// workers starts the signer and the lint worker.
func (d *devices) workers(ctx context.Context) (appliance.Config, func() error, error) {
	c := appliance.Config{Dir: d.state, Now: time.Now, Rand: rand.Reader}
	stop := func() error { return nil }
	if d.now != "" {
		fixed, err := time.Parse(time.RFC3339, d.now)
		if err != nil {
			return c, stop, cli.Usage("--clock: %w", err)
		}
		c.Now = func() time.Time { return fixed }
	}
	var seconds int64
	if _, err := fmt.Sscan(built, &seconds); err != nil {
		return c, stop, fmt.Errorf("read build time %q: %w", built, err)
	}
	c.Built = time.Unix(seconds, 0)
	signerPath, err := d.program("coldseal-signer")
	if err != nil {
		return c, stop, err
	}
	lintPath, err := d.program("coldseal-lint")
	if err != nil {
		return c, stop, err
	}
	if err := media.MakeFolder(d.state); err != nil {
		return c, stop, err
	}
	args := []string{"--dir", filepath.Join(d.state, "keys")}
	var opts signer.Options
	if d.secret != "" {
		args = append(args, "--secret-file", d.secret)
	} else {
		pipe, err := d.passphrase()
		if err != nil {
			return c, stop, err
		}
		defer pipe.Close()
		opts.Files = []*os.File{pipe}
		args = append(args, "--passphrase-fd", "4")
	}
	if c.Signer, err = signer.Start(ctx, signerPath, args, opts); err != nil {
		return c, stop, cli.Fail(cli.ExitDevice, "check the passphrase or the secret file, and that no other coldseal-appliance uses the keys", "start signer: %w", err)
	}
	if c.Lint, err = lint.Start(ctx, lintPath); err != nil {
		return c, stop, errors.Join(fmt.Errorf("start lint worker: %w", err), c.Signer.Close())
	}
	return c, func() error { return errors.Join(c.Lint.Close(), c.Signer.Close()) }, nil
}

// passphrase reads the passphrase and gives the reading end of a pipe that holds it: it is in no argument list, file or
// environment of the signer.
func (d *devices) passphrase() (*os.File, error) {
	secret, err := d.pass.Read()
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe for the passphrase: %w", err)
	}
	_, err = w.Write(secret) // at most cli.MaxSecret bytes: less than a pipe holds
	clear(secret)
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("write passphrase to pipe: %w", err), r.Close())
	}
	return r, nil
}

// engine runs f with an open engine.
func (d *devices) engine(ctx context.Context, f func(*appliance.Engine, appliance.Config) error) error {
	if _, err := os.Stat(d.state); err != nil {
		return cli.Fail(cli.ExitNotFound, "mount its disk, or hold genesis: coldseal-appliance genesis", "open appliance: %w", err)
	}
	c, stop, err := d.workers(ctx)
	if err != nil {
		return err
	}
	e, err := appliance.Open(c)
	if err != nil {
		return explain(errors.Join(err, stop()))
	}
	return explain(errors.Join(f(e, c), e.Close(), stop()))
}

// explain says what to do about a fault.
func explain(err error) error {
	switch {
	case errors.Is(err, appliance.ErrRollback):
		return cli.Fail(cli.ExitVerify, "put the newest state directory back; if it is lost, a restore has to be ordered", "%w", err)
	case errors.Is(err, appliance.ErrFault), errors.Is(err, wire.ErrFault):
		return cli.Fail(cli.ExitFailure, "nothing was released; mend the cause, then run the same command again", "%w", err)
	}
	return err
}
