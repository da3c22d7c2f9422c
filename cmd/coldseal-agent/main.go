// Command coldseal-agent collects requests and approvals on a machine that may be connected, writes bundles for the
// appliance to removable media, and verifies and imports what comes back. It signs no certificate and approves nothing.
//
// Here flags are read, and what the service says is printed: data on stdout, words on stderr. Nothing is decided here.
package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"coldseal/agent"
	"coldseal/cmd/internal/cli"
)

func main() { cli.Main(rootCommand()) }

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "coldseal-agent",
		Short: "collect requests, carry them to the appliance, check what comes back",
		Long:  "coldseal-agent keeps requests and their approvals in a state directory, exports them as sealed bundles to removable\nmedia, and imports the responses after verifying all of them. A command that was interrupted is given again.",
	}
	root.AddCommand(initCommand(), requestCommand(), pendingCommand(), attachCommand(), listCommand(), showCommand(), historyCommand(),
		statusCommand(), doctorCommand(), exportCommand(), importCommand(), certificatesCommand(), crlsCommand(), chainCommand(),
		keyCommand(), logCommand(), cli.ManCommand())
	return root
}

// common are the flags of all commands.
type common struct {
	state string
	json  bool
	clock string
}

func addCommon(c *cobra.Command) *common {
	o := &common{}
	f := c.Flags()
	f.StringVar(&o.state, "state", "", "state `directory` of the agent")
	f.BoolVar(&o.json, "json", false, "print JSON")
	f.StringVar(&o.clock, "clock", "", "use this `time` (RFC 3339) instead of the system's clock; for tests and rehearsals")
	cli.Require(c, "state")
	cli.Hide(c, "clock")
	return o
}

func (o *common) config() (agent.Config, error) {
	now := time.Now
	if o.clock != "" {
		fixed, err := time.Parse(time.RFC3339, o.clock)
		if err != nil {
			return agent.Config{}, cli.Usage("--clock: %w", err)
		}
		now = func() time.Time { return fixed }
	}
	return agent.Config{Dir: o.state, Now: now, Rand: rand.Reader}, nil
}

// with opens the agent for one command.
func (o *common) with(f func(*agent.Service) error) error {
	config, err := o.config()
	if err != nil {
		return err
	}
	s, err := agent.Open(config)
	if err != nil {
		return judged(err)
	}
	return judged(errors.Join(f(s), s.Close()))
}

// judged gives an error of the service its exit code and hint.
func judged(err error) error {
	var known *cli.ExitError
	if err == nil || errors.As(err, &known) {
		return err
	}
	code, hint := cli.Judge(err)
	for _, x := range []struct {
		kind error
		exit int
	}{ // an error of several kinds, such as a table with mistakes, has the first of these
		{agent.ErrRefused, cli.ExitPolicy}, {agent.ErrApprovals, cli.ExitApprovals}, {agent.ErrNotFound, cli.ExitNotFound},
		{agent.ErrInput, cli.ExitUsage}, {agent.ErrFailed, cli.ExitFailure},
	} {
		if errors.Is(err, x.kind) {
			code = x.exit
			break
		}
	}
	if errors.Is(err, agent.ErrVerification) { // the worst of several
		code = cli.ExitVerify
	}
	var own *agent.Error
	if errors.As(err, &own) && own.Hint != "" {
		hint = own.Hint
	}
	return &cli.ExitError{Code: code, Err: err, Hint: hint}
}

// say writes words for people beside the data; that they can't be written is no reason to fail.
func say(c *cobra.Command, format string, args ...any) {
	_, _ = fmt.Fprintf(c.ErrOrStderr(), format+"\n", args...)
}

// date shows a time of zero as nothing.
func date(unix int64) string {
	if unix == 0 {
		return ""
	}
	return time.Unix(unix, 0).UTC().Format(time.RFC3339)
}
