package pathcheck

import (
	"bytes"
	"crypto"
	"crypto/sha1"
	"crypto/sha256"
	"fmt"

	"coldseal/protocol/x690"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// certificate is what one says. It shares memory with the DER it was read from. Faults that do not keep it from being
// read are its problems: they count where it is part of a path.
type certificate struct {
	name       string // for words: where it was found
	der        []byte
	tbs        []byte
	scheme     scheme
	signature  []byte
	serial     []byte // contents of the INTEGER
	issuer     []byte // Name, DER
	subject    []byte // Name, DER
	notBefore  int64  // unix seconds
	notAfter   int64  // unix seconds, inclusive
	public     crypto.PublicKey
	keyHash    [sha1.Size]byte // of the key's bits: how OCSP names keys
	keyHash256 [sha256.Size]byte
	anchor     bool // trusted by the caller
	extensions
	problems []Reason
}

// extensions are those that are understood.
type extensions struct {
	seen         map[string]bool // by OID contents
	isCA         bool
	caCritical   bool
	pathLen      int      // -1: any
	usage        uint16   // bit 0 is digitalSignature
	purposes     []string // OID contents
	points       [][]byte // GeneralName elements of CRL distribution points for all reasons
	subjectKeyID []byte
	issuerKeyID  []byte
	issuerNames  []byte // GeneralNames, contents
	issuerSerial []byte // contents of the INTEGER
	altCritical  bool
}

// Bits of KeyUsage (RFC 5280 section 4.2.1.3).
const (
	usageDigitalSignature = 1 << 0
	usageCertSign         = 1 << 5
	usageCRLSign          = 1 << 6
)

func (c *certificate) has(oid string) bool { return c.seen[oid] }
func (c *certificate) selfIssued() bool    { return bytes.Equal(c.issuer, c.subject) }

// refuse makes a reason about this certificate.
func (c *certificate) refuse(code Code, format string, args ...any) Reason {
	serial := c.serial[:min(len(c.serial), 21)] // a longer one is a problem of its own
	return refuse(code, "%s (serial %x): %s", c.name, serial, fmt.Sprintf(format, args...))
}

// maxProblems bounds what one certificate can make a result grow to.
const maxProblems = 16

func (c *certificate) problem(code Code, format string, args ...any) {
	if len(c.problems) == maxProblems {
		return
	}
	c.problems = append(c.problems, c.refuse(code, format, args...))
}

// parseCertificate reads one Certificate (RFC 5280 section 4.1). The reason is of code Form or Limit.
func parseCertificate(name string, der []byte) (*certificate, *Reason) {
	c := &certificate{name: name, der: der, extensions: extensions{seen: map[string]bool{}, pathLen: -1}}
	if len(der) > MaxCertificate {
		r := refuse(Limit, "%s: %d octets, at most %d are read", name, len(der), MaxCertificate)
		return nil, &r
	}
	if err := c.parse(der); err != nil {
		r := refuse(Form, "%s: %v", name, err)
		return nil, &r
	}
	return c, nil
}

func (c *certificate) parse(der cryptobyte.String) error {
	whole, ok := x690.One(der, tag.SEQUENCE)
	if !ok {
		return fmt.Errorf("not one DER sequence: cut off, or bytes after it")
	}
	if !x690.WellFormed(whole) {
		return fmt.Errorf("not DER")
	}
	var tbs, outer cryptobyte.String
	if !whole.ReadASN1Element(&tbs, tag.SEQUENCE) || !whole.ReadASN1Element(&outer, tag.SEQUENCE) ||
		!whole.ReadASN1BitStringAsBytes(&c.signature) || !whole.Empty() {
		return fmt.Errorf("not a signed certificate")
	}
	c.tbs = tbs
	return c.parseTBS(tbs, outer)
}

func (c *certificate) parseTBS(element, outer cryptobyte.String) error {
	var version, serial, inner, issuer, validity, subject, spki, extensions cryptobyte.String
	var hasVersion, hasExtensions bool
	tbs, ok := x690.One(element, tag.SEQUENCE)
	if !ok || !tbs.ReadOptionalASN1(&version, &hasVersion, explicit(0)) || !tbs.ReadASN1(&serial, tag.INTEGER) ||
		!tbs.ReadASN1Element(&inner, tag.SEQUENCE) || !tbs.ReadASN1Element(&issuer, tag.SEQUENCE) ||
		!tbs.ReadASN1(&validity, tag.SEQUENCE) || !tbs.ReadASN1Element(&subject, tag.SEQUENCE) ||
		!tbs.ReadASN1Element(&spki, tag.SEQUENCE) || !tbs.ReadOptionalASN1(&extensions, &hasExtensions, explicit(3)) {
		return fmt.Errorf("a field is missing or out of place")
	}
	if !tbs.Empty() {
		return fmt.Errorf("unique identifiers, which are not accepted, or fields that do not exist")
	}
	c.serial, c.issuer, c.subject = serial, issuer, subject
	for _, name := range [][]byte{issuer, subject} {
		if err := checkName(name); err != nil {
			return fmt.Errorf("name: %w", err)
		}
	}
	if c.notBefore, ok = readTime(&validity); !ok {
		return fmt.Errorf("validity does not begin with a time as RFC 5280 wants it")
	}
	if c.notAfter, ok = readTime(&validity); !ok || !validity.Empty() {
		return fmt.Errorf("validity does not end with a time as RFC 5280 wants it")
	}
	if c.notAfter < c.notBefore {
		return fmt.Errorf("validity ends before it begins")
	}
	if hasExtensions {
		if err := c.parseExtensions(extensions); err != nil {
			return err
		}
	}
	if string(version) != "\x02\x01\x02" {
		c.problem(Version, "not version 3")
	}
	if !validSerial(serial) {
		c.problem(Serial, "the serial is not a positive number of at most 20 octets")
	}
	if !bytes.Equal(inner, outer) {
		c.problem(AlgorithmMismatch, "the signature algorithm inside is not the one beside the signature")
	}
	if c.scheme, ok = parseScheme(outer); !ok {
		c.problem(Algorithm, "the signature algorithm is not accepted")
	}
	return c.parsePublicKey(spki)
}

func (c *certificate) parsePublicKey(element cryptobyte.String) error {
	var bits []byte
	var err error
	if c.public, err = parseKey(element); err != nil {
		c.problem(Key, "%v", err)
	}
	spki, ok := x690.One(element, tag.SEQUENCE)
	if !ok || !spki.SkipASN1(tag.SEQUENCE) || !spki.ReadASN1BitStringAsBytes(&bits) || !spki.Empty() {
		return fmt.Errorf("not a public key")
	}
	c.keyHash, c.keyHash256 = sha1.Sum(bits), sha256.Sum256(bits)
	c.checkForm()
	return nil
}

// checkForm adds what is wrong whatever the certificate's place in a path (RFC 5280 sections 4.1.2 and 4.2.1).
func (c *certificate) checkForm() {
	anonymous := string(c.subject) == emptyName
	selfSigned := c.selfIssued() && c.isCA
	if string(c.issuer) == emptyName {
		c.problem(EmptyName, "no issuer")
	}
	if anonymous && (c.isCA || !c.has(oidSubjectAltName)) {
		c.problem(EmptyName, "no subject")
	} else if anonymous && !c.altCritical {
		c.problem(Criticality, "there is no subject, so subjectAltName must be critical")
	}
	if len(c.issuerKeyID) == 0 && !selfSigned {
		c.problem(KeyIdentifier, "no authority key identifier")
	}
	if !c.isCA {
		if c.usage&usageCertSign != 0 {
			c.problem(KeyUsage, "keyCertSign, but it is no CA")
		}
		return
	}
	if !c.caCritical {
		c.problem(Criticality, "basicConstraints must be critical")
	}
	if c.usage&usageCertSign == 0 {
		c.problem(KeyUsage, "a CA without keyCertSign")
	}
	if len(c.subjectKeyID) == 0 {
		c.problem(KeyIdentifier, "a CA without subject key identifier")
	}
}

// checkTime tells whether unix is within the validity, both ends included (RFC 5280 section 4.1.2.5).
func (c *certificate) checkTime(unix int64) []Reason {
	switch {
	case unix < c.notBefore:
		return []Reason{c.refuse(NotYetValid, "valid from %s on", date(c.notBefore))}
	case unix > c.notAfter:
		return []Reason{c.refuse(Expired, "valid through %s", date(c.notAfter))}
	}
	return nil
}

// checkPurpose tells whether the extended key usage, if there is one, names the purpose. anyExtendedKeyUsage does not.
func (c *certificate) checkPurpose(purpose string) []Reason {
	if purpose == "" || !c.has(oidExtKeyUsage) {
		return nil
	}
	for _, p := range c.purposes {
		if p == purpose {
			return nil
		}
	}
	return []Reason{c.refuse(Purpose, "extended key usage does not allow %s", x690.OID([]byte(purpose)))}
}
