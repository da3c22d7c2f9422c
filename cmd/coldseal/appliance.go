package main

import (
	"crypto/x509"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"coldseal/cmd/internal/cli"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/policy"
	"coldseal/protocol/show"
)

// applianceFlags are by which a command knows an appliance: what it says of itself, and its digest, typed.
type applianceFlags struct {
	introduction string
	digest       protocol.Digest
}

func addAppliance(c *cobra.Command) *applianceFlags {
	a := &applianceFlags{}
	c.Flags().StringVar(&a.introduction, "introduction", "", "the appliance's introduction, a `file` made by coldseal-appliance export introduction")
	cli.DigestVar(c.Flags(), &a.digest, "digest", "genesis digest of the appliance, typed from the minutes: hexadecimal or groups of five digits")
	return a
}

// given tells whether both were given; one alone is a mistake.
func (a *applianceFlags) given() (bool, error) {
	switch {
	case a.introduction == "" && a.digest.IsZero():
		return false, nil
	case a.introduction == "":
		return false, cli.Usage("--digest goes with --introduction")
	case a.digest.IsZero():
		return false, &cli.ExitError{Code: cli.ExitUsage, Err: fmt.Errorf("--introduction goes with --digest"),
			Hint: "type the digest from the minutes of the genesis; a file cannot vouch for itself"}
	}
	return true, nil
}

// world is an appliance as its verified introduction describes it.
type world struct {
	digest  protocol.Digest
	genesis protocol.Genesis
	state   protocol.State
	policy  *policy.Compiled
	roster  *policy.Roster
}

// open reads and verifies the introduction, which has to be given.
func (a *applianceFlags) open(stdin io.Reader) (*world, error) {
	given, err := a.given()
	if err != nil {
		return nil, err
	}
	if !given {
		return nil, cli.Usage("--introduction and --digest say which appliance it is for")
	}
	data, err := cli.ReadInput(a.introduction, stdin, protocol.MaxIntroduction)
	if err != nil {
		return nil, fmt.Errorf("read introduction: %w", err)
	}
	w := &world{digest: a.digest}
	if w.genesis, _, w.state, err = protocol.OpenIntroduction(data, a.digest); err != nil {
		return nil, cli.Fail(cli.ExitVerify, "type the digest from the minutes again, or have the introduction exported again", "%s: %w", a.introduction, err)
	}
	p, err := policy.Decode(w.state.Policy)
	if err != nil {
		return nil, err
	}
	if w.policy, err = policy.Compile(p); err != nil {
		return nil, err
	}
	w.roster, err = policy.DecodeRoster(w.state.Roster)
	return w, err
}

// known finds holders of keys: officers, and the appliance itself.
func (w *world) known(id protocol.Digest) (show.Holder, bool) {
	if o, key, found := auditlog.Officer(w.roster, id); found {
		who := o.Person + " (" + o.Name + ")"
		if o.Suspended {
			who += ", suspended"
		}
		return show.Holder{Key: key, Who: who}, true
	}
	if seal, err := w.genesis.SealKey(); err == nil && protocol.Digest(seal.ID()) == id {
		return show.Holder{Key: seal, Who: "the appliance " + w.genesis.Name}, true
	}
	return show.Holder{}, false
}

// ca finds a CA by the id of its key, its label or its common name.
func (w *world) ca(text string) (protocol.Digest, error) {
	if id, err := protocol.ParseDigest(text); err == nil {
		return id, nil
	}
	for i, der := range w.state.CAs {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return protocol.Digest{}, fmt.Errorf("CA certificate in the introduction: %w", err)
		}
		if w.state.Labels[i] == text || !slices.Contains(w.state.Labels, text) && c.Subject.CommonName == text {
			return protocol.DigestOf(c.RawSubjectPublicKeyInfo), nil
		}
	}
	hint := "give the id of its key, as the console printed it"
	if len(w.state.Labels) > 0 {
		hint += ", or one of the labels: " + strings.Join(w.state.Labels, ", ")
	}
	return protocol.Digest{}, cli.Fail(cli.ExitNotFound, hint, "the introduction names no CA %q", text)
}

// parties finds holders of keys among records of agents and stations, as the files say.
func parties(files []string, stdin io.Reader) (show.Known, error) {
	holders := map[protocol.Digest]show.Holder{}
	for _, name := range files {
		data, err := cli.ReadInput(name, stdin, protocol.MaxRequest)
		if err != nil {
			return nil, err
		}
		p, err := protocol.ParseParty(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		key, err := cose.ParseKey(p.Seal)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		holders[key.ID()] = show.Holder{Key: key, Who: fmt.Sprintf("%s %s, as %s says", p.Role, p.Name, name)}
	}
	return func(id protocol.Digest) (show.Holder, bool) {
		h, found := holders[id]
		return h, found
	}, nil
}
