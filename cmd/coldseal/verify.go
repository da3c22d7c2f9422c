package main

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"coldseal/cmd/internal/cli"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/media"
	"coldseal/protocol/pathcheck"
	"coldseal/protocol/show"
)

func verifyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "verify",
		Short: "decide whether something may be believed: exit 0 is accept, 1 reject",
		Long: "verify decides about one file (- is standard input) and says why it rejects. Certificates, CRLs and requests may be PEM or\n" +
			"DER. Nothing is trusted but what the flags name; an appliance is named by its introduction and its digest, typed.",
	}
	c.AddCommand(verifyChainCommand(), verifyCRLCommand(), verifyOCSPCommand(), verifyCSRCommand(), verifyApprovalCommand(),
		verifyBundleCommand(), verifyResponseCommand(), verifyReceiptCommand(), verifyCheckpointCommand(), verifyProofCommand())
	return c
}

// verdict is what verify prints: the decision, what was found, and why it rejects.
type verdict struct {
	Accept  bool               `json:"accept"`
	Reasons []pathcheck.Reason `json:"reasons"`
	Omitted int                `json:"omitted,omitempty"` // reasons beyond the first maxReasons
	Facts   show.Sheet         `json:"facts,omitempty"`   // only if accepted: nothing else is to be believed
}

const maxReasons = 100

func (v *verdict) reject(reasons ...pathcheck.Reason) {
	room := maxReasons - len(v.Reasons)
	if len(reasons) > room {
		v.Omitted += len(reasons) - room
		reasons = reasons[:room]
	}
	v.Reasons = append(v.Reasons, reasons...)
}

// refuse rejects with a refusal of the protocol; where says which part, such as "item 3: ".
func (v *verdict) refuse(where string, r *protocol.Refusal) {
	v.reject(pathcheck.Reason{Code: pathcheck.Code(r.Code), Words: where + r.Words()})
}

// Codes of verify's own, beside those of refusals, of protocol/pathcheck and of protocol/csr.
const (
	codeInput        pathcheck.Code = "input"        // a file cannot be read: nothing was decided
	codeIntroduction pathcheck.Code = "introduction" // not that of the appliance whose digest was typed
	codeCheckpoint   pathcheck.Code = "checkpoint"
	codeProof        pathcheck.Code = "proof"
	codeAnswer       pathcheck.Code = "answer" // of a response: it contradicts itself
	codeReceipt      pathcheck.Code = "receipt"
)

// fail rejects with an error about what was read; code is that of errors of no particular kind.
func (v *verdict) fail(code pathcheck.Code, where string, err error) {
	for _, known := range []struct {
		err  error
		code pathcheck.Code
	}{{auditlog.ErrCheckpoint, codeCheckpoint}, {auditlog.ErrProof, codeProof}, {cose.ErrSignature, pathcheck.Signature},
		{media.ErrSealed, pathcheck.Code(protocol.CodeBadSeal)}} {
		if errors.Is(err, known.err) {
			code = known.code
			break
		}
	}
	v.reject(pathcheck.Reason{Code: code, Words: where + err.Error()})
}

// verification is one verb of verify: it decides about the file of that name by filling in the verdict. An error is a
// file that cannot be read, or a wrong command line.
type verification func(c *cobra.Command, v *verdict, file string) error

// verifyVerb makes the command. The exit code is 0 or 1 whatever happens, but for 64.
func verifyVerb(use, short, long string, decide func(c *cobra.Command) verification) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{Use: use, Short: short, Long: long, Args: cobra.ExactArgs(1)}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	run := decide(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		v := &verdict{Reasons: []pathcheck.Reason{}}
		if err := run(c, v, args[0]); err != nil {
			if code, _ := cli.Judge(err); code == cli.ExitUsage {
				return err
			}
			v.fail(codeInput, "", err)
		}
		if v.Accept = len(v.Reasons) == 0; !v.Accept {
			v.Facts = nil
		}
		if err := v.print(c.OutOrStdout(), asJSON); err != nil {
			return err
		}
		if !v.Accept {
			return &cli.ExitError{Code: cli.ExitFailure}
		}
		return nil
	}
	return c
}

func (v *verdict) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return cli.PrintJSON(w, v)
	}
	var b strings.Builder
	if v.Accept {
		b.WriteString("accept\n")
		b.WriteString(v.Facts.String())
	} else {
		b.WriteString("reject\n")
	}
	for _, r := range v.Reasons {
		fmt.Fprintf(&b, "%s: %s\n", r.Code, show.Text(r.Words))
	}
	if v.Omitted > 0 {
		fmt.Fprintf(&b, "and %d more\n", v.Omitted)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// addTime adds --time; the function gives the time to decide for, in unix seconds.
func addTime(c *cobra.Command) func() (int64, error) {
	var text string
	c.Flags().StringVar(&text, "time", "", "decide for this `time`, such as 2027-01-15T08:00:00Z, instead of now")
	return func() (int64, error) {
		if text == "" {
			return time.Now().Unix(), nil
		}
		t, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return 0, cli.Usage("--time %q is not a time such as 2027-01-15T08:00:00Z", text)
		}
		return t.Unix(), nil
	}
}

// Types of PEM blocks (RFC 7468).
const (
	pemCertificate = "CERTIFICATE"
	pemCRL         = "X509 CRL"
)

// readDER reads a file that is one DER element or PEM blocks of the type. Text may stand around blocks, as tools write
// it; every block has to be whole.
func readDER(c *cobra.Command, name, kind string, limit int64) ([][]byte, error) {
	data, err := cli.ReadInput(name, c.InOrStdin(), limit*3/2) // base64, and text around it
	if err != nil {
		return nil, err
	}
	blocks := bytes.Count(data, []byte("-----BEGIN "))
	if blocks == 0 || data[0] == 0x30 {
		return [][]byte{data}, nil
	}
	var all [][]byte
	for len(all) < blocks {
		block, rest := pem.Decode(data)
		if block == nil || block.Type != kind || len(block.Headers) > 0 {
			return nil, fmt.Errorf("%s: PEM block %d is damaged, or not of type %s", name, len(all)+1, kind)
		}
		all, data = append(all, block.Bytes), rest
	}
	return all, nil
}

// readOne is readDER for a file of one thing.
func readOne(c *cobra.Command, name, kind string, limit int64) ([]byte, error) {
	all, err := readDER(c, name, kind, limit)
	if err != nil {
		return nil, err
	}
	if len(all) != 1 {
		return nil, fmt.Errorf("%s: %d PEM blocks, want one", name, len(all))
	}
	return all[0], nil
}

// readAll is readDER for many files of many things.
func readAll(c *cobra.Command, names []string, kind string, limit int64) ([][]byte, error) {
	var all [][]byte
	for _, name := range names {
		ders, err := readDER(c, name, kind, limit)
		if err != nil {
			return nil, err
		}
		all = append(all, ders...)
	}
	return all, nil
}

// stdinOnce refuses a command line by which standard input would be read twice.
func stdinOnce(names ...string) error {
	if i := slices.Index(names, "-"); i >= 0 && slices.Contains(names[i+1:], "-") {
		return cli.Usage("standard input (-) is one file")
	}
	return nil
}
