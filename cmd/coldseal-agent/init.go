package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"coldseal/agent"
	"coldseal/cmd/internal/cli"
	"coldseal/protocol"
)

func initCommand() *cobra.Command {
	var b agent.Beginning
	var introduction, digest string
	c := &cobra.Command{
		Use:   "init --state DIR --appliance FILE --name NAME --bodies BODY,…",
		Short: "make an agent for an appliance",
		Long: "init makes the agent's keys and the file enrolment, which the officers enrol by an order at the console. The file of the\n" +
			"appliance is only believed if its digest is the one that is typed: read it from the appliance's screen or the minutes.",
		Args: cobra.NoArgs,
	}
	o := addCommon(c)
	f := c.Flags()
	f.StringVar(&introduction, "appliance", "", "introduction `file` of the appliance")
	f.StringVar(&digest, "digest", "", "the appliance's `digest` as typed: hexadecimal or 16 groups of five digits; asked for if absent")
	f.StringVar(&b.Name, "name", "", "`name` of the agent: small letters, digits, hyphens")
	f.StringSliceVar(&b.Bodies, "bodies", nil, "`bodies` whose requests it brings, with all below them; * is all")
	f.Uint64Var(&b.BundlesPerDay, "bundles-per-day", 24, "`number` of bundles it may bring a day")
	f.Uint64Var(&b.ItemsPerDay, "items-per-day", 100_000, "`number` of requests it may bring a day")
	cli.Require(c, "appliance", "name", "bodies")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		config, err := o.config()
		if err != nil {
			return err
		}
		if b.Introduction, err = cli.ReadInput(introduction, cmd.InOrStdin(), protocol.MaxIntroduction); err != nil {
			return err
		}
		if digest == "" {
			if digest, err = ask("digest of the appliance, as its screen or the minutes show it: "); err != nil {
				return err
			}
		}
		if b.Digest, err = protocol.ParseDigest(digest); err != nil {
			return cli.Usage("--digest: %w", err)
		}
		s, err := agent.Init(config, b)
		if err != nil {
			return judged(err)
		}
		record, err := s.Enrolment()
		if err := errors.Join(err, s.Close()); err != nil {
			return err
		}
		own := protocol.DigestOf(record)
		file := filepath.Join(o.state, agent.EnrolmentFile)
		if o.json {
			return cli.PrintJSON(cmd.OutOrStdout(), struct {
				Enrolment string `json:"enrolment"`
				Digest    string `json:"digest"`
				Groups    string `json:"groups"`
			}{file, own.String(), own.Groups()})
		}
		say(cmd, "%s is to be enrolled by an order at the console; its digest is", file)
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n%s\n", own, own.Groups())
		return err
	}
	return c
}

// ask reads one line from the terminal.
func ask(question string) (string, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", cli.Fail(cli.ExitUsage, "give --digest", "no terminal to ask at: %w", err)
	}
	defer tty.Close()
	if _, err := tty.WriteString(question); err != nil {
		return "", fmt.Errorf("ask: %w", err)
	}
	var line []byte
	for one := make([]byte, 1); len(line) < 1024; {
		n, err := tty.Read(one)
		if n == 1 && one[0] == '\n' {
			return string(line), nil
		}
		if err != nil {
			return "", fmt.Errorf("ask: %w", err)
		}
		line = append(line, one[:n]...)
	}
	return "", cli.Usage("the line is too long for a digest")
}
