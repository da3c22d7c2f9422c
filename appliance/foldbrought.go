package appliance

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"fmt"

	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/policy"
)

// Leaves that were brought to a restore. Of some, a body is known, and the request that it is about; of others nothing but
// the leaf. What the ledger should say of each follows from that, and is compared at every start, like all else.

// within tells whether a leaf was brought, to a restore of before or to the one that waits.
func (f *fold) within(index uint64) bool {
	for _, r := range f.ranges {
		if index >= r.From && index < r.Size {
			return true
		}
	}
	return false
}

// brought folds one leaf that was brought; taken tells whether an order among them took effect.
func (f *fold) brought(index uint64, leaf auditlog.Leaf, body []byte) (taken bool, err error) {
	if f.waiting() == index {
		f.lost, f.seen = 0, map[protocol.Digest]uint64{}
	}
	switch leaf.Kind {
	case auditlog.Intents:
		if body == nil {
			f.before, f.requests = f.requests, nil
		} else {
			err = f.announce(bytes.Clone(body))
		}
	case auditlog.Step:
		err = f.step(leaf)
	case auditlog.Issued:
		f.concluded(leaf)
		err = f.broughtIssuance(index, leaf, body)
	case auditlog.Changed:
		err = f.broughtChange(index, leaf, body)
	case auditlog.Burned:
		if f.concluded(leaf); f.knows(leaf) {
			err = f.burned(index, leaf)
		}
	case auditlog.Order:
		if body == nil {
			f.lost++
			break
		}
		return true, f.order(index, body)
	case auditlog.Refused, auditlog.Withdrawn:
		err = f.broughtResult(index, leaf, body)
	case auditlog.CRL:
		issuer := protocol.Digest(leaf.Issuer)
		f.seen[issuer] = max(f.seen[issuer], leaf.Number)
	case auditlog.Restored:
		f.counter = leaf.Number
	}
	return false, err
}

// waiting is where the leaves begin that the next restore is about.
func (f *fold) waiting() uint64 {
	if f.confirmed < len(f.ranges) {
		return f.ranges[f.confirmed].From
	}
	return 0
}

// knows tells whether a leaf is about a CA whose key an order that is known made.
func (f *fold) knows(leaf auditlog.Leaf) bool {
	_, known := f.state.CAs[protocol.Digest(leaf.Issuer)]
	return known
}

// comesTo is what a brought leaf of a certificate comes to, before anything later.
type comesTo struct {
	store.Certificate
	id       protocol.Digest // of its request; zero if it is not known
	key      bool            // the certificate is known, and with it its key
	renews   *protocol.CertificateID
	approver *store.Approver
}

// issuedAs says what the ledger should say of a certificate that was brought. Without its body it lives, for all that is
// known, as long as its CA; without its request nobody knows its name and body.
func (f *fold) issuedAs(index uint64, leaf auditlog.Leaf, body []byte) (to comesTo, err error) {
	issuer := protocol.Digest(leaf.Issuer)
	to.Certificate = store.Certificate{
		Status: auditlog.Active, Profile: leaf.Profile, Issued: index, Changed: index, NotBefore: leaf.Time, NotAfter: end(f.state.CAs[issuer]), Approved: leaf.Time,
	}
	if body == nil {
		return to, nil
	}
	result, err := protocol.ParseResult(body)
	if err != nil {
		return to, err
	}
	m, err := madeFrom(result.Certificate)
	if err != nil {
		return to, err
	}
	to.key, to.NotBefore, to.NotAfter, to.Key = true, m.notBefore, m.notAfter, m.key
	if f.lastKind == auditlog.Order { // its request is done in the order's leaf
		to.Subject = crossSubject
		if ca := f.state.CAs[m.key]; ca.Issuer == issuer && bytes.Equal(result.Certificate, ca.Certificate) {
			to.Subject = ca.Label
		}
		return to, nil
	}
	to.id = result.ID
	if p, found := f.state.CurrentPolicy().Profile(leaf.Profile); found && p.Use == policy.UseApprover {
		if to.approver, err = approverOf(leaf, result.Certificate); err != nil {
			return to, err
		}
	}
	return to, f.askedAs(index, &to)
}

// askedAs fills in what the request says, as far as it is known and the policy still has its profile.
func (f *fold) askedAs(index uint64, to *comesTo) error {
	req, known, err := f.request(index, to.id)
	if err != nil || !known {
		return err
	}
	content, refusal := req.Issuance()
	if refusal != nil {
		return nil
	}
	if err := f.compile(); err != nil {
		return err
	}
	profile, found := f.compiled.Profile(to.Profile)
	if !found || req.Profile != to.Profile {
		return nil
	}
	names, refusal := profile.Names(&req, content.Fields)
	if refusal != nil {
		return nil
	}
	to.Name, to.Body, to.Subject, to.renews = store.NameKey(names.Unique), req.Body, req.Subject, content.Renews
	if to.renews == nil {
		return nil
	}
	old, found, err := f.tx.Certificate(to.renews.Issuer, to.renews.Serial)
	if err != nil {
		return err
	}
	if !found {
		to.renews = nil
		return nil
	}
	// Whether persons approved is forgotten: then the key alone may renew no longer than it might have.
	to.Renews, to.Approved = store.CertificateKey(to.renews.Issuer, to.renews.Serial), old.Approved
	return nil
}

// request finds a request: beside the leaf that was brought, or among those that were announced last.
func (f *fold) request(index uint64, id protocol.Digest) (protocol.Request, bool, error) {
	data := f.tx.Brought(index)
	if data == nil {
		a, found := f.asked(id)
		return a.req, found, nil
	}
	item, refusal := protocol.ParseItem(data)
	if refusal == nil && sha256.Sum256(item.Request) == id {
		var req protocol.Request
		if req, refusal = protocol.ParseRequest(item.Request); refusal == nil {
			return req, true, nil
		}
	}
	return protocol.Request{}, false, fmt.Errorf("the request that was brought is not the one that was logged")
}

func approverOf(leaf auditlog.Leaf, der []byte) (*store.Approver, error) {
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	scope, found, err := protocol.ScopeOf(certificate)
	if err != nil || !found {
		return nil, err
	}
	return &store.Approver{
		Issuer: protocol.Digest(leaf.Issuer), Serial: leaf.Serial, Person: scope.Person, Scopes: scope.Scopes, SPKI: certificate.RawSubjectPublicKeyInfo,
	}, nil
}

func (f *fold) broughtIssuance(index uint64, leaf auditlog.Leaf, body []byte) error {
	if !f.knows(leaf) {
		return nil // its CA is lost
	}
	other := fmt.Errorf("the ledger says something else of certificate %x, which was brought", leaf.Serial)
	to, err := f.issuedAs(index, leaf, body)
	if err != nil {
		return err
	}
	c, found, err := f.tx.Certificate(protocol.Digest(leaf.Issuer), leaf.Serial)
	if err != nil {
		return err
	}
	if !found || c.Changed < index || c.Changed == index && c.Status != auditlog.Active {
		return other
	}
	if c.Changed != index {
		if err := f.changedAt(c, leaf); err != nil {
			return err
		}
	}
	f.issued++
	if c.Renewed {
		f.renewed++
	}
	if to.renews != nil {
		old, _, err := f.tx.Certificate(to.renews.Issuer, to.renews.Serial)
		if err != nil {
			return err
		}
		if !old.Renewed {
			return other
		}
		f.renewals++
	}
	to.Status, to.Changed, to.Renewed = c.Status, c.Changed, c.Renewed
	got, err := digestOf(c)
	if err != nil {
		return err
	}
	if want, err := digestOf(to.Certificate); err != nil || want != got {
		return other
	}
	if to.approver != nil {
		if f.approvers[protocol.DigestOf(to.approver.SPKI)], err = digestOf(*to.approver); err != nil {
			return err
		}
	}
	if err := f.broughtIndexes(index, &to); err != nil {
		return err
	}
	if to.id.IsZero() {
		return nil
	}
	f.done++
	return f.isDone(to.id, index)
}

// broughtIndexes asks whether the ledger finds a certificate by its key and its name.
func (f *fold) broughtIndexes(index uint64, to *comesTo) error {
	if use, found := f.tx.KeyUse(to.Key); to.key && !to.id.IsZero() && (!found || to.Name != nil && !bytes.Equal(use.Name, to.Name)) {
		return fmt.Errorf("the ledger says something else of the key of a certificate that was brought")
	}
	if to.Name == nil {
		return nil
	}
	newest, err := f.tx.Newest(to.Name)
	if err != nil {
		return err
	}
	if newest.Issued < index || !bytes.Equal(newest.Name, to.Name) {
		return fmt.Errorf("the ledger says something else of the name of a certificate that was brought")
	}
	if newest.Issued == index {
		f.names++
	}
	return nil
}

// changedTo is what a brought leaf of a change puts on the CRL: why is known where the request is. The key is barred from
// then on if it was compromised, or if it may have been for all that is known.
func (f *fold) changedTo(index uint64, leaf auditlog.Leaf, id protocol.Digest, notAfter int64) (entry store.Revoked, barred bool, err error) {
	entry = store.Revoked{Time: leaf.Time, Index: index, NotAfter: notAfter}
	if leaf.Status == auditlog.Held {
		entry.Reason = protocol.ReasonCertificateHold
		return entry, false, nil
	}
	req, known, err := f.request(index, id)
	if err != nil || !known {
		return entry, !known, err
	}
	if content, refusal := req.Revocation(); refusal == nil {
		entry.Reason, entry.Since = content.Reason, content.Since
	}
	if content, refusal := req.CARevocation(); refusal == nil {
		entry.Reason, entry.Since = content.Reason, content.Since
	}
	return entry, entry.Reason == protocol.ReasonKeyCompromise, nil
}

func resultID(body []byte) (protocol.Digest, error) {
	if body == nil {
		return protocol.Digest{}, nil
	}
	r, err := protocol.ParseResult(body)
	return r.ID, err
}

// broughtUnlogged is what the ledger says of a certificate that was revoked though no leaf says it was issued.
func (f *fold) broughtUnlogged(index uint64, leaf auditlog.Leaf) store.Certificate {
	return store.Certificate{
		Status: leaf.Status, Issued: index, Changed: index, NotBefore: leaf.Time, NotAfter: end(f.state.CAs[protocol.Digest(leaf.Issuer)]), Approved: leaf.Time,
	}
}

func (f *fold) broughtChange(index uint64, leaf auditlog.Leaf, body []byte) error {
	if body != nil && f.lastKind != auditlog.Order {
		if _, err := f.result(index, body); err != nil {
			return err
		}
	}
	if !f.knows(leaf) {
		return nil
	}
	issuer := protocol.Digest(leaf.Issuer)
	other := fmt.Errorf("the ledger says something else of what became of certificate %x, which was brought", leaf.Serial)
	c, found, err := f.tx.Certificate(issuer, leaf.Serial)
	if err != nil {
		return err
	}
	if !found || c.Changed < index || c.Changed == index && c.Status != leaf.Status {
		return other
	}
	f.changed[issuer] = index
	if c.Issued == index {
		f.issued++
		got, err := digestOf(c)
		if err != nil {
			return err
		}
		if want, err := digestOf(f.broughtUnlogged(index, leaf)); err != nil || want != got {
			return other
		}
	}
	if c.Changed != index || leaf.Status == auditlog.Active {
		return nil
	}
	id, err := resultID(body)
	if err != nil {
		return err
	}
	want, barred, err := f.changedTo(index, leaf, id, c.NotAfter)
	if err != nil {
		return err
	}
	if use, _ := f.tx.KeyUse(c.Key); barred && !c.Key.IsZero() && !use.Compromised {
		return other
	}
	return f.entry(leaf, want)
}

func (f *fold) broughtResult(index uint64, leaf auditlog.Leaf, body []byte) error {
	if body == nil {
		return nil
	}
	id, err := f.result(index, body)
	if err != nil || leaf.Kind != auditlog.Withdrawn {
		return err
	}
	mark, known, err := f.withdrawnAs(index, id)
	if err != nil || !known {
		return err
	}
	f.done++
	return f.isDone(mark, index)
}

// withdrawnAs is the mark of a request that a brought leaf withdraws.
func (f *fold) withdrawnAs(index uint64, id protocol.Digest) (protocol.Digest, bool, error) {
	req, known, err := f.request(index, id)
	if err != nil || !known {
		return protocol.Digest{}, false, err
	}
	content, refusal := req.Withdrawal()
	return withdrawn(content.Request, req.Body), refusal == nil, nil
}

// restored folds the leaf that ends a restore: it has to be about the leaves before it, as they were brought.
func (f *fold) restored(index uint64, leaf auditlog.Leaf, body []byte, root protocol.Digest) error {
	var o auditlog.OrderBody
	if err := cose.Unmarshal(body, &o); err != nil {
		return err
	}
	req, refusal := protocol.ParseRequest(o.Request)
	if refusal != nil {
		return fmt.Errorf("the order is none: %s", refusal.Words())
	}
	c, refusal := req.Restoration()
	switch {
	case refusal != nil:
		return fmt.Errorf("the order is none: %s", refusal.Words())
	case f.confirmed >= len(f.ranges) || f.ranges[f.confirmed] != store.Range{From: c.From, Size: c.Size} || c.Size != index:
		return fmt.Errorf("the ledger does not say that leaves %d to %d were brought", c.From, c.Size)
	case c.Root != root || c.Lost != f.lost:
		return fmt.Errorf("the leaves before it are not those that were ordered")
	}
	for id := range f.state.CAs {
		if f.seen[id] > c.Floor(id) {
			return fmt.Errorf("CRL %d is known outside, the order begins above %d", f.seen[id], c.Floor(id))
		}
		f.floors[id] = max(f.floors[id], c.Floor(id))
		if ca := f.state.CAs[id]; ca.Certificate != nil {
			f.changed[id] = index
		}
	}
	f.confirmed++
	f.counter, f.lost, f.seen = leaf.Number, 0, map[protocol.Digest]uint64{}
	return f.order(index, body)
}
