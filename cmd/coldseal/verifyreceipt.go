package main

import (
	"bytes"
	"fmt"

	"github.com/spf13/cobra"

	"coldseal/cmd/internal/cli"
	"coldseal/cmd/internal/introduction"
	"coldseal/protocol"
	"coldseal/protocol/pathcheck"
	"coldseal/protocol/show"
)

func verifyReceiptCommand() *cobra.Command {
	return verifyVerb("receipt --introduction FILE --digest DIGEST --request FILE RECEIPT", "decide whether a revocation or hold that was asked for was done",
		"receipt accepts RECEIPT if the appliance signed it, and it is about the very request in --request. Whoever handed in a\n"+
			"revocation or hold asks for it: those who carry it cannot make one. If none comes, the request was not done, or its answer\n"+
			"was kept back; the same request with its approvals can be brought to the appliance on any other medium.",
		func(c *cobra.Command) verification {
			var request string
			appliance := introduction.Add(c)
			c.Flags().StringVar(&request, "request", "", "`file` of the request that was handed in")
			return func(c *cobra.Command, v *verdict, file string) error {
				if request == "" {
					return cli.Usage("--request says what was asked for")
				}
				if err := stdinOnce(file, request, appliance.File); err != nil {
					return err
				}
				w, err := openWorld(c, v, appliance)
				if w == nil {
					return err
				}
				asked, err := cli.ReadInput(request, c.InOrStdin(), protocol.MaxRequest)
				if err != nil {
					return err
				}
				message, err := cli.ReadInput(file, c.InOrStdin(), protocol.MaxAnswer)
				if err != nil {
					return err
				}
				return receipt(v, w, asked, message)
			}
		})
}

// receipt decides whether a message is the appliance's word that what was asked for was done.
func receipt(v *verdict, w *introduction.Appliance, asked, message []byte) error {
	r, refusal := protocol.ParseRequest(asked)
	if refusal != nil {
		v.refuse("the request: ", refusal)
		return nil
	}
	wish, refusal := r.Revocation()
	if refusal != nil {
		v.refuse("the request: ", refusal)
		return nil
	}
	got, err := protocol.OpenReceipt(message, w.Keys)
	if err != nil {
		v.fail(codeReceipt, "", err)
		return nil
	}
	outcome := protocol.OutcomeRevoked
	if r.Kind == protocol.KindHold {
		outcome = protocol.OutcomeHeld
	}
	if got.Appliance != w.Digest || got.Request != protocol.ID(asked) || got.Outcome != outcome || got.Issuer != r.Issuer || !bytes.Equal(got.Serial, wish.Serial) {
		v.reject(pathcheck.Reason{Code: codeReceipt, Words: fmt.Sprintf("it says that request %s had serial %x %s; this is request %s to %s serial %x",
			got.Request, got.Serial, got.Outcome, protocol.ID(asked), r.Kind, wish.Serial)})
		return nil
	}
	v.Facts, err = show.Receipt(message, w.Known)
	return err
}
