package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"coldseal/appliance"
	"coldseal/cmd/internal/cli"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/media"
	"coldseal/protocol/show"
)

func restoreCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "restore",
		Short: "go on from a backup, when the box is lost",
		Long: "A restore has four steps: open the backup with its shares; take the log that agents and auditors bring; write the order\n" +
			"that says from where to go on; have officers approve it at the console (console order). Until then nothing is processed.",
	}
	c.AddCommand(restoreOpenCommand(), restoreLeavesCommand(), restoreOrderCommand())
	return c
}

func restoreOpenCommand() *cobra.Command {
	var digest protocol.Digest
	c := &cobra.Command{
		Use:   "open --state DIR --media DIR --digest DIGEST (--share FILE … | --card LOCATOR … | --ask)",
		Short: "open a backup into an empty state directory",
		Long: "The state directory must not be there, or be empty. The key store that comes with the backup opens with its own passphrase\n" +
			"or secret file; keys in devices have to be there. Interrupted, give the same command again.",
		Args: cobra.NoArgs,
	}
	d := addDevices(c)
	cli.DigestVar(c.Flags(), &digest, "digest", "genesis digest of the appliance, typed from the minutes")
	s := addShares(c, d)
	cli.Require(c, "media", "digest")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return s.use(cmd, digest, func(m *media.Medium, b appliance.Found, shares []appliance.NamedShare) error {
			key, err := b.Key(shares)
			if err != nil {
				return explain(err)
			}
			if !b.Checked {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning: nobody checked this backup when it was made")
			}
			if err := appliance.Unpack(cmd.Context(), m, &b.Backup, key, d.state); err != nil {
				return explain(err)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "opened: the appliance %s as of %s, with %d log entries. It waits for the order to restore it.\n", b.Name, protocol.Date(b.Created), b.Size)
			if err := d.adopt(cmd.Context(), digest); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "Now bring what is known of the log since. At each agent: coldseal-agent log export --from %d\n", b.Size)
			_, err = fmt.Fprintln(cmd.OutOrStdout(), b.Size)
			return err
		})
	}
	return c
}

// adopt opens what was unpacked, with its keys, and replays its log.
func (d *devices) adopt(ctx context.Context, digest protocol.Digest) error {
	c, stop, err := d.workers(ctx)
	if err != nil {
		return err
	}
	var e *appliance.Engine
	if err = appliance.Adopt(c, digest); err == nil {
		if e, err = appliance.Open(c); err == nil {
			err = e.Close()
		}
	}
	return explain(errors.Join(err, stop()))
}

// takenJSON is what is known of the log, in JSON.
type takenJSON struct {
	From   uint64   `json:"from"`
	Size   uint64   `json:"size"`
	Bodies uint64   `json:"bodies"`
	Known  uint64   `json:"known"`
	Heard  []string `json:"heard,omitempty"`
	Order  string   `json:"order,omitempty"`
}

func restoreLeavesCommand() *cobra.Command {
	var dirs, logs, checkpoints []string
	c := &cobra.Command{
		Use:   "leaves --state DIR (--media DIR … | --log FILE … | --checkpoint FILE …)",
		Short: "take what agents and auditors know of the log since the backup",
		Long: "Agents bring media (coldseal-agent log export), auditors logs that were exported for them, with all bodies. Checkpoints that\n" +
			"somebody kept show whether that is all: the appliance is not restored while one of them is over more entries. Give the\n" +
			"command for each as it comes; all of it has to agree.",
		Args: cobra.NoArgs,
	}
	d := addDevices(c)
	c.Flags().StringArrayVar(&dirs, "media", nil, "`directory` of a medium from an agent; may be repeated")
	c.Flags().StringArrayVar(&logs, "log", nil, "`file` of a log that log export wrote; may be repeated")
	c.Flags().StringArrayVar(&checkpoints, "checkpoint", nil, "`file` of a checkpoint that somebody kept; may be repeated")
	asJSON := c.Flags().Bool("json", false, "print JSON")
	c.MarkFlagsOneRequired("media", "log", "checkpoint")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return d.engine(cmd.Context(), func(e *appliance.Engine, _ appliance.Config) error {
			sources, notes, err := sourcesOf(cmd, e, dirs, logs, checkpoints)
			defer func() {
				for i := range sources {
					_ = sources[i].Close() // they have no name, and were only read
				}
			}()
			if err != nil {
				return err
			}
			if len(sources)+len(notes) == 0 {
				return cli.Fail(cli.ExitNotFound, "at the agent: coldseal-agent log export --media", "there are no leaves of this appliance's log on the medium")
			}
			taken, err := e.TakeLeaves(sources, notes)
			if err != nil {
				return err
			}
			if *asJSON {
				return cli.PrintJSON(cmd.OutOrStdout(), takenJSON{From: taken.From, Size: taken.Size, Bodies: taken.Bodies, Known: taken.Known, Heard: taken.Heard})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d\n", taken.Size)
			fmt.Fprintf(cmd.ErrOrStderr(), "%d entries since the backup, %d with what was decided; the largest checkpoint known is over %d\n", taken.Size-taken.From, taken.Bodies, taken.Known)
			sayUnheard(cmd, e, taken)
			return nil
		})
	}
	return c
}

func sayUnheard(cmd *cobra.Command, e *appliance.Engine, taken appliance.Taken) {
	if names := e.Unheard(taken.Heard); len(names) > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "these agents brought nothing yet, and may know more: %s\n", strings.Join(names, ", "))
	}
	if taken.Known > taken.Size {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s has a checkpoint over %d entries: somebody knows more of the log\n", show.Text(taken.By), taken.Known)
	}
}

func sourcesOf(cmd *cobra.Command, e *appliance.Engine, dirs, logs, checkpoints []string) (sources []appliance.Source, notes []appliance.Note, err error) {
	for _, dir := range dirs {
		m, err := media.OpenMedium(dir)
		if err != nil {
			return sources, nil, err
		}
		found, note, err := e.LeavesOn(m)
		sources, notes = append(sources, found...), append(notes, note...)
		if err := errors.Join(err, m.Close()); err != nil {
			return sources, nil, err
		}
	}
	for _, file := range logs {
		f, err := os.Open(file)
		if err != nil {
			return sources, nil, err
		}
		source, err := e.ExportedLog(file, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return sources, nil, err
		}
		sources = append(sources, source)
	}
	for _, file := range checkpoints {
		text, err := cli.ReadInput(file, cmd.InOrStdin(), auditlog.MaxCheckpoint)
		if err != nil {
			return sources, nil, err
		}
		notes = append(notes, appliance.Note{Name: file, Text: text})
	}
	return sources, notes, nil
}

func restoreOrderCommand() *cobra.Command {
	var out string
	var above uint64
	c := &cobra.Command{
		Use:   "order --state DIR --out FILE",
		Short: "write what was brought into the ledger, and the order that says from where to go on",
		Long: "The order is approved at the console like any other: console order, or console challenge and coldseal approve. Before they\n" +
			"approve, the officers make sure that nobody knows more of the log than the order says. After this command no more leaves\n" +
			"are taken. Interrupted, give it again.",
		Args: cobra.NoArgs,
	}
	d := addDevices(c)
	c.Flags().StringVar(&out, "out", "", "`file` to write the order to")
	c.Flags().Uint64Var(&above, "crl-above", 0, "a `number` that a CRL was seen with; by default they go on 1000 above all that are known")
	asJSON := c.Flags().Bool("json", false, "print JSON")
	cli.Require(c, "out")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return d.engine(cmd.Context(), func(e *appliance.Engine, _ appliance.Config) error {
			progress := cli.NewProgress(cmd.ErrOrStderr(), "log entries", 0)
			e.Report = func(p appliance.Progress) { progress.At(p.Done) }
			taken, err := e.ApplyLeaves()
			if err != nil {
				return err
			}
			raw, err := e.RestoreOrder(above)
			if err != nil {
				return err
			}
			sheet, err := show.Request(raw)
			if err != nil {
				return err
			}
			if err := sheet.Write(cmd.ErrOrStderr()); err != nil {
				return err
			}
			sayUnheard(cmd, e, taken)
			err = media.WriteFile(out, media.WriteOptions{Replace: true}, media.Contents(raw))
			if err != nil {
				return err
			}
			id := protocol.ID(raw).String()
			if *asJSON {
				return cli.PrintJSON(cmd.OutOrStdout(), takenJSON{From: taken.From, Size: taken.Size, Known: taken.Known, Heard: taken.Heard, Order: id})
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), id)
			return err
		})
	}
	return c
}
