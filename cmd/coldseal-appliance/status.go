package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"coldseal/appliance"
	"coldseal/appliance/signer"
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

func keysCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "keys --state DIR",
		Short: "list the keys in the signer",
		Args:  cobra.NoArgs,
	}
	d := addDevices(c)
	asJSON := c.Flags().Bool("json", false, "print one JSON object a key")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return d.engine(cmd.Context(), func(e *appliance.Engine, config appliance.Config) error {
			for _, k := range config.Signer.Keys() {
				id := protocol.Digest(k.ID())
				_, ordered := e.State().CAs[id]
				known := k.Purpose != signer.CA || ordered
				if *asJSON {
					if err := cli.PrintJSON(cmd.OutOrStdout(), struct {
						Label     string `json:"label"`
						Purpose   string `json:"purpose"`
						Algorithm string `json:"algorithm"`
						ID        string `json:"id"`
						Known     bool   `json:"known"`
					}{k.Label, string(k.Purpose), string(k.Algorithm), id.String(), known}); err != nil {
						return err
					}
					continue
				}
				note := ""
				if !known {
					note = "  not ordered: left by an interrupted order, or foreign"
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%-12s %-9s %-9s %s%s\n", k.Label, k.Purpose, k.Algorithm, id, note)
			}
			return nil
		})
	}
	return c
}

// finding is one line of the doctor's.
type finding struct {
	Level string `json:"level"` // ok, note, trouble
	What  string `json:"what"`
	Hint  string `json:"hint,omitempty"`
}

func doctorCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "doctor --state DIR",
		Short: "look for trouble and say what mends it",
		Args:  cobra.NoArgs,
	}
	d := addDevices(c)
	asJSON := c.Flags().Bool("json", false, "print one JSON object a finding")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		findings := examine(d)
		err := d.engine(cmd.Context(), func(e *appliance.Engine, config appliance.Config) error {
			findings = append(findings, finding{"ok", "log, ledger, checkpoint and counter agree", ""})
			s, err := e.Status()
			if err != nil {
				return err
			}
			if s.Gate != nil {
				findings = append(findings, finding{"trouble", s.Gate.Words(), s.Gate.Hint()})
			}
			if config.Signer.Hello().Capabilities["counter"] == "file" {
				findings = append(findings, finding{"note", "the counter is a file: who can write the disk can wind it back", "a TPM or an HSM makes a rollback impossible to hide"})
			}
			if config.Signer.Hello().Capabilities["memory"] == "swappable" {
				findings = append(findings, finding{"note", "the signer's memory can be swapped out", "switch swap off, or raise the memory-lock limit"})
			}
			held, err := config.Reserve()
			if err != nil {
				return err
			}
			if held < appliance.SpoolReserve {
				findings = append(findings, finding{"trouble", fmt.Sprintf("%d of %d MiB are reserved for revocations", held>>20, int64(appliance.SpoolReserve)>>20), "make room on the disk of the state directory"})
			}
			if s.Waiting != nil {
				findings = append(findings, finding{"note", "a recovery was announced: from " + protocol.Date(s.Waiting.From) + " the roster " + s.Waiting.New + " may replace the one that stands", "if nobody lost their keys, order a roster: that ends it"})
			}
			for _, ca := range s.CAs {
				if ca.CRL > 0 && ca.Days < 3 && ca.State != "key destroyed" {
					findings = append(findings, finding{"trouble", fmt.Sprintf("the CRL of %s ends on %s", ca.Label, protocol.Date(ca.NextUpdate)), "process a bundle, or order a CRL at the console"})
				}
			}
			return nil
		})
		if err != nil {
			_, hint := cli.Judge(err)
			findings = append(findings, finding{"trouble", err.Error(), hint})
		}
		troubles := 0
		for _, f := range findings {
			if f.Level == "trouble" {
				troubles++
			}
			if *asJSON {
				if err := cli.PrintJSON(cmd.OutOrStdout(), f); err != nil {
					return err
				}
				continue
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%-8s %s\n", f.Level, f.What)
			if f.Hint != "" {
				fmt.Fprintf(cmd.OutOrStdout(), "         %s\n", f.Hint)
			}
		}
		if troubles > 0 {
			code, _ := cli.Judge(err)
			return cli.Fail(max(code, cli.ExitFailure), "", "%d things need mending", troubles)
		}
		return nil
	}
	return c
}

// examine looks at the disk before anything is opened.
func examine(d *devices) []finding {
	var found []finding
	info, err := os.Stat(d.state)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return []finding{{"trouble", "there is no state directory " + d.state, "mount its disk, or hold genesis"}}
	case err != nil:
		return []finding{{"trouble", err.Error(), "check the disk"}}
	case info.Mode().Perm()&0o077 != 0:
		found = append(found, finding{"trouble", fmt.Sprintf("the state directory is open to others (mode %o)", info.Mode().Perm()), "chmod 700 " + d.state})
	}
	if _, err := os.Stat(filepath.Join(d.state, "ledger.db")); errors.Is(err, fs.ErrNotExist) {
		found = append(found, finding{"trouble", "there is no ledger", "hold genesis: coldseal-appliance genesis"})
	}
	var space syscall.Statfs_t
	if err := syscall.Statfs(d.state, &space); err == nil {
		free := int64(space.Bavail) * space.Bsize
		level, hint := "ok", ""
		if free < 4*appliance.SpoolReserve {
			level, hint = "trouble", "free space: bundles are refused below "+fmt.Sprint(appliance.SpoolReserve>>20)+" MiB, revocations are not"
		}
		found = append(found, finding{level, fmt.Sprintf("%d MiB free for the state directory", free>>20), hint})
	}
	return found
}
