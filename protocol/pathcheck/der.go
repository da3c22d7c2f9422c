package pathcheck

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"coldseal/protocol/x690"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

func explicit(n uint8) tag.Tag { return tag.Tag(n).ContextSpecific().Constructed() }
func implicit(n uint8) tag.Tag { return tag.Tag(n).ContextSpecific() }

// parsePurpose gives the contents of a dotted OID; empty stays empty.
func parsePurpose(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	oid, err := x509.ParseOID(text)
	if err != nil {
		return "", fmt.Errorf("%q is not a dotted OID: %w", text, err)
	}
	contents, err := oid.MarshalBinary()
	if err != nil {
		return "", fmt.Errorf("encode OID %q: %w", text, err)
	}
	return string(contents), nil
}

// validSerial tells whether these are the contents of a serial number: positive, of at most 20 octets (RFC 5280 section
// 4.1.2.2).
func validSerial(contents []byte) bool {
	return len(contents) <= 20 && x690.Shortest(contents) && contents[0] < 0x80 && (len(contents) > 1 || contents[0] != 0)
}

const firstGeneralized = 2524608000 // 2050-01-01T00:00:00Z

// readTime reads a Time (RFC 5280 section 4.1.2.5): UTCTime through 2049, GeneralizedTime from 2050.
func readTime(s *cryptobyte.String) (int64, bool) {
	var body cryptobyte.String
	var t tag.Tag
	if !s.ReadAnyASN1(&body, &t) {
		return 0, false
	}
	switch {
	case t == tag.UTCTime && len(body) == 13:
		year, ok := twoDigits(body[:2])
		if year < 50 {
			year += 100
		}
		unix, valid := parseTime(1900+year, body[2:])
		return unix, ok && valid
	case t == tag.GeneralizedTime:
		unix, ok := generalizedTime(body)
		return unix, ok && unix >= firstGeneralized
	}
	return 0, false
}

// generalizedTime reads the contents of one as RFC 5280 section 4.1.2.5.2 wants it: seconds, Zulu, no fraction.
func generalizedTime(body []byte) (int64, bool) {
	if len(body) != 15 {
		return 0, false
	}
	century, ok := twoDigits(body[:2])
	year, valid := twoDigits(body[2:4])
	if !ok || !valid {
		return 0, false
	}
	return parseTime(100*century+year, body[4:])
}

// parseTime reads MMDDHHMMSSZ.
func parseTime(year int, rest []byte) (int64, bool) {
	var f [5]int
	for i := range f {
		n, ok := twoDigits(rest[2*i : 2*i+2])
		if !ok {
			return 0, false
		}
		f[i] = n
	}
	month, day, hour, minute, second := f[0], f[1], f[2], f[3], f[4]
	if rest[10] != 'Z' || month < 1 || month > 12 || day < 1 || hour > 23 || minute > 59 || second > 59 {
		return 0, false
	}
	t := time.Date(year, time.Month(month), day, hour, minute, second, 0, time.UTC)
	return t.Unix(), t.Day() == day // the day rolls over when the month has fewer
}

func twoDigits(s []byte) (int, bool) {
	a, b := s[0]-'0', s[1]-'0'
	return 10*int(a) + int(b), a <= 9 && b <= 9
}

// checkName walks a Name (RFC 5280 section 4.1.2.4): sets that are not empty and are sorted, of types with one value.
func checkName(element cryptobyte.String) error {
	name, ok := x690.One(element, tag.SEQUENCE)
	for ok && !name.Empty() {
		var rdn, previous, pair cryptobyte.String
		if !name.ReadASN1(&rdn, tag.SET) || rdn.Empty() {
			return errors.New("empty relative distinguished name")
		}
		for ; !rdn.Empty(); previous = pair {
			var value cryptobyte.String
			var t tag.Tag
			if !rdn.ReadASN1Element(&pair, tag.SEQUENCE) || string(previous) >= string(pair) {
				return errors.New("relative distinguished name not sorted")
			}
			attribute, ok := x690.One(pair, tag.SEQUENCE)
			if !ok || !attribute.SkipASN1(tag.OBJECT_IDENTIFIER) || !attribute.ReadAnyASN1(&value, &t) || !attribute.Empty() {
				return errors.New("attribute is not a type with one value")
			}
		}
	}
	if !ok {
		return errors.New("not a sequence")
	}
	return nil
}

// emptyName is a Name without a part.
const emptyName = "\x30\x00"

// extension is one Extension (RFC 5280 section 4.1).
type extension struct {
	oid      string // contents
	critical bool
	value    cryptobyte.String
}

// readExtension reads the next Extension; FALSE is the default of critical, so DER does not write it.
func readExtension(s *cryptobyte.String) (e extension, ok bool) {
	var body, oid, value cryptobyte.String
	var critical cryptobyte.String
	if !s.ReadASN1(&body, tag.SEQUENCE) || !body.ReadASN1(&oid, tag.OBJECT_IDENTIFIER) ||
		!body.ReadOptionalASN1(&critical, &e.critical, tag.BOOLEAN) || !body.ReadASN1(&value, tag.OCTET_STRING) || !body.Empty() {
		return e, false
	}
	e.oid, e.value = string(oid), value
	return e, !e.critical || string(critical) == "\xff"
}

// bitString reads a named bit list (X.690 section 11.2.2: trailing zeros are left out) of at most 16 bits; bit 0 is the
// first.
func bitString(s cryptobyte.String) (uint16, bool) {
	body, ok := x690.One(s, tag.BIT_STRING)
	if !ok || len(body) < 2 || len(body) > 3 || body[0] > 7 {
		return 0, false
	}
	if last := body[len(body)-1]; last>>body[0]<<body[0] != last || last>>body[0]&1 == 0 {
		return 0, false
	}
	var bits uint16
	for i := range 8 * (len(body) - 1) {
		bits |= uint16(body[1+i/8]>>(7-i%8)&1) << i
	}
	return bits, true
}
