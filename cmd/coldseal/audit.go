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
	var kinds []show.Sheet
	for _, kind := range slices.Sorted(maps.Keys(a.kinds)) {
		k := a.kinds[kind]
		kinds = append(kinds, show.Sheet{{Name: "kind", Value: kind.String()}, {Name: "announced", Value: k.announced}, {Name: "stand", Value: k.stands},
			{Name: "found", Value: k.found}, {Name: "undecided", Value: k.undecided}, {Name: "done", Value: k.done}, {Name: "refused", Value: k.refused}})
	}
	unfinished := []string{}
	for _, key := range slices.Sorted(maps.Keys(a.signing)) {
		unfinished = append(unfinished, fmt.Sprintf("serial %x of %x", key[32:], key[:32]))
	}
	changing := []string{}
	for id, n := range a.changing {
		changing = append(changing, fmt.Sprintf("request %s to %s", id, n.req.Kind))
	}
	slices.Sort(changing)
	unfinished = append(unfinished, changing...)
	s = append(s, show.Row{Name: "profiles", Items: append([]show.Sheet{}, profiles...)},
		show.Row{Name: "requests", Items: append([]show.Sheet{}, kinds...)},
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
		Short: "verify a log and decide again every request that was carried out",
		Long: "audit does what verify does. It then decides again every request to issue, renew, revoke, hold, release or withdraw that\n" +
			"was carried out: was it announced first and done as announced, did enough persons approve it who were neither its subject\n" +
			"nor the one who asked, by the roster, policy and certificates of that moment; did the current key sign a renewal, in its\n" +
			"time; was the certificate in a state to be changed so; did its CA sign it. Exit 7 if there are findings.\n\n" +
			"Not proved: that what was refused had to be, that names and keys are unique, that a certificate says no more than its\n" +
			"request and profile, that its key is vouched for, what approvers were shown, that the agent that brought a request was\n" +
			"enrolled for its body, that no request was done twice, and what is in the CRLs. What was erased is undecided, not found.",
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
