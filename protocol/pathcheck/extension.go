package pathcheck

import (
	"fmt"

	"coldseal/protocol/x690"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// Contents of the OIDs of extensions (RFC 5280 sections 4.2 and 5.2, RFC 6960 section 4.2.2.2.1).
const (
	oidSubjectKeyID      = "\x55\x1d\x0e"
	oidKeyUsage          = "\x55\x1d\x0f"
	oidSubjectAltName    = "\x55\x1d\x11"
	oidBasicConstraints  = "\x55\x1d\x13"
	oidCRLNumber         = "\x55\x1d\x14"
	oidReasonCode        = "\x55\x1d\x15"
	oidInvalidityDate    = "\x55\x1d\x18"
	oidDeltaCRLIndicator = "\x55\x1d\x1b"
	oidIssuingPoint      = "\x55\x1d\x1c"
	oidCertificateIssuer = "\x55\x1d\x1d"
	oidNameConstraints   = "\x55\x1d\x1e"
	oidCRLPoints         = "\x55\x1d\x1f"
	oidPolicies          = "\x55\x1d\x20"
	oidAuthorityKeyID    = "\x55\x1d\x23"
	oidExtKeyUsage       = "\x55\x1d\x25"
	oidAuthorityAccess   = "\x2b\x06\x01\x05\x05\x07\x01\x01"
	oidOCSPNoCheck       = "\x2b\x06\x01\x05\x05\x07\x30\x01\x05"
	purposeOCSPSigning   = "\x2b\x06\x01\x05\x05\x07\x03\x09"
)

// parseExtensions reads the contents of the field. An extension that is understood and cannot be read makes the
// certificate unreadable.
func (c *certificate) parseExtensions(field cryptobyte.String) error {
	list, ok := x690.One(field, tag.SEQUENCE)
	if !ok || list.Empty() {
		return fmt.Errorf("extensions are not a list of at least one")
	}
	for !list.Empty() {
		e, ok := readExtension(&list)
		if !ok {
			return fmt.Errorf("an extension is not an identifier, critical or not, and a value")
		}
		if c.has(e.oid) {
			c.problem(DuplicateExtension, "extension %s is there twice", x690.OID([]byte(e.oid)))
			continue
		}
		c.seen[e.oid] = true
		if !c.parseExtension(e) {
			return fmt.Errorf("extension %s cannot be read", x690.OID([]byte(e.oid)))
		}
	}
	return nil
}

// parseExtension reads one that is understood; others are left alone unless they are critical. Policies need no reading:
// any will do, and what could require one (policyConstraints) is critical, not understood, and so refused.
func (c *certificate) parseExtension(e extension) (ok bool) {
	known, mustNot := true, false
	switch e.oid {
	case oidBasicConstraints:
		c.caCritical = e.critical
		ok = c.parseBasicConstraints(e.value)
	case oidKeyUsage:
		c.usage, ok = bitString(e.value)
	case oidExtKeyUsage:
		ok = c.parsePurposes(e.value)
	case oidSubjectAltName:
		c.altCritical = e.critical
		names, valid := x690.One(e.value, tag.SEQUENCE)
		ok = valid && x690.WellFormed(names) && !names.Empty()
	case oidSubjectKeyID:
		mustNot = true
		id, valid := x690.One(e.value, tag.OCTET_STRING)
		c.subjectKeyID, ok = id, valid && len(id) > 0
	case oidAuthorityKeyID:
		mustNot = true
		ok = c.parseAuthorityKeyID(e.value)
	case oidCRLPoints:
		ok = c.parsePoints(e.value)
	case oidPolicies:
		list, valid := x690.One(e.value, tag.SEQUENCE)
		ok = valid && x690.WellFormed(list) && !list.Empty()
	case oidAuthorityAccess:
		mustNot, ok = true, true
	case oidNameConstraints:
		// Not critical is against RFC 5280 section 4.2.1.10; to ignore a constraint would be worse than to refuse.
		c.problem(NameConstraints, "name constraints are not supported")
		ok = true
	default:
		known, ok = false, true
	}
	switch {
	case !known && e.critical:
		c.problem(CriticalExtension, "critical extension %s is not understood", x690.OID([]byte(e.oid)))
	case mustNot && e.critical:
		c.problem(Criticality, "extension %s must not be critical", x690.OID([]byte(e.oid)))
	}
	return ok
}

// parseBasicConstraints reads RFC 5280 section 4.2.1.9.
func (c *certificate) parseBasicConstraints(value cryptobyte.String) bool {
	var ca cryptobyte.String
	list, ok := x690.One(value, tag.SEQUENCE)
	if !ok || !list.ReadOptionalASN1(&ca, &c.isCA, tag.BOOLEAN) || c.isCA && string(ca) != "\xff" {
		return false
	}
	if list.Empty() {
		return true
	}
	return c.isCA && list.ReadASN1Integer(&c.pathLen) && c.pathLen >= 0 && list.Empty()
}

// parsePurposes reads RFC 5280 section 4.2.1.12.
func (c *certificate) parsePurposes(value cryptobyte.String) bool {
	list, ok := x690.One(value, tag.SEQUENCE)
	if !ok || list.Empty() {
		return false
	}
	for !list.Empty() {
		var oid cryptobyte.String
		if !list.ReadASN1(&oid, tag.OBJECT_IDENTIFIER) || !x690.PrimitiveWellFormed(tag.OBJECT_IDENTIFIER, oid) {
			return false
		}
		c.purposes = append(c.purposes, string(oid))
	}
	return true
}

// parseAuthorityKeyID reads RFC 5280 section 4.2.1.1; issuer and serial go together.
func (c *certificate) parseAuthorityKeyID(value cryptobyte.String) bool {
	var id, names, serial cryptobyte.String
	var hasID, hasNames, hasSerial bool
	list, ok := x690.One(value, tag.SEQUENCE)
	if !ok || !list.ReadOptionalASN1(&id, &hasID, implicit(0)) || !list.ReadOptionalASN1(&names, &hasNames, explicit(1)) ||
		!list.ReadOptionalASN1(&serial, &hasSerial, implicit(2)) || !list.Empty() {
		return false
	}
	c.issuerKeyID, c.issuerNames, c.issuerSerial = id, names, serial
	return hasNames == hasSerial && (!hasID || len(id) > 0) && (!hasNames || len(names) > 0 && x690.WellFormed(names)) &&
		(!hasSerial || x690.Shortest(serial))
}

// parsePoints reads RFC 5280 section 4.2.1.13. Points for some reasons only, of another issuer, or named relative to
// the issuer are left out: no CRL is taken for theirs.
func (c *certificate) parsePoints(value cryptobyte.String) bool {
	list, ok := x690.One(value, tag.SEQUENCE)
	if !ok || list.Empty() {
		return false
	}
	for !list.Empty() {
		var point, name, skipped cryptobyte.String
		var hasName, hasReasons, hasIssuer bool
		if !list.ReadASN1(&point, tag.SEQUENCE) || !point.ReadOptionalASN1(&name, &hasName, explicit(0)) ||
			!point.ReadOptionalASN1(&skipped, &hasReasons, implicit(1)) ||
			!point.ReadOptionalASN1(&skipped, &hasIssuer, explicit(2)) || !point.Empty() || !hasName && !hasIssuer {
			return false
		}
		names, ok := readPointNames(name)
		if hasName && !ok {
			return false
		}
		if !hasReasons && !hasIssuer {
			c.points = append(c.points, names...)
		}
	}
	return true
}

// readPointNames reads the contents of a DistributionPointName: the elements of fullName, none if it is relative.
func readPointNames(choice cryptobyte.String) (names [][]byte, ok bool) {
	var full cryptobyte.String
	var isFull bool
	if !choice.ReadOptionalASN1(&full, &isFull, explicit(0)) {
		return nil, false
	}
	if !isFull {
		return nil, choice.SkipASN1(explicit(1)) && choice.Empty()
	}
	if !choice.Empty() || full.Empty() || !x690.WellFormed(full) {
		return nil, false
	}
	for !full.Empty() {
		var name cryptobyte.String
		var t tag.Tag
		if !full.ReadAnyASN1Element(&name, &t) {
			return nil, false
		}
		names = append(names, name)
	}
	return names, true
}

// namesIssuer tells whether GeneralNames contents hold a directoryName that is this Name.
func namesIssuer(names cryptobyte.String, issuer []byte) bool {
	for !names.Empty() {
		var name cryptobyte.String
		var t tag.Tag
		if !names.ReadAnyASN1(&name, &t) {
			return false
		}
		if t == explicit(4) && string(name) == string(issuer) {
			return true
		}
	}
	return false
}
