package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"coldseal/protocol/media"
)

// ManCommand makes the command "man", which writes a man page for each of the program's commands.
func ManCommand() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:   "man --dir DIR",
		Short: "write man pages",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if dir == "" {
				return Usage("--dir says where the pages go")
			}
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return fmt.Errorf("make folder for man pages: %w", err)
			}
			return writeMan(c.Root(), dir)
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "the `folder` for the pages")
	return c
}

func writeMan(c *cobra.Command, dir string) error {
	if !c.IsAvailableCommand() && c.HasParent() {
		return nil
	}
	name := strings.ReplaceAll(c.CommandPath(), " ", "-") + ".1"
	err := media.WriteFile(filepath.Join(dir, name), media.WriteOptions{Replace: true}, media.Contents(manPage(c)))
	if err != nil {
		return err
	}
	for _, child := range c.Commands() {
		if err := writeMan(child, dir); err != nil {
			return err
		}
	}
	return nil
}

// manPage writes man(7). It has no date, so that the same program has the same pages.
func manPage(c *cobra.Command) []byte {
	name := strings.ReplaceAll(c.CommandPath(), " ", "-")
	usage := c.UseLine()
	if c.HasAvailableSubCommands() {
		usage = c.CommandPath() + " COMMAND"
	}
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %q 1 \"\" \"coldseal\" \"coldseal\"\n.SH NAME\n%s \\- %s\n.SH SYNOPSIS\n.B %s\n", strings.ToUpper(name), roff(name), roff(c.Short), roff(usage))
	if c.Long != "" {
		fmt.Fprintf(&b, ".SH DESCRIPTION\n.nf\n%s\n.fi\n", roff(c.Long))
	}
	if c.LocalFlags().HasAvailableFlags() {
		b.WriteString(".SH OPTIONS\n")
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			value, usage := pflag.UnquoteUsage(f)
			if !f.Hidden {
				fmt.Fprintf(&b, ".TP\n\\fB%s\\fR %s\n%s\n", roff("--"+f.Name), roff(value), roff(usage))
			}
		})
	}
	if c.Example != "" {
		fmt.Fprintf(&b, ".SH EXAMPLES\n.nf\n%s\n.fi\n", roff(c.Example))
	}
	b.WriteString(".SH EXIT STATUS\n0 done or accepted, 1 rejected or failed, 3 not found, 4 refused by policy, 5 approvals missing, 6 device, PIN or passphrase, 7 verification failed, 64 wrong command line.\n")
	var also []string
	if c.HasParent() {
		also = append(also, strings.ReplaceAll(c.Parent().CommandPath(), " ", "-"))
	}
	for _, child := range c.Commands() {
		if child.IsAvailableCommand() {
			also = append(also, strings.ReplaceAll(child.CommandPath(), " ", "-"))
		}
	}
	if len(also) > 0 {
		fmt.Fprintf(&b, ".SH SEE ALSO\n%s(1)\n", roff(strings.Join(also, "(1), ")))
	}
	return []byte(b.String())
}

// roff escapes what man(7) would read as more than text.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, `-`, `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
