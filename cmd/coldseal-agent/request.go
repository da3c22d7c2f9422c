package main

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"coldseal/agent"
	"coldseal/cmd/internal/cli"
	"coldseal/protocol"
	"coldseal/protocol/csr"
)

func requestCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "request",
		Short: "make requests",
		Long:  "request checks what is asked for against the policy that was last imported and stores it. The same request given again\nis not made twice as long as it is on its way. What is printed is the id that approvals are about.",
	}
	c.AddCommand(issueCommand(), batchCommand(), renewCommand(), takeAwayCommand(protocol.KindRevoke), takeAwayCommand(protocol.KindHold), releaseCommand(), withdrawCommand())
	return c
}

// wishFlags are the flags that a wish is read from.
type wishFlags struct {
	*common
	wish     agent.Wish
	csr      string
	origin   string
	evidence string
	fields   []string
	scopes   []string
	from, to string
	expires  string
	serial   string
	out      string
}

func addWish(c *cobra.Command, kind protocol.Kind) *wishFlags {
	w := &wishFlags{common: addCommon(c), wish: agent.Wish{Kind: kind}}
	f := c.Flags()
	f.StringVar(&w.wish.Issuer, "issuer", "", "the issuing CA: its `label`, its common name or the beginning of its key's id; needed where several may sign for the profile")
	f.StringVar(&w.wish.Profile, "profile", "", "`profile` of the certificate")
	f.StringVar(&w.expires, "expires", "30d", "`how long` the request may be on its way: days (30d) or hours (12h)")
	f.BoolVar(&w.wish.Unchecked, "unchecked", false, "store it although it will be refused: for rules that are not known here, and for tests")
	if kind != protocol.KindIssue {
		f.StringVar(&w.serial, "serial", "", "`serial` of the certificate, hexadecimal")
		if kind != protocol.KindRevoke { // which may take it from the certificate
			cli.Require(c, "serial")
		}
	}
	return w
}

// addSubject adds who it is for; in a batch that is in the table.
func (w *wishFlags) addSubject(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&w.wish.Body, "body", "", "`body` that it is for, such as it/058091")
	f.StringVar(&w.wish.Subject, "subject", "", "the `person`, such as it:FTTCRL84C52H501V, or the machine's name")
	f.StringVar(&w.out, "out", "", "write the request's bytes, for approvers, to this `file`")
}

// addIssuance adds what certificates are made of.
func (w *wishFlags) addIssuance(c *cobra.Command) {
	f := c.Flags()
	f.StringArrayVar(&w.fields, "field", nil, "`name=value` of a field of the profile; may be repeated")
	f.StringVar(&w.origin, "origin", "", "`who` vouches for the key: holder, agent, station, attested, current")
	f.StringVar(&w.evidence, "evidence", "", "`file` by which a station or a device vouches for the key")
	f.StringVar(&w.from, "not-before", "", "beginning of the term: `date` or time (RFC 3339)")
	f.StringVar(&w.to, "not-after", "", "end of the term, inclusive: `date` (its last second) or time (RFC 3339)")
	f.StringArrayVar(&w.scopes, "scope", nil, "`profile=body` that the holder may approve; approver profiles only; may be repeated")
}

func (w *wishFlags) addKey(c *cobra.Command) {
	c.Flags().StringVar(&w.csr, "csr", "", "`file` of the CSR, PEM or DER")
	c.Flags().StringVar(&w.wish.NewKey, "new-key", "", "make a key of this `type` here (P-256, P-384, Ed25519, RSA-3072), for machines only")
	c.MarkFlagsMutuallyExclusive("csr", "new-key")
	c.MarkFlagsOneRequired("csr", "new-key")
}

// read makes the wish of the flags.
func (w *wishFlags) read(c *cobra.Command) (err error) {
	if w.wish.Lifetime, err = cli.ParseLifetime("expires", w.expires); err != nil {
		return err
	}
	if w.csr != "" {
		if w.wish.CSR, err = cli.ReadInput(w.csr, c.InOrStdin(), 4*csr.MaxSize); err != nil {
			return err
		}
	}
	if w.evidence != "" {
		if w.wish.Evidence, err = cli.ReadInput(w.evidence, c.InOrStdin(), protocol.MaxRequest); err != nil {
			return err
		}
	}
	if w.serial != "" {
		if w.wish.Serial, err = parseSerial(w.serial); err != nil {
			return err
		}
	}
	if w.origin != "" {
		var known bool
		if w.wish.Origin, known = protocol.ParseOrigin(w.origin); !known {
			return cli.Usage("--origin %q is not holder, agent, station, attested or current", w.origin)
		}
	}
	for _, pair := range w.fields {
		name, value, found := strings.Cut(pair, "=")
		if !found || value == "" {
			return cli.Usage("--field %q is not name=value", pair)
		}
		if w.wish.Fields == nil {
			w.wish.Fields = map[string]string{}
		}
		w.wish.Fields[name] = value
	}
	for _, pair := range w.scopes {
		profile, body, found := strings.Cut(pair, "=")
		if !found {
			return cli.Usage("--scope %q is not profile=body", pair)
		}
		w.wish.Scopes = append(w.wish.Scopes, protocol.Scope{Profile: profile, Body: body})
	}
	if w.wish.NotBefore, err = cli.ParseTime("not-before", w.from, false); err != nil {
		return err
	}
	w.wish.NotAfter, err = cli.ParseTime("not-after", w.to, true)
	return err
}

func parseSerial(text string) ([]byte, error) {
	text = strings.NewReplacer(":", "", " ", "").Replace(text)
	serial, err := hex.DecodeString(strings.Repeat("0", len(text)%2) + text)
	for len(serial) > 0 && serial[0] == 0 {
		serial = serial[1:]
	}
	if err != nil || len(serial) == 0 || len(serial) > 20 {
		return nil, cli.Usage("serial %q is not 1 to 20 bytes in hexadecimal", text)
	}
	return serial, nil
}

// run makes one request of the flags and prints its id.
func (w *wishFlags) run(c *cobra.Command) error {
	if err := w.read(c); err != nil {
		return err
	}
	return w.with(func(s *agent.Service) error {
		made, err := s.Request(w.wish)
		if err != nil {
			return err
		}
		if w.out != "" {
			if err := writeRaw(s, made.ID, w.out, c); err != nil {
				return err
			}
		}
		return w.printMade(c, []agent.Made{made})
	})
}

func writeRaw(s *agent.Service, id protocol.Digest, name string, c *cobra.Command) error {
	d, err := s.Show(id)
	if err != nil {
		return err
	}
	return cli.WriteOutput(name, c.OutOrStdout(), d.Raw, false)
}

func (o *common) printMade(c *cobra.Command, all []agent.Made) error {
	for _, m := range all {
		if o.json {
			err := cli.PrintJSON(c.OutOrStdout(), struct {
				ID  string `json:"id"`
				New bool   `json:"new"`
			}{m.ID.String(), m.New})
			if err != nil {
				return err
			}
			continue
		}
		if !m.New && len(all) == 1 {
			say(c, "the same was asked for before and is on its way")
		}
		if _, err := fmt.Fprintln(c.OutOrStdout(), m.ID); err != nil {
			return err
		}
	}
	return nil
}

func issueCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "issue --state DIR --profile P --body B --subject S (--csr FILE | --new-key TYPE)",
		Short: "ask for a certificate",
		Args:  cobra.NoArgs,
	}
	w := addWish(c, protocol.KindIssue)
	w.addSubject(c)
	w.addIssuance(c)
	w.addKey(c)
	cli.Require(c, "profile", "body", "subject")
	c.RunE = func(cmd *cobra.Command, _ []string) error { return w.run(cmd) }
	return c
}

func renewCommand() *cobra.Command {
	var current string
	c := &cobra.Command{
		Use:   "renew --state DIR --serial HEX (--csr FILE | --new-key TYPE)",
		Short: "ask for a certificate that continues one",
		Long:  "renew takes profile, body, subject and fields from the certificate's own request unless they are given. With\n--current-key the key of the certificate signs the request; where policy allows it, nobody else has to approve.\nA signature that is made elsewhere is attached with attach --current.",
		Args:  cobra.NoArgs,
	}
	w := addWish(c, protocol.KindRenew)
	w.addSubject(c)
	w.addIssuance(c)
	w.addKey(c)
	c.Flags().StringVar(&current, "current-key", "", "`file` of the current key, PEM PKCS#8")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if current != "" {
			data, err := os.ReadFile(current)
			if err != nil {
				return fmt.Errorf("read current key: %w", err)
			}
			if w.wish.Current, err = agent.ParseKey(data); err != nil {
				return cli.Fail(cli.ExitDevice, "convert it: openssl pkcs8 -topk8", "read %s: %w", current, err)
			}
		}
		return w.run(cmd)
	}
	return c
}

func takeAwayCommand(kind protocol.Kind) *cobra.Command {
	var reason, since, certificate string
	c := &cobra.Command{
		Use:   kind.String() + map[protocol.Kind]string{protocol.KindRevoke: " --state DIR (--serial HEX | --certificate FILE)", protocol.KindHold: " --state DIR --serial HEX"}[kind],
		Short: map[protocol.Kind]string{protocol.KindRevoke: "ask to revoke a certificate for good", protocol.KindHold: "ask to put a certificate on hold"}[kind],
		Long:  "Profile, body and subject are taken from the certificate's own request unless they are given.",
		Args:  cobra.NoArgs,
	}
	w := addWish(c, kind)
	w.addSubject(c)
	if kind == protocol.KindRevoke {
		c.Flags().StringVar(&reason, "reason", "unspecified", "`reason` as RFC 5280 names it, such as keyCompromise or superseded")
		c.Flags().StringVar(&since, "since", "", "`date` or time since when the key was not to be trusted")
		c.Flags().StringVar(&certificate, "certificate", "", "`file` of the certificate, PEM or DER: for one that the appliance's log does not know, such as after a restore")
		c.MarkFlagsOneRequired("serial", "certificate")
	}
	c.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if kind == protocol.KindRevoke {
			var known bool
			if w.wish.Reason, known = protocol.ParseReason(reason); !known || w.wish.Reason == protocol.ReasonCertificateHold {
				return cli.Usage("--reason %q is not a reason to revoke", reason)
			}
			if w.wish.Since, err = cli.ParseTime("since", since, false); err != nil {
				return err
			}
			var serial string
			if w.wish.Certificate, serial, err = readCertificate(certificate); err != nil {
				return err
			}
			if w.serial == "" {
				w.serial = serial
			}
		}
		return w.run(cmd)
	}
	return c
}

// readCertificate reads a certificate, PEM or DER, and its serial, hexadecimal; nothing if no file is named.
func readCertificate(file string) (data []byte, serial string, err error) {
	if file == "" {
		return nil, "", nil
	}
	if data, err = cli.ReadInput(file, nil, protocol.MaxCertificate); err != nil {
		return nil, "", err
	}
	if block, _ := pem.Decode(data); block != nil {
		data = block.Bytes
	}
	parsed, err := x509.ParseCertificate(data)
	if err != nil {
		return nil, "", cli.Usage("--certificate %s is no certificate: %w", file, err)
	}
	return data, hex.EncodeToString(parsed.SerialNumber.Bytes()), nil
}

func releaseCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "release --state DIR --serial HEX",
		Short: "ask to end a hold",
		Long:  "release ends one hold. It is found from the response that was imported; its index in the log may be given instead.",
		Args:  cobra.NoArgs,
	}
	w := addWish(c, protocol.KindRelease)
	w.addSubject(c)
	c.Flags().Uint64Var(&w.wish.Hold, "hold", 0, "log `index` of the hold")
	c.RunE = func(cmd *cobra.Command, _ []string) error { return w.run(cmd) }
	return c
}

func withdrawCommand() *cobra.Command {
	var id string
	c := &cobra.Command{
		Use:   "withdraw --state DIR --id ID",
		Short: "take back a request that was not done yet",
		Long:  "A request that was not exported is withdrawn at once and nothing is printed. For any other a request to withdraw it\nis made; its id is printed.",
		Args:  cobra.NoArgs,
	}
	o := addCommon(c)
	c.Flags().StringVar(&id, "id", "", "`id` of the request")
	cli.Require(c, "id")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return o.with(func(s *agent.Service) error {
			target, err := s.ParseID(id)
			if err != nil {
				return err
			}
			made, err := s.Withdraw(target)
			if err != nil {
				return err
			}
			if made.ID.IsZero() {
				say(cmd, "withdrawn before it left")
				return nil
			}
			return o.printMade(cmd, []agent.Made{made})
		})
	}
	return c
}

func batchCommand() *cobra.Command {
	b := agent.Batch{}
	c := &cobra.Command{
		Use:   "batch --state DIR --profile P --dir FOLDER --csv FILE",
		Short: "ask for a certificate for each row of a table",
		Long:  "The table is CSV with a header: csr (a file in the folder), body, subject, and fields of the profile. If anything is wrong\nin any row, nothing is stored, and the line and column of each mistake are told.",
		Args:  cobra.NoArgs,
	}
	w := addWish(c, protocol.KindIssue)
	w.addIssuance(c)
	c.Flags().StringVar(&b.Folder, "dir", "", "`folder` of the CSRs")
	c.Flags().StringVar(&b.Table, "csv", "", "`file` of the table")
	cli.Require(c, "profile", "dir", "csv")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := w.read(cmd); err != nil {
			return err
		}
		if len(w.fields) != 0 {
			return cli.Usage("fields of a batch are columns of its table")
		}
		b.Wish = w.wish
		return w.with(func(s *agent.Service) error {
			progress := cli.NewProgress(cmd.ErrOrStderr(), "requests", 0)
			made, err := s.RequestBatch(b, progress.At)
			if err != nil {
				return err
			}
			return w.printMade(cmd, made)
		})
	}
	return c
}
