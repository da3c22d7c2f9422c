package main

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"coldseal/agent"
	"coldseal/cmd/internal/cli"
	"coldseal/protocol"
	"coldseal/protocol/show"
)

func exportCommand() *cobra.Command {
	var medium string
	var again uint64
	var ids []string
	var choice agent.Choice
	c := &cobra.Command{
		Use:   "export --state DIR --media DIR",
		Short: "write the next bundle to a medium",
		Long: "export takes all requests that seem to have their approvals. An export that was interrupted is finished by the next one,\n" +
			"with the same number and the same bytes. A stick that was lost is made anew with --again.",
		Args: cobra.NoArgs,
	}
	o := addCommon(c)
	f := c.Flags()
	f.StringVar(&medium, "media", "", "`directory` of the medium")
	f.Uint64Var(&again, "again", 0, "write the bundle with this `number` once more, byte for byte")
	f.StringSliceVar(&ids, "id", nil, "only these requests, by `id`, whatever their approvals")
	f.BoolVar(&choice.Incomplete, "incomplete", false, "take requests too whose approvals do not seem to be enough")
	f.BoolVar(&choice.Empty, "empty", false, "if nothing is ready make an empty bundle, which asks the appliance what is new")
	f.BoolVar(&choice.Replace, "replace", false, "replace a different file of the same name on the medium")
	cli.Require(c, "media")
	c.MarkFlagsMutuallyExclusive("again", "id")
	c.MarkFlagsMutuallyExclusive("again", "incomplete")
	c.MarkFlagsMutuallyExclusive("again", "empty")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		return o.with(func(s *agent.Service) error {
			for _, text := range ids {
				id, err := s.ParseID(text)
				if err != nil {
					return err
				}
				choice.IDs = append(choice.IDs, id)
			}
			var e agent.Exported
			var err error
			if again != 0 {
				e, err = s.ExportAgain(ctx, medium, again, choice.Replace)
			} else {
				e, err = s.Export(ctx, medium, choice)
			}
			if err != nil {
				return err
			}
			return o.printExported(cmd, e)
		})
	}
	return c
}

func (o *common) printExported(cmd *cobra.Command, e agent.Exported) error {
	if o.json {
		return cli.PrintJSON(cmd.OutOrStdout(), struct {
			Sequence uint64 `json:"sequence"`
			Items    uint64 `json:"items"`
			Digest   string `json:"digest"`
			Path     string `json:"path"`
			Resumed  bool   `json:"resumed,omitempty"`
			Waiting  uint64 `json:"waiting,omitempty"`
		}{e.Sequence, e.Items, e.Digest.String(), e.Path, e.Resumed, e.Waiting})
	}
	if e.Resumed {
		say(cmd, "finished bundle %d, whose export was interrupted; give the command again for what was added since", e.Sequence)
	}
	if e.Waiting > 0 {
		say(cmd, "%d requests stay behind: they wait for approvals", e.Waiting)
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "bundle %d: %d requests in %s\n", e.Sequence, e.Items, e.Path)
	return err
}

func importCommand() *cobra.Command {
	var medium string
	c := &cobra.Command{
		Use:   "import --state DIR --media DIR",
		Short: "verify and import the responses on a medium",
		Long: "import verifies seal, log, certificates and receipts against what was asked, and imports each response whole or not at\n" +
			"all. Importing again changes nothing. What it prints is the outcome of each request.",
		Args: cobra.NoArgs,
	}
	o := addCommon(c)
	c.Flags().StringVar(&medium, "media", "", "`directory` of the medium")
	cli.Require(c, "media")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		// An import makes much garbage and holds little; with a limit, which is soft, it takes the same for any number.
		debug.SetGCPercent(200)
		debug.SetMemoryLimit(24 << 20)
		return o.with(func(s *agent.Service) error {
			var progress *cli.Progress
			all, err := s.Import(ctx, medium, func(done, total uint64) {
				if progress == nil || done == total {
					progress = cli.NewProgress(cmd.ErrOrStderr(), "answers", total)
				}
				progress.At(done)
			})
			w := bufio.NewWriter(cmd.OutOrStdout())
			errs := []error{err}
			for _, one := range all {
				errs = append(errs, o.printImported(cmd, w, s, one))
			}
			return errors.Join(append(errs, w.Flush())...)
		})
	}
	return c
}

// importedJSON is a response in JSON; outcomeJSON one of its results.
type importedJSON struct {
	Path    string       `json:"path"`
	Bundle  uint64       `json:"bundle"`
	Already bool         `json:"already,omitempty"`
	Refusal *refusalJSON `json:"refusal,omitempty"`
	Results uint64       `json:"results"`
	Refused uint64       `json:"refused"`
	Known   uint64       `json:"known,omitempty"`
	Missing []uint64     `json:"missing,omitempty"`
	Unknown uint64       `json:"unknown,omitempty"`
	Silent  uint64       `json:"silent,omitempty"`
	Gap     bool         `json:"gap,omitempty"`
	Leaves  uint64       `json:"leaves"`
	CRLs    uint64       `json:"crls"`
}

type outcomeJSON struct {
	ID      string       `json:"id"`
	Kind    string       `json:"kind,omitempty"`
	Profile string       `json:"profile,omitempty"`
	Body    string       `json:"body,omitempty"`
	Subject string       `json:"subject,omitempty"`
	Outcome string       `json:"outcome"`
	Serial  string       `json:"serial,omitempty"`
	Refusal *refusalJSON `json:"refusal,omitempty"`
}

func (o *common) printImported(cmd *cobra.Command, w *bufio.Writer, s *agent.Service, i agent.Imported) error {
	if o.json {
		err := cli.PrintJSON(w, importedJSON{
			Path: i.Path, Bundle: i.Sequence, Already: i.Already, Refusal: refusalOf(i.Refusal), Results: i.Results, Refused: i.Refused,
			Known: i.Known, Missing: i.Missing, Unknown: i.Unknown, Silent: i.Silent, Gap: i.Gap, Leaves: i.Leaves, CRLs: i.CRLs,
		})
		if err != nil || i.Already {
			return err
		}
		return s.Outcomes(i.Number, func(out agent.Outcome) error { return cli.PrintJSON(w, outcomeOf(out)) })
	}
	if i.Already {
		say(cmd, "the response to bundle %d was imported before", i.Sequence)
		return nil
	}
	say(cmd, "response to bundle %d: %d answers, %d refused; %d new leaves of the log, %d new CRLs", i.Sequence, i.Results, i.Refused, i.Leaves, i.CRLs)
	if i.Refusal != nil {
		say(cmd, "the bundle as a whole was refused: %s\nhint: %s", show.Text(i.Refusal.Words()), show.Text(i.Refusal.Hint()))
	}
	if i.Known > 0 {
		say(cmd, "%d of the answers were imported before", i.Known)
	}
	for _, n := range i.Missing {
		say(cmd, "bundle %d is missing: the appliance has not seen it", n)
	}
	if i.Unknown > 0 {
		say(cmd, "%d answers are to requests that are not known here; they are kept", i.Unknown)
	}
	if i.Silent > 0 {
		say(cmd, "warning: %d requests of the bundle were not answered; the next export takes them again", i.Silent)
	}
	if i.Gap {
		say(cmd, "this agent's copy of the log is older than the response: export --empty asks for what is missing")
	}
	return s.Outcomes(i.Number, func(out agent.Outcome) error { return printOutcome(w, out) })
}

func outcomeOf(out agent.Outcome) outcomeJSON {
	j := outcomeJSON{
		ID: out.ID.String(), Profile: out.Profile, Body: out.Body, Subject: out.Subject, Outcome: out.Outcome.String(),
		Serial: hex.EncodeToString(out.Serial), Refusal: refusalOf(out.Refusal),
	}
	if out.Kind != 0 {
		j.Kind = out.Kind.String()
	}
	return j
}

func printOutcome(w *bufio.Writer, out agent.Outcome) error {
	subject := show.Text(out.Subject)
	if subject == "" {
		subject = "-"
	}
	about := hex.EncodeToString(out.Serial)
	if out.Outcome == protocol.OutcomeRefused {
		about = show.Text(out.Refusal.Words()) + "; " + show.Text(out.Refusal.Hint())
	}
	_, err := fmt.Fprintf(w, "%s  %-17s %-24s %-9s %s\n", out.ID.String()[:16], out.Profile, subject, out.Outcome, about)
	return err
}
