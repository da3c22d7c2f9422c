package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"coldseal/agent"
	"coldseal/cmd/internal/cli"
)

func (o *common) printCount(cmd *cobra.Command, n int, what, path string, err error) error {
	if err != nil {
		return err
	}
	if o.json {
		return cli.PrintJSON(cmd.OutOrStdout(), struct {
			Written int    `json:"written"`
			Path    string `json:"path"`
		}{n, path})
	}
	say(cmd, "%d %s in %s", n, what, path)
	return nil
}

// folderCommand is a command that writes files into a folder.
func folderCommand(use, short, what string, write func(s *agent.Service, out string) (int, error)) (*cobra.Command, *common) {
	var out string
	c := &cobra.Command{Use: use + " --state DIR --out DIR", Short: short, Args: cobra.NoArgs}
	o := addCommon(c)
	c.Flags().StringVar(&out, "out", "", "`directory` for the files")
	cli.Require(c, "out")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return o.with(func(s *agent.Service) error {
			n, err := write(s, out)
			return o.printCount(cmd, n, what, out, err)
		})
	}
	return c, o
}

func certificatesCommand() *cobra.Command {
	var by string
	c, _ := folderCommand("certificates", "write all certificates that were imported, PEM", "certificates", func(s *agent.Service, out string) (int, error) {
		switch by {
		case "subject":
			return s.WriteCertificates(out, agent.BySubject)
		case "serial":
			return s.WriteCertificates(out, agent.BySerial)
		}
		return 0, cli.Usage("--by %q is not subject or serial", by)
	})
	c.Flags().StringVar(&by, "by", "subject", "name the files by `subject` or serial")
	return c
}

func crlsCommand() *cobra.Command {
	c, _ := folderCommand("crls", "write the newest CRLs, DER, as LABEL.crl", "CRLs", (*agent.Service).WriteCRLs)
	return c
}

func chainCommand() *cobra.Command {
	c, _ := folderCommand("chain", "write the certificates of the CAs, PEM, as LABEL.pem, and all in chain.pem", "files", (*agent.Service).WriteChain)
	return c
}

func keyCommand() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:   "key --state DIR ID",
		Short: "write a private key that was made here, PEM PKCS#8",
		Args:  cobra.ExactArgs(1),
	}
	o := addCommon(c)
	c.Flags().StringVar(&out, "out", "", "`file` for the key, readable by its owner only; - is stdout")
	cli.Require(c, "out")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return o.with(func(s *agent.Service) error {
			id, err := s.ParseID(args[0])
			if err != nil {
				return err
			}
			text, err := s.Key(id)
			if err != nil {
				return err
			}
			if err := cli.WriteOutput(out, cmd.OutOrStdout(), text, true); err != nil {
				return fmt.Errorf("write key: %w", err)
			}
			return nil
		})
	}
	return c
}
