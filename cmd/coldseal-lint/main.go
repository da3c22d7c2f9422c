// coldseal-lint runs zlint over certificates and CRLs: as `coldseal-lint worker` for the appliance, which starts it with
// one end of a socket pair (appliance/lint/lint.md), and as `coldseal-lint cert|crl|ocsp FILE` behind `coldseal lint`.
//
// It is a program of its own, and the only importer of zlint, because zlint drags net/http in, and because whoever
// parses what a medium carried must hold no key. It fetches nothing, checks no signature and knows no profile.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/pflag"

	"coldseal/appliance/lint"
)

const (
	exitClean    = 0
	exitFindings = 1 // also for a file that can't be read
	exitUsage    = 64
)

const usage = `usage: coldseal-lint cert|crl|ocsp FILE [--set rfc5280,community] [--ignore LINT,…] [--json]
       coldseal-lint worker            (started by the appliance)

FILE is DER or PEM, - is standard input. Exit: 0 no finding, 1 findings or no readable file, 64 usage.
`

var errUsage = errors.New("usage")

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 1 && args[0] == "worker" {
		if err := work(); err != nil {
			fmt.Fprintln(stderr, "coldseal-lint:", err)
			return exitFindings
		}
		return exitClean
	}
	found, err := lintFile(args, stdin, stdout, stderr)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return exitClean
	case errors.Is(err, errUsage):
		fmt.Fprintf(stderr, "coldseal-lint: %v\n%s", err, usage)
		return exitUsage
	case err != nil:
		fmt.Fprintln(stderr, "coldseal-lint:", err)
		return exitFindings
	case found:
		return exitFindings
	}
	return exitClean
}

// lintFile reports whether there were findings.
func lintFile(args []string, stdin io.Reader, stdout, stderr io.Writer) (bool, error) {
	flags := pflag.NewFlagSet("coldseal-lint", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	sets := flags.StringSlice("set", []string{"rfc5280", "community"}, "")
	ignore := flags.StringSlice("ignore", nil, "")
	asJSON := flags.Bool("json", false, "")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return false, err
		}
		return false, fmt.Errorf("%w: %w", errUsage, err)
	}
	if flags.NArg() != 2 {
		return false, fmt.Errorf("%w: what and which file?", errUsage)
	}
	target, ok := targetOf(flags.Arg(0))
	if !ok {
		return false, fmt.Errorf("%w: cert, crl or ocsp, not %q", errUsage, flags.Arg(0))
	}
	selection, refused := choose(lint.Config{Sets: *sets, Ignore: *ignore, Threshold: lint.Warn})
	if refused != nil {
		return false, fmt.Errorf("%w: %s", errUsage, refused.Message)
	}
	der, err := readDER(flags.Arg(1), target.pem, stdin)
	if err != nil {
		return false, err
	}
	findings := selection.check(target.examine, der)
	return len(findings) > 0, show(findings, *asJSON, stdout, stderr)
}
