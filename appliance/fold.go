package appliance

import (
	"bytes"
	"crypto/x509"
	"fmt"

	"coldseal/appliance/issue"
	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/policy"
)

// What one leaf has to find in the ledger.

// result: the request whose result is in the leaf is done, there.
func (f *fold) result(index uint64, body []byte) (protocol.Digest, error) {
	f.done++
	r, err := protocol.ParseResult(body)
	if err != nil {
		return r.ID, err
	}
	return r.ID, f.isDone(r.ID, index)
}

func (f *fold) isDone(id protocol.Digest, index uint64) error {
	if at, found := f.tx.Done(id); !found || at != index {
		return fmt.Errorf("the ledger does not say that request %s is done here", id)
	}
	return nil
}

func (f *fold) issuance(index uint64, leaf auditlog.Leaf, body []byte) error {
	f.issued++
	f.concluded(leaf)
	c, found, err := f.tx.Certificate(protocol.Digest(leaf.Issuer), leaf.Serial)
	if err != nil {
		return err
	}
	if !found || c.Issued != index || c.Profile != leaf.Profile || c.Changed < index || c.Changed == index && c.Status != auditlog.Active {
		return fmt.Errorf("the ledger says something else of certificate %x", leaf.Serial)
	}
	if c.Changed != index {
		if err := f.changedAt(c, leaf); err != nil {
			return err
		}
	}
	result, err := protocol.ParseResult(body)
	if err != nil {
		return err
	}
	if err := f.certificate(index, leaf, c, result); err != nil {
		return err
	}
	if f.lastKind == auditlog.Order {
		return nil // a CA certificate; its request is done in the order's leaf
	}
	if p, found := f.state.CurrentPolicy().Profile(leaf.Profile); found && p.Use == policy.UseApprover {
		if err := f.approver(leaf, result); err != nil {
			return err
		}
	}
	f.done++
	return f.isDone(result.ID, index)
}

// approver notes what the ledger should say of the holder of a new approver certificate: what the certificate says.
func (f *fold) approver(leaf auditlog.Leaf, result protocol.Result) error {
	certificate, err := x509.ParseCertificate(result.Certificate)
	if err != nil {
		return err
	}
	scope, _, err := protocol.ScopeOf(certificate)
	if err != nil {
		return err
	}
	spki := certificate.RawSubjectPublicKeyInfo
	f.approvers[protocol.DigestOf(spki)], err = digestOf(store.Approver{
		Issuer: protocol.Digest(leaf.Issuer), Serial: leaf.Serial, Person: scope.Person, Scopes: scope.Scopes, SPKI: spki,
	})
	return err
}

func digestOf(v any) (protocol.Digest, error) {
	data, err := cose.Marshal(v)
	return protocol.DigestOf(data), err
}

// changedAt asks whether the leaf that a certificate's status is from says so. That no later one says otherwise is asked
// when the others come (change).
func (f *fold) changedAt(c store.Certificate, issued auditlog.Leaf) error {
	encoded, err := f.tx.Leaf(c.Changed)
	if err != nil {
		return err
	}
	leaf, err := auditlog.ParseLeaf(encoded)
	if err != nil {
		return err
	}
	if leaf.Kind != auditlog.Changed || !bytes.Equal(leaf.Issuer, issued.Issuer) || !bytes.Equal(leaf.Serial, issued.Serial) || leaf.Status != c.Status {
		return fmt.Errorf("leaf %d does not say what the ledger does of certificate %x", c.Changed, leaf.Serial)
	}
	return nil
}

func (f *fold) change(index uint64, leaf auditlog.Leaf, body []byte) error {
	c, found, err := f.tx.Certificate(protocol.Digest(leaf.Issuer), leaf.Serial)
	if err != nil {
		return err
	}
	if !found || c.Changed < index || c.Changed == index && c.Status != leaf.Status {
		return fmt.Errorf("the ledger says something else of certificate %x", leaf.Serial)
	}
	f.changed[protocol.Digest(leaf.Issuer)] = index
	result, err := protocol.ParseResult(body)
	if err != nil {
		return err
	}
	id := result.ID
	if f.lastKind != auditlog.Order { // of a CA certificate; its request is done in the order's leaf
		f.done++
		err = f.isDone(id, index)
	}
	if err == nil && c.Issued == index {
		err = f.unlogged(index, leaf, c, id)
	}
	if err == nil && c.Changed == index && leaf.Status != auditlog.Active {
		err = f.revocation(index, leaf, c, id)
	}
	return err
}

func (f *fold) burned(index uint64, leaf auditlog.Leaf) error {
	f.concluded(leaf)
	issuer := protocol.Digest(leaf.Issuer)
	f.changed[issuer] = index
	return f.entry(leaf, store.Revoked{Time: leaf.Time, Index: index, NotAfter: end(f.state.CAs[issuer])})
}

// entry: the CRL lists the certificate so.
func (f *fold) entry(leaf auditlog.Leaf, want store.Revoked) error {
	f.revoked++
	r, found, err := f.tx.Revoked(protocol.Digest(leaf.Issuer), f.shard(leaf), leaf.Serial)
	if err == nil && (!found || r != want) {
		err = fmt.Errorf("certificate %x is not among those that the CRL lists, or for something else", leaf.Serial)
	}
	return err
}

// shard is the CRL that lists a leaf's certificate.
func (f *fold) shard(leaf auditlog.Leaf) uint16 {
	return uint16(issue.Shard(leaf.Serial, f.shards(protocol.Digest(leaf.Issuer))))
}

func (f *fold) order(index uint64, body []byte) error {
	f.done++
	var o auditlog.OrderBody
	if err := cose.Unmarshal(body, &o); err != nil {
		return err
	}
	return f.isDone(protocol.ID(o.Request), index)
}

func (f *fold) crl(index uint64, leaf auditlog.Leaf, body []byte) error {
	var b auditlog.CRLBody
	if err := cose.Unmarshal(body, &b); err != nil {
		return err
	}
	key := crlKey{protocol.Digest(leaf.Issuer), b.Shard}
	if last := max(f.crls[key].number, f.floors[key.issuer]); leaf.Number != last+1 {
		return fmt.Errorf("CRL %d follows %d", leaf.Number, last)
	}
	ca := f.state.CAs[key.issuer]
	p, found := f.state.CurrentPolicy().Profile(ca.Profile)
	if !found {
		return fmt.Errorf("CRL %d of a CA without a profile", leaf.Number)
	}
	f.crls[key] = crlSeen{leaf.Number, index, b.CRL, leaf.Time, min(leaf.Time+p.CRLDays*secondsOfDay, end(ca))}
	return nil
}

func (f *fold) bundle(body []byte) error {
	f.bundles++
	var b auditlog.BundleBody
	if err := cose.Unmarshal(body, &b); err != nil {
		return err
	}
	known, found, err := f.tx.Bundle(b.From, b.Sequence)
	if err == nil && (!found || known.Digest != b.Bundle) {
		err = fmt.Errorf("the ledger does not know bundle %d of %s", b.Sequence, b.From)
	}
	return err
}
