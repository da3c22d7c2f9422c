package appliance

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"

	"coldseal/appliance/issue"
	"coldseal/appliance/lint"
	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/cose"
	"coldseal/protocol/csr"
	"coldseal/protocol/policy"
)

// Preparing is all that can be decided about a request without what the batch before it changes: form, key, names,
// term, approvals, the certificate to be signed, lint. It runs beside the step and the signing of the batch before, and so
// reads a ledger in which that step may be missing; who may approve is the same there (see batch.barrier).

// each runs f for 0 to n-1 on all cores.
func each(n int, f func(i int)) {
	var wait sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wait.Go(func() {
			for i := n * w / workers; i < n*(w+1)/workers; i++ {
				f(i)
			}
		})
	}
	wait.Wait()
}

// prepareGroup prepares the items of one group of requests.
func (r *run) prepare(g protocol.Group) ([]*item, error) {
	items := r.parseGroup(g, r.now)
	err := r.ledger.View(func(tx *store.Tx) error {
		approvals, err := r.openApprovals(tx, g.Approvals, items, r.now)
		if err != nil {
			return err
		}
		for _, it := range items {
			if r.left--; r.left < 0 && it.refusal == nil {
				it.refusal = protocol.Refuse(protocol.CodeQuota, "thing", "items", "limit", fmt.Sprint(r.bundle.Sender.ItemsPerDay))
			}
			if err := r.lookUp(tx, it, r.bundle.Sender, approvals, r.now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, it := range items {
		if it.refusal == nil && it.profile != nil {
			if it.serial, err = r.serial(); err != nil {
				return nil, err
			}
		}
	}
	faults := make([]error, len(items))
	each(len(items), func(i int) { faults[i] = r.shape(items[i], r.now) })
	return items, errors.Join(faults...)
}

func (e *Engine) parseGroup(g protocol.Group, now int64) []*item {
	items := make([]*item, len(g.Items))
	each(len(items), func(i int) { items[i] = e.parse(g.Items[i], g.Section, now) })
	return items
}

// lookUp does what needs the ledger: renewals, and whose approvals there are.
func (e *Engine) lookUp(tx *store.Tx, it *item, sender *protocol.Party, approvals []approval, now int64) error {
	if it.refusal != nil {
		return nil
	}
	if !sender.Serves(it.req.Body) {
		it.refusal = protocol.Refuse(protocol.CodeSenderScope, "body", it.req.Body)
		return nil
	}
	requester, refusal, err := e.requester(tx, it, now)
	if err != nil || refusal != nil {
		it.refusal = refusal
		return err
	}
	approved := approvedFor(approvals, it.id)
	switch it.req.Kind {
	case protocol.KindIssue, protocol.KindRenew:
		if it.refusal = e.findProfile(it); it.refusal != nil {
			return nil
		}
		rule := it.profile.RuleFor(it.req.Kind, it.content.Origin)
		target := protocol.Scope{Profile: it.req.Profile, Body: it.req.Body}
		it.quorum = rule.Decide(target, it.req.Subject, requester, approved)
		if it.quorum == nil && len(it.content.Scopes) != 0 {
			it.quorum = e.state.CurrentPolicy().Escalation(rule, target, it.content.Scopes, it.req.Subject, requester, approved)
		}
		if it.req.Kind == protocol.KindRenew && it.refusal == nil {
			return e.lookUpRenewed(tx, it)
		}
	case protocol.KindRelease:
		var c protocol.Release
		if c, it.refusal = it.req.Release(); it.refusal != nil {
			return nil
		}
		it.refusal, err = e.decideStanding(tx, it, c.Serial, it.req.Subject, requester, approved)
	}
	return err
}

func (e *Engine) findProfile(it *item) (refusal *protocol.Refusal) {
	if it.content, refusal = it.req.Issuance(); refusal != nil {
		return refusal
	}
	found := false
	if it.profile, found = e.policy.Profile(it.req.Profile); !found || it.profile.Use.IsCA() {
		return protocol.Refuse(protocol.CodeProfileUnknown, "profile", it.req.Profile)
	}
	if it.profile.Digest != it.req.ProfileDigest {
		return protocol.Refuse(protocol.CodeProfileChanged, "profile", it.req.Profile)
	}
	if it.ca, found = e.cas[it.req.Issuer]; !found {
		return protocol.Refuse(protocol.CodeIssuerUnknown, "issuer", it.req.Issuer.String())
	}
	if !slices.Contains(it.profile.Issuers, it.ca.Label) {
		return protocol.Refuse(protocol.CodeProfileUnknown, "profile", it.req.Profile)
	}
	if (it.profile.Use == policy.UseApprover) != (len(it.content.Scopes) != 0) {
		return protocol.Refuse(protocol.CodeSubjectMismatch, "field", "scopes", "profile", it.req.Profile, "reason", "scopes are for approver certificates, which have some")
	}
	return nil
}

// lookUpRenewed finds the certificate to be renewed and has its key's signature verified.
func (e *Engine) lookUpRenewed(tx *store.Tx, it *item) error {
	var found bool
	var err error
	id := it.content.Renews
	if it.old, found, err = tx.Certificate(id.Issuer, id.Serial); err != nil {
		return err
	}
	if !found {
		it.refusal = protocol.Refuse(protocol.CodeNotOurs, "serial", fmt.Sprintf("%x", id.Serial))
		return nil
	}
	if len(it.item.Current) == 0 {
		if it.content.Origin == protocol.OriginCurrent {
			it.refusal = protocol.Refuse(protocol.CodeKeyNotVouched, "origin", it.content.Origin.String(), "reason", "the current key did not sign the request")
		}
		return nil
	}
	result, err := resultAt(tx, it.old.Issued)
	if err != nil {
		return err
	}
	cert, err := x509.ParseCertificate(result.Certificate)
	if err != nil {
		return fmt.Errorf("ledger: certificate in leaf %d: %w", it.old.Issued, err)
	}
	key, err := cose.ParseKey(cert.RawSubjectPublicKeyInfo)
	if err == nil {
		err = protocol.VerifyID(it.item.Current, protocol.ContextCurrentKey, key, it.id)
	}
	if err != nil {
		it.refusal = protocol.Refuse(protocol.CodeKeyNotVouched, "origin", protocol.OriginCurrent.String(), "reason", err.Error())
	}
	return nil
}

// shape checks key, names and term of an issuance and builds what is to be signed. It needs no ledger.
func (e *Engine) shape(it *item, now int64) error {
	if it.refusal != nil || it.profile == nil {
		return nil
	}
	var err error
	if it.csr, err = csr.Check(it.content.CSR); err != nil {
		it.refusal = csrRefusal(err, it.profile.Profile)
		return nil
	}
	p := it.profile
	if _, allowed := slices.BinarySearch(p.Keys, it.csr.KeyType); !allowed {
		it.refusal = protocol.Refuse(protocol.CodeKeyType, "profile", p.Name, "type", it.csr.KeyType, "allowed", strings.Join(p.Keys, ", "))
		return nil
	}
	if it.names, it.refusal = p.Names(&it.req, it.content.Fields); it.refusal != nil {
		return nil
	}
	if it.refusal = e.vouched(it); it.refusal != nil {
		return nil
	}
	if !p.DropExtras {
		if it.refusal = extras(it.csr, it.names, p.Name); it.refusal != nil {
			return nil
		}
	}
	it.notBefore, it.notAfter, it.refusal = issue.Validity(it.ca, p.Profile, now, it.content.NotBefore, it.content.NotAfter)
	if it.refusal != nil {
		return nil
	}
	certificate := issue.Certificate{
		Subject: it.names.Subject, AltNames: it.names.Alt, SPKI: it.csr.SPKI, Serial: it.serial,
		NotBefore: it.notBefore, NotAfter: it.notAfter,
	}
	if p.Use == policy.UseApprover {
		certificate.Scope = protocol.ApproverScope{Person: it.req.Subject, Scopes: it.content.Scopes}
	}
	if it.tbs, it.refusal, err = e.shapes[shapeKey{it.ca.KeyID, p.Name}].TBS(certificate); err != nil || it.refusal != nil {
		return err
	}
	it.linted = lint.Dummy(it.tbs, it.ca.AlgorithmRaw, it.ca.SignatureLen)
	return nil
}

func csrRefusal(err error, p *policy.Profile) *protocol.Refusal {
	var bad *csr.Error
	if !errors.As(err, &bad) {
		return protocol.Refuse(protocol.CodeBadCSR, "reason", err.Error())
	}
	switch bad.Reason {
	case csr.Possession:
		return protocol.Refuse(protocol.CodePossession)
	case csr.WeakKey, csr.WeakHash:
		return protocol.Refuse(protocol.CodeWeakKey, "reason", bad.Detail)
	case csr.KeyType:
		return protocol.Refuse(protocol.CodeKeyType, "profile", p.Name, "type", bad.Detail, "allowed", strings.Join(p.Keys, ", "))
	}
	return protocol.Refuse(protocol.CodeBadCSR, "reason", bad.Detail)
}

// vouched asks whether somebody vouches that the key belongs to the subject (law 2).
func (e *Engine) vouched(it *item) *protocol.Refusal {
	p, origin := it.profile, it.content.Origin
	if !slices.Contains(p.Origins, origin) || origin == protocol.OriginCurrent && it.req.Kind != protocol.KindRenew ||
		origin == protocol.OriginAgent && p.Use != policy.UseMachine {
		allowed := make([]string, len(p.Origins))
		for i, o := range p.Origins {
			allowed[i] = o.String()
		}
		return protocol.Refuse(protocol.CodeOriginNotAllowed, "profile", p.Name, "origin", origin.String(), "allowed", strings.Join(allowed, ", "))
	}
	var err error
	switch origin {
	case protocol.OriginStation:
		err = e.stationVouches(it)
	case protocol.OriginAttested:
		err = errors.New("no device vendor is enrolled")
	}
	if err != nil {
		return protocol.Refuse(protocol.CodeKeyNotVouched, "origin", origin.String(), "reason", err.Error())
	}
	return nil
}

func (e *Engine) stationVouches(it *item) error {
	id, err := cose.KeyID(it.content.Evidence)
	if err != nil {
		return err
	}
	for name, record := range e.state.Parties {
		party, err := protocol.ParseParty(record)
		if err != nil || party.Role != protocol.RoleStation || protocol.DigestOf(party.Seal) != protocol.Digest(id) {
			continue
		}
		if party.Retired || !party.Serves(it.req.Body) {
			return fmt.Errorf("the station %s was retired or is not for this body", name)
		}
		key, err := party.SealKey()
		if err != nil {
			return err
		}
		payload, err := cose.Verify(it.content.Evidence, protocol.ContextKeyStatement, key)
		if err != nil {
			return err
		}
		var s protocol.KeyStatement
		if err := cose.Unmarshal(payload, &s); err != nil {
			return err
		}
		if s.Appliance != e.appliance || s.Key != protocol.DigestOf(it.csr.SPKI) || s.Subject != it.req.Subject {
			return errors.New("the station's statement is about another key, subject or appliance")
		}
		return nil
	}
	return errors.New("no station with this key is enrolled")
}

// The extensions that a CSR may ask for without asking for more than a profile gives.
var (
	oidAltName          = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidSubjectKeyID     = asn1.ObjectIdentifier{2, 5, 29, 14}
)

// extras refuses what a CSR asks for beyond its profile: names that the request does not give, and extensions.
func extras(c *csr.Request, names policy.Names, profile string) *protocol.Refusal {
	beyond := func(what string) *protocol.Refusal {
		return protocol.Refuse(protocol.CodeCSRExtra, "profile", profile, "reason", what)
	}
	for _, x := range c.Extensions {
		switch {
		case x.Id.Equal(oidAltName), x.Id.Equal(oidSubjectKeyID):
		case x.Id.Equal(oidBasicConstraints) && bytes.Equal(x.Value, []byte{0x30, 0}):
		default:
			return beyond("extension " + x.Id.String())
		}
	}
	given := func(kind, value string) bool {
		return slices.ContainsFunc(names.Alt, func(n policy.AltName) bool { return n.Type == kind && n.Value == value })
	}
	for kind, wanted := range map[string][]string{"dns": c.Names.DNS, "email": c.Names.Email, "uri": c.Names.URI} {
		for _, value := range wanted {
			if !given(kind, value) {
				return beyond("the " + kind + " name " + value)
			}
		}
	}
	for _, ip := range c.Names.IP {
		if !given("ip", ip.String()) {
			return beyond("the address " + ip.String())
		}
	}
	if len(c.Names.Other) != 0 {
		return beyond("a name of another form")
	}
	return nil
}

// lintBatch asks about all certificates of a batch, a profile at a time.
func (e *Engine) lintBatch(items []*item) error {
	byProfile := map[string][]*item{}
	for _, it := range items {
		if it.refusal == nil && it.linted != nil {
			byProfile[it.req.Profile] = append(byProfile[it.req.Profile], it)
		}
	}
	for name, group := range byProfile {
		ders := make([][]byte, len(group))
		for i, it := range group {
			ders[i] = it.linted
		}
		p := group[0].profile
		findings, err := e.Lint.Certificates(context.Background(), lint.Config{Sets: p.Lint, Ignore: p.LintIgnore}, ders)
		if err != nil {
			return fault("lint "+name, err)
		}
		for i, it := range group {
			it.refusal = lintRefusal(findings[i], name)
		}
	}
	return nil
}
