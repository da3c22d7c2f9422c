package pathcheck

import (
	"bytes"
	"fmt"
)

// revocation checks each certificate of a path but the anchor. The first that is stopped is remembered, so that the next
// search goes around it.
func (s *search) revocation(path []int, crls []*crl, unreadable []Reason) []Reason {
	for i := 0; i+1 < len(path); i++ {
		faults := status(s.nodes[path[i]], s.nodes[path[i+1]], crls, s.now)
		if len(faults) > 0 {
			s.stopped[[2]int{path[i], path[i+1]}] = true
			if faults[0].Code == NoCRL {
				faults = append(faults, unreadable...)
			}
			return faults
		}
	}
	return nil
}

// status tells whether the issuer's CRLs let a certificate pass. All that are of the issuer's key and cover the
// certificate are looked at; a fault of one is a fault, but an old one counts for nothing beside a current one of the
// same scope. RFC 5280 section 6.3 leaves the choice open.
func status(cert, issuer *certificate, crls []*crl, now int64) []Reason {
	var covering, current []*crl
	var faults []Reason
	for _, c := range crls {
		if !bytes.Equal(c.issuer, issuer.subject) || len(c.keyID) > 0 && !bytes.Equal(c.keyID, issuer.subjectKeyID) || !c.covers(cert) {
			continue
		}
		faults = append(faults, c.problems...)
		covering = append(covering, c)
		if len(c.checkTime(now)) == 0 {
			current = append(current, c)
		}
	}
	switch {
	case len(covering) == 0:
		return []Reason{cert.refuse(NoCRL, "no CRL of %s covers it", issuer.name)}
	case len(faults) > 0:
		return faults
	case issuer.usage&usageCRLSign == 0:
		return []Reason{issuer.refuse(CRLKeyUsage, "it may not sign CRLs")}
	case len(current) == 0:
		for _, c := range covering {
			faults = append(faults, c.checkTime(now)...)
		}
		return faults
	}
	for _, c := range current {
		if faults := c.checkSignature(issuer); len(faults) > 0 {
			return faults
		}
	}
	for _, c := range current {
		if c.replaced(current) {
			continue
		}
		e, isThere, _, reason := c.lookup(cert.serial)
		if reason != nil {
			return []Reason{*reason}
		}
		if isThere {
			return []Reason{e.revoked(cert, c)}
		}
	}
	return nil
}

// replaced tells whether one of the others has the same scope and a higher number.
func (c *crl) replaced(others []*crl) bool {
	for _, other := range others {
		if bytes.Equal(c.point, other.point) && other.newer(c) {
			return true
		}
	}
	return false
}

// CRLReport is what a CRL says that was accepted.
type CRLReport struct {
	Number     string // hexadecimal
	ThisUpdate int64  // unix seconds
	NextUpdate int64  // unix seconds, inclusive
	Entries    int
	Partial    bool // it has a scope: it covers some of the issuer's certificates
}

// CRL decides about a CRL of a CA whose certificate (DER) the caller trusts, at a time in unix seconds. All entries are
// read.
func CRL(der, issuer []byte, now int64) (CRLReport, []Reason) {
	ca, reasons := trustedCA(issuer, now)
	if len(reasons) > 0 {
		return CRLReport{}, reasons
	}
	c, reason := parseCRL("the CRL", der)
	if reason != nil {
		return CRLReport{}, []Reason{*reason}
	}
	reasons = append(c.problems, c.checkIssuer(ca)...)
	reasons = append(reasons, c.checkTime(now)...)
	if len(reasons) == 0 {
		reasons = c.checkSignature(ca)
	}
	_, _, count, reason := c.lookup(nil)
	if reason != nil {
		reasons = append(reasons, *reason)
	}
	if len(reasons) > 0 {
		return CRLReport{}, reasons
	}
	return CRLReport{Number: fmt.Sprintf("%x", c.number), ThisUpdate: c.thisUpdate, NextUpdate: c.nextUpdate, Entries: count, Partial: c.point != nil}, nil
}

// trustedCA reads the certificate of a CA that the caller trusts.
func trustedCA(der []byte, now int64) (*certificate, []Reason) {
	ca, reason := parseCertificate("the issuer", der)
	if reason != nil {
		return nil, []Reason{*reason}
	}
	reasons := append(ca.problems, ca.checkTime(now)...)
	if !ca.isCA {
		reasons = append(reasons, ca.refuse(NotCA, "it is no CA"))
	}
	return ca, reasons
}
