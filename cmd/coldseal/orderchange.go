package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"coldseal/cmd/internal/cli"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/policy"
)

// digestOf reads a digest, or makes that of a file (the DER in it where it is PEM); nothing is the zero digest.
func digestOf(text string, stdin io.Reader) (protocol.Digest, error) {
	if text == "" {
		return protocol.Digest{}, nil
	}
	if d, err := protocol.ParseDigest(text); err == nil {
		return d, nil
	}
	data, err := cli.ReadInput(text, stdin, protocol.MaxCRL)
	if err != nil {
		return protocol.Digest{}, err
	}
	if der, found := onlyPEM(data); found {
		data = der
	}
	return protocol.DigestOf(data), nil
}

func orderPolicy() *cobra.Command {
	var files []string
	c, _ := newOrder(protocol.KindPolicy, "--policy FILE…", "order a new policy",
		"The new policy has to keep the laws under the roster that stands. What it changes is said by coldseal policy diff.",
		func(c *cobra.Command, o *ordering) (any, error) {
			if len(files) == 0 {
				return nil, cli.Usage("--policy says which one")
			}
			p, err := loadPolicy(files)
			if err != nil {
				return nil, err
			}
			if err := tellProblems(c, policy.Check(p, o.world.Roster)); err != nil {
				return nil, err
			}
			new, err := policy.Encode(p)
			return protocol.Replacement{Replaces: protocol.DigestOf(o.world.State.Policy), New: new}, err
		})
	c.Flags().StringArrayVar(&files, "policy", nil, "a `file` of the new policy, or library:NAME; may be repeated")
	return c
}

func orderRoster() *cobra.Command {
	var file string
	var proofs []string
	c, _ := newOrder(protocol.KindRoster, "--roster FILE [--possession FILE]…", "order a new roster",
		"It is approved under the old and under the new roster. The holder of each new key proves to have it (coldseal key possess).",
		func(c *cobra.Command, o *ordering) (any, error) {
			r, new, err := o.newRoster(c, file)
			if err != nil {
				return nil, err
			}
			content := protocol.Replacement{Replaces: protocol.DigestOf(o.world.State.Roster), New: new}
			for _, name := range proofs {
				proof, err := cli.ReadInput(name, c.InOrStdin(), protocol.MaxApproval)
				if err != nil {
					return nil, err
				}
				content.Possession = append(content.Possession, proof)
			}
			return content, unproved(o.world.Roster, r, content)
		})
	c.Flags().StringVar(&file, "roster", "", "`file` of the new roster, YAML or compiled")
	c.Flags().StringArrayVar(&proofs, "possession", nil, "`file` with the proof for a new key; may be repeated")
	return c
}

// newRoster reads a roster that keeps the laws under the policy that stands.
func (o *ordering) newRoster(c *cobra.Command, file string) (*policy.Roster, []byte, error) {
	if file == "" {
		return nil, nil, cli.Usage("--roster says which one")
	}
	r, err := loadRoster(file)
	if err != nil {
		return nil, nil, err
	}
	if err := tellProblems(c, policy.Check(o.world.Policy.Policy, r)); err != nil {
		return nil, nil, err
	}
	new, err := policy.EncodeRoster(r)
	return r, new, err
}

func orderRecovery() *cobra.Command {
	var file string
	c, _ := newOrder(protocol.KindRecovery, "--roster FILE", "announce a roster for when the officers are lost",
		"Those whom the roster names for recovery approve it. When the days have passed that the roster says, the order roster of the same\nfile is approved by them instead of the officers that stand. Officers who are still there end it by ordering another roster.",
		func(c *cobra.Command, o *ordering) (any, error) {
			if o.world.Roster.Recovery == nil {
				return nil, cli.Fail(cli.ExitPolicy, "a roster names holders under recovery", "the roster that stands names nobody for recovery")
			}
			_, new, err := o.newRoster(c, file)
			return protocol.Recovery{Replaces: protocol.DigestOf(o.world.State.Roster), New: protocol.DigestOf(new)}, err
		})
	c.Flags().StringVar(&file, "roster", "", "`file` of the new roster, YAML or compiled")
	return c
}

func orderSuspend() *cobra.Command {
	var person string
	c, _ := newOrder(protocol.KindSuspend, "--person PERSON", "suspend oneself as an officer",
		"For an officer whose card or key was lost or who leaves: only their own approval is needed, by any of their keys. An order roster\nlifts it.",
		func(_ *cobra.Command, o *ordering) (any, error) {
			if protocol.ValidPerson(person) && !slices.ContainsFunc(o.world.Roster.Officers, func(officer policy.Officer) bool { return officer.Person == person }) {
				return nil, cli.Fail(cli.ExitNotFound, "give the officer as the roster has them", "%s is no officer of the roster that stands", person)
			}
			return protocol.Suspension{Replaces: protocol.DigestOf(o.world.State.Roster), Person: person}, nil
		})
	c.Flags().StringVar(&person, "person", "", "the officer, a `person` as in the roster, such as it:FTTCRL84C52H501V")
	return c
}

// unproved tells whose new key nobody proved to hold, so that the ceremony doesn't find out.
func unproved(old, new *policy.Roster, content protocol.Replacement) error {
	digest := protocol.DigestOf(content.New)
	for _, o := range append(slices.Clone(new.Officers), new.Recovery.Roster().Officers...) {
		for _, spki := range o.Keys {
			key, err := cose.ParseKey(spki)
			if err != nil {
				return err
			}
			id := protocol.DigestOf(spki)
			_, _, approves := auditlog.Officer(old, id)
			_, _, recovers := auditlog.Officer(old.Recovery.Roster(), id)
			if approves || recovers {
				continue
			}
			if !slices.ContainsFunc(content.Possession, func(proof []byte) bool {
				return protocol.VerifyID(proof, protocol.ContextPossession, key, digest) == nil
			}) {
				return cli.Fail(cli.ExitApprovals, fmt.Sprintf("%s runs: coldseal key possess --digest %s", o.Person, digest),
					"nobody proved to hold the new key %s of %s", protocol.DigestOf(spki), o.Person)
			}
		}
	}
	return nil
}

func orderParty(kind protocol.Kind) *cobra.Command {
	var file, replaces string
	var bodies []string
	var bundles, items uint64
	var retire bool
	c, _ := newOrder(kind, "--party FILE", "enrol, change or retire "+map[protocol.Kind]string{protocol.KindAgent: "an agent", protocol.KindStation: "a station"}[kind],
		"The record is the file that it made of itself. To change or retire one that is enrolled, give --replaces with the record that\nstands: its file, or its digest.",
		func(c *cobra.Command, o *ordering) (any, error) {
			if file == "" {
				return nil, cli.Usage("--party says which record")
			}
			data, err := cli.ReadInput(file, c.InOrStdin(), protocol.MaxRequest)
			if err != nil {
				return nil, err
			}
			party, err := protocol.ParseParty(data)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			flags := c.Flags()
			if flags.Changed("bodies") {
				slices.Sort(bodies)
				party.Bodies = bodies
			}
			if flags.Changed("bundles-per-day") {
				party.BundlesPerDay = bundles
			}
			if flags.Changed("items-per-day") {
				party.ItemsPerDay = items
			}
			party.Retired = party.Retired || retire
			if data, err = cose.Marshal(party); err != nil {
				return nil, err
			}
			old, err := digestOf(replaces, c.InOrStdin())
			return protocol.Enrolment{Replaces: old, Party: data}, err
		})
	f := c.Flags()
	f.StringVar(&file, "party", "", "`file` of the record")
	f.StringVar(&replaces, "replaces", "", "the record that stands: `file` or digest")
	f.StringSliceVar(&bodies, "bodies", nil, "other `bodies` than the record says")
	if kind == protocol.KindAgent {
		f.Uint64Var(&bundles, "bundles-per-day", 0, "another `number` of bundles a day than the record says")
		f.Uint64Var(&items, "items-per-day", 0, "another `number` of items a day than the record says")
	}
	f.BoolVar(&retire, "retire", false, "retire it: nothing from it is processed but what takes away")
	return c
}
