package appliance

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"coldseal/appliance/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/policy"
)

// What stands in the ledger of a certificate decides who may revoke it, when it ends, whether its name is free and its
// key good. All of it follows from the requests that were announced and the certificates that were made for them, and is
// made from these again at start.

// announced is a request of the intents.
type announced struct {
	req protocol.Request
	tbs protocol.Digest
}

// compile has the policy that stands.
func (f *fold) compile() (err error) {
	if digest := protocol.DigestOf(f.state.Policy); f.compiled == nil || f.compiled.Digest != digest {
		f.compiled, err = policy.Compile(f.state.CurrentPolicy())
	}
	return err
}

// announce takes over what is going to be done.
func (f *fold) announce(body []byte) error {
	b, err := auditlog.ParseIntents(body)
	if err != nil {
		return err
	}
	if err := f.compile(); err != nil {
		return err
	}
	f.before, f.requests = f.requests, make(map[protocol.Digest]announced, len(b.Intents))
	ids := make([]protocol.Digest, len(b.Intents))
	all := make([]announced, len(b.Intents))
	failed := make([]*protocol.Refusal, len(b.Intents))
	each(len(b.Intents), func(i int) {
		if len(b.Intents[i].Item) == 0 {
			return // a CRL
		}
		item, refusal := protocol.ParseItem(b.Intents[i].Item)
		if refusal == nil {
			ids[i], all[i].tbs = sha256.Sum256(item.Request), b.Intents[i].TBS
			all[i].req, refusal = protocol.ParseRequest(item.Request)
		}
		failed[i] = refusal
	})
	for i := range all {
		if failed[i] != nil {
			return fmt.Errorf("intent %d: %s", i, failed[i].Words())
		}
		f.requests[ids[i]] = all[i]
		if in := b.Intents[i]; len(in.Serial) != 0 && !in.TBS.IsZero() {
			f.signing[string(store.CertificateKey(in.Issuer, in.Serial))] = store.Intent{Issuer: in.Issuer, Serial: in.Serial, TBS: in.TBS, Profile: all[i].req.Profile}
		}
	}
	return nil
}

// concluded: a serial was signed, or burned.
func (f *fold) concluded(leaf auditlog.Leaf) {
	delete(f.signing, string(store.CertificateKey(protocol.Digest(leaf.Issuer), leaf.Serial)))
}

// asked finds the request that a result is of.
func (f *fold) asked(id protocol.Digest) (announced, bool) {
	a, found := f.requests[id]
	if !found {
		a, found = f.before[id]
	}
	return a, found
}

// mustAsk finds the request that a result is of, which has to be there.
func (f *fold) mustAsk(id protocol.Digest) (a announced, err error) {
	a, found := f.asked(id)
	if !found {
		err = fmt.Errorf("request %s was not announced", id)
	}
	return a, err
}

// made is what a certificate says that the ledger says as well.
type made struct {
	notBefore, notAfter int64
	key, tbs            protocol.Digest
}

// madeFrom reads a certificate of ours (RFC 5280 section 4.1).
func madeFrom(der []byte) (m made, err error) {
	var certificate, tbs, element, validity, spki cryptobyte.String
	input := cryptobyte.String(der)
	if !input.ReadASN1(&certificate, asn1.SEQUENCE) || !certificate.ReadASN1Element(&element, asn1.SEQUENCE) {
		return m, errors.New("it is not a certificate")
	}
	m.tbs = protocol.DigestOf(element)
	var from, to time.Time
	if !element.ReadASN1(&tbs, asn1.SEQUENCE) ||
		!tbs.SkipOptionalASN1(asn1.Tag(0).ContextSpecific().Constructed()) || !tbs.SkipASN1(asn1.INTEGER) || // version, serial
		!tbs.SkipASN1(asn1.SEQUENCE) || !tbs.SkipASN1(asn1.SEQUENCE) || // algorithm, issuer
		!tbs.ReadASN1(&validity, asn1.SEQUENCE) || !readTime(&validity, &from) || !readTime(&validity, &to) ||
		!tbs.SkipASN1(asn1.SEQUENCE) || !tbs.ReadASN1Element(&spki, asn1.SEQUENCE) { // subject
		return m, errors.New("it is not a certificate")
	}
	m.notBefore, m.notAfter, m.key = from.Unix(), to.Unix(), protocol.DigestOf(spki)
	return m, nil
}

func readTime(s *cryptobyte.String, t *time.Time) bool {
	if s.PeekASN1Tag(asn1.UTCTime) {
		return s.ReadASN1UTCTime(t)
	}
	return s.ReadASN1GeneralizedTime(t)
}

// certificate compares what stands of a certificate with its request and with itself. What changes later, the status and
// whether it was renewed, is left to others.
func (f *fold) certificate(index uint64, leaf auditlog.Leaf, c store.Certificate, result protocol.Result) error {
	m, err := madeFrom(result.Certificate)
	if err != nil {
		return err
	}
	want := store.Certificate{
		Status: c.Status, Profile: leaf.Profile, Issued: index, Changed: c.Changed, NotBefore: m.notBefore, NotAfter: m.notAfter,
		Key: m.key, Approved: leaf.Time, Renewed: c.Renewed,
	}
	if f.lastKind == auditlog.Order {
		if want.Subject = crossSubject; result.Issuer == f.state.CAs[m.key].Issuer && bytes.Equal(result.Certificate, f.state.CAs[m.key].Certificate) {
			want.Subject = f.state.CAs[m.key].Label
		}
	} else if err := f.endEntity(index, leaf, c, result, m, &want); err != nil {
		return err
	}
	if c.Renewed {
		f.renewed++
	}
	got, err := digestOf(c)
	if err != nil {
		return err
	}
	if digest, err := digestOf(want); err != nil || digest != got {
		return fmt.Errorf("the ledger says something else of certificate %x than its request", leaf.Serial)
	}
	return nil
}

func (f *fold) endEntity(index uint64, leaf auditlog.Leaf, c store.Certificate, result protocol.Result, m made, want *store.Certificate) error {
	a, err := f.mustAsk(result.ID)
	if err != nil {
		return err
	}
	content, refusal := a.req.Issuance()
	if refusal != nil || a.tbs != m.tbs || a.req.Profile != leaf.Profile || a.req.Issuer != result.Issuer {
		return fmt.Errorf("certificate %x is not the one that was announced", leaf.Serial)
	}
	profile, found := f.compiled.Profile(leaf.Profile)
	if !found {
		return fmt.Errorf("there was no profile %s", leaf.Profile)
	}
	names, refusal := profile.Names(&a.req, content.Fields)
	if refusal != nil {
		return fmt.Errorf("certificate %x: %s", leaf.Serial, refusal.Words())
	}
	want.Name, want.Body, want.Subject = store.NameKey(names.Unique), a.req.Body, a.req.Subject
	if content.Renews != nil {
		want.Renews = store.CertificateKey(content.Renews.Issuer, content.Renews.Serial)
		old, found, err := f.tx.Certificate(content.Renews.Issuer, content.Renews.Serial)
		if err != nil {
			return err
		}
		if !found || !old.Renewed || old.Issued >= index {
			return fmt.Errorf("certificate %x, which was renewed, is not so in the ledger", content.Renews.Serial)
		}
		if f.renewals++; c.Approved == old.Approved { // by the current key alone
			want.Approved = old.Approved
		}
	}
	if use, found := f.tx.KeyUse(m.key); !found || !bytes.Equal(use.Name, want.Name) {
		return fmt.Errorf("the ledger says something else of the key of certificate %x", leaf.Serial)
	}
	newest, err := f.tx.Newest(want.Name)
	if err != nil {
		return err
	}
	if newest.Issued < index || !bytes.Equal(newest.Name, want.Name) {
		return fmt.Errorf("the ledger says something else of the name of certificate %x", leaf.Serial)
	}
	if newest.Issued == index {
		f.names++
	}
	return nil
}

// revocation compares an entry of the CRL with the request for it.
func (f *fold) revocation(index uint64, leaf auditlog.Leaf, c store.Certificate, id protocol.Digest) error {
	a, err := f.mustAsk(id)
	if err != nil {
		return err
	}
	content, refusal := a.req.Revocation()
	if a.req.Kind == protocol.KindRevokeCA {
		var c protocol.CARevocation
		c, refusal = a.req.CARevocation()
		content = protocol.Revocation{Serial: c.Serial, Reason: c.Reason, Since: c.Since}
	}
	if refusal != nil || auditlog.StatusAfter(a.req.Kind) != leaf.Status || !bytes.Equal(content.Serial, leaf.Serial) {
		return fmt.Errorf("what became of certificate %x is not what was announced", leaf.Serial)
	}
	want := store.Revoked{Time: leaf.Time, Reason: content.Reason, Since: content.Since, Index: index, NotAfter: c.NotAfter}
	if leaf.Status == auditlog.Held {
		want.Reason = protocol.ReasonCertificateHold
	}
	if use, _ := f.tx.KeyUse(c.Key); want.Reason == protocol.ReasonKeyCompromise && !use.Compromised {
		return fmt.Errorf("the key of certificate %x was reported compromised", leaf.Serial)
	}
	return f.entry(leaf, want)
}

// withdrawal asks whether the request that was withdrawn is marked so.
func (f *fold) withdrawal(index uint64, id protocol.Digest) error {
	a, err := f.mustAsk(id)
	if err != nil {
		return err
	}
	content, refusal := a.req.Withdrawal()
	if refusal != nil {
		return fmt.Errorf("request %s withdraws nothing", id)
	}
	f.done++
	return f.isDone(withdrawn(content.Request, a.req.Body), index)
}

// end is when a CA's certificate ends; without one nothing it signed does.
func end(ca auditlog.CA) int64 {
	if m, err := madeFrom(ca.Certificate); err == nil {
		return m.notAfter
	}
	return protocol.MaxTime
}

// unlogged compares a certificate that was revoked though no leaf says it was issued: it came with the request.
func (f *fold) unlogged(index uint64, leaf auditlog.Leaf, c store.Certificate, id protocol.Digest) error {
	f.issued++
	a, err := f.mustAsk(id)
	if err != nil {
		return err
	}
	content, refusal := a.req.Revocation()
	if refusal != nil {
		return errors.New(refusal.Words())
	}
	signed, err := auditlog.SignedBy(content.Certificate, f.state.CAs[protocol.Digest(leaf.Issuer)].SPKI)
	if err != nil {
		return fmt.Errorf("certificate %x, which no entry says was issued: %w", leaf.Serial, err)
	}
	want := unloggedAs(&a.req, signed)
	want.Status, want.Issued, want.Changed = c.Status, index, c.Changed
	got, err := digestOf(c)
	if err != nil {
		return err
	}
	if digest, err := digestOf(want); err != nil || digest != got || leaf.Status != auditlog.Revoked {
		return fmt.Errorf("the ledger says something else of certificate %x than the certificate itself", leaf.Serial)
	}
	return nil
}
