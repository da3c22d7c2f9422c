package main

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"coldseal/agent"
	"coldseal/cmd/internal/cli"
	"coldseal/protocol"
	"coldseal/protocol/show"
)

// rowJSON is a request in JSON.
type rowJSON struct {
	ID      string       `json:"id"`
	Kind    string       `json:"kind"`
	Profile string       `json:"profile,omitempty"`
	Body    string       `json:"body"`
	Subject string       `json:"subject,omitempty"`
	State   agent.State  `json:"state"`
	Outcome string       `json:"outcome,omitempty"`
	Serial  string       `json:"serial,omitempty"`
	Open    bool         `json:"open,omitempty"`
	Have    uint64       `json:"have,omitempty"`
	Need    uint64       `json:"need,omitempty"`
	Bundle  uint64       `json:"bundle,omitempty"`
	Created string       `json:"created"`
	Expires string       `json:"expires"`
	Refusal *refusalJSON `json:"refusal,omitempty"`
	Missing *refusalJSON `json:"missing,omitempty"`
}

type refusalJSON struct {
	Code   protocol.Code     `json:"code"`
	Params map[string]string `json:"params,omitempty"`
	Words  string            `json:"words"`
	Hint   string            `json:"hint"`
}

func refusalOf(r *protocol.Refusal) *refusalJSON {
	if r == nil {
		return nil
	}
	return &refusalJSON{r.Code, r.Params, r.Words(), r.Hint()}
}

func rowOf(r agent.Row) rowJSON {
	st := r.Standing
	row := rowJSON{
		ID: r.ID.String(), Kind: r.Kind.String(), Profile: r.Profile, Body: r.Body, Subject: r.Subject, State: st.State, Open: st.Open,
		Serial: hex.EncodeToString(st.Serial), Have: st.Have, Need: st.Need, Bundle: st.Bundle, Created: date(r.Created), Expires: date(r.Expires),
		Refusal: refusalOf(st.Refusal), Missing: refusalOf(st.Missing),
	}
	if st.Outcome != 0 {
		row.Outcome = st.Outcome.String()
	}
	return row
}

// stateWords is the state for people, with what became of the request or what it waits for.
func stateWords(st agent.Standing) string {
	words := st.State.Words()
	switch {
	case st.State == agent.StateRequested && st.Need != 0:
		words += fmt.Sprintf(" (%d of %d approved)", st.Have, st.Need)
	case st.State == agent.StateOnMedium:
		words += fmt.Sprintf(" (bundle %d)", st.Bundle)
	case st.State == agent.StateImported || st.State == agent.StatePublished:
		words += " (" + st.Outcome.String() + ")"
	case st.State == agent.StateRefused && st.Refusal != nil:
		words += " (" + string(st.Refusal.Code) + ")"
	}
	return words
}

func listCommand() *cobra.Command {
	var filter agent.Filter
	var state string
	c := &cobra.Command{
		Use:   "list --state DIR",
		Short: "list requests",
		Args:  cobra.NoArgs,
	}
	o := addCommon(c)
	addFilter(c, &filter)
	c.Flags().StringVar(&state, "in", "", "only those in this `state`: "+strings.Join(stateNames(), ", "))
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if state != "" {
			for _, s := range agent.States() {
				if string(s) == state || strings.EqualFold(s.Words(), state) {
					filter.State = s
				}
			}
			if filter.State == "" {
				return cli.Usage("--in %q is not one of %s", state, strings.Join(stateNames(), ", "))
			}
		}
		return o.with(func(s *agent.Service) error {
			w := bufio.NewWriter(cmd.OutOrStdout())
			err := s.List(filter, func(r agent.Row) error {
				if o.json {
					return cli.PrintJSON(w, rowOf(r))
				}
				line := fmt.Sprintf("%s  %-8s %-17s %-24s %-24s %-27s %x", r.ID.String()[:16], r.Kind, r.Profile, r.Body, show.Text(r.Subject), stateWords(r.Standing), r.Standing.Serial)
				_, err := fmt.Fprintln(w, strings.TrimRight(line, " "))
				return err
			})
			return errors.Join(err, w.Flush())
		})
	}
	return c
}

func stateNames() []string {
	var names []string
	for _, s := range agent.States() {
		names = append(names, string(s))
	}
	return names
}

// eventJSON is one line of the history in JSON.
type eventJSON struct {
	Number uint64 `json:"number"`
	Time   string `json:"time"`
	Code   string `json:"code"`
	Text   string `json:"text,omitempty"`
}

func eventOf(e agent.Event) eventJSON { return eventJSON{e.Number, date(e.Time), e.Code, e.Text} }

func showCommand() *cobra.Command {
	var raw, last bool
	var out string
	c := &cobra.Command{
		Use:   "show --state DIR ID",
		Short: "show a request with its whole history",
		Args:  cobra.ExactArgs(1),
	}
	o := addCommon(c)
	c.Flags().BoolVar(&raw, "raw", false, "write the request's bytes, which approvals are about")
	c.Flags().BoolVar(&last, "last", false, "write the proof of the certificate that it is about, or of the last one of its subject, for those who approve")
	c.Flags().StringVar(&out, "out", "-", "`file` for --raw or --last; - is stdout")
	c.MarkFlagsMutuallyExclusive("raw", "last")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return o.with(func(s *agent.Service) error {
			id, err := s.ParseID(args[0])
			if err != nil {
				return err
			}
			if last {
				proof, err := s.Last(id)
				if err != nil {
					return err
				}
				return cli.WriteOutput(out, cmd.OutOrStdout(), proof, false)
			}
			d, err := s.Show(id)
			if err != nil {
				return err
			}
			switch {
			case raw:
				return cli.WriteOutput(out, cmd.OutOrStdout(), d.Raw, false)
			case o.json:
				return cli.PrintJSON(cmd.OutOrStdout(), detailOf(d))
			}
			return printDetail(cmd, d)
		})
	}
	return c
}

// detailJSON is all about a request in JSON.
type detailJSON struct {
	rowJSON
	Issuer    string         `json:"issuer,omitempty"`
	Index     uint64         `json:"index,omitempty"`
	Approvals []approvalJSON `json:"approvals,omitempty"`
	History   []eventJSON    `json:"history"`
}

type approvalJSON struct {
	Person     string       `json:"person,omitempty"`
	Key        string       `json:"key"`
	Statements []string     `json:"statements,omitempty"`
	Discount   *refusalJSON `json:"discount,omitempty"`
}

func detailOf(d agent.Detail) detailJSON {
	j := detailJSON{rowJSON: rowOf(d.Row), Index: d.Index}
	if !d.Result.Issuer.IsZero() {
		j.Issuer = d.Result.Issuer.String()
	}
	for _, a := range d.Approvals {
		one := approvalJSON{Person: a.Person, Key: a.Key.String(), Discount: refusalOf(a.Discount)}
		for _, s := range a.Statements {
			one.Statements = append(one.Statements, s.String())
		}
		j.Approvals = append(j.Approvals, one)
	}
	for _, e := range d.History {
		j.History = append(j.History, eventOf(e))
	}
	return j
}

func printDetail(cmd *cobra.Command, d agent.Detail) error {
	w := bufio.NewWriter(cmd.OutOrStdout())
	sheet, err := show.Request(d.Raw)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s\nstate      %s\n", strings.TrimRight(sheet.String(), "\n"), stateWords(d.Standing))
	if r := d.Standing.Refusal; r != nil {
		fmt.Fprintf(w, "refused    %s\n           %s\n", show.Text(r.Words()), show.Text(r.Hint()))
	}
	if r := d.Standing.Missing; r != nil && !d.Standing.State.Final() {
		fmt.Fprintf(w, "approvals  %s\n           %s\n", show.Text(r.Words()), show.Text(r.Hint()))
	}
	if len(d.Standing.Serial) != 0 {
		fmt.Fprintf(w, "serial     %x\n", d.Standing.Serial)
	}
	if d.Index != 0 {
		fmt.Fprintf(w, "log        leaf %d\n", d.Index)
	}
	for _, a := range d.Approvals {
		by := show.Text(a.Person)
		if by == "" {
			by = "key " + a.Key.String()[:16] + ", not known here"
		}
		for _, s := range a.Statements {
			by += ", states " + s.String()
		}
		if a.Discount != nil {
			by += "; will not count: " + show.Text(a.Discount.Words())
		}
		fmt.Fprintf(w, "approval   %s\n", by)
	}
	for _, e := range d.History {
		fmt.Fprintf(w, "%s  %-11s %s\n", date(e.Time), e.Code, show.Text(e.Text))
	}
	return w.Flush()
}

func historyCommand() *cobra.Command {
	var from uint64
	c := &cobra.Command{
		Use:   "history --state DIR",
		Short: "list what was done, a line for each command",
		Args:  cobra.NoArgs,
	}
	o := addCommon(c)
	c.Flags().Uint64Var(&from, "from", 1, "first `number`")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return o.with(func(s *agent.Service) error {
			w := bufio.NewWriter(cmd.OutOrStdout())
			err := s.History(from, func(e agent.Event) error {
				if o.json {
					return cli.PrintJSON(w, eventOf(e))
				}
				_, err := fmt.Fprintf(w, "%6d  %s  %-11s %s\n", e.Number, date(e.Time), e.Code, show.Text(e.Text))
				return err
			})
			return errors.Join(err, w.Flush())
		})
	}
	return c
}
