package pathcheck

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/x509"
	"slices"
	"testing"
	"time"

	"coldseal/protocol/x690"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// Certificates and CRLs are built here by hand, because most of what is refused no library makes.

const (
	ecdsaSHA256 = "\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02"
	ecdsaSHA384 = "\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03"
	ecdsaSHA512 = "\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x04"
)

var begin, end, now = at("2026-01-01T00:00:00Z"), at("2026-12-31T23:59:59Z"), at("2026-06-01T12:00:00Z")

func at(text string) int64 {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return t.Unix()
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func build(f func(*cryptobyte.Builder)) []byte {
	var b cryptobyte.Builder
	f(&b)
	return b.BytesOrPanic()
}

// wrap puts parts into one element.
func wrap(t tag.Tag, parts ...[]byte) []byte {
	return build(func(b *cryptobyte.Builder) {
		b.AddASN1(t, func(b *cryptobyte.Builder) { b.AddBytes(bytes.Join(parts, nil)) })
	})
}

func sequence(parts ...[]byte) []byte { return wrap(tag.SEQUENCE, parts...) }

func name(cn string) []byte {
	return sequence(wrap(tag.SET, sequence([]byte("\x06\x03\x55\x04\x03"), wrap(tag.UTF8String, []byte(cn)))))
}

func timeOf(unix int64) []byte {
	t := time.Unix(unix, 0).UTC()
	if unix < firstGeneralized {
		return wrap(tag.UTCTime, []byte(t.Format("060102150405Z")))
	}
	return wrap(tag.GeneralizedTime, []byte(t.Format("20060102150405Z")))
}

func generalized(unix int64) []byte {
	return wrap(tag.GeneralizedTime, []byte(time.Unix(unix, 0).UTC().Format("20060102150405Z")))
}

type ext struct {
	oid      string
	critical []byte // element, or nothing
	value    []byte
}

var isTrue, isFalse = []byte("\x01\x01\xff"), []byte("\x01\x01\x00")

func (e ext) der() []byte {
	return sequence(wrap(tag.OBJECT_IDENTIFIER, []byte(e.oid)), e.critical, wrap(tag.OCTET_STRING, e.value))
}

func extensionsDER(list []ext) []byte {
	var all []byte
	for _, e := range list {
		all = append(all, e.der()...)
	}
	return sequence(all)
}

func set(list *[]ext, e ext) {
	for i := range *list {
		if (*list)[i].oid == e.oid {
			(*list)[i] = e
			return
		}
	}
	*list = append(*list, e)
}

func drop(list *[]ext, oid string) {
	*list = slices.DeleteFunc(*list, func(e ext) bool { return e.oid == oid })
}

func keyID(public crypto.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		panic(err)
	}
	id := sha1.Sum(der)
	return id[:]
}

func spkiOf(public crypto.PublicKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		panic(err)
	}
	return der
}

func basicConstraints(parts ...[]byte) ext {
	return ext{oidBasicConstraints, isTrue, sequence(parts...)}
}
func keyUsage(octets string) ext {
	return ext{oidKeyUsage, isTrue, wrap(tag.BIT_STRING, []byte(octets))}
}
func subjectID(id []byte) ext { return ext{oidSubjectKeyID, nil, wrap(tag.OCTET_STRING, id)} }
func issuerID(id []byte, more ...[]byte) ext {
	return ext{oidAuthorityKeyID, nil, sequence(slices.Insert(more, 0, wrap(implicit(0), id))...)}
}

func uri(text string) []byte { return wrap(implicit(6), []byte(text)) }

// points are CRL distribution points, each of one URI.
func points(urls ...string) ext {
	var list [][]byte
	for _, u := range urls {
		list = append(list, sequence(wrap(explicit(0), wrap(explicit(0), uri(u)))))
	}
	return ext{oidCRLPoints, nil, sequence(list...)}
}

func issuingPoint(parts ...[]byte) ext { return ext{oidIssuingPoint, isTrue, sequence(parts...)} }
func pointName(url string) []byte      { return wrap(explicit(0), wrap(explicit(0), uri(url))) }
func flag(n uint8) []byte              { return wrap(implicit(n), []byte{0xff}) }

const (
	usageCA   = "\x01\x06" // keyCertSign, cRLSign
	usageSign = "\x07\x80" // digitalSignature
	usageBoth = "\x02\x84" // digitalSignature, keyCertSign
	usageCert = "\x02\x04" // keyCertSign
	usageZero = "\x07\x00" // a zero that DER leaves out
	serverTLS = "1.3.6.1.5.5.7.3.1"
	serverOID = "\x2b\x06\x01\x05\x05\x07\x03\x01"
	clientOID = "\x2b\x06\x01\x05\x05\x07\x03\x02"
)

func purposes(oids ...string) ext {
	var list [][]byte
	for _, o := range oids {
		list = append(list, wrap(tag.OBJECT_IDENTIFIER, []byte(o)))
	}
	return ext{oidExtKeyUsage, nil, sequence(list...)}
}

// cert is what a test certificate is made of: elements, so that each can be wrong.
type cert struct {
	version         []byte
	serial          []byte // contents
	inner, outer    string
	issuer, subject []byte
	from, to        []byte
	key             []byte
	exts            []ext
	tail            []byte // inside, after the extensions
	after           []byte // after the certificate
	signer          *ecdsa.PrivateKey
	spoil           bool // the signature is of something else
}

func sign(key *ecdsa.PrivateKey, algorithm string, message []byte) []byte {
	s, opts := scheme{kindECDSA, crypto.SHA256}, crypto.SHA256
	switch algorithm {
	case ecdsaSHA384:
		s, opts = scheme{kindECDSA, crypto.SHA384}, crypto.SHA384
	case ecdsaSHA512:
		s, opts = scheme{kindECDSA, crypto.SHA512}, crypto.SHA512
	}
	signature, err := key.Sign(nil, x690.Digest(s.hash, message), opts)
	if err != nil {
		panic(err)
	}
	return signature
}

func signed(key *ecdsa.PrivateKey, tbs []byte, outer string, spoil bool) []byte {
	message := tbs
	if spoil {
		message = append([]byte{0}, tbs...)
	}
	return sequence(tbs, []byte(outer), wrap(tag.BIT_STRING, []byte{0}, sign(key, outer, message)))
}

func (c *cert) der() []byte {
	parts := [][]byte{c.version, wrap(tag.INTEGER, c.serial), []byte(c.inner), c.issuer, sequence(c.from, c.to), c.subject, c.key}
	if len(c.exts) > 0 {
		parts = append(parts, wrap(explicit(3), extensionsDER(c.exts)))
	}
	parts = append(parts, c.tail)
	return append(signed(c.signer, sequence(parts...), c.outer, c.spoil), c.after...)
}

// crlEntry is one revoked certificate.
type crlEntry struct {
	serial []byte
	date   []byte
	exts   []ext
}

func (e crlEntry) der() []byte {
	parts := [][]byte{wrap(tag.INTEGER, e.serial), e.date}
	if len(e.exts) > 0 {
		parts = append(parts, extensionsDER(e.exts))
	}
	return sequence(parts...)
}

// list is what a test CRL is made of.
type list struct {
	version      []byte
	inner, outer string
	issuer       []byte
	this, next   []byte
	entries      []crlEntry
	raw          []byte // instead of entries
	exts         []ext
	after        []byte
	signer       *ecdsa.PrivateKey
	spoil        bool
}

func (l *list) der() []byte {
	parts := [][]byte{l.version, []byte(l.inner), l.issuer, l.this, l.next}
	if len(l.entries) > 0 {
		var all []byte
		for _, e := range l.entries {
			all = append(all, e.der()...)
		}
		parts = append(parts, sequence(all))
	}
	parts = append(parts, l.raw)
	if len(l.exts) > 0 {
		parts = append(parts, wrap(explicit(0), extensionsDER(l.exts)))
	}
	return append(signed(l.signer, sequence(parts...), l.outer, l.spoil), l.after...)
}

// world is a root, a CA below it, a leaf, and the CRLs of both CAs.
type world struct {
	root, issuing, leaf             *cert
	rootCRL, issuingCRL             *list
	rootKey, issuingKey, leafKey    *ecdsa.PrivateKey
	more                            []*cert // further intermediates
	anchors                         []*cert // further anchors
	moreCRLs                        []*list
	noRoot, noIssuing, noCRLs       bool
	leafFirst                       bool // the leaf is among the intermediates too
	purpose                         string
	now                             int64
	unreadableCA, unreadableRootCRL []byte // instead
}

func newCert(signer, key *ecdsa.PrivateKey, issuer, subject string, serial byte, exts ...ext) *cert {
	return &cert{
		version: wrap(explicit(0), []byte("\x02\x01\x02")), serial: []byte{serial}, inner: ecdsaSHA256, outer: ecdsaSHA256,
		issuer: name(issuer), subject: name(subject), from: timeOf(begin), to: timeOf(end), key: spkiOf(key.Public()),
		exts: exts, signer: signer,
	}
}

func newList(signer *ecdsa.PrivateKey, issuer string) *list {
	return &list{
		version: []byte("\x02\x01\x01"), inner: ecdsaSHA256, outer: ecdsaSHA256, issuer: name(issuer), signer: signer,
		this: timeOf(now - 3600), next: timeOf(now + 3600),
		entries: []crlEntry{{serial: []byte{0x70}, date: timeOf(now - 7200), exts: []ext{reasonCode(1), {oidInvalidityDate, nil, generalized(begin)}}}},
		exts:    []ext{issuerID(keyID(signer.Public())), {oidCRLNumber, nil, []byte("\x02\x01\x05")}},
	}
}

func reasonCode(n byte) ext { return ext{oidReasonCode, nil, []byte{0x0a, 1, n}} }

func revoked(serial, reason byte) crlEntry {
	return crlEntry{serial: []byte{serial}, date: timeOf(now - 7200), exts: []ext{reasonCode(reason)}}
}

func newWorld(t testing.TB) *world {
	w := &world{rootKey: newKey(t), issuingKey: newKey(t), leafKey: newKey(t), now: now}
	root, issuing, leaf := keyID(w.rootKey.Public()), keyID(w.issuingKey.Public()), keyID(w.leafKey.Public())
	w.root = newCert(w.rootKey, w.rootKey, "Root", "Root", 1, issuerID(root), subjectID(root), basicConstraints(isTrue), keyUsage(usageCA))
	w.issuing = newCert(w.rootKey, w.issuingKey, "Root", "Issuing", 2, issuerID(root), subjectID(issuing), basicConstraints(isTrue, []byte("\x02\x01\x00")), keyUsage(usageCA))
	w.leaf = newCert(w.issuingKey, w.leafKey, "Issuing", "Leaf", 3, issuerID(issuing), subjectID(leaf), keyUsage(usageSign))
	w.rootCRL, w.issuingCRL = newList(w.rootKey, "Root"), newList(w.issuingKey, "Issuing")
	return w
}

// below makes another CA under the root, and returns it with its key.
func (w *world) below(t testing.TB, issuer, subject string, signer *ecdsa.PrivateKey, serial byte, pathLen ...[]byte) (*cert, *ecdsa.PrivateKey) {
	key := newKey(t)
	c := newCert(signer, key, issuer, subject, serial, issuerID(keyID(signer.Public())), subjectID(keyID(key.Public())),
		basicConstraints(slices.Insert(pathLen, 0, isTrue)...), keyUsage(usageCA))
	return c, key
}

func (w *world) input() Input {
	in := Input{Leaf: w.leaf.der(), Time: w.now, Purpose: w.purpose}
	if !w.noRoot {
		in.Anchors = append(in.Anchors, w.root.der())
	}
	for _, c := range w.anchors {
		in.Anchors = append(in.Anchors, c.der())
	}
	if w.leafFirst {
		in.Intermediates = append(in.Intermediates, w.leaf.der())
	}
	if w.unreadableCA != nil {
		in.Intermediates = append(in.Intermediates, w.unreadableCA)
	} else if !w.noIssuing {
		in.Intermediates = append(in.Intermediates, w.issuing.der())
	}
	for _, c := range w.more {
		in.Intermediates = append(in.Intermediates, c.der())
	}
	if w.noCRLs {
		return in
	}
	for _, l := range slices.Concat([]*list{w.rootCRL, w.issuingCRL}, w.moreCRLs) {
		if l != nil {
			in.CRLs = append(in.CRLs, l.der())
		}
	}
	if w.unreadableRootCRL != nil {
		in.CRLs = append(in.CRLs, w.unreadableRootCRL)
	}
	return in
}

func codes(reasons []Reason) []Code {
	var all []Code
	for _, r := range reasons {
		all = append(all, r.Code)
	}
	return all
}
