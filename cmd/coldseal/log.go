package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"coldseal/cmd/internal/cli"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/show"
)

func logCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "log",
		Short: "go through an appliance's exported log",
		Long:  "The log is what coldseal-appliance log export wrote. All that these commands believe is the genesis digest, typed.",
	}
	c.AddCommand(logVerifyCommand(), logProveCommand(), logAuditCommand())
	return c
}

// logFlags are by which a command gets an exported log.
type logFlags struct {
	log          string
	digest       protocol.Digest
	genesis      string
	introduction string
	since        []string
}

func addLog(c *cobra.Command) *logFlags {
	l := &logFlags{}
	c.Flags().StringVar(&l.log, "log", "", "`file` of the exported log")
	cli.DigestVar(c.Flags(), &l.digest, "digest", "genesis digest of the appliance, typed from the minutes")
	c.Flags().StringVar(&l.genesis, "genesis", "", "`file` of the genesis, where the log has it erased")
	c.Flags().StringVar(&l.introduction, "introduction", "", "`file` of the introduction, for the genesis in it")
	c.Flags().StringArrayVar(&l.since, "since", nil, "`file` of an older checkpoint, which the log has to continue; may be repeated")
	c.MarkFlagsMutuallyExclusive("genesis", "introduction")
	return l
}

// replay verifies the whole log; see replay.run.
func (l *logFlags) replay(c *cobra.Command, each func(*replay, *entry) error) (*replay, error) {
	if l.log == "" || l.digest.IsZero() {
		return nil, cli.Usage("--log says which file, --digest which appliance")
	}
	r := &replay{typed: l.digest}
	var err error
	switch {
	case l.genesis != "":
		r.genesis, err = cli.ReadInput(l.genesis, c.InOrStdin(), protocol.MaxIntroduction)
	case l.introduction != "":
		var data []byte
		if data, err = cli.ReadInput(l.introduction, c.InOrStdin(), protocol.MaxIntroduction); err == nil {
			var in protocol.Introduced
			in, err = protocol.OpenIntroduction(data, l.digest)
			r.genesis = in.Bytes
		}
	}
	if err != nil {
		return nil, err
	}
	for _, name := range l.since {
		note, err := cli.ReadInput(name, c.InOrStdin(), auditlog.MaxCheckpoint)
		if err != nil {
			return nil, err
		}
		r.notes = append(r.notes, note)
	}
	f, err := os.Open(l.log)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if e, isFile := c.ErrOrStderr().(*os.File); isFile && term.IsTerminal(int(e.Fd())) {
		r.tell = cli.NewProgress(e, "log entries", 0)
	}
	if err := r.run(f, each); err != nil {
		hint := "keep the file as it is; what it says is not to be believed"
		if errors.Is(err, errOtherGenesis) {
			hint = "type the digest from the minutes again; if it is right, this is another appliance's log"
		}
		return nil, cli.Fail(cli.ExitVerify, hint, "the log does not verify: %w", err)
	}
	return r, nil
}

// summary is what was found of the log as a whole.
func (r *replay) summary() show.Sheet {
	s := show.Sheet{{Name: "type", Value: "log"}, {Name: "verified", Value: true}, {Name: "appliance", Value: r.typed.String()},
		{Name: "entries", Value: r.edge.Size()}, {Name: "root", Value: fmt.Sprintf("%x", r.checkpoint.Root[:])},
		{Name: "counter", Value: r.counter}, {Name: "bodies erased", Value: r.erased}}
	var kinds []auditlog.Kind
	for k := range r.counts {
		kinds = append(kinds, k)
	}
	slices.Sort(kinds)
	var counts show.Sheet
	for _, k := range kinds {
		counts = append(counts, show.Row{Name: k.String(), Value: r.counts[k]})
	}
	s = append(s, show.Row{Name: "kinds", Rows: counts},
		show.Row{Name: "roster", Value: protocol.DigestOf(r.state.Roster).String()}, show.Row{Name: "policy", Value: protocol.DigestOf(r.state.Policy).String()})
	var cas []show.Sheet
	for id, ca := range r.state.CAs {
		cas = append(cas, show.Sheet{{Name: "label", Value: ca.Label}, {Name: "key", Value: id.String()}, {Name: "certified", Value: ca.Certificate != nil}})
	}
	slices.SortFunc(cas, func(a, b show.Sheet) int { return compareText(a[0].Value, b[0].Value) })
	if len(cas) > 0 {
		s = append(s, show.Row{Name: "cas", Items: cas})
	}
	return s
}

func logVerifyCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "verify --log FILE --digest DIGEST",
		Short: "verify a whole log: tree, checkpoint, bodies, counter, and every order decided again",
		Long: "verify recomputes the root over all entries and compares it with the signed checkpoint, holds every body that is there\n" +
			"against its digest, follows the counter, and decides all orders again from the officers of the genesis on. With --since it also\n" +
			"shows that the log goes on from a checkpoint that somebody kept: nothing before it was changed or taken out.",
		Args: cobra.NoArgs,
	}
	l := addLog(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		r, err := l.replay(c, nil)
		if err != nil {
			return err
		}
		if asJSON {
			return cli.PrintJSON(c.OutOrStdout(), r.summary())
		}
		return r.summary().Write(c.OutOrStdout())
	}
	return c
}

func compareText(a, b any) int {
	x, y := fmt.Sprint(a), fmt.Sprint(b)
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}
