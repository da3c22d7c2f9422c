package main

import (
	"crypto/x509"
	"fmt"
	"slices"
	"unique"

	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/policy"
)

// conclude takes the intent of a serial away, and finds fault if there was none.
func (a *auditor) conclude(e *entry) (announced, bool) {
	key := certificateKey(e.leaf.Issuer, e.leaf.Serial)
	n, found := a.signing[key]
	if !found && a.unknown == 0 {
		a.find(e, "serial %x is %s without an intent", e.leaf.Serial, e.leaf.Kind)
	}
	delete(a.signing, key)
	return n, found
}

// shared gives the one copy of a text that many certificates have.
func shared(text string) string { return unique.Make(text).Value() }

// issued holds a certificate against its intent and the key of its CA, and learns what later requests are decided by.
func (a *auditor) issued(r *replay, e *entry) error {
	n, found := a.conclude(e)
	count := a.profile(e.leaf.Profile)
	count.issued++
	c := &certificate{profile: shared(e.leaf.Profile), status: auditlog.Active, changed: e.index}
	a.certificates[certificateKey(e.leaf.Issuer, e.leaf.Serial)] = c
	if found {
		a.asked(e, n, c)
	}
	if e.body == nil {
		count.unread++
		if p, known := r.state.CurrentPolicy().Profile(c.profile); known && p.Use == policy.UseApprover {
			a.lost++
		}
		return nil
	}
	result, err := protocol.ParseResult(e.body)
	if err != nil {
		return err
	}
	cert, err := x509.ParseCertificate(result.Certificate)
	if err != nil {
		a.find(e, "the certificate can't be read: %v", err)
		return nil
	}
	c.spki, c.notBefore, c.notAfter = slices.Clone(cert.RawSubjectPublicKeyInfo), cert.NotBefore.Unix(), cert.NotAfter.Unix()
	issuer := protocol.Digest(e.leaf.Issuer)
	if a.compromised[protocol.DigestOf(c.spki)] {
		a.find(e, "the certificate %x has a key that was reported compromised before", e.leaf.Serial)
	}
	if string(cert.SerialNumber.Bytes()) != string(e.leaf.Serial) || result.Issuer != issuer {
		a.find(e, "the certificate is not the one that the entry names")
	}
	if found && (protocol.DigestOf(cert.RawTBSCertificate) != n.tbs || result.ID != n.id || e.leaf.Profile != n.req.Profile) {
		a.find(e, "the certificate %x is not what entry %d announced", e.leaf.Serial, n.at)
	}
	if ca, known := r.state.CAs[issuer]; !known && r.forgot {
		count.unread++ // the order that made its CA was lost
	} else if err := signedBy(cert, ca.SPKI); err != nil {
		a.find(e, "the certificate %x is not signed by the key of %s: %v", e.leaf.Serial, issuer, err)
	}
	scope, isApprover, err := protocol.ScopeOf(cert)
	if err != nil {
		a.find(e, "the scopes of %x can't be read: %v", e.leaf.Serial, err)
	} else if isApprover {
		a.learn(e, c, scope)
	}
	return nil
}

// asked notes what a certificate's request says of it.
func (a *auditor) asked(e *entry, n announced, c *certificate) {
	if !n.req.Kind.IsOrder() {
		a.kind(n.req.Kind).done++
	}
	c.body, c.subject, c.approved = shared(n.req.Body), n.req.Subject, e.leaf.Time
	old := a.certificates[n.renews]
	if old == nil {
		return
	}
	if old.renewed > n.at { // beside it; of what was before it the request was found
		a.find(e, "the certificate %x renews one that was renewed before", e.leaf.Serial)
	}
	old.renewed = e.index
	if !n.persons {
		c.approved = old.approved
	}
}

func (a *auditor) learn(e *entry, c *certificate, scope protocol.ApproverScope) {
	key, err := cose.ParseKey(c.spki)
	if err != nil {
		a.find(e, "the approver's key can't be read: %v", err)
		return
	}
	h := &certified{key: key, certificate: c}
	h.Person, h.Roles, h.Scopes = scope.Person, []string{policy.RoleApprover}, scope.Scopes
	a.approvers[key.ID()] = h
}

func signedBy(c *x509.Certificate, spki []byte) error {
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return fmt.Errorf("the CA's key is not known: %w", err)
	}
	return (&x509.Certificate{PublicKey: public}).CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature)
}

// changed holds a certificate's new status against what was announced, and against the status it had.
func (a *auditor) changed(e *entry) error {
	key, serial := certificateKey(e.leaf.Issuer, e.leaf.Serial), e.leaf.Serial
	n, found, err := a.announcement(e, func(n announced) bool { return n.key == key && auditlog.StatusAfter(n.req.Kind) == e.leaf.Status })
	if err != nil {
		return err
	}
	c := a.certificates[key]
	switch {
	case c == nil:
		a.find(e, "serial %x is %s and was never issued", serial, e.leaf.Status)
		return nil
	case !found:
	case n.key != key || auditlog.StatusAfter(n.req.Kind) != e.leaf.Status:
		a.find(e, "serial %x is %s, which is not what entry %d announced", serial, e.leaf.Status, n.at)
	case n.req.Kind == protocol.KindRelease && (c.status != auditlog.Held || c.changed != n.hold):
		a.find(e, "serial %x is released from a hold that entry %d did not begin, or that was over", serial, n.hold)
	case n.req.Kind.TakesAway() && c.status >= e.leaf.Status:
		a.find(e, "serial %x is %s and was %s before", serial, e.leaf.Status, c.status)
	}
	if found && n.lost && c.spki != nil {
		a.compromised[protocol.DigestOf(c.spki)] = true
	}
	c.status, c.changed = e.leaf.Status, e.index
	return nil
}

// concluded takes away the announcement of what was refused in the end, or of a withdrawal that was done.
func (a *auditor) concluded(e *entry) error {
	withdrawn := e.leaf.Kind == auditlog.Withdrawn
	if e.body == nil && !withdrawn {
		return nil // nobody can say whose refusal it was
	}
	n, found, err := a.announcement(e, func(n announced) bool { return n.req.Kind == protocol.KindWithdraw })
	if err == nil && found && withdrawn && n.req.Kind != protocol.KindWithdraw {
		a.find(e, "request %s to %s is recorded as a withdrawal", n.id, n.req.Kind)
	}
	return err
}

// announcement takes away what was announced of the request whose result an entry records; like says what it has to be
// where the result was erased. Of what was refused nothing need have been announced.
func (a *auditor) announcement(e *entry, like func(announced) bool) (n announced, found bool, err error) {
	refused := e.leaf.Kind == auditlog.Refused
	if e.body == nil {
		for _, n = range a.changing {
			if found = like(n); found {
				break
			}
		}
	} else {
		result, err := protocol.ParseResult(e.body)
		if err != nil {
			return n, false, err
		}
		if !refused && result.Outcome == protocol.OutcomeRefused || e.leaf.Kind == auditlog.Changed && (string(result.Issuer[:]) != string(e.leaf.Issuer) || string(result.Serial) != string(e.leaf.Serial)) {
			a.find(e, "the result is not that of the entry")
		}
		n, found = a.changing[result.ID]
	}
	switch {
	case found && n.req.Kind.IsOrder(): // the replay counts it
	case found && refused:
		a.kind(n.req.Kind).refused++
	case found:
		a.kind(n.req.Kind).done++
	case !refused && a.unknown == 0:
		a.find(e, "what is %s was not announced", e.leaf.Kind)
	}
	if found {
		delete(a.changing, n.id)
	}
	return n, found, nil
}
