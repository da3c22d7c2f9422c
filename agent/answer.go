package agent

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"fmt"

	"coldseal/agent/store"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
)

// verified is an answer that was found true.
type verified struct {
	place  uint64 // in the response
	number uint64 // of the request; zero if it is not known here
	result store.Result
	issuer protocol.Digest // of the certificate that was issued
}

func byNumber(a, b verified) int { return cmp.Compare(a.number, b.number) }

// find looks for the request with an id, first where it is likely to be; number 0 is that it is not known here.
func find(tx *store.Tx, id protocol.Digest, likely uint64) (number uint64, asked store.Asked, err error) {
	if asked, err = tx.Asked(likely); err == nil && asked.ID == id {
		return likely, asked, nil
	}
	if number = tx.RequestNumber(id); number == 0 {
		return 0, store.Asked{}, nil
	}
	asked, err = tx.Asked(number)
	return number, asked, err
}

// check compares one answer with what was asked and with its leaf in the log. The request is looked for at a likely
// number first.
func (in *incoming) check(tx *store.Tx, data []byte, likely uint64) (verified, error) {
	answer, result, err := protocol.ParseAnswer(data)
	if err != nil {
		return verified{}, lie("it cannot be read: %v", err)
	}
	number, asked, err := find(tx, result.ID, likely)
	if err != nil {
		return verified{}, err
	}
	v := verified{number: number, result: store.Result{Outcome: result.Outcome, Serial: result.Serial, Answer: data}}
	if result.Outcome == protocol.OutcomeRefused {
		v.result.Open = result.Refusal.Open()
		return v, in.checkLeaf(tx, &answer, &result, auditlog.Leaf{Kind: auditlog.Refused})
	}
	if v.number != 0 {
		if err := agrees(&asked, &result); err != nil {
			return v, err
		}
	} else if in.own {
		return v, lie("it answers %s, which was not asked", result.ID)
	}
	leaf := auditlog.Leaf{Issuer: result.Issuer[:], Serial: result.Serial}
	switch result.Outcome {
	case protocol.OutcomeIssued:
		leaf.Kind, leaf.Status, leaf.Profile = auditlog.Issued, auditlog.Active, asked.Profile
		v.issuer = result.Issuer
		if err := in.checkCertificate(v.number != 0, &asked, &result); err != nil {
			return v, err
		}
	case protocol.OutcomeRevoked, protocol.OutcomeHeld:
		leaf.Kind, leaf.Status = auditlog.Changed, auditlog.Revoked
		if result.Outcome == protocol.OutcomeHeld {
			leaf.Status = auditlog.Held
		}
		if err := in.checkReceipt(&result); err != nil {
			return v, err
		}
	case protocol.OutcomeReleased:
		leaf.Kind, leaf.Status = auditlog.Changed, auditlog.Active
	case protocol.OutcomeWithdrawn:
		leaf = auditlog.Leaf{Kind: auditlog.Withdrawn}
	default:
		leaf = auditlog.Leaf{Kind: auditlog.Order}
	}
	return v, in.checkLeaf(tx, &answer, &result, leaf)
}

// agrees asks whether the outcome is one of what was asked, for the same certificate.
func agrees(asked *store.Asked, result *protocol.Result) error {
	want := map[protocol.Kind]protocol.Outcome{
		protocol.KindIssue: protocol.OutcomeIssued, protocol.KindRenew: protocol.OutcomeIssued, protocol.KindRevoke: protocol.OutcomeRevoked,
		protocol.KindHold: protocol.OutcomeHeld, protocol.KindRelease: protocol.OutcomeReleased, protocol.KindWithdraw: protocol.OutcomeWithdrawn,
	}[asked.Kind]
	if result.Outcome != want {
		return lie("%s was asked to %s and is said to be %s", result.ID, asked.Kind, result.Outcome)
	}
	if want != protocol.OutcomeWithdrawn && result.Issuer != asked.Issuer {
		return lie("%s was asked of another CA", result.ID)
	}
	if len(asked.Serial) != 0 && !bytes.Equal(asked.Serial, result.Serial) {
		return lie("%s asked about the certificate %x, the answer is about %x", result.ID, asked.Serial, result.Serial)
	}
	return nil
}

// checkLeaf asks whether the log records the answer: the leaf at its index holds all that it says and the digest of its
// body. A refusal may have none.
func (in *incoming) checkLeaf(tx *store.Tx, answer *protocol.Answer, result *protocol.Result, want auditlog.Leaf) error {
	if len(answer.Salt) == 0 {
		if result.Outcome == protocol.OutcomeRefused {
			return nil
		}
		return lie("the log does not record the answer to %s", result.ID)
	}
	data, err := in.leaves.leaf(tx, answer.Index)
	if err != nil || data == nil {
		return err
	}
	want.Body = auditlog.BodyDigest([16]byte(answer.Salt), answer.Body)
	got, err := leafTime(data)
	if want.Time = got; err == nil && want.Kind == auditlog.Issued && want.Profile == "" { // not known here
		var leaf auditlog.Leaf
		leaf, err = auditlog.ParseLeaf(data)
		want.Profile = leaf.Profile
	}
	if err != nil {
		return lie("leaf %d: %v", answer.Index, err)
	}
	if encoded, err := want.Encode(); err != nil || !bytes.Equal(encoded, data) {
		return lie("leaf %d of the log does not record the answer to %s", answer.Index, result.ID)
	}
	return nil
}

// leafTime reads the time of a leaf, the one thing in it that no answer says. The leaf is an array whose first element,
// the kind, takes one byte (log.md); whatever else it is shows when it is compared.
func leafTime(leaf []byte) (int64, error) {
	if len(leaf) < 12 {
		return 0, fmt.Errorf("%d bytes are no leaf", len(leaf))
	}
	switch head := leaf[2]; {
	case head < 24:
		return int64(head), nil
	case head <= 27:
		var time uint64
		for _, b := range leaf[3 : 3+1<<(head-24)] {
			time = time<<8 | uint64(b)
		}
		return int64(time), nil
	}
	return 0, fmt.Errorf("its time is not a number")
}

// checkCertificate asks whether a certificate is by the CA and says what was asked.
func (in *incoming) checkCertificate(known bool, asked *store.Asked, result *protocol.Result) error {
	cert, err := x509.ParseCertificate(result.Certificate)
	if err != nil {
		return lie("the certificate for %s cannot be read: %v", result.ID, err)
	}
	if err := in.signedBy(cert, result.Issuer); err != nil {
		return lie("the certificate for %s: %v", result.ID, err)
	}
	if serial := cert.SerialNumber.Bytes(); cert.SerialNumber.Sign() <= 0 || !bytes.Equal(serial, result.Serial) {
		return lie("the certificate for %s has the serial %x, not %x", result.ID, serial, result.Serial)
	}
	scope, scoped, err := protocol.ScopeOf(cert)
	if err != nil {
		return lie("the certificate for %s: %v", result.ID, err)
	}
	if known {
		if err := compare(cert, asked); err != nil {
			return lie("the certificate for %s: %v", result.ID, err)
		}
		var extension protocol.Digest
		if scoped {
			der, err := scope.Encode()
			if err != nil {
				return err
			}
			extension = protocol.DigestOf(der)
		}
		if extension != asked.Scope {
			return lie("the certificate for %s lets its holder approve something else than was asked", result.ID)
		}
	}
	if scoped {
		in.mu.Lock()
		in.approvers[protocol.DigestOf(cert.RawSubjectPublicKeyInfo)] = store.Approver{
			Person: scope.Person, Scopes: scope.Scopes, NotAfter: cert.NotAfter.Unix(), SPKI: cert.RawSubjectPublicKeyInfo,
			Issuer: result.Issuer, Serial: result.Serial,
		}
		in.mu.Unlock()
	}
	return nil
}

func (in *incoming) signedBy(cert *x509.Certificate, issuer protocol.Digest) error {
	for _, c := range in.known.cas {
		if c.id != issuer || !bytes.Equal(c.cert.RawSubject, cert.RawIssuer) {
			continue
		}
		if err := c.cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
			return fmt.Errorf("it is not signed by %s: %w", &c, err)
		}
		return nil
	}
	return fmt.Errorf("no CA has its issuer's name and the key %s", issuer)
}

// compare asks whether a certificate says what was asked.
func compare(cert *x509.Certificate, asked *store.Asked) error {
	from, to := cert.NotBefore.Unix(), cert.NotAfter.Unix()
	switch {
	case asked.Key.IsZero() || protocol.DigestOf(cert.RawSubjectPublicKeyInfo) != asked.Key:
		return fmt.Errorf("it is for another key than was asked")
	case asked.Names.IsZero() || certificateNames(cert) != asked.Names:
		return fmt.Errorf("it names %s %v, which is not what was asked", cert.Subject, cert.DNSNames)
	case cert.IsCA:
		return fmt.Errorf("it is one of a CA")
	case from < asked.NotBefore, asked.NotAfter != 0 && to != asked.NotAfter, to < from, to-from+1 > asked.Term:
		return fmt.Errorf("it is valid from %s to %s, which is not within what was asked", protocol.Date(from), protocol.Date(to))
	}
	return nil
}

// checkReceipt asks whether the receipt says the same as the answer.
func (in *incoming) checkReceipt(result *protocol.Result) error {
	receipt, err := protocol.OpenReceipt(result.Receipt, in.response.Keys)
	if err != nil {
		return lie("the receipt for %s: %v", result.ID, err)
	}
	if receipt.Appliance != in.s.id || receipt.Request != result.ID || receipt.Outcome != result.Outcome ||
		receipt.Issuer != result.Issuer || !bytes.Equal(receipt.Serial, result.Serial) {
		return lie("the receipt for %s is about something else", result.ID)
	}
	return nil
}
