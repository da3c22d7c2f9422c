package pathcheck

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"fmt"

	"coldseal/protocol/x690"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// OCSPAnswer is what an accepted response says about one certificate of the issuer.
type OCSPAnswer struct {
	Serial     []byte // big-endian, no leading zeros
	Status     string // good, revoked, on-hold, unknown
	Date       int64  // unix seconds: when it was revoked or put on hold
	ThisUpdate int64  // unix seconds
	NextUpdate int64  // unix seconds, inclusive
}

const (
	oidBasicResponse = "\x2b\x06\x01\x05\x05\x07\x30\x01\x01"
	algorithmSHA1    = "\x2b\x0e\x03\x02\x1a"
	algorithmSHA256  = "\x60\x86\x48\x01\x65\x03\x04\x02\x01"
	maxResponders    = 4 // certificates in a response; one is used
)

// ocspResponse is a BasicOCSPResponse (RFC 6960 section 4.2.1). It shares memory with its DER.
type ocspResponse struct {
	signed       []byte
	scheme       scheme
	signature    []byte
	certificates []*certificate
	name         []byte // responder by Name, DER
	keyHash      []byte // or by SHA-1 of its key
	produced     int64  // unix seconds
	answers      []ocspAnswer
}

type ocspAnswer struct {
	OCSPAnswer
	hash              string // OID contents
	nameHash, keyHash []byte
}

// OCSP decides about a response for certificates of a CA whose certificate (DER) the caller trusts, at a time in unix
// seconds. It is signed by the CA itself, or by a responder to which the CA gave a certificate for that alone, with
// id-pkix-ocsp-nocheck, since nothing here could tell whether it was revoked (RFC 6960 section 4.2.2.2).
func OCSP(der, issuer []byte, now int64) ([]OCSPAnswer, []Reason) {
	ca, reasons := trustedCA(issuer, now)
	if len(reasons) > 0 {
		return nil, reasons
	}
	r, reason := parseOCSP(der)
	if reason != nil {
		return nil, []Reason{*reason}
	}
	responder, reasons := r.responder(ca, now)
	if len(reasons) > 0 {
		return nil, reasons
	}
	if !r.scheme.verify(responder.public, r.signed, r.signature) {
		return nil, []Reason{refuse(OCSPSignature, "it is not signed by the key of %s", responder.name)}
	}
	if r.produced > now {
		return nil, []Reason{refuse(OCSPNotYetValid, "made on %s", date(r.produced))}
	}
	answers := make([]OCSPAnswer, 0, len(r.answers))
	for i := range r.answers {
		if reasons := r.answers[i].check(ca, now); len(reasons) > 0 {
			return nil, reasons
		}
		answers = append(answers, r.answers[i].OCSPAnswer)
	}
	return answers, nil
}

func (a *ocspAnswer) check(ca *certificate, now int64) []Reason {
	name, name256 := sha1.Sum(ca.subject), sha256.Sum256(ca.subject)
	wantName, wantKey := name[:], ca.keyHash[:]
	if a.hash == algorithmSHA256 {
		wantName, wantKey = name256[:], ca.keyHash256[:]
	}
	switch {
	case !bytes.Equal(a.nameHash, wantName) || !bytes.Equal(a.keyHash, wantKey):
		return []Reason{refuse(OCSPCertificateID, "the answer about serial %x is for another CA", a.Serial)}
	case now < a.ThisUpdate:
		return []Reason{refuse(OCSPNotYetValid, "the answer about serial %x is valid from %s on", a.Serial, date(a.ThisUpdate))}
	case a.NextUpdate == 0:
		return []Reason{refuse(OCSPExpired, "the answer about serial %x says no end", a.Serial)}
	case now > a.NextUpdate:
		return []Reason{refuse(OCSPExpired, "the answer about serial %x was valid through %s", a.Serial, date(a.NextUpdate))}
	}
	return nil
}

// responder finds whose key signed: that of the CA, or one in the response that the CA delegated to.
func (r *ocspResponse) responder(ca *certificate, now int64) (*certificate, []Reason) {
	if r.isBy(ca) {
		return ca, nil
	}
	reasons := []Reason{refuse(OCSPResponder, "the responder is neither the CA nor any of the certificates in the response")}
	for _, c := range r.certificates {
		if !r.isBy(c) {
			continue
		}
		if reasons = delegated(c, ca, now); len(reasons) == 0 {
			return c, nil
		}
	}
	return nil, reasons
}

func (r *ocspResponse) isBy(c *certificate) bool {
	if r.keyHash != nil {
		return bytes.Equal(r.keyHash, c.keyHash[:])
	}
	return bytes.Equal(r.name, c.subject)
}

// delegated tells whether the CA itself gave the certificate, for signing OCSP responses.
func delegated(c, ca *certificate, now int64) []Reason {
	reasons := append(c.problems, c.checkTime(now)...)
	if !bytes.Equal(c.issuer, ca.subject) {
		reasons = append(reasons, c.refuse(OCSPResponder, "it was not issued by the CA"))
	} else if r := namesKey(c, ca); r != nil {
		reasons = append(reasons, r...)
	} else {
		reasons = append(reasons, verifySignature(c, ca)...)
	}
	if !c.has(oidExtKeyUsage) || len(c.checkPurpose(purposeOCSPSigning)) > 0 {
		reasons = append(reasons, c.refuse(OCSPResponder, "it has no extended key usage for signing OCSP responses"))
	}
	if c.has(oidKeyUsage) && c.usage&usageDigitalSignature == 0 {
		reasons = append(reasons, c.refuse(KeyUsage, "it may not sign"))
	}
	if !c.has(oidOCSPNoCheck) {
		reasons = append(reasons, c.refuse(OCSPResponder, "it does not say that its revocation need not be checked"))
	}
	return reasons
}

// parseOCSP reads an OCSPResponse (RFC 6960 section 4.2.1).
func parseOCSP(der cryptobyte.String) (*ocspResponse, *Reason) {
	fail := func(code Code, format string, args ...any) (*ocspResponse, *Reason) {
		r := refuse(code, "the response: "+format, args...)
		return nil, &r
	}
	if len(der) > MaxOCSP {
		return fail(Limit, "%d octets, at most %d are read", len(der), MaxOCSP)
	}
	whole, ok := x690.One(der, tag.SEQUENCE)
	if !ok || !x690.WellFormed(whole) {
		return fail(OCSPForm, "not one DER sequence")
	}
	var status, field, wrapped, oid, basic cryptobyte.String
	if !whole.ReadASN1(&status, tag.ENUM) || len(status) != 1 {
		return fail(OCSPForm, "no status")
	}
	if status[0] != 0 {
		return fail(OCSPStatus, "the responder reports error %d", status[0])
	}
	if !whole.ReadASN1(&field, explicit(0)) || !whole.Empty() {
		return fail(OCSPForm, "not a status and an answer")
	}
	wrapped, ok = x690.One(field, tag.SEQUENCE)
	if !ok || !wrapped.ReadASN1(&oid, tag.OBJECT_IDENTIFIER) || string(oid) != oidBasicResponse {
		return fail(OCSPForm, "not a basic response")
	}
	basic, ok = x690.One(wrapped, tag.OCTET_STRING)
	if ok {
		basic, ok = x690.One(basic, tag.SEQUENCE)
	}
	if !ok || !x690.WellFormed(basic) {
		return fail(OCSPForm, "the basic response is not one DER sequence")
	}
	r := &ocspResponse{}
	if code, err := r.parseBasic(basic); err != nil {
		return fail(code, "%v", err)
	}
	return r, nil
}

func (r *ocspResponse) parseBasic(basic cryptobyte.String) (Code, error) {
	var signed, algorithm, field cryptobyte.String
	var hasCertificates bool
	if !basic.ReadASN1Element(&signed, tag.SEQUENCE) || !basic.ReadASN1Element(&algorithm, tag.SEQUENCE) ||
		!basic.ReadASN1BitStringAsBytes(&r.signature) || !basic.ReadOptionalASN1(&field, &hasCertificates, explicit(0)) || !basic.Empty() {
		return OCSPForm, fmt.Errorf("not a signed answer")
	}
	var ok bool
	if r.scheme, ok = parseScheme(algorithm); !ok {
		return OCSPAlgorithm, fmt.Errorf("the signature algorithm is not accepted")
	}
	r.signed = signed
	if hasCertificates {
		list, ok := x690.One(field, tag.SEQUENCE)
		for i := 1; ok && !list.Empty(); i++ {
			var der cryptobyte.String
			if !list.ReadASN1Element(&der, tag.SEQUENCE) || i > maxResponders {
				return OCSPForm, fmt.Errorf("not a list of at most %d certificates", maxResponders)
			}
			c, reason := parseCertificate(fmt.Sprintf("certificate %d in the response", i), der)
			if reason != nil {
				return OCSPForm, fmt.Errorf("%s", reason.Words)
			}
			r.certificates = append(r.certificates, c)
		}
		if !ok {
			return OCSPForm, fmt.Errorf("certificates are not a list")
		}
	}
	return r.parseData(signed)
}

// parseData reads ResponseData. Its version has a default, so DER does not write it.
func (r *ocspResponse) parseData(element cryptobyte.String) (Code, error) {
	var id, produced, answers, extensions cryptobyte.String
	var t tag.Tag
	var hasExtensions bool
	data, ok := x690.One(element, tag.SEQUENCE)
	if !ok || !data.ReadAnyASN1(&id, &t) {
		return OCSPForm, fmt.Errorf("no responder")
	}
	switch t {
	case explicit(1):
		if err := checkName(id); err != nil || string(id) == emptyName {
			return OCSPForm, fmt.Errorf("the responder's name is not one, or empty")
		}
		r.name = id
	case explicit(2):
		if r.keyHash, ok = x690.One(id, tag.OCTET_STRING); !ok || len(r.keyHash) != sha1.Size {
			return OCSPForm, fmt.Errorf("the responder's key is not a SHA-1 hash")
		}
	default:
		return OCSPForm, fmt.Errorf("the responder is neither a name nor a key, or another version")
	}
	if !data.ReadASN1(&produced, tag.GeneralizedTime) || !data.ReadASN1(&answers, tag.SEQUENCE) || answers.Empty() ||
		!data.ReadOptionalASN1(&extensions, &hasExtensions, explicit(1)) || !data.Empty() {
		return OCSPForm, fmt.Errorf("not a time and answers")
	}
	if r.produced, ok = generalizedTime(produced); !ok {
		return OCSPForm, fmt.Errorf("producedAt is not a time as RFC 5280 wants it")
	}
	if code, err := ocspExtensions(extensions, hasExtensions); err != nil {
		return code, err
	}
	for !answers.Empty() {
		var a ocspAnswer
		if code, err := a.parse(&answers); err != nil {
			return code, err
		}
		r.answers = append(r.answers, a)
	}
	return "", nil
}

// parse reads the next SingleResponse.
func (a *ocspAnswer) parse(s *cryptobyte.String) (Code, error) {
	var body, id, algorithm, hash, nameHash, keyHash, serial, status, this, field, extensions cryptobyte.String
	var t tag.Tag
	var hasNext, hasExtensions bool
	if !s.ReadASN1(&body, tag.SEQUENCE) || !body.ReadASN1(&id, tag.SEQUENCE) || !id.ReadASN1(&algorithm, tag.SEQUENCE) ||
		!algorithm.ReadASN1(&hash, tag.OBJECT_IDENTIFIER) || !algorithm.Empty() && string(algorithm) != "\x05\x00" ||
		!id.ReadASN1(&nameHash, tag.OCTET_STRING) || !id.ReadASN1(&keyHash, tag.OCTET_STRING) ||
		!id.ReadASN1(&serial, tag.INTEGER) || !id.Empty() || !validSerial(serial) {
		return OCSPForm, fmt.Errorf("an answer does not name a certificate")
	}
	if string(hash) != algorithmSHA1 && string(hash) != algorithmSHA256 {
		return OCSPForm, fmt.Errorf("an answer names its certificate by a hash that is not accepted")
	}
	a.hash, a.nameHash, a.keyHash, a.Serial = string(hash), nameHash, keyHash, bytes.TrimLeft(serial, "\x00")
	if !body.ReadAnyASN1(&status, &t) || !a.parseStatus(status, t) {
		return OCSPForm, fmt.Errorf("the answer about serial %x has no status", a.Serial)
	}
	ok := body.ReadASN1(&this, tag.GeneralizedTime) && body.ReadOptionalASN1(&field, &hasNext, explicit(0)) &&
		body.ReadOptionalASN1(&extensions, &hasExtensions, explicit(1)) && body.Empty()
	if ok {
		a.ThisUpdate, ok = generalizedTime(this)
	}
	if ok && hasNext {
		var next cryptobyte.String
		if next, ok = x690.One(field, tag.GeneralizedTime); ok {
			a.NextUpdate, ok = generalizedTime(next)
		}
	}
	if !ok {
		return OCSPForm, fmt.Errorf("the answer about serial %x has no times as RFC 5280 wants them", a.Serial)
	}
	return ocspExtensions(extensions, hasExtensions)
}

func (a *ocspAnswer) parseStatus(body cryptobyte.String, t tag.Tag) bool {
	switch t {
	case implicit(0):
		a.Status = "good"
		return body.Empty()
	case implicit(2):
		a.Status = "unknown"
		return body.Empty()
	case explicit(1):
		var when, field cryptobyte.String
		var hasReason, ok bool
		if !body.ReadASN1(&when, tag.GeneralizedTime) || !body.ReadOptionalASN1(&field, &hasReason, explicit(0)) || !body.Empty() {
			return false
		}
		a.Status = "revoked"
		if hasReason {
			reason, valid := x690.One(field, tag.ENUM)
			if !valid || len(reason) != 1 || reason[0] > reasonLast || reason[0] == reasonUnused || reason[0] == reasonRemove {
				return false
			}
			if reason[0] == reasonHold {
				a.Status = "on-hold"
			}
		}
		a.Date, ok = generalizedTime(when)
		return ok
	}
	return false
}

// ocspExtensions refuses critical ones: none has to be understood for what is done here.
func ocspExtensions(field cryptobyte.String, present bool) (Code, error) {
	if !present {
		return "", nil
	}
	list, ok := x690.One(field, tag.SEQUENCE)
	if !ok || list.Empty() {
		return OCSPForm, fmt.Errorf("extensions are not a list of at least one")
	}
	seen := map[string]bool{}
	for !list.Empty() {
		e, ok := readExtension(&list)
		if !ok || seen[e.oid] {
			return OCSPForm, fmt.Errorf("an extension is not an identifier, critical or not, and a value, or is there twice")
		}
		seen[e.oid] = true
		if e.critical {
			return OCSPExtension, fmt.Errorf("critical extension %s is not understood", x690.OID([]byte(e.oid)))
		}
	}
	return "", nil
}
