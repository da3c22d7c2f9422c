package main

import (
	"fmt"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"coldseal/agent"
	"coldseal/cmd/internal/cli"
)

func logCommand() *cobra.Command {
	c := &cobra.Command{Use: "log", Short: "the appliance's log, as far as this agent knows it"}
	c.AddCommand(logExportCommand())
	return c
}

func logExportCommand() *cobra.Command {
	var medium string
	var from uint64
	c := &cobra.Command{
		Use:   "export --state DIR --media DIR",
		Short: "write the log to a medium, for an appliance that is restored from a backup",
		Long: "What this agent knows of the log, with the answers to its own requests and these requests, goes to the medium encrypted to\n" +
			"the appliance. coldseal-appliance restore leaves takes it.",
		Args: cobra.NoArgs,
	}
	o := addCommon(c)
	c.Flags().StringVar(&medium, "media", "", "`directory` of the medium")
	c.Flags().Uint64Var(&from, "from", 0, "`number` of the first entry: as many as the backup has, or fewer")
	cli.Require(c, "media")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		return o.with(func(s *agent.Service) error {
			l, err := s.ExportLog(ctx, medium, from)
			if err != nil {
				return err
			}
			if o.json {
				return cli.PrintJSON(cmd.OutOrStdout(), struct {
					Path   string `json:"path"`
					First  uint64 `json:"first"`
					Size   uint64 `json:"size"`
					Bodies uint64 `json:"bodies"`
				}{l.Path, l.First, l.Size, l.Bodies})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "entries %d to %d of the log, %d with what became of requests, in %s\n", l.First, l.Size, l.Bodies, l.Path)
			return err
		})
	}
	return c
}
