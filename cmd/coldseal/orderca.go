package main

import (
	"strings"

	"github.com/spf13/cobra"

	"coldseal/cmd/internal/cli"
	"coldseal/protocol"
	"coldseal/protocol/policy"
)

func orderSignCA() *cobra.Command {
	var profile, key, issuer, from, to string
	var fields []string
	c, _ := newOrder(protocol.KindSignCA, "--profile PROFILE --key KEY", "order a certificate for a CA key",
		"Without --issuer the key signs itself: a root.",
		func(_ *cobra.Command, o *ordering) (any, error) {
			id, err := protocol.ParseDigest(key)
			if err != nil {
				return nil, cli.Usage("--key: %w", err)
			}
			content := protocol.SignCA{Key: id}
			if content.Fields, err = parseFields(fields); err != nil {
				return nil, err
			}
			if content.NotBefore, err = cli.ParseTime("not-before", from, false); err != nil {
				return nil, err
			}
			if content.NotAfter, err = cli.ParseTime("not-after", to, true); err != nil {
				return nil, err
			}
			o.req.Issuer = id
			if err := o.under(profile); err != nil {
				return nil, err
			}
			if p, _ := o.world.Policy.Profile(profile); issuer == "" && p.Use == policy.UseIssuing {
				return nil, cli.Usage("--issuer says which CA signs: certificates of the profile %s are no roots", profile)
			}
			if issuer != "" {
				if o.req.Issuer, err = o.world.CA(issuer); err != nil {
					return nil, err
				}
			}
			return content, nil
		})
	f := c.Flags()
	f.StringVar(&profile, "profile", "", "`profile` of the certificate, of use root or issuing")
	f.StringVar(&key, "key", "", "`id` of the key that create-key made")
	f.StringVar(&issuer, "issuer", "", "the `CA` that signs: its label, its common name or the id of its key")
	f.StringArrayVar(&fields, "field", nil, "`name=value` of a field of the profile; may be repeated")
	f.StringVar(&from, "not-before", "", "beginning of the term: `date` or time (RFC 3339)")
	f.StringVar(&to, "not-after", "", "end of the term, inclusive: `date` (its last second) or time (RFC 3339)")
	return c
}

// under names the profile of the certificate that is ordered.
func (o *ordering) under(profile string) error {
	p, found := o.world.Policy.Profile(profile)
	if !found {
		return cli.Refused(protocol.Refuse(protocol.CodeProfileUnknown, "profile", profile))
	}
	o.req.Profile, o.req.ProfileDigest = profile, p.Digest
	return nil
}

func parseFields(pairs []string) (map[string]string, error) {
	var fields map[string]string
	for _, pair := range pairs {
		name, value, found := strings.Cut(pair, "=")
		if !found || value == "" {
			return nil, cli.Usage("--field %q is not name=value", pair)
		}
		if _, again := fields[name]; again {
			return nil, cli.Usage("--field %s is given twice", name)
		}
		if fields == nil {
			fields = map[string]string{}
		}
		fields[name] = value
	}
	return fields, nil
}
