package main

import (
	"encoding/hex"

	"github.com/spf13/cobra"

	"coldseal/cmd/internal/cli"
	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// Orders about keys and CAs that stand, ours and others'.

func orderCrossCertify() *cobra.Command {
	var profile, issuer, certificate, from, to string
	c, _ := newOrder(protocol.KindCrossCertify, "--profile PROFILE --issuer CA --certificate FILE", "order a certificate over another CA",
		"The other CA's certificate is signed by itself, or is that of a CA of ours: a new root is certified by the old one like that, and\nthe old one by the new.",
		func(c *cobra.Command, o *ordering) (any, error) {
			id, err := o.world.CA(issuer)
			if err != nil {
				return nil, err
			}
			if certificate == "" {
				return nil, cli.Usage("--certificate says which file")
			}
			o.req.Issuer = id
			if err := o.under(profile); err != nil {
				return nil, err
			}
			var content protocol.CrossCertification
			if content.Certificate, err = readOne(c, certificate, pemCertificate, protocol.MaxRequest); err != nil {
				return nil, err
			}
			if content.NotBefore, err = cli.ParseTime("not-before", from, false); err != nil {
				return nil, err
			}
			content.NotAfter, err = cli.ParseTime("not-after", to, true)
			return content, err
		})
	f := c.Flags()
	f.StringVar(&profile, "profile", "", "`profile` of the certificate, of use cross")
	f.StringVar(&issuer, "issuer", "", "the `CA` of ours that signs: its label, its common name or the id of its key")
	f.StringVar(&certificate, "certificate", "", "`file` of the other CA's certificate")
	f.StringVar(&from, "not-before", "", "beginning of the term: `date` or time (RFC 3339)")
	f.StringVar(&to, "not-after", "", "end of the term, inclusive: `date` (its last second) or time (RFC 3339)")
	return c
}

func orderForeignCA() *cobra.Command {
	var name, certificate, replaces string
	var retire bool
	c, _ := newOrder(protocol.KindForeignCA, "--name NAME --certificate FILE", "enrol, change or retire a CA that is not ours",
		"By its certificates people are known who have none of ours. To change or retire one that is enrolled, give --replaces with the\ndigest of its record, which coldseal-appliance status shows.",
		func(c *cobra.Command, o *ordering) (any, error) {
			if certificate == "" {
				return nil, cli.Usage("--certificate says which file")
			}
			der, err := readOne(c, certificate, pemCertificate, protocol.MaxRequest)
			if err != nil {
				return nil, err
			}
			record, err := cose.Marshal(protocol.ForeignCA{Version: protocol.Version, Name: name, Certificate: der, Retired: retire})
			if err != nil {
				return nil, err
			}
			old, err := digestOf(replaces, c.InOrStdin())
			return protocol.ForeignEnrolment{Replaces: old, CA: record}, err
		})
	f := c.Flags()
	f.StringVar(&name, "name", "", "`name` of the CA here: small letters, digits and hyphens")
	f.StringVar(&certificate, "certificate", "", "`file` of its certificate")
	f.StringVar(&replaces, "replaces", "", "`digest` of the record that stands")
	f.BoolVar(&retire, "retire", false, "retire it: its certificates say nothing any more")
	return c
}

func orderRotateKey() *cobra.Command {
	var name string
	c, _ := newOrder(protocol.KindRotateKey, "--use USE", "order one of the appliance's own keys to be replaced",
		"The new key is made on the first of the appliance's devices that takes keys for this use. What the old seal key signs about it leads\nagents and auditors from the genesis to the keys that stand. CA keys are replaced by create-key, sign-ca and a policy.",
		func(_ *cobra.Command, o *ordering) (any, error) {
			use, known := protocol.ParseUse(name)
			if !known {
				return nil, cli.Usage("--use %q is not seal, receiver or log", name)
			}
			return protocol.Rotation{Use: use, Replaces: o.world.Keys.Now().ID(use)}, nil
		})
	c.Flags().StringVar(&name, "use", "", "what the key is for: `seal`, receiver or log")
	return c
}

func orderDestroyKey() *cobra.Command {
	var key string
	c, _ := newOrder(protocol.KindDestroyKey, "--key KEY", "order a CA key, or a replaced key of the appliance's own, to be destroyed",
		"It is refused while a certificate under the key is active or held and has not ended. A destroyed key never comes back, and no\nother gets its label. What is encrypted to a receiver key that was destroyed can't be opened any more.",
		func(_ *cobra.Command, o *ordering) (any, error) {
			id, err := protocol.ParseDigest(key)
			if err != nil {
				id, err = o.world.CA(key)
			}
			return protocol.DestroyKey{Key: id}, err
		})
	c.Flags().StringVar(&key, "key", "", "the `id` of the key, or the label or common name of its CA")
	return c
}

func orderRevokeCA() *cobra.Command {
	var issuer, serial, reason, since string
	c, _ := newOrder(protocol.KindRevokeCA, "--issuer CA --serial SERIAL", "order the certificate of a CA to be revoked",
		"Nothing more is issued under it; its own CRLs go on. A cross-certificate is revoked likewise. A root leaves the lists of those who\ntrust it instead.",
		func(_ *cobra.Command, o *ordering) (any, error) {
			id, err := o.world.CA(issuer)
			if err != nil {
				return nil, err
			}
			o.req.Issuer = id
			var content protocol.CARevocation
			if content.Serial, err = hex.DecodeString(serial); err != nil {
				return nil, cli.Usage("--serial %q is not hexadecimal", serial)
			}
			var known bool
			if content.Reason, known = protocol.ParseReason(reason); !known {
				return nil, cli.Usage("--reason %q is not one of RFC 5280, such as cACompromise", reason)
			}
			content.Since, err = cli.ParseTime("since", since, false)
			return content, err
		})
	f := c.Flags()
	f.StringVar(&issuer, "issuer", "", "the `CA` that signed it: its label, its common name or the id of its key")
	f.StringVar(&serial, "serial", "", "its `serial`, hexadecimal")
	f.StringVar(&reason, "reason", "unspecified", "the `reason`: cACompromise, superseded, cessationOfOperation, …")
	f.StringVar(&since, "since", "", "since when it is not to be relied on: `date` or time (RFC 3339)")
	return c
}
