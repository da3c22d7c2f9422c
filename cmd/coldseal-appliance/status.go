package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"coldseal/appliance"
	"coldseal/cmd/internal/cli"
	"coldseal/protocol"
	"coldseal/protocol/show"
)

func statusCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "status --state DIR",
		Short: "say who the appliance is and how it stands: CAs, CRLs, agents, log, clock",
		Args:  cobra.NoArgs,
	}
	d := addDevices(c)
	asJSON := c.Flags().Bool("json", false, "print JSON")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return d.engine(cmd.Context(), func(e *appliance.Engine, _ appliance.Config) error {
			s, err := e.Status()
			if err != nil {
				return err
			}
			if *asJSON {
				return cli.PrintJSON(cmd.OutOrStdout(), s)
			}
			w := cmd.OutOrStdout()
			fmt.Fprintf(w, "appliance   %s\n            %s\n", s.Digest, e.Appliance().Groups())
			fmt.Fprintf(w, "log         %d entries, last of %s\n", s.Entries, protocol.Date(s.Clock))
			if s.Waits {
				fmt.Fprintf(w, "restore     %s\n", appliance.ErrRestoring)
			}
			if s.Gate != nil {
				fmt.Fprintf(w, "clock       %s\n            %s\n", s.Gate.Words(), s.Gate.Hint())
			}
			for _, ca := range s.CAs {
				fmt.Fprintf(w, "CA          %-10s %s, %d certificates", ca.Label, ca.State, ca.Certificates)
				if ca.CRL > 0 {
					fmt.Fprintf(w, ", CRL %d until %s (%d days)", ca.CRL, protocol.Date(ca.NextUpdate), ca.Days)
				}
				fmt.Fprintln(w)
			}
			for _, c := range s.Crosses {
				if c.Subject == "" {
					fmt.Fprintf(w, "cross       not known since a restore, by %s, serial %s\n", c.Issuer, c.Serial)
					continue
				}
				fmt.Fprintf(w, "cross       %s, by %s, serial %s, until %s\n", show.Text(c.Subject), c.Issuer, c.Serial, protocol.Date(c.NotAfter))
			}
			for _, ca := range s.Foreign {
				fmt.Fprintf(w, "foreign CA  %-10s %s, record %s\n", ca.Name, ca.State, ca.Record)
			}
			if s.Waiting != nil {
				fmt.Fprintf(w, "recovery    announced: roster %s, from %s\n", s.Waiting.New, protocol.Date(s.Waiting.From))
			}
			for _, p := range s.Parties {
				fmt.Fprintf(w, "%-11s %-10s %s, last bundle %d, %d responses not acknowledged\n", p.Role, p.Name, p.State, p.Last, p.Pending)
			}
			return nil
		})
	}
	return c
}
