package show

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/csr"
	"coldseal/protocol/policy"
)

// Last is the certificate that a request renews or takes away, or the last one of its subject, proved to be in the log.
// Whoever brings it may keep a later one back; they can't bring one that was not issued.
type Last struct {
	Certificate *x509.Certificate
	Profile     string
	issuer      protocol.Digest // its CA's key
	proved      auditlog.Proved
}

// OpenLast opens an inclusion proof of the leaf of a certificate, with its body, for the appliance whose digest was typed.
func OpenLast(proof []byte, typed protocol.Digest) (*Last, error) {
	proved, err := auditlog.OpenInclusionProof(proof, typed)
	if err != nil {
		return nil, err
	}
	if proved.Leaf.Kind != auditlog.Issued || proved.Body == nil {
		return nil, fmt.Errorf("entry %d of the log is %s; a certificate with its body is wanted", proved.Index, proved.Leaf.Kind)
	}
	result, err := protocol.ParseResult(proved.Body)
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(result.Certificate)
	if err != nil {
		return nil, fmt.Errorf("certificate of entry %d: %w", proved.Index, err)
	}
	return &Last{Certificate: c, Profile: proved.Leaf.Profile, issuer: protocol.Digest(proved.Leaf.Issuer), proved: proved}, nil
}

// Of tells why the certificate is not the one that a request names; a request that names none takes any.
func (l *Last) Of(r *protocol.Request) error {
	issuer, serial := r.About()
	if serial != nil && (l.issuer != issuer || !bytes.Equal(l.proved.Leaf.Serial, serial)) {
		return fmt.Errorf("the request is about the certificate %x; what was proved is %x", serial, l.proved.Leaf.Serial)
	}
	return nil
}

// Beside shows what somebody who is to approve a request wants to know of a certificate there is already: what it says,
// if it is taken away or released, and otherwise what the new one will say differently. Profile is the request's, nil if
// it is not known. It differs where anything does but key and dates, which always may.
func (l *Last) Beside(r *protocol.Request, profile *policy.CompiledProfile) (rows Sheet, differs bool) {
	leaf := l.proved.Leaf
	s := Sheet{{Name: "logged", Value: fmt.Sprintf("%s, entry %d of %d", protocol.Date(leaf.Time), l.proved.Index, l.proved.Checkpoint.Size)}}
	s.add("not after", protocol.Date(l.Certificate.NotAfter.Unix()))
	issuance, refusal := r.Issuance()
	if refusal != nil {
		s.text("profile", l.Profile)
		s.list("subject", name(l.Certificate.RawSubject))
		s.list("names", l.names())
		s.add("key type", KeyType(l.Certificate.PublicKey))
		s.digest("key", protocol.DigestOf(l.Certificate.RawSubjectPublicKeyInfo))
		rows.below("certificate", fmt.Sprintf("%x", leaf.Serial), s)
		return rows, false
	}
	changes := l.changes(r, &issuance, profile)
	if len(changes) == 0 {
		changes = []string{"nothing but key and dates"}
	} else {
		differs = true
	}
	s.list("differs", changes)
	s.add("key", l.key(&issuance))
	rows.below("last certificate", fmt.Sprintf("%x", leaf.Serial), s)
	return rows, differs
}

func (l *Last) names() []string {
	names, ok := policy.NamesOf(l.Certificate)
	if !ok {
		return []string{"of a kind that no profile has"}
	}
	return each(names.Alt, func(n policy.AltName) string { return n.Type + ":" + n.Value })
}

// key compares keys: renewing one may keep it.
func (l *Last) key(issuance *protocol.Issuance) string {
	c, err := csr.Check(issuance.CSR)
	switch old := KeyType(l.Certificate.PublicKey); {
	case err != nil:
		return "can't be compared: the CSR is refused"
	case bytes.Equal(c.SPKI, l.Certificate.RawSubjectPublicKeyInfo):
		return "the same"
	case c.KeyType != old:
		return fmt.Sprintf("another: was %s, will be %s", old, c.KeyType)
	}
	return "another, of the same type"
}

// changes says what the new certificate will say and the last one doesn't, and the other way round.
func (l *Last) changes(r *protocol.Request, issuance *protocol.Issuance, profile *policy.CompiledProfile) []string {
	var all []string
	compare := func(what, old, new string) {
		if old != new {
			all = append(all, fmt.Sprintf("%s: was %s, will be %s", what, quoted(old), quoted(new)))
		}
	}
	compare("profile", l.Profile, r.Profile)
	compare("issuer", l.issuer.String(), r.Issuer.String())
	var old []protocol.Scope
	if scopes, found, err := protocol.ScopeOf(l.Certificate); err != nil {
		all = append(all, "the scope of the last certificate can't be read")
	} else if found {
		old = scopes.Scopes
	}
	all = append(all, listChanges("scope", each(old, scope), each(issuance.Scopes, scope))...)
	if profile == nil {
		return append(all, "names: not compared, the profile is not known here")
	}
	names, refusal := profile.Names(r, issuance.Fields)
	if refusal != nil {
		return append(all, "names: not compared: "+refusal.Words())
	}
	was, ok := policy.NamesOf(l.Certificate)
	if !ok {
		return append(all, "names: the last certificate has some that no profile has")
	}
	attribute := func(a policy.Attribute) string { return a.Type + "=" + a.Value }
	all = append(all, listChanges("subject", each(was.Subject, attribute), each(names.Subject, attribute))...)
	alt := func(n policy.AltName) string { return n.Type + ":" + n.Value }
	return append(all, listChanges("name", each(was.Alt, alt), each(names.Alt, alt))...)
}

func quoted(text string) string {
	if text == "" {
		return "nothing"
	}
	return text
}

// listChanges says what is in one list only.
func listChanges(what string, old, new []string) []string {
	var all []string
	for _, v := range old {
		if !slices.Contains(new, v) {
			all = append(all, what+" no more: "+v)
		}
	}
	for _, v := range new {
		if !slices.Contains(old, v) {
			all = append(all, what+" new: "+v)
		}
	}
	if len(all) == 0 && !slices.Equal(old, new) {
		all = append(all, what+": in another order, or another number of them")
	}
	return all
}
