package appliance

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"coldseal/appliance/issue"
	"coldseal/appliance/lint"
	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/cose"
	"coldseal/protocol/policy"
)

// Preparing is all that can be decided about a request without what the batch before it changes: form, key, names,
// term, approvals, the certificate to be signed, lint. It runs beside the step and the signing of the batches before, and so
// reads a ledger in which their results are missing; who may approve is the same there (batch.alone).

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

// prepare prepares the items of one group of requests.
func (r *run) prepare(g protocol.Group) ([]*item, error) {
	items := r.parseGroup(g, r.now)
	err := r.ledger.View(func(tx *store.Tx) error {
		approvals, err := r.openApprovals(tx, g, items, r.now)
		if err != nil {
			return err
		}
		for _, it := range items {
			r.admits(it)
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
	if e.state.CAs[it.req.Issuer].Revoked {
		return protocol.Refuse(protocol.CodeCARevoked, "label", it.ca.Label)
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
	if it.old, found, err = e.certificate(tx, id.Issuer, id.Serial); err != nil {
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
	result, _, err := resultAt(tx, it.old.Issued)
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
	p := it.profile
	if it.csr, it.refusal = p.CheckCSR(it.content.CSR); it.refusal != nil {
		return nil
	}
	if it.names, it.refusal = p.Names(&it.req, it.content.Fields); it.refusal != nil {
		return nil
	}
	it.name, it.key = store.NameKey(it.names.Unique), protocol.DigestOf(it.csr.SPKI)
	if it.refusal = e.vouched(it); it.refusal != nil {
		return nil
	}
	if it.refusal = p.Extras(it.csr, it.names); it.refusal != nil {
		return nil
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
	var err error
	if it.tbs, it.refusal, err = e.shapes[shapeKey{it.ca.KeyID, p.Name}].TBS(certificate); err != nil || it.refusal != nil {
		return err
	}
	it.linted = lint.Dummy(it.tbs, it.ca.AlgorithmRaw, it.ca.SignatureLen)
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
