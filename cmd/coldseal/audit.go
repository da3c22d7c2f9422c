package main

import (
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"coldseal/cmd/internal/cli"
	"coldseal/protocol/show"
)

// report is what was found.
func (a *auditor) report(r *replay) show.Sheet {
	s := r.summary()
	s[0].Value = "audit"
	var profiles []show.Sheet
	for _, name := range slices.Sorted(maps.Keys(a.profiles)) {
		p := a.profiles[name]
		profiles = append(profiles, show.Sheet{{Name: "profile", Value: name}, {Name: "issued", Value: p.issued}, {Name: "approved", Value: p.approved},
			{Name: "by order", Value: p.byOrder}, {Name: "by key alone", Value: p.byKey}, {Name: "erased", Value: p.unread}})
	}
	unfinished := []string{}
	for _, key := range slices.Sorted(maps.Keys(a.pending)) {
		unfinished = append(unfinished, fmt.Sprintf("serial %x of %x", key[32:], key[:32]))
	}
	s = append(s, show.Row{Name: "profiles", Items: append([]show.Sheet{}, profiles...)},
		show.Row{Name: "approvers", Value: len(a.approvers)},
		show.Row{Name: "discounted", Value: a.discount},
		show.Row{Name: "intents erased", Value: a.unknown},
		show.Row{Name: "burned", Items: append([]show.Sheet{}, a.burned...)},
		show.Row{Name: "unfinished", List: unfinished},
		show.Row{Name: "found", Value: a.found},
		show.Row{Name: "findings", List: append([]string{}, a.findings...)})
	return s
}

func logAuditCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "audit --log FILE --digest DIGEST",
		Short: "verify a log and ask of every certificate who approved it",
		Long: "audit does what verify does. It then asks of every certificate: was it announced before it was signed, is it what was\n" +
			"announced, did its CA sign it, and did enough persons approve the request, by the roster, policy and approver certificates\n" +
			"of that moment. Approvals of revocations, holds and releases are not in the log; nor are the signatures of requesters and\n" +
			"current keys. Exit 7 if there are findings.",
		Args: cobra.NoArgs,
	}
	l := addLog(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		a := newAuditor()
		r, err := l.replay(c, a.entry)
		if err != nil {
			return err
		}
		if asJSON {
			err = cli.PrintJSON(c.OutOrStdout(), a.report(r))
		} else {
			err = a.report(r).Write(c.OutOrStdout())
		}
		if err != nil || a.found == 0 {
			return err
		}
		return cli.Fail(cli.ExitVerify, "", "the audit has %d findings", a.found)
	}
	return c
}
