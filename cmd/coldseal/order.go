package main

import (
	"crypto/rand"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"coldseal/cmd/internal/cli"
	"coldseal/cmd/internal/introduction"
	"coldseal/protocol"
	"coldseal/protocol/cose"
	"coldseal/protocol/show"
)

func orderCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "order",
		Short: "write orders about the CA itself, for officers to approve at the console",
		Long: "An order is a request: it names the appliance, what it changes, and what it replaces. coldseal-appliance console order\n" +
			"shows it to the officers present, takes their approvals, and carries it out.",
	}
	c.AddCommand(orderKinds()...)
	// The order of words that all other commands have.
	new := &cobra.Command{Use: "new", Short: "the same, with the verb written out", Hidden: true}
	new.AddCommand(orderKinds()...)
	c.AddCommand(new)
	return c
}

func orderKinds() []*cobra.Command {
	return []*cobra.Command{orderCreateKey(), orderSignCA(), orderRoster(), orderPolicy(), orderParty(protocol.KindAgent),
		orderParty(protocol.KindStation), orderSetTime(), orderCRL(), orderDestroyKey(), orderRotateKey(), orderCrossCertify(), orderRevokeCA(), orderForeignCA(),
		orderRecovery(), orderSuspend()}
}

// ordering is what all orders have in common.
type ordering struct {
	appliance *introduction.Flags
	expires   string
	out       string
	json      bool

	world *introduction.Appliance
	req   protocol.Request
}

// newOrder makes the command for one kind; fill completes the request and returns its content.
func newOrder(kind protocol.Kind, use, short, long string, fill func(*cobra.Command, *ordering) (any, error)) (*cobra.Command, *ordering) {
	o := &ordering{}
	c := &cobra.Command{Use: kind.String() + " " + use + " --introduction FILE --digest DIGEST --out FILE", Short: short, Long: long, Args: cobra.NoArgs}
	o.appliance = introduction.Add(c)
	c.Flags().StringVar(&o.expires, "expires", "7d", "`how long` the order may wait: days (7d) or hours (12h)")
	c.Flags().StringVar(&o.out, "out", "", "`file` to write; - is standard output")
	c.Flags().BoolVar(&o.json, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if o.out == "" {
			return cli.Usage("--out says which file the order goes to")
		}
		var err error
		if o.world, err = o.appliance.Open(c.InOrStdin()); err != nil {
			return err
		}
		o.req = protocol.Request{Version: protocol.Version, Appliance: o.world.Digest, Kind: kind, Created: time.Now().Unix()}
		content, err := fill(c, o)
		if err != nil {
			return err
		}
		return o.write(c, content)
	}
	return c, o
}

// write completes and checks the request, shows it on stderr, writes it and prints its id.
func (o *ordering) write(c *cobra.Command, content any) error {
	lifetime, err := cli.ParseLifetime("expires", o.expires)
	if err != nil {
		return err
	}
	o.req.Expires = o.req.Created + int64(lifetime/time.Second)
	if _, err := io.ReadFull(rand.Reader, o.req.Nonce[:]); err != nil {
		return fmt.Errorf("draw nonce: %w", err)
	}
	if o.req.Content, err = cose.Marshal(content); err != nil {
		return err
	}
	raw, err := cose.Marshal(o.req)
	if err != nil {
		return err
	}
	sheet, err := show.Request(raw)
	if err != nil {
		return cli.Fail(cli.ExitFailure, "", "the order would not be one: %w", err)
	}
	if err := sheet.Write(c.ErrOrStderr()); err != nil {
		return err
	}
	if err := cli.WriteOutput(o.out, c.OutOrStdout(), raw, false); err != nil || o.out == "-" {
		return err
	}
	if o.json {
		return cli.PrintJSON(c.OutOrStdout(), sheet)
	}
	_, err = fmt.Fprintln(c.OutOrStdout(), protocol.ID(raw))
	return err
}

func orderCreateKey() *cobra.Command {
	var label, algorithm string
	c, _ := newOrder(protocol.KindCreateKey, "--label LABEL --algorithm ALGORITHM", "order a CA key",
		"The key is made by the appliance's signer. Its id is what sign-ca and profiles' issuers stand on.",
		func(*cobra.Command, *ordering) (any, error) {
			return protocol.CreateKey{Label: label, Algorithm: algorithm}, nil
		})
	c.Flags().StringVar(&label, "label", "", "`label` of the key, as the policy's profiles name it in issuers")
	c.Flags().StringVar(&algorithm, "algorithm", "P-384", "`algorithm`: P-256, P-384, RSA-3072, RSA-4096 or Ed25519")
	return c
}

func orderSetTime() *cobra.Command {
	var text string
	c, _ := newOrder(protocol.KindSetTime, "--time TIME", "order the appliance's clock to be set",
		"The order counts as made at the time that it names: this machine's clock may be wrong as well.",
		func(_ *cobra.Command, o *ordering) (any, error) {
			t, err := time.Parse(time.RFC3339, text)
			if err != nil {
				return nil, cli.Usage("--time %q is not like 2027-01-15T08:00:00Z", text)
			}
			o.req.Created = t.Unix()
			return protocol.SetTime{Time: t.Unix()}, nil
		})
	c.Flags().StringVar(&text, "time", "", "the `time` that the officers' watches show (RFC 3339)")
	return c
}

func orderCRL() *cobra.Command {
	var issuer, replaces string
	c, _ := newOrder(protocol.KindCRL, "--issuer CA [--replaces FILE]", "order a CRL now",
		"A root's CRL is made by order only. Where there is one, --replaces names it: its file, or its SHA-256.",
		func(c *cobra.Command, o *ordering) (any, error) {
			id, err := o.world.CA(issuer)
			if err != nil {
				return nil, err
			}
			o.req.Issuer = id
			old, err := digestOf(replaces, c.InOrStdin())
			return protocol.CRLOrder{Replaces: old}, err
		})
	c.Flags().StringVar(&issuer, "issuer", "", "the `CA`: its label, its common name or the id of its key")
	c.Flags().StringVar(&replaces, "replaces", "", "the CRL that stands: `file` or digest")
	return c
}
