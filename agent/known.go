package agent

import (
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"coldseal/protocol"
	"coldseal/protocol/policy"
)

// known is what the appliance said of itself: policy, officers, CAs.
type known struct {
	policy   *policy.Compiled
	officers policy.Index
	cas      []ca
}

// ca is a CA of the appliance; roots come first.
type ca struct {
	label string          // what policies and addresses name it by; no two alike
	id    protocol.Digest // of its key
	cert  *x509.Certificate
	root  bool
}

// String is what people know the CA by.
func (c *ca) String() string { return fmt.Sprintf("%s (%s)", c.label, c.cert.Subject.CommonName) }

func decodeState(s protocol.State) (*known, error) {
	fail := func(err error) error {
		return &Error{Kind: ErrVerification, What: "the appliance's state cannot be used", Err: err, Hint: "update this program, or have the state exported again"}
	}
	p, err := policy.Decode(s.Policy)
	if err != nil {
		return nil, fail(err)
	}
	compiled, err := policy.Compile(p)
	if err != nil {
		return nil, fail(err)
	}
	roster, err := policy.DecodeRoster(s.Roster)
	if err != nil {
		return nil, fail(err)
	}
	if len(s.Labels) != len(s.CAs) {
		return nil, fail(fmt.Errorf("%d labels for %d CA certificates", len(s.Labels), len(s.CAs)))
	}
	k := &known{policy: compiled, officers: policy.NewIndex(roster)}
	for i, der := range s.CAs {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fail(fmt.Errorf("CA certificate %d: %w", i, err))
		}
		c := ca{label: s.Labels[i], id: protocol.DigestOf(cert.RawSubjectPublicKeyInfo), cert: cert}
		c.root = cert.CheckSignatureFrom(cert) == nil
		if !c.root && !k.signed(cert) {
			return nil, fail(fmt.Errorf("CA certificate %d, %s: none before it signed it", i, &c))
		}
		k.cas = append(k.cas, c)
	}
	return k, nil
}

// signed tells whether one of the CAs signed the certificate.
func (k *known) signed(cert *x509.Certificate) bool {
	for _, c := range k.cas {
		if cert.CheckSignatureFrom(c.cert) == nil {
			return true
		}
	}
	return false
}

// issuerFor finds the CA key that a request is for: the one that is named, by label, common name or the first eight or
// more hexadecimal digits of its id; else the only one that may sign for the profile, or where no such profile is
// known, the only one that is no root.
func (k *known) issuerFor(name, profile string) (protocol.Digest, error) {
	wanted := func(c *ca) bool { return !c.root }
	what := "CAs come into question"
	p, found := k.policy.Profile(profile)
	switch {
	case name != "" && slices.ContainsFunc(k.cas, func(c ca) bool { return c.label == name }):
		wanted = func(c *ca) bool { return c.label == name }
	case name != "":
		wanted = func(c *ca) bool { return strings.EqualFold(c.cert.Subject.CommonName, name) || isHexPrefix(name, c.id) }
		what = fmt.Sprintf("CAs are called %q", name)
	case found:
		wanted = func(c *ca) bool { return slices.Contains(p.Issuers, c.label) }
		what = fmt.Sprintf("CAs that are here may sign for %s; its policy names %s", profile, strings.Join(p.Issuers, ", "))
	}
	ids := map[protocol.Digest]bool{}
	var all []string
	for i := range k.cas {
		c := &k.cas[i]
		all = append(all, fmt.Sprintf("%s, key %s", c, c.id.String()[:8]))
		if wanted(c) {
			ids[c.id] = true
		}
	}
	for id := range ids {
		if len(ids) == 1 {
			return id, nil
		}
	}
	if len(all) == 0 {
		return protocol.Digest{}, &Error{
			Kind: ErrNotFound, What: "the appliance has no CA yet", Hint: "have the CAs made, then import a response, or make the agent from a new introduction",
		}
	}
	return protocol.Digest{}, &Error{Kind: ErrInput, What: fmt.Sprintf("%d %s", len(ids), what), Hint: "name the CA with --issuer: " + strings.Join(all, "; ")}
}

// label is what the appliance calls the CA with a key; of one that it names no more, the beginning of the key's id.
func (k *known) label(id protocol.Digest) string {
	for _, c := range k.cas {
		if c.id == id {
			return c.label
		}
	}
	return id.String()[:16]
}

func isHexPrefix(name string, id protocol.Digest) bool {
	if _, err := hex.DecodeString(name + strings.Repeat("0", len(name)%2)); err != nil || len(name) < 8 {
		return false
	}
	return strings.HasPrefix(id.String(), strings.ToLower(name))
}
