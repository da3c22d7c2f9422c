package main

import (
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"coldseal/cmd/internal/cli"
	"coldseal/cmd/internal/person"
	"coldseal/protocol"
	"coldseal/protocol/cose"
)

func keyStationCommand() *cobra.Command {
	var name, out string
	var bodies []string
	c := &cobra.Command{
		Use:   "station --key FILE --name NAME --bodies BODY,… --out FILE",
		Short: "write the record by which a station is enrolled",
		Long:  "The station keeps the key, with which it says which key lies on which card; the record goes to the officers, who enrol it by\ncoldseal order station. Agents make theirs with coldseal-agent init.",
		Args:  cobra.NoArgs,
	}
	k := addKey(c)
	c.Flags().StringVar(&name, "name", "", "`name` of the station: small letters, digits and hyphens")
	c.Flags().StringSliceVar(&bodies, "bodies", nil, "the `bodies` for which it makes cards, with all below them")
	c.Flags().StringVar(&out, "out", "", "`file` to write; - is standard output")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if name == "" || len(bodies) == 0 || out == "" {
			return cli.Usage("--name, --bodies and --out are needed")
		}
		key, err := k.read()
		if err != nil {
			return err
		}
		spki, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			return fmt.Errorf("encode public key: %w", err)
		}
		slices.Sort(bodies)
		record, err := cose.Marshal(protocol.Party{Version: protocol.Version, Name: name, Role: protocol.RoleStation, Seal: spki, Bodies: slices.Compact(bodies)})
		if err != nil {
			return err
		}
		if _, err := protocol.ParseParty(record); err != nil {
			return cli.Usage("%w", err)
		}
		if err := cli.WriteOutput(out, c.OutOrStdout(), record, false); err != nil || out == "-" {
			return err
		}
		return person.Print(c, key.Public(), false)
	}
	return c
}
