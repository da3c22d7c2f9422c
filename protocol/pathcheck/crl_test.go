package pathcheck

import (
	"testing"

	tag "golang.org/x/crypto/cryptobyte/asn1"
)

const shardURL, otherURL = "http://crl.example/1.crl", "http://crl.example/2.crl"

var crlCases = []judged{
	// Status
	{name: "leaf revoked", change: func(t *testing.T, w *world) {
		w.issuingCRL.entries = append(w.issuingCRL.entries, revoked(3, 1))
	}, want: []Code{Revoked}},
	{name: "leaf revoked without a reason", change: func(t *testing.T, w *world) {
		w.issuingCRL.entries = []crlEntry{{serial: []byte{3}, date: timeOf(now - 7200)}}
	}, want: []Code{Revoked}},
	{name: "leaf on hold", change: func(t *testing.T, w *world) {
		w.issuingCRL.entries = append(w.issuingCRL.entries, revoked(3, 6))
	}, want: []Code{OnHold}},
	{name: "leaf's serial revoked by another CA", change: func(t *testing.T, w *world) {
		w.rootCRL.entries = append(w.rootCRL.entries, revoked(3, 1))
	}},
	{name: "CA revoked", change: func(t *testing.T, w *world) { w.rootCRL.entries = append(w.rootCRL.entries, revoked(2, 2)) }, want: []Code{Revoked}},
	{name: "old certificate of the CA revoked", change: func(t *testing.T, w *world) {
		old := *w.issuing
		old.serial = []byte{9}
		w.issuing, w.more = &old, []*cert{w.issuing}
		w.rootCRL.entries = append(w.rootCRL.entries, revoked(9, 4))
	}, why: "openssl tries no other path"},
	{name: "empty CRL", change: func(t *testing.T, w *world) { w.issuingCRL.entries = nil }},

	// Which CRL
	{name: "no CRL of the CA", change: func(t *testing.T, w *world) { w.issuingCRL = nil }, want: []Code{NoCRL}},
	{name: "no CRL of the root", change: func(t *testing.T, w *world) { w.rootCRL = nil }, want: []Code{NoCRL}},
	{name: "unreadable CRL of the root", change: func(t *testing.T, w *world) { w.rootCRL, w.unreadableRootCRL = nil, []byte{0x30, 0} }, want: []Code{NoCRL, CRLForm}},
	{name: "unreadable CRL beside good ones", change: func(t *testing.T, w *world) { w.unreadableRootCRL = []byte{0x30, 0} }},
	{name: "CRL of a CA of the same name", change: func(t *testing.T, w *world) { w.issuingCRL = newList(newKey(t), "Issuing") }, want: []Code{NoCRL}},
	{name: "CRL of both CAs of the same name", change: func(t *testing.T, w *world) {
		w.moreCRLs = []*list{newList(newKey(t), "Issuing")}
	}},
	{name: "newer CRL releases", change: func(t *testing.T, w *world) {
		newer := *w.issuingCRL
		w.issuingCRL.entries = append(w.issuingCRL.entries, revoked(3, 6))
		newer.exts = []ext{newer.exts[0], {oidCRLNumber, nil, []byte("\x02\x02\x01\x00")}}
		newer.this = timeOf(now - 1800)
		w.moreCRLs = []*list{&newer}
	}},
	{name: "newer CRL revokes", change: func(t *testing.T, w *world) {
		newer := *w.issuingCRL
		newer.entries = []crlEntry{revoked(3, 1)}
		newer.exts = []ext{newer.exts[0], {oidCRLNumber, nil, []byte("\x02\x01\x06")}}
		newer.this = timeOf(now - 1800)
		w.moreCRLs = []*list{&newer}
	}, want: []Code{Revoked}},
	{name: "two CRLs of one number, one revokes", change: func(t *testing.T, w *world) {
		other := *w.issuingCRL
		other.entries = []crlEntry{revoked(3, 1)}
		w.moreCRLs = []*list{&other}
	}, want: []Code{Revoked}, why: "openssl takes the first of them"},
	{name: "expired CRL beside a current one", change: func(t *testing.T, w *world) {
		old := *w.issuingCRL
		old.next, old.this = timeOf(now-1), timeOf(now-7200)
		old.exts = []ext{old.exts[0], {oidCRLNumber, nil, []byte("\x02\x01\x04")}}
		w.moreCRLs = []*list{&old}
	}},

	// Form, algorithm, signature
	{name: "CRL: version 1", change: func(t *testing.T, w *world) { w.issuingCRL.version = nil }, want: []Code{NoCRL, CRLForm}, why: whyLax},
	{name: "CRL: bytes after it", change: func(t *testing.T, w *world) { w.issuingCRL.after = []byte{0} }, want: []Code{NoCRL, CRLForm}, why: "PEM readers drop what follows"},
	{name: "CRL: empty list of entries", change: func(t *testing.T, w *world) { w.issuingCRL.entries, w.issuingCRL.raw = nil, sequence() }, want: []Code{NoCRL, CRLForm}, why: whyLax},
	{name: "CRL: no extensions", change: func(t *testing.T, w *world) { w.issuingCRL.exts = nil }, want: []Code{CRLNumber, CRLKeyIdentifier}, why: whyLax},
	{name: "CRL: algorithm inside is another", change: func(t *testing.T, w *world) { w.issuingCRL.inner = ecdsaSHA384 }, want: []Code{CRLMismatch}},
	{name: "CRL: algorithm not accepted", change: func(t *testing.T, w *world) {
		w.issuingCRL.inner, w.issuingCRL.outer = ecdsaSHA512, ecdsaSHA512
	}, want: []Code{CRLAlgorithm}, why: whySupport},
	{name: "CRL: signature of something else", change: func(t *testing.T, w *world) { w.issuingCRL.spoil = true }, want: []Code{CRLSignature}},
	{name: "CRL: signed by another key", change: func(t *testing.T, w *world) { w.issuingCRL.signer = w.rootKey }, want: []Code{CRLSignature}},
	{name: "CA may not sign CRLs", change: func(t *testing.T, w *world) { set(&w.issuing.exts, keyUsage(usageCert)) }, want: []Code{CRLKeyUsage}},
	{name: "CA may not sign CRLs, none looked at", change: func(t *testing.T, w *world) {
		w.noCRLs = true
		set(&w.issuing.exts, keyUsage(usageCert))
	}},

	// Time
	{name: "CRL: first second", change: func(t *testing.T, w *world) { w.issuingCRL.this = timeOf(now) }},
	{name: "CRL: second before", change: func(t *testing.T, w *world) { w.issuingCRL.this = timeOf(now + 1) }, want: []Code{CRLNotYetValid}},
	{name: "CRL: last second", change: func(t *testing.T, w *world) { w.issuingCRL.next = timeOf(now) }, why: "openssl takes nextUpdate as the first second that is not valid"},
	{name: "CRL: second after", change: func(t *testing.T, w *world) { w.issuingCRL.next = timeOf(now - 1) }, want: []Code{CRLExpired}},
	{name: "CRL: no nextUpdate", change: func(t *testing.T, w *world) { w.issuingCRL.next = nil }, want: []Code{NoCRL, CRLForm}, why: whyLax},
	{name: "CRL: ends before it begins", change: func(t *testing.T, w *world) {
		w.issuingCRL.this, w.issuingCRL.next = timeOf(now+2), timeOf(now+1)
	}, want: []Code{NoCRL, CRLForm}},

	// Extensions
	{name: "CRL: no number", change: func(t *testing.T, w *world) { drop(&w.issuingCRL.exts, oidCRLNumber) }, want: []Code{CRLNumber}, why: whyLax},
	{name: "CRL: negative number", change: func(t *testing.T, w *world) { w.issuingCRL.exts[1].value = []byte("\x02\x01\xff") }, want: []Code{NoCRL, CRLForm}, why: whyLax},
	{name: "CRL: number critical", change: func(t *testing.T, w *world) { w.issuingCRL.exts[1].critical = isTrue }, want: []Code{CRLCriticality}},
	{name: "CRL: no authority key identifier", change: func(t *testing.T, w *world) { drop(&w.issuingCRL.exts, oidAuthorityKeyID) }, want: []Code{CRLKeyIdentifier}, why: whyLax},
	{name: "CRL: extension twice", change: func(t *testing.T, w *world) {
		w.issuingCRL.exts = append(w.issuingCRL.exts, w.issuingCRL.exts[1])
	}, want: []Code{CRLDuplicate}, why: whyLax},
	{name: "CRL: unknown extension", change: func(t *testing.T, w *world) {
		w.issuingCRL.exts = append(w.issuingCRL.exts, ext{unknownOID, nil, []byte{5, 0}})
	}},
	{name: "CRL: unknown critical extension", change: func(t *testing.T, w *world) {
		w.issuingCRL.exts = append(w.issuingCRL.exts, ext{unknownOID, isTrue, []byte{5, 0}})
	}, want: []Code{CRLExtension}},
	{name: "CRL: delta", change: func(t *testing.T, w *world) {
		w.issuingCRL.exts = append(w.issuingCRL.exts, ext{oidDeltaCRLIndicator, isTrue, []byte("\x02\x01\x04")})
	}, want: []Code{CRLDelta}},

	// Scope
	{name: "shard", change: func(t *testing.T, w *world) {
		w.leaf.exts = append(w.leaf.exts, points(otherURL, shardURL))
		w.issuingCRL.exts = append(w.issuingCRL.exts, issuingPoint(pointName(shardURL)))
	}},
	{name: "shard revokes", change: func(t *testing.T, w *world) {
		w.leaf.exts = append(w.leaf.exts, points(shardURL))
		w.issuingCRL.entries = []crlEntry{revoked(3, 1)}
		w.issuingCRL.exts = append(w.issuingCRL.exts, issuingPoint(pointName(shardURL)))
	}, want: []Code{Revoked}},
	{name: "another shard", change: func(t *testing.T, w *world) {
		w.leaf.exts = append(w.leaf.exts, points(shardURL))
		w.issuingCRL.exts = append(w.issuingCRL.exts, issuingPoint(pointName(otherURL)))
	}, want: []Code{NoCRL}},
	{name: "both shards", change: func(t *testing.T, w *world) {
		w.leaf.exts = append(w.leaf.exts, points(shardURL))
		other := *w.issuingCRL
		other.entries = []crlEntry{revoked(3, 1)}
		other.exts = append(other.exts[:2:2], issuingPoint(pointName(otherURL)))
		w.issuingCRL.exts = append(w.issuingCRL.exts, issuingPoint(pointName(shardURL)))
		w.moreCRLs = []*list{&other}
	}},
	{name: "shard of a certificate that names none", change: func(t *testing.T, w *world) {
		w.issuingCRL.exts = append(w.issuingCRL.exts, issuingPoint(pointName(shardURL)))
	}, want: []Code{NoCRL}},
	{name: "whole CRL for a certificate that names a shard", change: func(t *testing.T, w *world) {
		w.leaf.exts = append(w.leaf.exts, points(shardURL))
	}},
	{name: "shard not critical", change: func(t *testing.T, w *world) {
		w.leaf.exts = append(w.leaf.exts, points(shardURL))
		e := issuingPoint(pointName(shardURL))
		e.critical = nil
		w.issuingCRL.exts = append(w.issuingCRL.exts, e)
	}, want: []Code{CRLCriticality}, why: whyLax},
	{name: "point of the leaf for some reasons", change: func(t *testing.T, w *world) {
		w.leaf.exts = append(w.leaf.exts, ext{oidCRLPoints, nil, sequence(sequence(pointName(shardURL), wrap(implicit(1), []byte("\x06\x40"))))})
		w.issuingCRL.exts = append(w.issuingCRL.exts, issuingPoint(pointName(shardURL)))
	}, want: []Code{NoCRL}},
	{name: "CRL of users for a user", change: func(t *testing.T, w *world) {
		w.issuingCRL.exts = append(w.issuingCRL.exts, issuingPoint(flag(1)))
	}},
	{name: "CRL of users for a CA", change: func(t *testing.T, w *world) { w.rootCRL.exts = append(w.rootCRL.exts, issuingPoint(flag(1))) }, want: []Code{NoCRL}},
	{name: "CRL of CAs for a CA", change: func(t *testing.T, w *world) { w.rootCRL.exts = append(w.rootCRL.exts, issuingPoint(flag(2))) }},
	{name: "CRL of CAs for a user", change: func(t *testing.T, w *world) {
		w.issuingCRL.exts = append(w.issuingCRL.exts, issuingPoint(flag(2)))
	}, want: []Code{NoCRL}},
	{name: "CRL of users and of CAs", change: func(t *testing.T, w *world) {
		w.leaf, w.noIssuing = w.issuing, true
		w.rootCRL.exts = append(w.rootCRL.exts, issuingPoint(flag(1), flag(2)))
	}, want: []Code{NoCRL}},
	{name: "CRL of some reasons", change: func(t *testing.T, w *world) {
		w.issuingCRL.exts = append(w.issuingCRL.exts, issuingPoint(wrap(implicit(3), []byte("\x06\x40"))))
	}, want: []Code{CRLScope}},
	{name: "indirect CRL", change: func(t *testing.T, w *world) {
		w.issuingCRL.exts = append(w.issuingCRL.exts, issuingPoint(flag(4)))
	}, want: []Code{CRLScope}, why: whySupport},
	{name: "CRL of attribute certificates", change: func(t *testing.T, w *world) {
		w.issuingCRL.exts = append(w.issuingCRL.exts, issuingPoint(flag(5)))
	}, want: []Code{CRLScope}},
	{name: "CRL: point relative to the issuer", change: func(t *testing.T, w *world) {
		w.issuingCRL.exts = append(w.issuingCRL.exts, issuingPoint(wrap(explicit(0), wrap(explicit(1), sequence([]byte("\x06\x03\x55\x04\x03"), wrap(tag.UTF8String, []byte("1")))))))
	}, want: []Code{CRLScope}},
	{name: "CRL: empty scope", change: func(t *testing.T, w *world) {
		w.issuingCRL.exts = append(w.issuingCRL.exts, issuingPoint())
	}, want: []Code{NoCRL, CRLForm}, why: whyLax},
	{name: "CRL: flag written out as false", change: func(t *testing.T, w *world) {
		w.issuingCRL.exts = append(w.issuingCRL.exts, issuingPoint(wrap(implicit(1), []byte{0})))
	}, want: []Code{NoCRL, CRLForm}, why: whyLax},

	// Entries
	{name: "entry: unknown extension", change: func(t *testing.T, w *world) { entryExtension(w, ext{unknownOID, nil, []byte{5, 0}}) }},
	{name: "entry: unknown critical extension", change: func(t *testing.T, w *world) { entryExtension(w, ext{unknownOID, isTrue, []byte{5, 0}}) }, want: []Code{CRLEntryExtension}},
	{name: "entry: of another issuer", change: func(t *testing.T, w *world) {
		entryExtension(w, ext{oidCertificateIssuer, isTrue, sequence(wrap(explicit(4), name("Other")))})
	}, want: []Code{CRLEntryExtension}, why: "openssl minds it in indirect CRLs only"},
	{name: "entry: extension twice", change: func(t *testing.T, w *world) {
		w.issuingCRL.entries[0].exts = []ext{reasonCode(1), reasonCode(4)}
	}, want: []Code{CRLForm}, why: whyLax},
	{name: "entry: no such reason", change: func(t *testing.T, w *world) { w.issuingCRL.entries[0].exts = []ext{reasonCode(7)} }, want: []Code{CRLForm}, why: whyLax},
	{name: "entry: removed", change: func(t *testing.T, w *world) { w.issuingCRL.entries = []crlEntry{revoked(3, 8)} }, want: []Code{CRLForm}, why: "openssl heeds it in a complete CRL too"},
	{name: "entry: empty extensions", change: func(t *testing.T, w *world) {
		w.issuingCRL.entries, w.issuingCRL.raw = nil, sequence(sequence([]byte("\x02\x01\x70"), timeOf(now-7200), sequence()))
	}, want: []Code{CRLForm}, why: whyLax},
	{name: "entry: negative serial", change: func(t *testing.T, w *world) { w.issuingCRL.entries[0].serial = []byte{0x80} }, want: []Code{CRLForm}, why: whyLax},
	{name: "entry: no time", change: func(t *testing.T, w *world) { w.issuingCRL.entries[0].date = []byte{5, 0} }, want: []Code{CRLForm}},
	{name: "entry: invalidity date with a fraction", change: func(t *testing.T, w *world) {
		w.issuingCRL.entries[0].exts = []ext{{oidInvalidityDate, nil, wrap(tag.GeneralizedTime, []byte("20260101000000.5Z"))}}
	}, want: []Code{CRLForm}, why: whyLax},
	{name: "entry: serial twice", change: func(t *testing.T, w *world) {
		w.issuingCRL.entries = []crlEntry{revoked(3, 6), revoked(3, 1)}
	}, want: []Code{CRLForm}},
}

func entryExtension(w *world, e ext) {
	w.issuingCRL.entries[0].exts = append(w.issuingCRL.entries[0].exts, e)
}
