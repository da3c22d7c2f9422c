package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"coldseal/cmd/internal/cli"
)

const linter = "coldseal-lint"

func lintCommand() *cobra.Command {
	c := &cobra.Command{Use: "lint", Short: "look for broken rules in certificates, CRLs and OCSP answers"}
	for _, target := range []struct{ name, what string }{{"cert", "a certificate"}, {"crl", "a CRL"}, {"ocsp", "an OCSP answer"}} {
		c.AddCommand(lintTarget(target.name, target.what))
	}
	return c
}

func lintTarget(target, what string) *cobra.Command {
	var sets, ignore []string
	var asJSON bool
	c := &cobra.Command{
		Use:   target + " FILE",
		Short: "look for broken rules in " + what,
		Long:  "The work is done by " + linter + ", a program of its own beside this one. FILE is DER or PEM, - is standard input.\nExit: 0 no finding, 1 findings or no readable file.",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			line := []string{target}
			if len(sets) > 0 {
				line = append(line, "--set", strings.Join(sets, ","))
			}
			if len(ignore) > 0 {
				line = append(line, "--ignore", strings.Join(ignore, ","))
			}
			if asJSON {
				line = append(line, "--json")
			}
			return runLinter(c, append(line, "--", args[0]))
		},
	}
	c.Flags().StringSliceVar(&sets, "set", nil, "lint `sets`: rfc5280, community")
	c.Flags().StringSliceVar(&ignore, "ignore", nil, "`lints` that are not asked")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// runLinter runs the program beside this one, or else that in PATH, and hands on its exit code.
func runLinter(c *cobra.Command, args []string) error {
	path, err := findLinter()
	if err != nil {
		return &cli.ExitError{Code: cli.ExitNotFound, Err: err, Hint: "install " + linter + " beside coldseal"}
	}
	command := exec.CommandContext(c.Context(), path, args...)
	command.Stdin, command.Stdout, command.Stderr = c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr()
	err = command.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return &cli.ExitError{Code: exit.ExitCode()}
	}
	if err != nil {
		return fmt.Errorf("run %s: %w", path, err)
	}
	return nil
}

func findLinter() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find %s: %w", linter, err)
	}
	beside := filepath.Join(filepath.Dir(self), linter)
	if _, err := os.Stat(beside); err == nil {
		return beside, nil
	}
	path, err := exec.LookPath(linter)
	if err != nil {
		return "", fmt.Errorf("find %s: %w", linter, err)
	}
	return path, nil
}
