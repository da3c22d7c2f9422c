package main

import (
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"coldseal/agent/station"
	"coldseal/cmd/internal/cli"
	"coldseal/cmd/internal/person"
	"coldseal/protocol"
	"coldseal/protocol/show"
)

func cardCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "card",
		Short: "look at a person's card and use its key",
		Long: "The key is made by the card's own tools, such as: ykman piv keys generate --algorithm ECCP256 --pin-policy ALWAYS 9c key.pub.\n" +
			"It approves and does nothing else.",
	}
	c.AddCommand(cardShowCommand(), cardPublicCommand(), cardCSRCommand(), cardPossessCommand())
	return c
}

func cardShowCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "show",
		Short: "show the key of a card, its certificate, and how many tries the PIN has left",
		Args:  cobra.NoArgs,
	}
	f := addCard(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		key, err := f.open(c.ErrOrStderr())
		if err != nil {
			return err
		}
		sheet, err := cardSheet(key.card)
		if err := errors.Join(err, key.Close()); err != nil {
			return err
		}
		if asJSON {
			return cli.PrintJSON(c.OutOrStdout(), sheet)
		}
		return sheet.Write(c.OutOrStdout())
	}
	return c
}

func cardSheet(card station.Card) (show.Sheet, error) {
	spki, err := x509.MarshalPKIXPublicKey(card.Public())
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	tries, err := card.Tries()
	if err != nil {
		return nil, device(err)
	}
	id := protocol.DigestOf(spki)
	s := show.Sheet{{Name: "card", Value: card.Name()}, {Name: "key type", Value: show.KeyType(card.Public())}, {Name: "key", Value: id.String(), Groups: id.Groups()}}
	if tries >= 0 {
		s = append(s, show.Row{Name: "pin tries left", Value: tries})
	}
	s = append(s, show.Row{Name: "touch", Value: card.Touch()})
	if c := card.Certificate(); c != nil {
		certificate, err := show.Certificate(c.Raw)
		if err != nil {
			return nil, err
		}
		s = append(s, show.Row{Name: "certificate", Rows: certificate[1:]})
	}
	return s, nil
}

// key opens the card for the commands that coldseal key has for files.
func (f *cardFlags) key(c *cobra.Command) person.Open {
	return func() (person.Key, error) { return f.open(c.ErrOrStderr()) }
}

func cardPublicCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "public",
		Short: "write the public half of a card's key, and print its fingerprint",
	}
	person.AddPublic(c, addCard(c).key(c))
	return c
}

func cardCSRCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "csr --out FILE",
		Short: "make a certificate request that proves possession of a card's key",
		Long:  "The request asks for nothing: names come from the request that an agent makes of it, the key from here.",
	}
	person.AddCSR(c, addCard(c).addPIN(c).key(c))
	return c
}

func cardPossessCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "possess --digest DIGEST --out FILE",
		Short: "prove to hold the card's key, that of an officer in a new roster",
		Long:  "The officer types the digest of the compiled roster, as coldseal roster compile printed it, and hands the proof to whoever\nmakes the order (coldseal order roster --possession).",
	}
	person.AddPossess(c, addCard(c).addPIN(c).key(c))
	return c
}
