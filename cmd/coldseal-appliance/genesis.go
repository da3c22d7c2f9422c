package main

import (
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"coldseal/appliance"
	"coldseal/cmd/internal/cli"
	"coldseal/protocol"
	"coldseal/protocol/cose"
	"coldseal/protocol/policy"
)

func genesisCommand() *cobra.Command {
	var name, rosterFile string
	var policies, officers []string
	var quorum uint64
	c := &cobra.Command{
		Use:   "genesis --state DIR --name NAME (--officer PERSON=KEY.pub … --quorum K | --roster FILE) --policy FILE …",
		Short: "begin an appliance: its keys, its officers, its policy, the first entry of its log",
		Long: "genesis makes the appliance's own keys and its identity. The digest that it prints is the one thing that people type\n" +
			"into agents, stations and auditors' tools; write it down in the minutes. Interrupted, run it again.",
		Args: cobra.NoArgs,
	}
	d := addDevices(c)
	f := c.Flags()
	f.StringVar(&name, "name", "", "`name` of the appliance: a-z, 0-9, hyphens")
	f.StringVar(&rosterFile, "roster", "", "roster `file` (YAML), for roles and rules of your own")
	f.StringArrayVar(&officers, "officer", nil, "a security officer: `PERSON=FILE`, such as it:FTTCRL84C52H501V=officer.pub; give one for each")
	f.Uint64Var(&quorum, "quorum", 2, "`number` of officers that an order needs")
	f.StringArrayVar(&policies, "policy", nil, "policy `file` (YAML) or library:NAME; give one for each")
	asJSON := f.Bool("json", false, "print JSON")
	cli.Require(c, "name", "policy")
	c.MarkFlagsMutuallyExclusive("roster", "officer")
	c.MarkFlagsOneRequired("roster", "officer")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		p, err := cli.LoadPolicy(policies)
		if err != nil {
			return err
		}
		roster, err := makeRoster(rosterFile, officers, quorum)
		if err != nil {
			return err
		}
		if problems := policy.Check(p, roster); len(problems) != 0 {
			for _, problem := range problems {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n  %s\n", problem.Where, problem.Words, problem.Hint)
			}
			return cli.Fail(cli.ExitPolicy, "mend it; coldseal policy check says the same without beginning anything", "policy and roster have %d problems", len(problems))
		}
		d.begins = true
		config, stop, err := d.workers(cmd.Context())
		if err != nil {
			return err
		}
		digest, err := appliance.Genesis(config, name, roster, p)
		if err := errors.Join(explain(err), stop()); err != nil {
			return err
		}
		if *asJSON {
			return cli.PrintJSON(cmd.OutOrStdout(), struct {
				Digest string `json:"digest"`
				Groups string `json:"groups"`
			}{digest.String(), digest.Groups()})
		}
		fmt.Fprintln(cmd.OutOrStdout(), digest)
		fmt.Fprintf(cmd.ErrOrStderr(), "\nThe appliance %s has begun. Its genesis digest, for the minutes and for typing:\n\n  %s\n\n", name, digest.Groups())
		return nil
	}
	return c
}

// makeRoster reads a roster, or makes the usual one: security officers, any of whom may approve anything, and one quorum
// for all orders.
func makeRoster(file string, officers []string, quorum uint64) (*policy.Roster, error) {
	if file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read roster: %w", err)
		}
		return policy.LoadRoster(policy.File{Name: file, Data: data})
	}
	const role = "security-officer"
	r := &policy.Roster{Version: protocol.Version}
	for _, o := range officers {
		person, path, found := strings.Cut(o, "=")
		if !found || !protocol.ValidPerson(person) {
			return nil, cli.Usage("--officer %q is not PERSON=FILE, such as it:FTTCRL84C52H501V=officer.pub", o)
		}
		spki, err := readPublic(path)
		if err != nil {
			return nil, err
		}
		r.Officers = append(r.Officers, policy.Officer{
			Person: person, Name: person, Keys: [][]byte{spki}, Roles: []string{role},
			Scopes: []protocol.Scope{{Profile: protocol.Any, Body: protocol.Any}},
		})
	}
	slices.SortFunc(r.Officers, func(a, b policy.Officer) int { return strings.Compare(a.Person, b.Person) })
	for _, kind := range protocol.RuledOrders() {
		r.Orders = append(r.Orders, policy.OrderRule{Kind: kind, Persons: quorum, Role: role})
	}
	return r, nil
}

func readPublic(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read public key: %w", err)
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PUBLIC KEY" || len(strings.TrimSpace(string(rest))) != 0 {
		return nil, cli.Fail(cli.ExitFailure, "give the .pub file that coldseal key new wrote beside the key", "read public key %s: it is not one PEM block PUBLIC KEY", path)
	}
	key, err := cose.ParseKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read public key %s: %w", path, err)
	}
	return key.SPKI(), nil
}
