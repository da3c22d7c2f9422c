package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"coldseal/appliance"
	"coldseal/cmd/internal/cli"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/media"
)

func logCommand() *cobra.Command {
	c := &cobra.Command{Use: "log", Short: "the log of all that the appliance ever did"}
	c.AddCommand(logListCommand(), logVerifyCommand(), logExportCommand())
	return c
}

func logListCommand() *cobra.Command {
	var first uint64
	c := &cobra.Command{Use: "list --state DIR", Short: "list the entries", Args: cobra.NoArgs}
	d := addDevices(c)
	c.Flags().Uint64Var(&first, "from", 0, "`number` of the first entry")
	asJSON := c.Flags().Bool("json", false, "print one JSON object an entry")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return d.engine(cmd.Context(), func(e *appliance.Engine, _ appliance.Config) error {
			out := bufio.NewWriter(cmd.OutOrStdout())
			err := e.EachLeaf(first, func(index uint64, encoded, _ []byte) error {
				leaf, err := auditlog.ParseLeaf(encoded)
				if err != nil {
					return err
				}
				status := ""
				if leaf.Status != auditlog.None {
					status = leaf.Status.String()
				}
				if *asJSON {
					return cli.PrintJSON(out, struct {
						Index   uint64 `json:"index"`
						Time    int64  `json:"time"`
						Kind    string `json:"kind"`
						Issuer  string `json:"issuer,omitempty"`
						Serial  string `json:"serial,omitempty"`
						Status  string `json:"status,omitempty"`
						Profile string `json:"profile,omitempty"`
						Number  uint64 `json:"number,omitempty"`
					}{index, leaf.Time, leaf.Kind.String(), fmt.Sprintf("%x", leaf.Issuer), fmt.Sprintf("%x", leaf.Serial), status, leaf.Profile, leaf.Number})
				}
				_, err = fmt.Fprintf(out, "%8d  %s  %-9s %-32x %-8s %-20s %d\n", index, protocol.Date(leaf.Time), leaf.Kind, leaf.Serial, status, leaf.Profile, leaf.Number)
				return err
			})
			return errors.Join(err, out.Flush())
		})
	}
	return c
}

func logVerifyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "verify --state DIR",
		Short: "replay the log and compare it with the ledger, the checkpoint and the counter",
		Args:  cobra.NoArgs,
	}
	d := addDevices(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		err := d.engine(cmd.Context(), func(e *appliance.Engine, _ appliance.Config) error {
			checkpoint, err := e.Checkpoint() // opening the engine replayed and compared everything
			if err == nil {
				_, err = cmd.OutOrStdout().Write(checkpoint)
			}
			return err
		})
		if errors.Is(err, appliance.ErrFault) {
			return cli.Fail(cli.ExitVerify, "keep the state directory as it is for the auditor; a restore has to be ordered", "%w", err)
		}
		return err
	}
	return c
}

func logExportCommand() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:   "export --state DIR --out FILE",
		Short: "write the log with its bodies for an auditor (coldseal log verify)",
		Args:  cobra.NoArgs,
	}
	d := addDevices(c)
	c.Flags().StringVar(&out, "out", "", "`file` to write")
	cli.Require(c, "out")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return d.engine(cmd.Context(), func(e *appliance.Engine, _ appliance.Config) error {
			return media.WriteFile(out, media.WriteOptions{Replace: true, Private: true}, e.ExportLog)
		})
	}
	return c
}

func exportCommand() *cobra.Command {
	c := &cobra.Command{Use: "export", Short: "what others need to know of the appliance"}
	var out string
	introduction := &cobra.Command{
		Use:   "introduction --state DIR --out FILE",
		Short: "write the file of first contact for agents, stations and auditors, who also type the genesis digest",
		Args:  cobra.NoArgs,
	}
	d := addDevices(introduction)
	introduction.Flags().StringVar(&out, "out", "", "`file` to write")
	cli.Require(introduction, "out")
	introduction.RunE = func(cmd *cobra.Command, _ []string) error {
		return d.engine(cmd.Context(), func(e *appliance.Engine, _ appliance.Config) error {
			data, err := e.Introduction()
			if err != nil {
				return err
			}
			err = media.WriteFile(out, media.WriteOptions{Replace: true}, media.Contents(data))
			if err == nil {
				fmt.Fprintf(cmd.ErrOrStderr(), "The genesis digest, to be typed where the file is used:\n  %s\n", e.Appliance().Groups())
			}
			return err
		})
	}
	medium := &cobra.Command{
		Use:   "public --state DIR --media DIR",
		Short: "write CA certificates, CRLs and the checkpoint in clear to a medium",
		Args:  cobra.NoArgs,
	}
	var dir string
	p := addDevices(medium)
	medium.Flags().StringVar(&dir, "media", "", "`directory` of the medium")
	cli.Require(medium, "media")
	medium.RunE = func(cmd *cobra.Command, _ []string) error {
		return p.engine(cmd.Context(), func(e *appliance.Engine, _ appliance.Config) error {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return fmt.Errorf("make medium directory: %w", err)
			}
			m, err := media.OpenMedium(dir)
			if err != nil {
				return err
			}
			return errors.Join(e.Clear(m), m.Close())
		})
	}
	c.AddCommand(introduction, medium)
	return c
}
