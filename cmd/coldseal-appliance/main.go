// Command coldseal-appliance is the offline box: genesis, the bundles that are carried to it, the console, and what an
// operator or auditor asks of it. It starts the signer and the lint worker, opens the engine, and decides nothing itself.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/spf13/cobra"

	"coldseal/appliance"
	"coldseal/appliance/signer"
	"coldseal/appliance/store"
	"coldseal/appliance/wire"
	"coldseal/cmd/internal/cli"
	"coldseal/protocol/shamir"
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
		doctorCommand(), keysCommand(), logCommand(), backupCommand(), restoreCommand(), cli.ManCommand())
	return root
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

func (d *devices) present() error {
	if _, err := os.Stat(d.state); err != nil {
		return cli.Fail(cli.ExitNotFound, "mount its disk, or hold genesis: coldseal-appliance genesis", "open appliance: %w", err)
	}
	return nil
}

// engine runs f with an open engine.
func (d *devices) engine(ctx context.Context, f func(*appliance.Engine, appliance.Config) error) error {
	if err := d.present(); err != nil {
		return err
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
	trouble, found := signer.AsTrouble(err)
	refused, isRefused := errors.AsType[*wire.Refused](err)
	switch {
	case err == nil:
	case errors.Is(err, appliance.ErrRestoring):
		return cli.Fail(cli.ExitFailure, "bring leaves (restore leaves), write the order (restore order), have officers approve it (console order)", "%w", err)
	case errors.Is(err, shamir.ErrForeign):
		return cli.Fail(cli.ExitDevice, "bring shares of the set that is named, or name theirs with --set, as backup list shows it", "%w", err)
	case isShare(err):
		return cli.Fail(cli.ExitDevice, "bring good shares of the set that is named", "%w", err)
	case errors.Is(err, appliance.ErrBackup), errors.Is(err, appliance.ErrOtherAppliance), errors.Is(err, appliance.ErrKeysMissing):
		return cli.Fail(cli.ExitVerify, "take another backup, or bring the keys that it was made with", "%w", err)
	case errors.Is(err, appliance.ErrLiving):
		return cli.Fail(cli.ExitFailure, "give a directory that is empty or not there; an appliance that lives is never restored over", "%w", err)
	case errors.Is(err, store.ErrBusy):
		return cli.Fail(cli.ExitDevice, "wait until it has ended, then run the same command again; serve ends with Ctrl-C", "%w", err)
	case errors.Is(err, appliance.ErrBegun):
		return cli.Fail(cli.ExitFailure, "nothing was changed; coldseal-appliance status shows the digest in groups; another appliance wants a state directory of its own", "%w", err)
	case errors.Is(err, appliance.ErrUsed):
		return cli.Fail(cli.ExitDevice, "give each appliance a token of its own; after a rehearsal, begin with an empty one", "%w", err)
	case errors.Is(err, appliance.ErrRotated):
		return cli.Fail(cli.ExitVerify, "restore a newer backup: whoever has heard of the new key takes nothing from the old one", "%w", err)
	case errors.Is(err, appliance.ErrForked):
		return cli.Fail(cli.ExitVerify, "two boxes went on from one log: call the officers and keep both media; only one of the logs can go on", "%w", err)
	case errors.Is(err, appliance.ErrTooShort), errors.Is(err, appliance.ErrGap):
		return cli.Fail(cli.ExitVerify, "bring the leaves of whoever knows more: coldseal-agent log export", "%w", err)
	case errors.Is(err, appliance.ErrMany):
		return cli.Fail(cli.ExitFailure, "give the command for some of them after the others", "%w", err)
	case errors.Is(err, appliance.ErrApplied), errors.Is(err, appliance.ErrNotApplied):
		return cli.Fail(cli.ExitFailure, "", "%w", err)
	case isRefused && refused.Code == signer.RefusedKey:
		return cli.Fail(cli.ExitDevice, "no certificate was released: no device that was named has the key; give every --keys of the genesis, with its device there; this compares devices and ledger: coldseal-appliance keys", "%w", err)
	case found:
		return cli.Fail(cli.ExitDevice, "no certificate was released; "+trouble.Mend, "%w", err)
	case errors.Is(err, appliance.ErrRollback):
		return cli.Fail(cli.ExitVerify, "put the newest state directory back; if it is lost, a restore has to be ordered", "%w", err)
	case errors.Is(err, appliance.ErrFault), errors.Is(err, wire.ErrFault):
		return cli.Fail(cli.ExitFailure, "no certificate was released; mend the cause, then run the same command again", "%w", err)
	}
	return err
}
