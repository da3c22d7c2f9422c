package pathcheck

import (
	"bytes"
	"crypto"
	"crypto/sha1"
	"crypto/x509"
	"math/big"
	"slices"
	"testing"
	"time"

	"coldseal/protocol/x690"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/ocsp"
)

// answer is what a test response is made of.
type answer struct {
	status     []byte
	responder  []byte
	produced   []byte
	id         []byte
	state      []byte
	this, next []byte
	more       []byte // inside of the answer
	exts       []byte // of the response
	algorithm  string
	certs      [][]byte
	signer     *cert // whose key signs
	spoil      bool
}

func (a *answer) der(signer *world) []byte {
	data := sequence(a.responder, a.produced, sequence(sequence(a.id, a.state, a.this, a.next, a.more)), a.exts)
	message := data
	if a.spoil {
		message = append([]byte{0}, data...)
	}
	key := signer.issuingKey
	if a.signer != nil {
		key = signer.leafKey
	}
	parts := [][]byte{data, []byte(a.algorithm), wrap(tag.BIT_STRING, []byte{0}, sign(key, a.algorithm, message))}
	if len(a.certs) > 0 {
		parts = append(parts, wrap(explicit(0), sequence(a.certs...)))
	}
	return sequence(a.status, wrap(explicit(0), sequence(wrap(tag.OBJECT_IDENTIFIER, []byte(oidBasicResponse)), wrap(tag.OCTET_STRING, sequence(parts...)))))
}

func certID(subject, key []byte) []byte {
	n, k := sha1.Sum(subject), sha1.Sum(key)
	return sequence(sequence(wrap(tag.OBJECT_IDENTIFIER, []byte(algorithmSHA1)), []byte("\x05\x00")),
		wrap(tag.OCTET_STRING, n[:]), wrap(tag.OCTET_STRING, k[:]), []byte("\x02\x01\x03"))
}

func bitsOf(t testing.TB, spki []byte) []byte {
	var bits []byte
	s, ok := x690.One(spki, tag.SEQUENCE)
	if !ok || !s.SkipASN1(tag.SEQUENCE) || !s.ReadASN1BitStringAsBytes(&bits) {
		t.Fatal("not a SubjectPublicKeyInfo")
	}
	return bits
}

// delegate makes the leaf a responder.
func delegate(w *world, a *answer) {
	w.leaf.exts = append(w.leaf.exts, purposes(purposeOCSPSigning), ext{oidOCSPNoCheck, nil, []byte{5, 0}})
	a.signer, a.responder = w.leaf, wrap(explicit(1), w.leaf.subject)
}

func TestOCSP(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*world, *answer)
		want   []Code
	}{
		{"by the CA", func(w *world, a *answer) {}, nil},
		{"by the CA's key hash", func(w *world, a *answer) {
			h := sha1.Sum(bitsOf(t, w.issuing.key))
			a.responder = wrap(explicit(2), wrap(tag.OCTET_STRING, h[:]))
		}, nil},
		{"by another key hash", func(w *world, a *answer) {
			a.responder = wrap(explicit(2), wrap(tag.OCTET_STRING, make([]byte, 20)))
		}, []Code{OCSPResponder}},
		{"by nobody known", func(w *world, a *answer) { a.responder = wrap(explicit(1), name("Other")) }, []Code{OCSPResponder}},
		{"delegated", delegate, nil},
		{"delegated without the purpose", func(w *world, a *answer) {
			delegate(w, a)
			drop(&w.leaf.exts, oidExtKeyUsage)
		}, []Code{OCSPResponder}},
		{"delegated with another purpose", func(w *world, a *answer) {
			delegate(w, a)
			set(&w.leaf.exts, purposes(serverOID))
		}, []Code{OCSPResponder}},
		{"delegated without nocheck", func(w *world, a *answer) {
			delegate(w, a)
			drop(&w.leaf.exts, oidOCSPNoCheck)
		}, []Code{OCSPResponder}},
		{"delegated, but expired", func(w *world, a *answer) {
			delegate(w, a)
			w.leaf.to = timeOf(now - 1)
		}, []Code{Expired}},
		{"delegated by another CA", func(w *world, a *answer) {
			delegate(w, a)
			w.leaf.issuer = name("Other")
		}, []Code{OCSPResponder}},
		{"delegated by another key", func(w *world, a *answer) {
			delegate(w, a)
			w.leaf.signer = w.rootKey
		}, []Code{Signature}},
		{"delegated by a key identifier of another", func(w *world, a *answer) {
			delegate(w, a)
			set(&w.leaf.exts, issuerID([]byte{1}))
		}, []Code{KeyIdentifierDiffer}},
		{"delegated, may not sign", func(w *world, a *answer) {
			delegate(w, a)
			set(&w.leaf.exts, keyUsage("\x06\x40"))
		}, []Code{KeyUsage}},
		{"delegated, signed by the CA", func(w *world, a *answer) {
			delegate(w, a)
			a.certs, a.signer = [][]byte{w.leaf.der()}, nil
		}, []Code{OCSPSignature}},
		{"delegated, certificate unreadable", func(w *world, a *answer) {
			delegate(w, a)
			w.leaf.tail = []byte{5, 0}
		}, []Code{OCSPForm}},
		{"signature of something else", func(w *world, a *answer) { a.spoil = true }, []Code{OCSPSignature}},
		{"algorithm", func(w *world, a *answer) { a.algorithm = ecdsaSHA512 }, []Code{OCSPAlgorithm}},
		{"issuer expired", func(w *world, a *answer) { w.issuing.to = timeOf(now - 1) }, []Code{Expired}},
		{"issuer is no CA", func(w *world, a *answer) { w.issuing = w.leaf }, []Code{NotCA}},
		{"status", func(w *world, a *answer) { a.status = []byte("\x0a\x01\x03") }, []Code{OCSPStatus}},
		{"other issuer's name", func(w *world, a *answer) { a.id = certID(name("Other"), bitsOf(t, w.issuing.key)) }, []Code{OCSPCertificateID}},
		{"other issuer's key", func(w *world, a *answer) { a.id = certID(name("Issuing"), bitsOf(t, w.root.key)) }, []Code{OCSPCertificateID}},
		{"first second", func(w *world, a *answer) { a.this = generalized(now) }, nil},
		{"second before", func(w *world, a *answer) { a.this = generalized(now + 1) }, []Code{OCSPNotYetValid}},
		{"last second", func(w *world, a *answer) { a.next = wrap(explicit(0), generalized(now)) }, nil},
		{"second after", func(w *world, a *answer) { a.next = wrap(explicit(0), generalized(now-1)) }, []Code{OCSPExpired}},
		{"no end", func(w *world, a *answer) { a.next = nil }, []Code{OCSPExpired}},
		{"made later", func(w *world, a *answer) { a.produced = generalized(now + 1) }, []Code{OCSPNotYetValid}},
		{"unknown extension", func(w *world, a *answer) {
			a.exts = wrap(explicit(1), extensionsDER([]ext{{unknownOID, nil, []byte{5, 0}}}))
		}, nil},
		{"critical extension", func(w *world, a *answer) {
			a.exts = wrap(explicit(1), extensionsDER([]ext{{unknownOID, isTrue, []byte{5, 0}}}))
		}, []Code{OCSPExtension}},
		{"critical extension of the answer", func(w *world, a *answer) {
			a.more = wrap(explicit(1), extensionsDER([]ext{{unknownOID, isTrue, []byte{5, 0}}}))
		}, []Code{OCSPExtension}},
		{"version written out", func(w *world, a *answer) {
			a.responder = append(wrap(explicit(0), []byte("\x02\x01\x00")), a.responder...)
		}, []Code{OCSPForm}},
		{"no such reason", func(w *world, a *answer) {
			a.state = wrap(explicit(1), generalized(begin), wrap(explicit(0), []byte("\x0a\x01\x07")))
		}, []Code{OCSPForm}},
		{"time with a fraction", func(w *world, a *answer) { a.this = wrap(tag.GeneralizedTime, []byte("20260101000000.5Z")) }, []Code{OCSPForm}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			a := &answer{
				status: []byte("\x0a\x01\x00"), responder: wrap(explicit(1), name("Issuing")), produced: generalized(now - 1),
				id: certID(name("Issuing"), bitsOf(t, w.issuing.key)), state: []byte("\x80\x00"), this: generalized(now - 1),
				next: wrap(explicit(0), generalized(now+1)), algorithm: ecdsaSHA256,
			}
			c.change(w, a)
			if a.signer != nil {
				a.certs = [][]byte{w.leaf.der()}
			}
			answers, reasons := OCSP(a.der(w), w.issuing.der(), now)
			if !slices.Equal(codes(reasons), c.want) || (len(answers) == 1) != (c.want == nil) {
				t.Fatalf("%v, %v, want %v", answers, reasons, c.want)
			}
			if c.want == nil && (answers[0].Status != "good" || !bytes.Equal(answers[0].Serial, []byte{3})) {
				t.Errorf("answer %+v", answers[0])
			}
		})
	}
}

// TestOCSPLibrary reads what golang.org/x/crypto/ocsp makes.
func TestOCSPLibrary(t *testing.T) {
	w := newWorld(t)
	w.issuing.to = timeOf(firstGeneralized)
	ca := must[*x509.Certificate](t)(x509.ParseCertificate(w.issuing.der()))
	today := time.Now().Unix() + 60 // the library says itself when a response was made
	for _, c := range []struct {
		response ocsp.Response
		status   string
	}{
		{ocsp.Response{Status: ocsp.Good}, "good"},
		{ocsp.Response{Status: ocsp.Unknown}, "unknown"},
		{ocsp.Response{Status: ocsp.Revoked, RevokedAt: time.Unix(begin, 0), RevocationReason: ocsp.KeyCompromise}, "revoked"},
		{ocsp.Response{Status: ocsp.Revoked, RevokedAt: time.Unix(begin, 0), RevocationReason: ocsp.CertificateHold}, "on-hold"},
	} {
		for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
			c.response.SerialNumber, c.response.IssuerHash = big.NewInt(0x83), hash
			c.response.ThisUpdate, c.response.NextUpdate = time.Unix(today-120, 0), time.Unix(today+9, 0)
			der := must[[]byte](t)(ocsp.CreateResponse(ca, ca, c.response, w.issuingKey))
			answers, reasons := OCSP(der, ca.Raw, today)
			if len(reasons) > 0 || len(answers) != 1 || answers[0].Status != c.status || !bytes.Equal(answers[0].Serial, []byte{0x83}) {
				t.Errorf("%s, %v: %+v, %v", c.status, hash, answers, reasons)
			}
			if c.response.Status == ocsp.Revoked && answers[0].Date != begin {
				t.Errorf("date %d, want %d", answers[0].Date, begin)
			}
		}
	}
}

func FuzzOCSP(f *testing.F) {
	w := newWorld(f)
	a := &answer{
		status: []byte("\x0a\x01\x00"), responder: wrap(explicit(1), name("Issuing")), produced: generalized(now - 1),
		id: certID(name("Issuing"), bitsOf(f, w.issuing.key)), state: wrap(explicit(1), generalized(begin), wrap(explicit(0), []byte("\x0a\x01\x06"))),
		this: generalized(now - 1), next: wrap(explicit(0), generalized(now+1)), algorithm: ecdsaSHA256,
	}
	f.Add(a.der(w))
	delegate(w, a)
	a.certs = [][]byte{w.leaf.der()}
	f.Add(a.der(w))
	issuer := w.issuing.der()
	f.Fuzz(func(t *testing.T, data []byte) {
		r, reason := parseOCSP(cryptobyte.String(data))
		if (r == nil) == (reason == nil) {
			t.Fatal("neither a response nor a reason, or both")
		}
		if answers, reasons := OCSP(data, issuer, now); (len(answers) == 0) == (len(reasons) == 0) {
			t.Fatal("neither answers nor reasons, or both")
		}
	})
}
