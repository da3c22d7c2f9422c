package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"coldseal/cmd/internal/approve"
)

func approveCommand() *cobra.Command {
	var certificate string
	c := &cobra.Command{
		Use:   "approve --introduction FILE --digest DIGEST --request FILE… --out FILE",
		Short: "approve requests with a card, over their exact bytes",
		Long: "approve shows the requests, checks that they are for the appliance whose digest was typed, asks, and has the card sign,\n" +
			"with its PIN for each approval. Requests that the policy wants approved alone, and orders, get an approval each; the others\n" +
			"share one for up to 1,024. If there is more than one approval, or --out ends in a slash, --out is a folder. What is stated is\n" +
			"stated of every request given: state presence only of those who were here.\n\n" +
			"Nothing is written unless everything was signed.",
	}
	f := addCard(c).addPIN(c)
	c.Flags().StringVar(&certificate, "certificate", "", "the approver certificate, a `file`, where it is not on the card")
	approve.Add(c, func() (approve.Key, error) {
		key, err := f.open(c.ErrOrStderr())
		if err != nil {
			return nil, err
		}
		key.now = time.Now()
		if certificate != "" {
			if key.certificate, err = readCertificate(certificate); err != nil {
				return nil, errors.Join(err, key.Close())
			}
		}
		return key, nil
	})
	return c
}
