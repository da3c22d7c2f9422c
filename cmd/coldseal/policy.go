package main

import (
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"coldseal/cmd/internal/cli"
	"coldseal/cmd/internal/introduction"
	"coldseal/protocol"
	"coldseal/protocol/policy"
	"coldseal/protocol/show"
)

func policyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "policy",
		Short: "check, compile and compare policies",
		Long:  "A policy is one or more files of YAML; library:NAME stands for a profile that we ship, library:all for all of them, and a\ncompiled policy for itself. One of the files names the policy and its clock_ahead.",
	}
	c.AddCommand(policyCheckCommand(), policyCompileCommand(), policyDiffCommand(), policyLibraryCommand())
	return c
}

// problem is a policy.Problem in JSON.
type problem struct {
	Where string `json:"where"`
	Law   int    `json:"law,omitempty"`
	Words string `json:"words"`
	Hint  string `json:"hint"`
}

func problemsOf(found []policy.Problem) []problem {
	all := []problem{}
	for _, p := range found {
		all = append(all, problem{p.Where, p.Law, p.Words, p.Hint})
	}
	return all
}

// compiledFirst is the lowest first byte of a CBOR map; no text begins so.
const compiledFirst = 0xa0

func isCompiled(data []byte) bool { return len(data) > 0 && data[0] >= compiledFirst }

// loadPolicy reads YAML, names of the library, or one compiled policy. What can't be read is a problem of the policy.
func loadPolicy(names []string) (*policy.Policy, error) {
	if len(names) == 1 && !strings.HasPrefix(names[0], "library:") {
		data, err := os.ReadFile(names[0])
		if err != nil {
			return nil, err
		}
		if isCompiled(data) {
			return policy.Decode(data)
		}
	}
	p, err := cli.LoadPolicy(names)
	if err != nil {
		if code, _ := cli.Judge(err); code == cli.ExitFailure {
			return nil, cli.Fail(cli.ExitPolicy, "", "%w", err)
		}
		return nil, err
	}
	return p, nil
}

func loadRoster(name string) (*policy.Roster, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if isCompiled(data) {
		return policy.DecodeRoster(data)
	}
	r, err := policy.LoadRoster(policy.File{Name: name, Data: data})
	if err != nil {
		return nil, cli.Fail(cli.ExitPolicy, "", "%w", err)
	}
	return r, nil
}

// tellProblems writes problems to stderr; any is an error.
func tellProblems(c *cobra.Command, found []policy.Problem) error {
	for _, p := range found {
		law := ""
		if p.Law != 0 {
			law = fmt.Sprintf(" (law %d)", p.Law)
		}
		if _, err := fmt.Fprintf(c.ErrOrStderr(), "%s: %s%s\n  %s\n", show.Text(p.Where), show.Text(p.Words), law, show.Text(p.Hint)); err != nil {
			return err
		}
	}
	switch len(found) {
	case 0:
		return nil
	case 1:
		return cli.Fail(cli.ExitPolicy, "", "there is a problem")
	}
	return cli.Fail(cli.ExitPolicy, "", "there are %d problems", len(found))
}

// checked reads a policy, and a roster if one is named, and checks them together.
func checked(names []string, rosterFile string) (*policy.Policy, []policy.Problem, error) {
	p, err := loadPolicy(names)
	if err != nil {
		return nil, nil, err
	}
	var roster *policy.Roster
	if rosterFile != "" {
		if roster, err = loadRoster(rosterFile); err != nil {
			return nil, nil, err
		}
	}
	return p, policy.Check(p, roster), nil
}

func policyCheckCommand() *cobra.Command {
	var roster string
	var asJSON bool
	c := &cobra.Command{
		Use:   "check FILE…",
		Short: "prove that a policy keeps the laws, or say what breaks them and where",
		Long:  "check exits with 4 if there is a problem. Without --roster nothing is asked about officers.",
		Args:  cobra.MinimumNArgs(1),
	}
	c.Flags().StringVar(&roster, "roster", "", "the roster that it is to work with, a `file` of YAML or compiled")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		p, found, err := checked(args, roster)
		if err != nil {
			return err
		}
		if asJSON {
			err := cli.PrintJSON(c.OutOrStdout(), struct {
				Policy   string    `json:"policy"`
				Problems []problem `json:"problems"`
			}{p.Name, problemsOf(found)})
			if err != nil || len(found) == 0 {
				return err
			}
			return &cli.ExitError{Code: cli.ExitPolicy}
		}
		if err := tellProblems(c, found); err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.ErrOrStderr(), "%s: %d profiles, no problem\n", p.Name, len(p.Profiles))
		return err
	}
	return c
}

func policyCompileCommand() *cobra.Command {
	var roster, out string
	var asJSON bool
	c := &cobra.Command{
		Use:   "compile FILE… --out FILE",
		Short: "check a policy and write it compiled; print its digest",
		Args:  cobra.MinimumNArgs(1),
	}
	c.Flags().StringVar(&roster, "roster", "", "the roster that it is to work with, a `file` of YAML or compiled")
	c.Flags().StringVar(&out, "out", "", "`file` to write; - is standard output")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		if out == "" {
			return cli.Usage("--out says which file the policy goes to")
		}
		p, found, err := checked(args, roster)
		if err != nil {
			return err
		}
		if err := tellProblems(c, found); err != nil {
			return err
		}
		data, err := policy.Encode(p)
		if err != nil {
			return err
		}
		return writeCompiled(c, out, data, asJSON)
	}
	return c
}

// writeCompiled writes a compiled policy or roster and prints its digest as people compare it.
func writeCompiled(c *cobra.Command, out string, data []byte, asJSON bool) error {
	if err := cli.WriteOutput(out, c.OutOrStdout(), data, false); err != nil || out == "-" {
		return err
	}
	d := protocol.DigestOf(data)
	if asJSON {
		return cli.PrintJSON(c.OutOrStdout(), struct {
			Digest string `json:"digest"`
			Groups string `json:"digest_groups"`
			Bytes  int    `json:"bytes"`
		}{d.String(), d.Groups(), len(data)})
	}
	_, err := fmt.Fprintf(c.OutOrStdout(), "%s\n%s\n", d, d.Groups())
	return err
}

func policyDiffCommand() *cobra.Command {
	var old, new []string
	var asJSON bool
	c := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "say in words what a new policy changes",
		Long:  "OLD and NEW are a file each; where a policy is several, give --old and --new, each as often as needed. With --introduction\nand --digest the old policy is the one in force.",
		Args:  cobra.MaximumNArgs(2),
	}
	a := introduction.Add(c)
	c.Flags().StringArrayVar(&old, "old", nil, "a `file` of the old policy")
	c.Flags().StringArrayVar(&new, "new", nil, "a `file` of the new policy")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		given, err := a.Given()
		if err != nil {
			return err
		}
		if !given && len(args) == 2 {
			old, args = append(old, args[0]), args[1:]
		}
		if len(args) == 1 {
			new, args = append(new, args[0]), nil
		}
		if given == (len(old) > 0) || len(new) == 0 || len(args) > 0 {
			return cli.Usage("name an old policy (or --introduction and --digest) and a new one")
		}
		before, err := oldPolicy(a, given, old, c)
		if err != nil {
			return err
		}
		after, err := loadPolicy(new)
		if err != nil {
			return err
		}
		lines := policy.Diff(before, after)
		if asJSON {
			return cli.PrintJSON(c.OutOrStdout(), struct {
				Changes []string `json:"changes"`
			}{append([]string{}, lines...)})
		}
		for _, line := range lines {
			if _, err := fmt.Fprintln(c.OutOrStdout(), show.Text(line)); err != nil {
				return err
			}
		}
		if len(lines) == 0 {
			_, err = fmt.Fprintln(c.ErrOrStderr(), "nothing changes")
		}
		return err
	}
	return c
}

func oldPolicy(a *introduction.Flags, given bool, files []string, c *cobra.Command) (*policy.Policy, error) {
	if !given {
		return loadPolicy(files)
	}
	w, err := a.Open(c.InOrStdin())
	if err != nil {
		return nil, err
	}
	return w.Policy.Policy, nil
}

func policyLibraryCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "library [NAME]",
		Short: "list the profiles that we ship, or print one",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				data, err := fs.ReadFile(policy.Library(), strings.TrimPrefix(args[0], "library:")+".yaml")
				if err != nil {
					return cli.Fail(cli.ExitNotFound, "coldseal policy library lists those that we ship", "there is no profile %s in the library", args[0])
				}
				_, err = c.OutOrStdout().Write(data)
				return err
			}
			files, err := policy.Files(policy.Library())
			if err != nil {
				return err
			}
			for _, f := range files {
				first, _, _ := strings.Cut(string(f.Data), "\n")
				first, _, _ = strings.Cut(strings.TrimSuffix(first, "."), ". ")
				if _, err := fmt.Fprintf(c.OutOrStdout(), "library:%-20s %s\n", strings.TrimSuffix(f.Name, ".yaml"), strings.TrimPrefix(first, "# ")); err != nil {
					return err
				}
			}
			return nil
		},
	}
}
