package show

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"

	"coldseal/protocol"
)

// CRL shows a certificate revocation list, DER: the first twenty entries, or all if full. Nothing about it is verified.
func CRL(der []byte, full bool) (Sheet, error) {
	head, entries, err := beheadCRL(der)
	if err != nil {
		return nil, fmt.Errorf("show CRL: %w", err)
	}
	l, err := x509.ParseRevocationList(head)
	if err != nil {
		return nil, fmt.Errorf("show CRL: %w", err)
	}
	s := Sheet{{Name: "type", Value: "crl"}}
	s.digest("sha256", protocol.DigestOf(der))
	s.list("issuer", name(l.RawIssuer))
	if l.Number != nil {
		s.add("number", l.Number.String())
	}
	s.add("this update", protocol.Date(l.ThisUpdate.Unix()))
	if !l.NextUpdate.IsZero() {
		s.add("next update", protocol.Date(l.NextUpdate.Unix()))
	}
	s.list("extensions", each(l.Extensions, extension))
	const some = 20
	var shown []string
	var all int
	for ; !entries.Empty(); all++ {
		line, err := crlEntry(&entries)
		if err != nil {
			return nil, fmt.Errorf("show CRL: entry %d: %w", all+1, err)
		}
		if all < some || full {
			shown = append(shown, line)
		}
	}
	s.add("entries", all)
	s.list("revoked", shown)
	if left := all - len(shown); left > 0 {
		s.add("not shown", left)
	}
	s.add("signed with", l.SignatureAlgorithm.String())
	s.add("signature", "NOT VERIFIED: coldseal verify crl does that")
	return s, nil
}

// beheadCRL divides a CRL into one of the same head without entries, which takes no room, and its entries (RFC 5280
// section 5.1).
func beheadCRL(der []byte) (head []byte, entries cryptobyte.String, err error) {
	whole := cryptobyte.String(der)
	var list, info, before cryptobyte.String
	if !whole.ReadASN1(&list, tag.SEQUENCE) || !whole.Empty() || !list.ReadASN1(&info, tag.SEQUENCE) {
		return nil, nil, errors.New("not one CertificateList")
	}
	start := info
	var version int
	if info.PeekASN1Tag(tag.INTEGER) && !info.ReadASN1Integer(&version) || !info.SkipASN1(tag.SEQUENCE) || !info.SkipASN1(tag.SEQUENCE) || !skipTime(&info) {
		return nil, nil, errors.New("not a version, an algorithm, an issuer and a time")
	}
	if (info.PeekASN1Tag(tag.UTCTime) || info.PeekASN1Tag(tag.GeneralizedTime)) && !skipTime(&info) {
		return nil, nil, errors.New("the time of the next update cannot be read")
	}
	before = start[:len(start)-len(info)]
	if info.PeekASN1Tag(tag.SEQUENCE) && !info.ReadASN1(&entries, tag.SEQUENCE) {
		return nil, nil, errors.New("the entries cannot be read")
	}
	var b cryptobyte.Builder
	b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes(before)
			b.AddBytes(info)
		})
		b.AddBytes(list)
	})
	head, err = b.Bytes()
	return head, entries, err
}

func skipTime(s *cryptobyte.String) bool {
	if s.PeekASN1Tag(tag.UTCTime) {
		return s.SkipASN1(tag.UTCTime)
	}
	return s.SkipASN1(tag.GeneralizedTime)
}

// crlEntry reads the next entry and shows it on one line.
func crlEntry(s *cryptobyte.String) (string, error) {
	var body, extensions cryptobyte.String
	serial := new(big.Int)
	var date time.Time
	if !s.ReadASN1(&body, tag.SEQUENCE) || !body.ReadASN1Integer(serial) {
		return "", errors.New("no serial")
	}
	if body.PeekASN1Tag(tag.UTCTime) && !body.ReadASN1UTCTime(&date) || date.IsZero() && !body.ReadASN1GeneralizedTime(&date) {
		return "", errors.New("no time")
	}
	if !body.Empty() && (!body.ReadASN1(&extensions, tag.SEQUENCE) || !body.Empty()) {
		return "", errors.New("not a serial, a time and extensions")
	}
	reason := 0
	for !extensions.Empty() {
		var one, value cryptobyte.String
		var oid asn1.ObjectIdentifier
		var critical bool
		if !extensions.ReadASN1(&one, tag.SEQUENCE) || !one.ReadASN1ObjectIdentifier(&oid) ||
			!one.ReadOptionalASN1Boolean(&critical, tag.BOOLEAN, false) || !one.ReadASN1(&value, tag.OCTET_STRING) {
			return "", errors.New("an extension cannot be read")
		}
		if oid.Equal(oidReason) && !value.ReadASN1Enum(&reason) {
			return "", errors.New("the reason cannot be read")
		}
	}
	return fmt.Sprintf("%x  %s  %s", serial.Bytes(), protocol.Date(date.Unix()), protocol.Reason(reason)), nil
}

var oidReason = asn1.ObjectIdentifier{2, 5, 29, 21}
