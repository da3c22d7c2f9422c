package main

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"coldseal/agent"
	"coldseal/cmd/internal/cli"
	"coldseal/protocol/show"
)

// statusJSON is the status in JSON.
type statusJSON struct {
	Name      string                 `json:"name"`
	Appliance string                 `json:"appliance"`
	States    map[agent.State]uint64 `json:"states"`
	Waiting   []waitingJSON          `json:"waiting"`
	Bundles   []bundleJSON           `json:"bundles"`
	Acks      []uint64               `json:"unacknowledged,omitempty"`
	Pending   []uint64               `json:"pending,omitempty"`
	Last      uint64                 `json:"last"`
	Size      uint64                 `json:"log_size"`
	Time      string                 `json:"log_time,omitempty"`
	CRLs      []crlJSON              `json:"crls"`
}

type waitingJSON struct {
	Kind    string `json:"kind"`
	Profile string `json:"profile,omitempty"`
	Body    string `json:"body"`
	Count   uint64 `json:"count"`
	Have    uint64 `json:"have"`
	Need    uint64 `json:"need"`
	Missing string `json:"missing"`
	Hint    string `json:"hint"`
}

type bundleJSON struct {
	Sequence uint64   `json:"sequence"`
	Items    uint64   `json:"items"`
	Created  string   `json:"created"`
	Expires  string   `json:"expires"`
	Media    []string `json:"media"`
}

type crlJSON struct {
	Label      string `json:"label"`
	CA         string `json:"ca"`
	Issuer     string `json:"issuer"`
	Number     string `json:"number,omitempty"`
	NextUpdate string `json:"next_update,omitempty"`
	Days       int64  `json:"days"`
}

func statusCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "status --state DIR",
		Short: "say what waits for whom, what is on which medium, and when CRLs end",
		Args:  cobra.NoArgs,
	}
	o := addCommon(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return o.with(func(s *agent.Service) error {
			st, err := s.Status()
			if err != nil {
				return err
			}
			if o.json {
				return cli.PrintJSON(cmd.OutOrStdout(), statusOf(st))
			}
			return printStatus(bufio.NewWriter(cmd.OutOrStdout()), st)
		})
	}
	return c
}

func statusOf(st agent.Status) statusJSON {
	j := statusJSON{
		Name: st.Name, Appliance: st.Appliance.String(), States: st.States, Acks: st.Acks, Pending: st.Pending, Last: st.Last,
		Size: st.Size, Time: date(st.Time), Waiting: []waitingJSON{}, Bundles: []bundleJSON{}, CRLs: []crlJSON{},
	}
	for _, w := range st.Waiting {
		j.Waiting = append(j.Waiting, waitingJSON{w.Kind.String(), w.Profile, w.Body, w.Count, w.Have, w.Need, w.Missing, w.Hint})
	}
	for _, b := range st.Bundles {
		j.Bundles = append(j.Bundles, bundleJSON{b.Sequence, b.Items, date(b.Created), date(b.Expires), b.Media})
	}
	for _, c := range st.CRLs {
		j.CRLs = append(j.CRLs, crlJSON{c.Label, c.CA, c.Issuer.String(), hex.EncodeToString(c.Number), date(c.NextUpdate), c.Days})
	}
	return j
}

func printStatus(w *bufio.Writer, st agent.Status) error {
	fmt.Fprintf(w, "agent      %s\nappliance  %s\n", st.Name, st.Appliance)
	for _, s := range agent.States() {
		if n := st.States[s]; n > 0 {
			fmt.Fprintf(w, "%-18s %d\n", s.Words(), n)
		}
	}
	for _, x := range st.Waiting {
		fmt.Fprintf(w, "waiting    %d × %s %s %s: %s; %s\n", x.Count, x.Kind, x.Profile, x.Body, show.Text(x.Missing), show.Text(x.Hint))
	}
	for _, b := range st.Bundles {
		where := "on " + strings.Join(b.Media, ", ")
		if len(b.Media) == 0 {
			where = "its export was interrupted: run export again"
		}
		fmt.Fprintf(w, "bundle %-4d %d requests, %s, waits for its response; can be used until %s\n", b.Sequence, b.Items, where, date(b.Expires))
	}
	if len(st.Acks) > 0 {
		fmt.Fprintf(w, "responses  imported; the next bundle tells the appliance so: %v\n", st.Acks)
	}
	if len(st.Pending) > 0 {
		fmt.Fprintf(w, "responses  made by the appliance and not imported here: %v\n", st.Pending)
	}
	if st.Time != 0 {
		fmt.Fprintf(w, "log        %d leaves known, newest checkpoint of %s\n", st.Size, date(st.Time))
	}
	for _, c := range st.CRLs {
		if len(c.Number) == 0 {
			fmt.Fprintf(w, "CRL        %s (%s): none imported\n", c.Label, show.Text(c.CA))
			continue
		}
		fmt.Fprintf(w, "CRL        %s (%s): number %x, %d days until %s\n", c.Label, show.Text(c.CA), c.Number, c.Days, date(c.NextUpdate))
	}
	return w.Flush()
}

func doctorCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "doctor --state DIR",
		Short: "look for trouble and say what mends it",
		Args:  cobra.NoArgs,
	}
	o := addCommon(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return o.with(func(s *agent.Service) error {
			findings, err := s.Doctor()
			if err != nil {
				return err
			}
			troubles := 0
			for _, f := range findings {
				level, hint := "ok", ""
				if !f.OK {
					level, hint = "trouble", f.Hint
					troubles++
				}
				if o.json {
					err := cli.PrintJSON(cmd.OutOrStdout(), struct {
						Level string `json:"level"`
						What  string `json:"what"`
						Hint  string `json:"hint,omitempty"`
					}{level, f.What, hint})
					if err != nil {
						return err
					}
					continue
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%-8s %s\n", level, f.What)
				if hint != "" {
					fmt.Fprintf(cmd.OutOrStdout(), "         %s\n", hint)
				}
			}
			if troubles > 0 {
				return cli.Fail(cli.ExitFailure, "", "%s mending", cli.Count(troubles, "thing needs", "things need"))
			}
			return nil
		})
	}
	return c
}
