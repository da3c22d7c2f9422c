package agent

import (
	"crypto/x509"
	"encoding/hex"
	"fmt"
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
	id   protocol.Digest // of its key
	cert *x509.Certificate
	root bool
}

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
	k := &known{policy: compiled, officers: policy.NewIndex(roster)}
	for i, der := range s.CAs {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fail(fmt.Errorf("CA certificate %d: %w", i, err))
		}
		c := ca{id: protocol.DigestOf(cert.RawSubjectPublicKeyInfo), cert: cert}
		c.root = cert.CheckSignatureFrom(cert) == nil
		if !c.root && !k.signed(cert) {
			return nil, fail(fmt.Errorf("CA certificate %d (%s): none before it signed it", i, cert.Subject))
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

// issuer finds a CA key by what a person calls it: the beginning of its id in hexadecimal, or its common name, whole or
// as the last words of it, in any case and with hyphens for spaces. Empty is the only CA that is no root.
func (k *known) issuer(name string) (protocol.Digest, error) {
	found := map[protocol.Digest]string{}
	var all []string
	for _, c := range k.cas {
		all = append(all, fmt.Sprintf("%s (%s)", c.cert.Subject.CommonName, c.id.String()[:8]))
		if name == "" && !c.root || name != "" && (slug(c.cert.Subject.CommonName) == slug(name) || isHexPrefix(name, c.id)) {
			found[c.id] = c.cert.Subject.CommonName
		}
	}
	if len(found) == 0 && name != "" {
		for _, c := range k.cas {
			if cn := slug(c.cert.Subject.CommonName); strings.HasPrefix(cn, slug(name)+"-") || strings.HasSuffix(cn, "-"+slug(name)) {
				found[c.id] = c.cert.Subject.CommonName
			}
		}
	}
	if len(found) == 1 {
		for id := range found {
			return id, nil
		}
	}
	e := &Error{Kind: ErrInput, Hint: "name the CA with --issuer: " + strings.Join(all, ", ")}
	switch {
	case len(all) == 0:
		e.Kind, e.What, e.Hint = ErrNotFound, "the appliance has no CA yet", "have the CAs made, then import a response, or make the agent from a new introduction"
	case name == "":
		e.What = fmt.Sprintf("%d CAs come into question", len(found))
	default:
		e.What = fmt.Sprintf("%q is %d CAs", name, len(found))
	}
	return protocol.Digest{}, e
}

// issuerFor finds the CA of a request. Where none is named and there are several, the labels that the profile names its
// CAs by are tried as names: the appliance's labels themselves are not known here.
func (k *known) issuerFor(name, profile string) (protocol.Digest, error) {
	id, err := k.issuer(name)
	if err == nil || name != "" {
		return id, err
	}
	if p, found := k.policy.Profile(profile); found {
		for _, label := range p.Issuers {
			if id, labelErr := k.issuer(label); labelErr == nil {
				return id, nil
			}
		}
	}
	return id, err
}

func isHexPrefix(name string, id protocol.Digest) bool {
	if _, err := hex.DecodeString(name + strings.Repeat("0", len(name)%2)); err != nil || len(name) < 8 {
		return false
	}
	return strings.HasPrefix(id.String(), strings.ToLower(name))
}

// slug makes a name of letters, digits, dots and hyphens of any text, for comparing and for files.
func slug(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.' && b.Len() > 0:
			b.WriteRune(r)
		case r >= 'A' && r <= 'Z':
			b.WriteRune(r + 'a' - 'A')
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	return strings.Trim(b.String(), "-")
}
