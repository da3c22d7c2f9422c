package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"coldseal/cmd/internal/cli"
	"coldseal/protocol"
	"coldseal/protocol/cose"
	"coldseal/protocol/show"
)

func verifyBundleCommand() *cobra.Command {
	return verifyVerb("bundle --enrolment FILE --digest DIGEST [--key KEY] FILE", "decide about a bundle: seal, form, counts",
		"bundle accepts FILE if the agent of the enrolment sealed it for the appliance, and all in it has the form it must have. Approvals\n"+
			"in it are not judged: the appliance does that, by its own roster and ledger. The appliance's own receiver key never\n"+
			"leaves its signer, so --key is for other receivers; a bundle that was opened already needs none.",
		func(c *cobra.Command) verification {
			var enrolment string
			var digest protocol.Digest
			c.Flags().StringVar(&enrolment, "enrolment", "", "`file` with the agent's record")
			cli.DigestVar(c.Flags(), &digest, "digest", "genesis digest of the appliance that it is for, typed")
			open := addSealed(c)
			at := addTime(c)
			return func(c *cobra.Command, v *verdict, file string) error {
				if enrolment == "" || digest.IsZero() {
					return cli.Usage("--enrolment says from whom it has to be, --digest for which appliance")
				}
				if err := stdinOnce(file, enrolment); err != nil {
					return err
				}
				now, err := at()
				if err != nil {
					return err
				}
				data, err := cli.ReadInput(enrolment, c.InOrStdin(), protocol.MaxRequest)
				if err != nil {
					return err
				}
				party, err := protocol.ParseParty(data)
				if err != nil {
					return fmt.Errorf("%s: %w", enrolment, err)
				}
				spool, err := open(c, file)
				if err != nil {
					return err
				}
				err = (&bundleCheck{v: v, appliance: digest, counts: map[protocol.Count]uint64{}}).run(spool, party, now)
				if closed := spool.close(); err == nil {
					err = closed
				}
				return err
			}
		})
}

// bundleCheck goes through a bundle. Memory is that of a group, and of a line for each kind, profile and body.
type bundleCheck struct {
	v                        *verdict
	appliance                protocol.Digest
	groups, approvals, items uint64
	counts                   map[protocol.Count]uint64
}

func (b *bundleCheck) run(spool protocol.Spool, party protocol.Party, now int64) error {
	seal, err := party.SealKey()
	if err != nil {
		return err
	}
	bundle, refusal, err := protocol.OpenBundle(spool, b.appliance, func(id protocol.Digest) (protocol.Party, bool) {
		return party, id == seal.ID()
	})
	switch {
	case err != nil:
		return err
	case refusal != nil:
		b.v.refuse("", refusal)
		return nil
	case bundle.Sender == nil:
		b.v.refuse("", protocol.Refuse(protocol.CodeUnknownSender))
		return nil
	}
	h := bundle.Header
	if now >= h.Expires {
		b.v.refuse("", protocol.Refuse(protocol.CodeBundleExpired, "expires", protocol.Date(h.Expires)))
	}
	if party.Retired {
		b.v.refuse("", protocol.Refuse(protocol.CodeRetiredSender, "name", party.Name))
	}
	for {
		g, refusal, err := bundle.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if refusal != nil {
			b.v.refuse("", refusal)
			return nil
		}
		b.group(g)
	}
	b.v.Facts = append(show.Sheet{
		{Name: "from", Value: h.From}, {Name: "sequence", Value: h.Sequence}, {Name: "created", Value: protocol.Date(h.Created)},
		{Name: "expires", Value: protocol.Date(h.Expires)}, {Name: "sha256", Value: bundle.Digest.String()},
		{Name: "groups", Value: b.groups}, {Name: "approvals", Value: b.approvals}, {Name: "items", Value: b.items},
	}, show.Manifest(b.manifest())...)
	return nil
}

func (b *bundleCheck) group(g protocol.Group) {
	b.groups++
	for _, a := range g.Approvals {
		b.approvals++
		if _, err := cose.KeyID(a); err != nil {
			b.v.refuse(fmt.Sprintf("approval %d: ", b.approvals), protocol.Malformed("approval", err))
		}
	}
	for _, data := range g.Items {
		b.items++
		if refusal := b.item(g.Section, data); refusal != nil {
			b.v.refuse(fmt.Sprintf("item %d: ", b.items), refusal)
		}
	}
}

func (b *bundleCheck) item(section protocol.Section, data []byte) *protocol.Refusal {
	it, refusal := protocol.ParseItem(data)
	if refusal != nil {
		return refusal
	}
	r, refusal := protocol.ParseRequest(it.Request)
	switch {
	case refusal != nil:
		return refusal
	case r.Appliance != b.appliance:
		return protocol.Refuse(protocol.CodeWrongAppliance, "appliance", r.Appliance.String())
	case protocol.SectionOf(r.Kind) != section:
		return protocol.Malformed("item", fmt.Errorf("%s in section %d", r.Kind, section))
	}
	b.counts[protocol.Count{Kind: r.Kind, Profile: r.Profile, Body: r.Body}]++
	return r.CheckContent()
}

func (b *bundleCheck) manifest() []protocol.Count {
	var lines []protocol.Count
	for c, n := range b.counts {
		c.N = n
		lines = append(lines, c)
	}
	slices.SortFunc(lines, func(a, b protocol.Count) int {
		if a.Kind != b.Kind {
			return int(a.Kind) - int(b.Kind)
		}
		return strings.Compare(a.Profile+"\x00"+a.Body, b.Profile+"\x00"+b.Body)
	})
	return lines
}
