package pathcheck

import (
	"bytes"
	"fmt"

	"coldseal/protocol/x690"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// crl is a CRL without its entries, which stay where they are: see entries.go. It shares memory with its DER.
type crl struct {
	name       string // for words
	tbs        []byte
	scheme     scheme
	signature  []byte
	issuer     []byte // Name, DER
	thisUpdate int64  // unix seconds
	nextUpdate int64  // unix seconds, inclusive
	entries    cryptobyte.String
	keyID      []byte // of the authority
	number     []byte // contents of the INTEGER, no leading zeros
	point      []byte // value of issuingDistributionPoint, as it is; nil: covers all certificates of its issuer
	names      [][]byte
	onlyUsers  bool
	onlyCAs    bool
	problems   []Reason
}

func (c *crl) refuse(code Code, format string, args ...any) Reason {
	return refuse(code, "%s: %s", c.name, fmt.Sprintf(format, args...))
}

func (c *crl) problem(code Code, format string, args ...any) {
	if len(c.problems) < maxProblems {
		c.problems = append(c.problems, c.refuse(code, format, args...))
	}
}

// parseCRLs leaves out what cannot be read; it is named if a CRL is missing.
func parseCRLs(all [][]byte) (crls []*crl, unreadable []Reason) {
	for i, der := range all {
		c, reason := parseCRL(fmt.Sprintf("CRL %d", i+1), der)
		if reason != nil {
			unreadable = append(unreadable, *reason)
			continue
		}
		crls = append(crls, c)
	}
	return crls, unreadable
}

// parseCRL reads a CertificateList (RFC 5280 section 5.1), all but its entries. The reason is of code CRLForm or Limit.
func parseCRL(name string, der []byte) (*crl, *Reason) {
	c := &crl{name: name}
	if len(der) > MaxCRL {
		r := c.refuse(Limit, "%d octets, at most %d are read", len(der), MaxCRL)
		return nil, &r
	}
	if err := c.parse(der); err != nil {
		r := c.refuse(CRLForm, "%v", err)
		return nil, &r
	}
	return c, nil
}

func (c *crl) parse(der cryptobyte.String) error {
	whole, ok := x690.One(der, tag.SEQUENCE)
	if !ok {
		return fmt.Errorf("not one DER sequence: cut off, or bytes after it")
	}
	var tbs, outer cryptobyte.String
	if !whole.ReadASN1Element(&tbs, tag.SEQUENCE) || !whole.ReadASN1Element(&outer, tag.SEQUENCE) ||
		!whole.ReadASN1BitStringAsBytes(&c.signature) || !whole.Empty() || !x690.WellFormed(outer) {
		return fmt.Errorf("not a signed CRL")
	}
	c.tbs = tbs
	return c.parseTBS(tbs, outer)
}

func (c *crl) parseTBS(element, outer cryptobyte.String) error {
	var inner, issuer, extensions cryptobyte.String
	var version int
	var hasEntries, hasExtensions bool
	tbs, ok := x690.One(element, tag.SEQUENCE)
	if !ok || !tbs.ReadASN1Integer(&version) || version != 1 {
		return fmt.Errorf("not of version 2")
	}
	if !tbs.ReadASN1Element(&inner, tag.SEQUENCE) || !tbs.ReadASN1Element(&issuer, tag.SEQUENCE) || !x690.WellFormed(issuer) {
		return fmt.Errorf("algorithm or issuer missing or not DER")
	}
	if err := checkName(issuer); err != nil || string(issuer) == emptyName {
		return fmt.Errorf("issuer is not a name, or an empty one")
	}
	if c.thisUpdate, ok = readTime(&tbs); !ok {
		return fmt.Errorf("thisUpdate is not a time as RFC 5280 wants it")
	}
	if c.nextUpdate, ok = readTime(&tbs); !ok || c.nextUpdate < c.thisUpdate {
		return fmt.Errorf("nextUpdate is not a time as RFC 5280 wants it, or before thisUpdate")
	}
	if !tbs.ReadOptionalASN1(&c.entries, &hasEntries, tag.SEQUENCE) || hasEntries && c.entries.Empty() {
		return fmt.Errorf("the list of entries is not one, or empty where it should be absent")
	}
	if !tbs.ReadOptionalASN1(&extensions, &hasExtensions, explicit(0)) || !tbs.Empty() {
		return fmt.Errorf("fields after the entries that are not extensions")
	}
	c.issuer = issuer
	if hasExtensions {
		if err := c.parseExtensions(extensions); err != nil {
			return err
		}
	}
	if !bytes.Equal(inner, outer) {
		c.problem(CRLMismatch, "the signature algorithm inside is not the one beside the signature")
	}
	if c.scheme, ok = parseScheme(outer); !ok {
		c.problem(CRLAlgorithm, "the signature algorithm is not accepted")
	}
	if c.number == nil {
		c.problem(CRLNumber, "no CRL number")
	}
	if len(c.keyID) == 0 {
		c.problem(CRLKeyIdentifier, "no authority key identifier")
	}
	return nil
}

func (c *crl) parseExtensions(field cryptobyte.String) error {
	list, ok := x690.One(field, tag.SEQUENCE)
	if !ok || list.Empty() || !x690.WellFormed(list) {
		return fmt.Errorf("extensions are not a list of at least one")
	}
	seen := map[string]bool{}
	for !list.Empty() {
		e, ok := readExtension(&list)
		if !ok {
			return fmt.Errorf("an extension is not an identifier, critical or not, and a value")
		}
		if seen[e.oid] {
			c.problem(CRLDuplicate, "extension %s is there twice", x690.OID([]byte(e.oid)))
			continue
		}
		seen[e.oid] = true
		if !c.parseExtension(e) {
			return fmt.Errorf("extension %s cannot be read", x690.OID([]byte(e.oid)))
		}
	}
	return nil
}

// parseExtension reads one that is understood (RFC 5280 section 5.2).
func (c *crl) parseExtension(e extension) bool {
	switch e.oid {
	case oidAuthorityKeyID:
		var a certificate
		if !a.parseAuthorityKeyID(e.value) {
			return false
		}
		c.keyID = a.issuerKeyID
	case oidCRLNumber:
		number, ok := x690.One(e.value, tag.INTEGER)
		if !ok || len(number) > 20 || !x690.Shortest(number) || number[0] >= 0x80 {
			return false
		}
		c.number = bytes.TrimLeft(number, "\x00")
		if c.number == nil {
			c.number = []byte{}
		}
	case oidIssuingPoint:
		if !e.critical {
			c.problem(CRLCriticality, "issuingDistributionPoint must be critical")
		}
		return c.parseIssuingPoint(e.value)
	case oidDeltaCRLIndicator:
		c.problem(CRLDelta, "delta CRLs are not supported")
		return true
	default:
		if e.critical {
			c.problem(CRLExtension, "critical extension %s is not understood", x690.OID([]byte(e.oid)))
		}
		return true
	}
	if e.critical && e.oid != oidIssuingPoint {
		c.problem(CRLCriticality, "extension %s must not be critical", x690.OID([]byte(e.oid)))
	}
	return true
}

// parseIssuingPoint reads RFC 5280 section 5.2.5. The booleans default to FALSE, which DER leaves out.
func (c *crl) parseIssuingPoint(value cryptobyte.String) bool {
	var name, reasons, flag cryptobyte.String
	var hasName, hasReasons, indirect, attributes bool
	list, ok := x690.One(value, tag.SEQUENCE)
	if !ok || list.Empty() || !list.ReadOptionalASN1(&name, &hasName, explicit(0)) {
		return false
	}
	readFlag := func(n uint8, present *bool) bool {
		return list.ReadOptionalASN1(&flag, present, implicit(n)) && (!*present || string(flag) == "\xff")
	}
	if !readFlag(1, &c.onlyUsers) || !readFlag(2, &c.onlyCAs) || !list.ReadOptionalASN1(&reasons, &hasReasons, implicit(3)) ||
		!readFlag(4, &indirect) || !readFlag(5, &attributes) || !list.Empty() {
		return false
	}
	if hasName {
		if c.names, ok = readPointNames(name); !ok {
			return false
		}
		if len(c.names) == 0 {
			c.problem(CRLScope, "its distribution point is named relative to the issuer, which is not supported")
		}
	}
	if hasReasons || indirect || attributes || c.onlyUsers && c.onlyCAs {
		c.problem(CRLScope, "indirect, of some reasons only, or of attribute certificates, which is not supported")
	}
	c.point = value
	return true
}

// covers tells whether the certificate is in the CRL's scope (RFC 5280 section 6.3.3 b): its kind, and one of the
// distribution points, compared as bytes.
func (c *crl) covers(cert *certificate) bool {
	if c.onlyUsers && cert.isCA || c.onlyCAs && !cert.isCA {
		return false
	}
	if len(c.names) == 0 {
		return true
	}
	for _, name := range c.names {
		for _, point := range cert.points {
			if bytes.Equal(name, point) {
				return true
			}
		}
	}
	return false
}

// checkTime tells whether the CRL is current, both ends included.
func (c *crl) checkTime(unix int64) []Reason {
	switch {
	case unix < c.thisUpdate:
		return []Reason{c.refuse(CRLNotYetValid, "from %s on", date(c.thisUpdate))}
	case unix > c.nextUpdate:
		return []Reason{c.refuse(CRLExpired, "the next one was due by %s", date(c.nextUpdate))}
	}
	return nil
}

// checkIssuer tells whether the CA made it, but for the signature.
func (c *crl) checkIssuer(issuer *certificate) []Reason {
	var reasons []Reason
	if !bytes.Equal(c.issuer, issuer.subject) || !bytes.Equal(c.keyID, issuer.subjectKeyID) {
		reasons = append(reasons, c.refuse(CRLIssuer, "it is not of %s", issuer.name))
	}
	if issuer.usage&usageCRLSign == 0 {
		reasons = append(reasons, issuer.refuse(CRLKeyUsage, "it may not sign CRLs"))
	}
	return reasons
}

func (c *crl) checkSignature(issuer *certificate) []Reason {
	if !c.scheme.verify(issuer.public, c.tbs, c.signature) {
		return []Reason{c.refuse(CRLSignature, "it is not signed by the key of %s", issuer.name)}
	}
	return nil
}

// newer compares CRL numbers.
func (c *crl) newer(than *crl) bool {
	if len(c.number) != len(than.number) {
		return len(c.number) > len(than.number)
	}
	return bytes.Compare(c.number, than.number) > 0
}
