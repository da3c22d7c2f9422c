package auditlog

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"coldseal/protocol"
	"coldseal/protocol/policy"
)

// Orders about keys and certificates that stand.

// Cross is a certificate over the key and name of another CA, or of a CA of ours that has one by another issuer already. It
// is also the certificate of a CA of which a restore brought nothing back but that an order made it.
type Cross struct {
	Issuer      protocol.Digest // id of the key that signed it
	Serial      []byte
	Certificate []byte // DER; nil if only the serial is known
}

func (s *State) checkDestroyKey(req *protocol.Request) *protocol.Refusal {
	c, refusal := req.DestroyKey()
	if refusal != nil {
		return refusal
	}
	use, current, own := s.Own.Find(c.Key)
	if own && current {
		return protocol.Refuse(protocol.CodeKeyCurrent, "use", use.String())
	}
	if ca, found := s.CAs[c.Key]; own && s.Gone[c.Key] || !own && (!found || ca.Destroyed) {
		return protocol.Refuse(protocol.CodeKeyUnknown, "key", c.Key.String())
	}
	return nil
}

// checkRotation asks that an order replaces the key that stands.
func (s *State) checkRotation(req *protocol.Request) *protocol.Refusal {
	c, refusal := req.Rotation()
	switch {
	case refusal != nil:
		return refusal
	case s.Own.Now().ID(c.Use) != c.Replaces:
		return protocol.Refuse(protocol.CodeSuperseded, "reason", "the "+c.Use.String()+" key is not the one that was to be replaced")
	case len(s.Own.Handovers()) >= protocol.MaxHandovers:
		return protocol.Refuse(protocol.CodeTooLarge, "thing", "list of replaced keys", "limit", fmt.Sprint(protocol.MaxHandovers))
	}
	return nil
}

// carryRotation takes the new key from its handover, which has to be about this very order.
func (s *State) carryRotation(req *protocol.Request, result protocol.Result, index uint64, now int64) error {
	c, refusal := req.Rotation()
	if refusal != nil {
		return refused(refusal)
	}
	next, h, err := s.Own.Next(result.Handover)
	if err != nil {
		return fmt.Errorf("carry out order: %w", err)
	}
	if h.Use != c.Use || h.Replaces != c.Replaces || !bytes.Equal(h.Key, result.Key) || h.Index != index || h.Time != now {
		return errors.New("carry out order: the handover is of another key than was ordered, or of another order")
	}
	s.Own = next
	return nil
}

// checkCross gives the certificate of the CA that is to be certified. That CA has proved to hold its key: it signed the
// certificate itself, or the key is ours.
func (s *State) checkCross(req *protocol.Request) (*x509.Certificate, *protocol.Refusal) {
	c, refusal := req.CrossCertification()
	if refusal != nil {
		return nil, refusal
	}
	if issuer := s.CAs[req.Issuer]; !issuer.Signs() || issuer.Revoked {
		return nil, protocol.Refuse(protocol.CodeIssuerUnknown, "issuer", req.Issuer.String())
	}
	if refusal := s.checkProfile(req, policy.UseCross); refusal != nil {
		return nil, refusal
	}
	other, err := parseCA(c.Certificate)
	if err != nil {
		return nil, protocol.Refuse(protocol.CodeCAInvalid, "reason", err.Error())
	}
	id := protocol.DigestOf(other.RawSubjectPublicKeyInfo)
	ours, found := s.CAs[id]
	switch {
	case id == req.Issuer:
		return nil, protocol.Refuse(protocol.CodeCAInvalid, "reason", "it is the CA that would sign")
	case found && !bytes.Equal(ours.Certificate, c.Certificate):
		return nil, protocol.Refuse(protocol.CodeCAInvalid, "reason", "it is not the certificate of our CA "+ours.Label)
	case found && (ours.Revoked || ours.Destroyed):
		return nil, protocol.Refuse(protocol.CodeCAInvalid, "reason", "our CA "+ours.Label+" was revoked, or its key was destroyed")
	case !found:
		if err := other.CheckSignature(other.SignatureAlgorithm, other.RawTBSCertificate, other.Signature); err != nil {
			return nil, protocol.Refuse(protocol.CodeCAInvalid, "reason", "it is not signed by itself, so that nobody proves to hold the key")
		}
		if refusal := s.namesake(other); refusal != nil {
			return nil, refusal
		}
	}
	return other, nil
}

// namesake refuses a CA that is not ours and has the name of one that is: its certificates and CRLs would be taken for
// ours wherever that name is all that is looked at (RFC 5280 section 6.3.3, step f).
func (s *State) namesake(other *x509.Certificate) *protocol.Refusal {
	for _, ca := range s.CAs {
		if ca.Certificate == nil {
			continue
		}
		ours, err := x509.ParseCertificate(ca.Certificate)
		if err != nil || plainName(ours) == plainName(other) {
			return protocol.Refuse(protocol.CodeCAInvalid, "reason", "it has the name of our CA "+ca.Label)
		}
	}
	return nil
}

// plainName is a subject as programs compare it: whatever the string types, letters' case and runs of spaces are (RFC 5280
// section 7.1).
func plainName(c *x509.Certificate) string {
	var b strings.Builder
	for _, a := range c.Subject.Names {
		fmt.Fprintf(&b, "%v=%q;", a.Type, strings.ToLower(strings.Join(strings.Fields(fmt.Sprint(a.Value)), " ")))
	}
	return b.String()
}

// parseCA reads the certificate of a CA, ours or not.
func parseCA(der []byte) (*x509.Certificate, error) {
	c, err := x509.ParseCertificate(der)
	switch {
	case err != nil:
		return nil, err
	case c.Version != 3 || !c.BasicConstraintsValid || !c.IsCA || c.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, errors.New("it is not the certificate of a CA that signs certificates (RFC 5280 section 4.2.1.9)")
	case len(c.SubjectKeyId) == 0 || len(c.Subject.Names) == 0:
		return nil, errors.New("it has no subject or no subject key identifier")
	case len(c.UnhandledCriticalExtensions) != 0:
		return nil, fmt.Errorf("it has a critical extension that is not known here: %v", c.UnhandledCriticalExtensions[0])
	}
	return c, nil
}

// Other gives what cross-certify certifies, of a request that was authorized.
func (s *State) Other(req *protocol.Request) (*x509.Certificate, *protocol.Refusal) {
	return s.checkCross(req)
}

// checkRevokeCA asks that the certificate is one that an order made, and that it can be revoked.
func (s *State) checkRevokeCA(req *protocol.Request) *protocol.Refusal {
	c, refusal := req.CARevocation()
	if refusal != nil {
		return refusal
	}
	if issuer := s.CAs[req.Issuer]; !issuer.Signs() {
		return protocol.Refuse(protocol.CodeIssuerUnknown, "issuer", req.Issuer.String())
	}
	serial := fmt.Sprintf("%x", c.Serial)
	if s.cross(req.Issuer, c.Serial) >= 0 {
		return nil
	}
	id, found := s.certified(req.Issuer, c.Serial)
	switch {
	case !found:
		return protocol.Refuse(protocol.CodeNotOurs, "serial", serial)
	case s.CAs[id].Revoked:
		return protocol.Refuse(protocol.CodeSuperseded, "reason", "the certificate "+serial+" is revoked")
	case id == req.Issuer:
		return protocol.Refuse(protocol.CodeCAInvalid, "reason", "a root can't be revoked by its own CRL: it has to leave the lists of trusted roots")
	}
	return nil
}

// certified finds the CA of ours whose certificate that is.
func (s *State) certified(issuer protocol.Digest, serial []byte) (protocol.Digest, bool) {
	for id, ca := range s.CAs {
		if ca.Issuer == issuer && ca.Certificate != nil && bytes.Equal(ca.Serial, serial) {
			return id, true
		}
	}
	return protocol.Digest{}, false
}

// cross finds the place of a certificate over another CA, -1 if there is none.
func (s *State) cross(issuer protocol.Digest, serial []byte) int {
	return slices.IndexFunc(s.Crosses, func(c Cross) bool { return c.Issuer == issuer && bytes.Equal(c.Serial, serial) })
}

// made notes the certificate that a leaf behind an order is about, unless the order itself says what it is: the order was
// lost, and the certificate may have to be revoked.
func (s *State) made(issuer protocol.Digest, serial []byte) {
	_, ours := s.CAs[issuer]
	if _, found := s.certified(issuer, serial); ours && !found && s.cross(issuer, serial) < 0 {
		s.Crosses = append(s.Crosses, Cross{Issuer: issuer, Serial: slices.Clone(serial)})
	}
}

// Revoke notes that a certificate was revoked, whoever did it. Only those of CAs are known here.
func (s *State) Revoke(issuer protocol.Digest, serial []byte) {
	if i := s.cross(issuer, serial); i >= 0 {
		s.Crosses = slices.Delete(s.Crosses, i, i+1)
	} else if id, found := s.certified(issuer, serial); found {
		ca := s.CAs[id]
		ca.Revoked = true
		s.CAs[id] = ca
	}
}

func (s *State) checkForeignCA(req *protocol.Request) *protocol.Refusal {
	c, ca, refusal := req.ForeignEnrolment()
	if refusal != nil {
		return refusal
	}
	current, exists := s.Foreign[ca.Name]
	if exists != !c.Replaces.IsZero() || exists && protocol.DigestOf(current) != c.Replaces {
		return protocol.Refuse(protocol.CodeSuperseded, "reason", "the record of "+ca.Name+" is not the one that was to be replaced")
	}
	certificate, err := parseCA(ca.Certificate)
	if err != nil {
		return protocol.Refuse(protocol.CodeCAInvalid, "reason", err.Error())
	}
	if ours, found := s.CAs[protocol.DigestOf(certificate.RawSubjectPublicKeyInfo)]; found {
		return protocol.Refuse(protocol.CodeCAInvalid, "reason", "it is our CA "+ours.Label)
	}
	if refusal := s.namesake(certificate); refusal != nil && !ca.Retired {
		return refusal
	}
	if !exists && len(s.Foreign) >= protocol.MaxCAs {
		return protocol.Refuse(protocol.CodeTooLarge, "thing", "list of foreign CAs", "limit", fmt.Sprint(protocol.MaxCAs))
	}
	return nil
}

// carryStanding carries out what changes keys, certificates and officers that stand.
func (s *State) carryStanding(req *protocol.Request, result protocol.Result, now int64) error {
	switch req.Kind {
	case protocol.KindDestroyKey:
		c, refusal := req.DestroyKey()
		if refusal != nil {
			return refused(refusal)
		}
		if _, _, own := s.Own.Find(c.Key); own {
			s.Gone[c.Key] = true
			return nil
		}
		ca := s.CAs[c.Key]
		ca.Destroyed = true
		s.CAs[c.Key] = ca
	case protocol.KindCrossCertify:
		other, refusal := s.checkCross(req)
		if refusal != nil {
			return refused(refusal)
		}
		issuer := s.CAs[req.Issuer]
		serial, err := verifyCA(result.Certificate, other.RawSubjectPublicKeyInfo, issuer.SPKI)
		if err != nil {
			return fmt.Errorf("carry out order: certificate of %s by %s: %w", other.Subject, issuer.Label, err)
		}
		s.Crosses = append(s.Crosses, Cross{req.Issuer, serial, result.Certificate})
	case protocol.KindRevokeCA:
		c, refusal := req.CARevocation()
		if refusal != nil {
			return refused(refusal)
		}
		s.Revoke(req.Issuer, c.Serial)
	case protocol.KindForeignCA:
		c, ca, refusal := req.ForeignEnrolment()
		if refusal != nil {
			return refused(refusal)
		}
		s.Foreign[ca.Name] = c.CA
	case protocol.KindRecovery:
		c, refusal := req.Recovery()
		if refusal != nil {
			return refused(refusal)
		}
		s.Announced = Announcement{c.Replaces, c.New, now}
	case protocol.KindSuspend:
		next, refusal := s.suspended(req)
		if refusal != nil {
			return refused(refusal)
		}
		data, err := policy.EncodeRoster(next)
		if err != nil {
			return fmt.Errorf("carry out order: %w", err)
		}
		s.Announced = Announcement{}
		return s.setRoster(data)
	}
	return nil
}
