package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"coldseal/cmd/internal/cli"
	"coldseal/protocol/policy"
	"coldseal/protocol/show"
)

func rosterCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "roster",
		Short: "check, compile and show rosters of officers",
		Long:  "A roster is a file of YAML: officers with their keys, roles and scopes, and how many of which role each kind of order needs.",
	}
	c.AddCommand(rosterCheckCommand(), rosterCompileCommand(), rosterShowCommand())
	return c
}

// checkedRoster reads a roster and checks it, with the policy that it is to work with if one is named.
func checkedRoster(name string, policies []string) (*policy.Roster, []policy.Problem, error) {
	r, err := loadRoster(name)
	if err != nil {
		return nil, nil, err
	}
	if len(policies) > 0 {
		p, err := loadPolicy(policies)
		if err != nil {
			return nil, nil, err
		}
		return r, policy.Check(p, r), nil
	}
	// Of a check without a policy only what is about the roster counts.
	found := policy.Check(&policy.Policy{}, r)
	return r, slices.DeleteFunc(found, func(p policy.Problem) bool { return !strings.HasPrefix(p.Where, "roster") }), nil
}

func rosterCheckCommand() *cobra.Command {
	var policies []string
	var asJSON bool
	c := &cobra.Command{
		Use:   "check FILE",
		Short: "say what would keep a roster from working",
		Long:  "check exits with 4 if there is a problem. With --policy, rules that officers have to meet are asked about too.",
		Args:  cobra.ExactArgs(1),
	}
	c.Flags().StringArrayVar(&policies, "policy", nil, "a `file` of the policy that it is to work with; may be repeated")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		r, found, err := checkedRoster(args[0], policies)
		if err != nil {
			return err
		}
		if asJSON {
			err := cli.PrintJSON(c.OutOrStdout(), struct {
				Officers int       `json:"officers"`
				Problems []problem `json:"problems"`
			}{len(r.Officers), problemsOf(found)})
			if err != nil || len(found) == 0 {
				return err
			}
			return &cli.ExitError{Code: cli.ExitPolicy}
		}
		if err := tellProblems(c, found); err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.ErrOrStderr(), "%d officers, no problem\n", len(r.Officers))
		return err
	}
	return c
}

func rosterCompileCommand() *cobra.Command {
	var policies []string
	var out string
	var asJSON bool
	c := &cobra.Command{
		Use:   "compile FILE --out FILE",
		Short: "check a roster and write it compiled; print its digest, which officers type to prove their new keys",
		Args:  cobra.ExactArgs(1),
	}
	c.Flags().StringArrayVar(&policies, "policy", nil, "a `file` of the policy that it is to work with; may be repeated")
	c.Flags().StringVar(&out, "out", "", "`file` to write; - is standard output")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		if out == "" {
			return cli.Usage("--out says which file the roster goes to")
		}
		r, found, err := checkedRoster(args[0], policies)
		if err != nil {
			return err
		}
		if err := tellProblems(c, found); err != nil {
			return err
		}
		data, err := policy.EncodeRoster(r)
		if err != nil {
			return err
		}
		return writeCompiled(c, out, data, asJSON)
	}
	return c
}

func rosterShowCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "show FILE",
		Short: "show a roster, of YAML or compiled, with the fingerprints of its keys",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := loadRoster(args[0])
			if err != nil {
				return err
			}
			data, err := policy.EncodeRoster(r)
			if err != nil {
				return err
			}
			sheet, err := show.Roster(data)
			if err != nil {
				return err
			}
			if asJSON {
				return cli.PrintJSON(c.OutOrStdout(), sheet)
			}
			return sheet.Write(c.OutOrStdout())
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
