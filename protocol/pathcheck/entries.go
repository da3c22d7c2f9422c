package pathcheck

import (
	"bytes"

	"coldseal/protocol/x690"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// Reasons of revocation that matter here (RFC 5280 section 5.3.1).
const (
	reasonHold   = 6
	reasonUnused = 7
	reasonRemove = 8 // of delta CRLs only
	reasonLast   = 10
)

// entry is one revoked certificate.
type entry struct {
	serial []byte // contents of the INTEGER
	date   int64  // unix seconds
	reason int    // 0 where none is given
}

// lookup reads all entries and returns the one of the serial. It goes to the end even if it found it: an entry that
// cannot be understood makes the whole CRL unfit (RFC 5280 section 5.3). It allocates nothing.
func (c *crl) lookup(serial []byte) (found entry, isThere bool, count int, reason *Reason) {
	entries := c.entries
	for ; !entries.Empty(); count++ {
		e, code, words := readEntry(&entries)
		if code == "" && isThere && bytes.Equal(e.serial, serial) {
			code, words = CRLForm, "its serial was there before"
		}
		if code != "" {
			r := c.refuse(code, "entry %d: %s", count+1, words)
			return entry{}, false, count, &r
		}
		if bytes.Equal(e.serial, serial) {
			found, isThere = e, true
		}
	}
	return found, isThere, count, nil
}

// readEntry reads the next entry (RFC 5280 section 5.1.2.6); the code is empty if there is nothing wrong with it.
func readEntry(s *cryptobyte.String) (e entry, code Code, words string) {
	var body, serial, list cryptobyte.String
	if !s.ReadASN1(&body, tag.SEQUENCE) || !body.ReadASN1(&serial, tag.INTEGER) || !validSerial(serial) {
		return e, CRLForm, "no serial that is a positive number of at most 20 octets"
	}
	e.serial = serial
	var ok bool
	if e.date, ok = readTime(&body); !ok {
		return e, CRLForm, "no time as RFC 5280 wants it"
	}
	if body.Empty() {
		return e, "", ""
	}
	if !body.ReadASN1(&list, tag.SEQUENCE) || list.Empty() || !body.Empty() {
		return e, CRLForm, "not a serial, a time and extensions"
	}
	return e.readExtensions(list)
}

func (e entry) readExtensions(list cryptobyte.String) (entry, Code, string) {
	var seen [8]string // more extensions than exist
	for n := 0; !list.Empty(); n++ {
		var body, oid, critical, value cryptobyte.String
		var isCritical bool
		if !list.ReadASN1(&body, tag.SEQUENCE) || !body.ReadASN1(&oid, tag.OBJECT_IDENTIFIER) ||
			!body.ReadOptionalASN1(&critical, &isCritical, tag.BOOLEAN) || !body.ReadASN1(&value, tag.OCTET_STRING) ||
			!body.Empty() || isCritical && string(critical) != "\xff" || n == len(seen) {
			return e, CRLForm, "an extension is not an identifier, critical or not, and a value"
		}
		for _, s := range seen[:n] {
			if s == string(oid) {
				return e, CRLForm, "an extension is there twice"
			}
		}
		switch string(oid) {
		case oidReasonCode:
			seen[n] = oidReasonCode
			reason, ok := x690.One(value, tag.ENUM)
			if !ok || len(reason) != 1 || reason[0] == reasonUnused || reason[0] == reasonRemove || reason[0] > reasonLast {
				return e, CRLForm, "not a reason that an entry of a complete CRL can have"
			}
			e.reason = int(reason[0])
		case oidInvalidityDate:
			seen[n] = oidInvalidityDate
			since, ok := x690.One(value, tag.GeneralizedTime)
			if ok {
				_, ok = generalizedTime(since)
			}
			if !ok {
				return e, CRLForm, "invalidityDate is not a time"
			}
		case oidCertificateIssuer:
			return e, CRLEntryExtension, "it is of a certificate of another issuer, which is not supported"
		default:
			seen[n] = string(oid)
			if !x690.PrimitiveWellFormed(tag.OBJECT_IDENTIFIER, oid) {
				return e, CRLForm, "an extension's identifier is not DER"
			}
			if isCritical {
				return e, CRLEntryExtension, "critical extension " + x690.OID(oid) + " is not understood"
			}
		}
	}
	return e, "", ""
}

// reasonNames are those of RFC 5280 section 5.3.1.
var reasonNames = [...]string{"no reason given", "keyCompromise", "cACompromise", "affiliationChanged", "superseded",
	"cessationOfOperation", "certificateHold", "", "", "privilegeWithdrawn", "aACompromise"}

// revoked words an entry.
func (e entry) revoked(cert *certificate, by *crl) Reason {
	if e.reason == reasonHold {
		return cert.refuse(OnHold, "on hold since %s", date(e.date))
	}
	return cert.refuse(Revoked, "revoked on %s, %s, by %s", date(e.date), reasonNames[e.reason], by.name)
}
