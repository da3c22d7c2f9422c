// Command coldseal is for people who look, verify, approve and audit: it shows what crosses the gap, checks it, makes
// approvers' keys and approvals, compiles policies and rosters, writes orders, and goes through the log. It holds no CA
// key, opens no socket, and changes nothing but the files that it is told to write.
package main

import (
	"github.com/spf13/cobra"

	"coldseal/cmd/internal/cli"
)

func main() { cli.Main(rootCommand()) }

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "coldseal",
		Short: "look at, verify, approve and audit what crosses the gap",
		Long: "coldseal shows requests, approvals, bundles, policies and certificates as the appliance reads them, verifies them,\n" +
			"makes approvers' keys and approvals, compiles policies and rosters, writes orders, and audits the log.",
	}
	root.AddCommand(inspectCommand(), verifyCommand(), lintCommand(), policyCommand(), rosterCommand(), keyCommand(), approveCommand(),
		orderCommand(), logCommand(), mediaCommand(), cli.ManCommand())
	return root
}
