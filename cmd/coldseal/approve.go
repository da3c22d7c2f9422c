package main

import (
	"crypto"

	"github.com/spf13/cobra"

	"coldseal/cmd/internal/approve"
	"coldseal/cmd/internal/introduction"
	"coldseal/protocol"
)

func approveCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "approve --key FILE --introduction FILE --digest DIGEST --request FILE… --out FILE",
		Short: "approve requests, over their exact bytes",
		Long: "approve shows the requests, checks that they are for the appliance whose digest was typed, asks, and signs. Requests that\n" +
			"the policy wants approved alone, and orders, get an approval each; the others share one for up to 1,024. If there is more\n" +
			"than one approval, or --out ends in a slash, --out is a folder. What is stated is stated of every request given: state\n" +
			"presence only of those who were here.",
	}
	k := addKey(c)
	approve.Add(c, func() (approve.Key, error) {
		key, err := k.read()
		return fileKey{key, k.file}, err
	})
	return c
}

// fileKey is an approver's key in a file.
type fileKey struct {
	crypto.Signer
	name string
}

func (k fileKey) Name() string { return k.name }

func (k fileKey) Holder(_ *introduction.Appliance, id protocol.Digest) (string, error) {
	return "the holder of the key " + id.String()[:16], nil
}

func (k fileKey) For(string) crypto.Signer { return k.Signer }

func (k fileKey) Close() error { return nil }
