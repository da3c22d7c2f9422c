// Command coldseal-station is the program of the desk: with a person's smart card it approves requests, tells which key
// the card holds, and proves to hold it. The PIN is asked for at every signature, and never taken from the command line.
//
// What is approved is shown by the same code, and from the same bytes, as everywhere (protocol/show). It opens no socket
// but that of pcscd.
package main

import (
	"github.com/spf13/cobra"

	"coldseal/cmd/internal/cli"
)

func main() { cli.Main(rootCommand()) }

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "coldseal-station",
		Short: "approve with a smart card",
		Long: "coldseal-station is for approvers and officers with a PIV card, such as a YubiKey. The card's key approves and does\n" +
			"nothing else; the PIN is asked for at every signature.",
	}
	root.AddCommand(approveCommand(), cardCommand(), cli.ManCommand())
	return root
}
