// Package introduction is how commands know an appliance: by what it says of itself, verified under the genesis digest
// that a person typed.
//
// It reads a file and believes it after that; what is done with roster, policy and keys is the commands' affair.
package introduction

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
	"coldseal/protocol/policy"
	"coldseal/protocol/show"
)

// Flags are by which a command knows an appliance: what it says of itself, and its digest, typed.
type Flags struct {
	File   string
	Digest protocol.Digest
}

// Add adds --introduction and --digest.
func Add(c *cobra.Command) *Flags {
	a := &Flags{}
	c.Flags().StringVar(&a.File, "introduction", "", "the appliance's introduction, a `file` made by coldseal-appliance export introduction")
	cli.DigestVar(c.Flags(), &a.Digest, "digest", "genesis digest of the appliance, typed from the minutes: hexadecimal or groups of five digits")
	return a
}

// Given tells whether both were given; one alone is a mistake.
func (a *Flags) Given() (bool, error) {
	switch {
	case a.File == "" && a.Digest.IsZero():
		return false, nil
	case a.File == "":
		return false, cli.Usage("--digest goes with --introduction")
	case a.Digest.IsZero():
		return false, &cli.ExitError{Code: cli.ExitUsage, Err: fmt.Errorf("--introduction goes with --digest"),
			Hint: "type the digest from the minutes of the genesis; a file cannot vouch for itself"}
	}
	return true, nil
}

// Appliance is one as its verified introduction describes it.
type Appliance struct {
	Digest  protocol.Digest
	Genesis protocol.Genesis
	Bytes   []byte         // of the genesis
	Keys    *protocol.Keys // the appliance's own
	State   protocol.State
	Policy  *policy.Compiled
	Roster  *policy.Roster
}

// Open reads and verifies the introduction, which has to be given.
func (a *Flags) Open(stdin io.Reader) (*Appliance, error) {
	given, err := a.Given()
	if err != nil {
		return nil, err
	}
	if !given {
		return nil, cli.Usage("--introduction and --digest say which appliance it is for")
	}
	data, err := cli.ReadInput(a.File, stdin, protocol.MaxIntroduction)
	if err != nil {
		return nil, fmt.Errorf("read introduction: %w", err)
	}
	in, err := protocol.OpenIntroduction(data, a.Digest)
	if err != nil {
		return nil, cli.Fail(cli.ExitVerify, "type the digest from the minutes again, or have the introduction exported again", "%s: %w", a.File, err)
	}
	w := &Appliance{Digest: a.Digest, Genesis: in.Genesis, Bytes: in.Bytes, Keys: in.Keys, State: in.State}
	p, err := policy.Decode(w.State.Policy)
	if err != nil {
		return nil, err
	}
	if w.Policy, err = policy.Compile(p); err != nil {
		return nil, err
	}
	w.Roster, err = policy.DecodeRoster(w.State.Roster)
	return w, err
}

// Known finds holders of keys: officers, and the appliance itself.
func (w *Appliance) Known(id protocol.Digest) (show.Holder, bool) {
	if o, key, found := auditlog.Officer(w.Roster, id); found {
		who := o.Person + " (" + o.Name + ")"
		if o.Suspended {
			who += ", suspended"
		}
		return show.Holder{Key: key, Who: who}, true
	}
	if seal, found := w.Keys.Seal(id); found {
		who := "the appliance " + w.Genesis.Name
		if w.Keys.Now().ID(protocol.UseSeal) != id {
			who += ", with a seal key that was replaced"
		}
		return show.Holder{Key: seal, Who: who}, true
	}
	return show.Holder{}, false
}

// CA finds a CA by the id of its key, its label or its common name.
func (w *Appliance) CA(text string) (protocol.Digest, error) {
	if id, err := protocol.ParseDigest(text); err == nil {
		return id, nil
	}
	for i, der := range w.State.CAs {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return protocol.Digest{}, fmt.Errorf("CA certificate in the introduction: %w", err)
		}
		if w.State.Labels[i] == text || !slices.Contains(w.State.Labels, text) && c.Subject.CommonName == text {
			return protocol.DigestOf(c.RawSubjectPublicKeyInfo), nil
		}
	}
	hint := "give the id of its key, as the console printed it"
	if len(w.State.Labels) > 0 {
		hint += ", or one of the labels: " + strings.Join(w.State.Labels, ", ")
	}
	return protocol.Digest{}, cli.Fail(cli.ExitNotFound, hint, "the introduction names no CA %q", text)
}
