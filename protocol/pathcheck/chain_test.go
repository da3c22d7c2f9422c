package pathcheck

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"slices"
	"testing"

	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// judged is one world and what is to be said of it. Where openssl says otherwise, why tells the reason.
type judged struct {
	name   string
	change func(*testing.T, *world)
	want   []Code // none: accept
	why    string // openssl decides otherwise
}

const (
	whyLax     = "openssl does not check it"
	whySupport = "openssl supports it, this package does not"
)

var unknownOID = "\x2a\x03\x04"

// cases has, for each check, what is accepted at its edge and what is refused beyond it.
var cases = []judged{
	{name: "plain", change: func(t *testing.T, w *world) {}},
	{name: "without CRLs", change: func(t *testing.T, w *world) { w.noCRLs = true }},

	// Form
	{name: "bytes after the leaf", change: func(t *testing.T, w *world) { w.leaf.after = []byte{0} }, want: []Code{Form}, why: "PEM readers drop what follows"},
	{name: "empty extensions", change: func(t *testing.T, w *world) { w.leaf.exts, w.leaf.tail = nil, wrap(explicit(3), sequence()) }, want: []Code{Form}},
	{name: "unique identifier", change: func(t *testing.T, w *world) { w.leaf.key = append(w.leaf.key, wrap(implicit(2), []byte{0, 1})...) }, want: []Code{Form}, why: whyLax},
	{name: "critical written out as false", change: func(t *testing.T, w *world) {
		w.leaf.exts = append(w.leaf.exts, ext{unknownOID, isFalse, []byte{5, 0}})
	}, want: []Code{Form}, why: whyLax},
	{name: "unknown extension", change: func(t *testing.T, w *world) { w.leaf.exts = append(w.leaf.exts, ext{unknownOID, nil, []byte{5, 0}}) }},
	{name: "CA written out as false", change: func(t *testing.T, w *world) { set(&w.leaf.exts, basicConstraints(isFalse)) }, want: []Code{Form}, why: whyLax},
	{name: "empty basicConstraints", change: func(t *testing.T, w *world) { set(&w.leaf.exts, basicConstraints()) }},
	{name: "path length without CA", change: func(t *testing.T, w *world) { set(&w.leaf.exts, basicConstraints([]byte("\x02\x01\x00"))) }, want: []Code{Form}},
	{name: "negative path length", change: func(t *testing.T, w *world) { set(&w.issuing.exts, basicConstraints(isTrue, []byte("\x02\x01\xff"))) }, want: []Code{NoPath, Form}},
	{name: "key usage with a trailing zero", change: func(t *testing.T, w *world) { set(&w.leaf.exts, keyUsage("\x06\x80")) }, want: []Code{Form}, why: whyLax},
	{name: "key usage of no bits", change: func(t *testing.T, w *world) { set(&w.leaf.exts, keyUsage(usageZero)) }, want: []Code{Form}},
	{name: "short form of year 2050", change: func(t *testing.T, w *world) { w.leaf.to = timeOf(at("2050-01-01T00:00:00Z")) }},
	{name: "long form of year 2049", change: func(t *testing.T, w *world) { w.leaf.to = generalized(at("2049-12-31T23:59:59Z")) }, want: []Code{Form}, why: whyLax},
	{name: "time with a fraction", change: func(t *testing.T, w *world) { w.leaf.to = wrap(tag.GeneralizedTime, []byte("20501231235959.5Z")) }, want: []Code{Form}},
	{name: "time with an offset", change: func(t *testing.T, w *world) { w.leaf.to = wrap(tag.UTCTime, []byte("261231235959+0000")) }, want: []Code{Form}},
	{name: "30 February", change: func(t *testing.T, w *world) { w.leaf.from = wrap(tag.UTCTime, []byte("260230000000Z")) }, want: []Code{Form}},
	{name: "second 60", change: func(t *testing.T, w *world) { w.leaf.from = wrap(tag.UTCTime, []byte("260201000060Z")) }, want: []Code{Form}},
	{name: "ends before it begins", change: func(t *testing.T, w *world) { w.leaf.from, w.leaf.to = timeOf(end), timeOf(begin) }, want: []Code{Form}},
	{name: "constructed string in a name", change: func(t *testing.T, w *world) {
		w.leaf.subject = sequence(wrap(tag.SET, sequence([]byte("\x06\x03\x55\x04\x03"), wrap(0x2c, wrap(tag.UTF8String, []byte("x"))))))
	}, want: []Code{Form}, why: "openssl reads BER"},
	{name: "unsorted set in a name", change: func(t *testing.T, w *world) {
		a, b := sequence([]byte("\x06\x03\x55\x04\x03"), wrap(tag.UTF8String, []byte("a"))), sequence([]byte("\x06\x03\x55\x04\x0b"), wrap(tag.UTF8String, []byte("b")))
		w.leaf.subject = sequence(wrap(tag.SET, b, a))
	}, want: []Code{Form}, why: "openssl sorts it"},
	{name: "CA that is no certificate, another that is", change: func(t *testing.T, w *world) {
		w.unreadableCA, w.more = []byte{0x30, 0}, []*cert{w.issuing}
	}},

	// Version, serial, algorithm, key
	{name: "version 1 with extensions", change: func(t *testing.T, w *world) { w.leaf.version = nil }, want: []Code{Version}},
	{name: "version 2", change: func(t *testing.T, w *world) { w.leaf.version[4] = 1 }, want: []Code{Version}},
	{name: "version 4", change: func(t *testing.T, w *world) { w.leaf.version[4] = 3 }, want: []Code{Version}, why: whyLax},
	{name: "serial of 20 octets", change: func(t *testing.T, w *world) { w.leaf.serial = bytes.Repeat([]byte{0x7f}, 20) }},
	{name: "serial of 21 octets", change: func(t *testing.T, w *world) { w.leaf.serial = bytes.Repeat([]byte{0x7f}, 21) }, want: []Code{Serial}, why: whyLax},
	{name: "serial zero", change: func(t *testing.T, w *world) { w.leaf.serial = []byte{0} }, want: []Code{Serial}, why: whyLax},
	{name: "negative serial", change: func(t *testing.T, w *world) { w.leaf.serial = []byte{0x80} }, want: []Code{Serial}, why: whyLax},
	{name: "serial with a leading zero", change: func(t *testing.T, w *world) { w.leaf.serial = []byte{0, 1} }, want: []Code{Form}},
	{name: "signed with SHA-384", change: func(t *testing.T, w *world) { w.leaf.inner, w.leaf.outer = ecdsaSHA384, ecdsaSHA384 }},
	{name: "signed with SHA-512", change: func(t *testing.T, w *world) { w.leaf.inner, w.leaf.outer = ecdsaSHA512, ecdsaSHA512 }, want: []Code{Algorithm, Signature}, why: whySupport},
	{name: "algorithm inside is another", change: func(t *testing.T, w *world) { w.leaf.inner = ecdsaSHA384 }, want: []Code{AlgorithmMismatch}},
	{name: "algorithm with parameters", change: func(t *testing.T, w *world) {
		w.leaf.inner = "\x30\x0c\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02\x05\x00"
		w.leaf.outer = w.leaf.inner
	}, want: []Code{Algorithm, Signature}, why: whyLax},
	{name: "leaf key on P-224", change: func(t *testing.T, w *world) {
		k, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		w.leaf.key = spkiOf(k.Public())
	}, want: []Code{Key}, why: "openssl at its usual level accepts smaller keys"},
	{name: "leaf signed by another key", change: func(t *testing.T, w *world) { w.leaf.signer = w.rootKey }, want: []Code{Signature}},
	{name: "leaf signature of something else", change: func(t *testing.T, w *world) { w.leaf.spoil = true }, want: []Code{Signature}},
	{name: "CA signature of something else", change: func(t *testing.T, w *world) { w.issuing.spoil = true }, want: []Code{Signature}},
	{name: "root signature of something else", change: func(t *testing.T, w *world) { w.root.spoil = true }, want: []Code{Signature}, why: "openssl does not verify an anchor's own signature"},

	// Validity: both ends count, to the second
	{name: "first second", change: func(t *testing.T, w *world) { w.leaf.from = timeOf(now) }},
	{name: "second before", change: func(t *testing.T, w *world) { w.leaf.from = timeOf(now + 1) }, want: []Code{NotYetValid}},
	{name: "last second", change: func(t *testing.T, w *world) { w.leaf.to = timeOf(now) }, why: "openssl takes notAfter as the first second that is not valid, against RFC 5280 section 4.1.2.5"},
	{name: "second after", change: func(t *testing.T, w *world) { w.leaf.to = timeOf(now - 1) }, want: []Code{Expired}},
	{name: "CA expired", change: func(t *testing.T, w *world) { w.issuing.to = timeOf(now - 1) }, want: []Code{Expired}},
	{name: "CA not yet valid", change: func(t *testing.T, w *world) { w.issuing.from = timeOf(now + 1) }, want: []Code{NotYetValid}},
	{name: "root expired", change: func(t *testing.T, w *world) { w.root.to = timeOf(now - 1) }, want: []Code{Expired}},

	// Extensions
	{name: "extension twice", change: func(t *testing.T, w *world) { w.leaf.exts = append(w.leaf.exts, w.leaf.exts[2]) }, want: []Code{DuplicateExtension}},
	{name: "unknown extension twice", change: func(t *testing.T, w *world) {
		e := ext{unknownOID, nil, []byte{5, 0}}
		w.leaf.exts = append(w.leaf.exts, e, e)
	}, want: []Code{DuplicateExtension}, why: whyLax},
	{name: "unknown critical extension of the leaf", change: func(t *testing.T, w *world) {
		w.leaf.exts = append(w.leaf.exts, ext{unknownOID, isTrue, []byte{5, 0}})
	}, want: []Code{CriticalExtension}},
	{name: "unknown critical extension of the CA", change: func(t *testing.T, w *world) {
		w.issuing.exts = append(w.issuing.exts, ext{unknownOID, isTrue, []byte{5, 0}})
	}, want: []Code{CriticalExtension}},
	{name: "unknown critical extension of the root", change: func(t *testing.T, w *world) {
		w.root.exts = append(w.root.exts, ext{unknownOID, isTrue, []byte{5, 0}})
	}, want: []Code{CriticalExtension}},
	{name: "policies", change: func(t *testing.T, w *world) {
		w.leaf.exts = append(w.leaf.exts, ext{oidPolicies, isTrue, sequence(sequence(wrap(tag.OBJECT_IDENTIFIER, []byte(unknownOID))))})
	}},
	{name: "policy constraints", change: func(t *testing.T, w *world) {
		w.issuing.exts = append(w.issuing.exts, ext{"\x55\x1d\x24", isTrue, sequence(wrap(implicit(0), []byte{9}))})
	}, want: []Code{CriticalExtension}, why: whySupport},
	{name: "name constraints", change: func(t *testing.T, w *world) {
		w.issuing.exts = append(w.issuing.exts, ext{oidNameConstraints, isTrue, sequence(wrap(explicit(0), sequence(wrap(implicit(2), []byte("example")))))})
	}, want: []Code{NameConstraints}, why: whySupport},
	{name: "name constraints, not critical", change: func(t *testing.T, w *world) {
		w.issuing.exts = append(w.issuing.exts, ext{oidNameConstraints, nil, sequence(wrap(explicit(0), sequence(wrap(implicit(2), []byte("example")))))})
	}, want: []Code{NameConstraints}, why: whySupport},
	{name: "key identifier critical", change: func(t *testing.T, w *world) { w.leaf.exts[1].critical = isTrue }, want: []Code{Criticality}},
	{name: "authority key identifier critical", change: func(t *testing.T, w *world) { w.leaf.exts[0].critical = isTrue }, want: []Code{Criticality}},
	{name: "authority information critical", change: func(t *testing.T, w *world) {
		w.leaf.exts = append(w.leaf.exts, ext{oidAuthorityAccess, isTrue, sequence(sequence([]byte("\x06\x08\x2b\x06\x01\x05\x05\x07\x30\x01"), uri("http://ocsp.example/")))})
	}, want: []Code{Criticality}},

	// Names
	{name: "no subject, alternative name critical", change: func(t *testing.T, w *world) {
		w.leaf.subject = sequence()
		w.leaf.exts = append(w.leaf.exts, ext{oidSubjectAltName, isTrue, sequence(wrap(implicit(2), []byte("a.example")))})
	}},
	{name: "no subject, alternative name not critical", change: func(t *testing.T, w *world) {
		w.leaf.subject = sequence()
		w.leaf.exts = append(w.leaf.exts, ext{oidSubjectAltName, nil, sequence(wrap(implicit(2), []byte("a.example")))})
	}, want: []Code{Criticality}},
	{name: "no subject, no alternative name", change: func(t *testing.T, w *world) { w.leaf.subject = sequence() }, want: []Code{EmptyName}},
	{name: "empty alternative name", change: func(t *testing.T, w *world) {
		w.leaf.exts = append(w.leaf.exts, ext{oidSubjectAltName, nil, sequence()})
	}, want: []Code{Form}},
	{name: "issuer in other letters", change: func(t *testing.T, w *world) { w.leaf.issuer = name("ISSUING") }, want: []Code{NoPath}, why: "openssl compares names without regard to case"},
	{name: "issuer in another string type", change: func(t *testing.T, w *world) {
		w.leaf.issuer = sequence(wrap(tag.SET, sequence([]byte("\x06\x03\x55\x04\x03"), wrap(tag.PrintableString, []byte("Issuing")))))
	}, want: []Code{NoPath}, why: "openssl compares names without regard to string type"},
	{name: "issuer is another", change: func(t *testing.T, w *world) { w.leaf.issuer = name("Other") }, want: []Code{NoPath}},

	// Key identifiers
	{name: "no authority key identifier", change: func(t *testing.T, w *world) { drop(&w.leaf.exts, oidAuthorityKeyID) }, want: []Code{KeyIdentifier}},
	{name: "authority key identifier of another", change: func(t *testing.T, w *world) { set(&w.leaf.exts, issuerID([]byte{1, 2, 3})) }, want: []Code{KeyIdentifierDiffer}},
	{name: "authority by issuer and serial", change: func(t *testing.T, w *world) {
		set(&w.leaf.exts, issuerID(keyID(w.issuingKey.Public()), wrap(explicit(1), wrap(explicit(4), name("Root"))), wrap(implicit(2), []byte{2})))
	}},
	{name: "authority by another serial", change: func(t *testing.T, w *world) {
		set(&w.leaf.exts, issuerID(keyID(w.issuingKey.Public()), wrap(explicit(1), wrap(explicit(4), name("Root"))), wrap(implicit(2), []byte{9})))
	}, want: []Code{KeyIdentifierDiffer}},
	{name: "authority by another issuer", change: func(t *testing.T, w *world) {
		set(&w.leaf.exts, issuerID(keyID(w.issuingKey.Public()), wrap(explicit(1), wrap(explicit(4), name("Toor"))), wrap(implicit(2), []byte{2})))
	}, want: []Code{KeyIdentifierDiffer}},
	{name: "authority by serial alone", change: func(t *testing.T, w *world) {
		set(&w.leaf.exts, issuerID(keyID(w.issuingKey.Public()), wrap(implicit(2), []byte{2})))
	}, want: []Code{Form}, why: whyLax},
	{name: "CA without key identifier", change: func(t *testing.T, w *world) { drop(&w.issuing.exts, oidSubjectKeyID) }, want: []Code{KeyIdentifierDiffer, KeyIdentifier}},
	{name: "root without authority key identifier", change: func(t *testing.T, w *world) { drop(&w.root.exts, oidAuthorityKeyID) }},

	// CAs
	{name: "issuer without basicConstraints", change: func(t *testing.T, w *world) { drop(&w.issuing.exts, oidBasicConstraints) }, want: []Code{KeyUsage, NotCA}},
	{name: "issuer is no CA", change: func(t *testing.T, w *world) {
		set(&w.issuing.exts, basicConstraints())
		set(&w.issuing.exts, keyUsage(usageSign))
	}, want: []Code{NotCA}},
	{name: "basicConstraints not critical", change: func(t *testing.T, w *world) { w.issuing.exts[2].critical = nil }, want: []Code{Criticality}},
	{name: "root without basicConstraints", change: func(t *testing.T, w *world) { drop(&w.root.exts, oidBasicConstraints) }, want: []Code{KeyUsage, NotCA}},
	{name: "CA without key usage", change: func(t *testing.T, w *world) { drop(&w.issuing.exts, oidKeyUsage) }, want: []Code{KeyUsage}},
	{name: "CA that may not sign certificates", change: func(t *testing.T, w *world) { set(&w.issuing.exts, keyUsage("\x01\x02")) }, want: []Code{KeyUsage}},
	{name: "leaf that may sign certificates", change: func(t *testing.T, w *world) { set(&w.leaf.exts, keyUsage(usageBoth)) }, want: []Code{KeyUsage}},
	{name: "leaf without key usage", change: func(t *testing.T, w *world) { drop(&w.leaf.exts, oidKeyUsage) }},
	{name: "one CA more than the root's path length", change: func(t *testing.T, w *world) { deeper(t, w, 1) }, want: []Code{PathLength}},
	{name: "as many CAs as the root's path length", change: func(t *testing.T, w *world) { deeper(t, w, 2) }},
	{name: "CA with path length 0 has a CA below", change: func(t *testing.T, w *world) {
		deeper(t, w, 2)
		set(&w.issuing.exts, basicConstraints(isTrue, []byte("\x02\x01\x00")))
	}, want: []Code{PathLength}},
	{name: "leaf is a CA", change: func(t *testing.T, w *world) {
		set(&w.leaf.exts, basicConstraints(isTrue))
		set(&w.leaf.exts, keyUsage(usageCA))
	}},

	// Purpose
	{name: "purpose", change: func(t *testing.T, w *world) {
		w.purpose = serverTLS
		w.leaf.exts = append(w.leaf.exts, purposes(clientOID, serverOID))
	}},
	{name: "purpose of any kind", change: func(t *testing.T, w *world) { w.purpose = serverTLS }},
	{name: "another purpose", change: func(t *testing.T, w *world) {
		w.purpose = serverTLS
		w.leaf.exts = append(w.leaf.exts, purposes(clientOID))
	}, want: []Code{Purpose}},
	{name: "another purpose of the CA", change: func(t *testing.T, w *world) {
		w.purpose = serverTLS
		w.issuing.exts = append(w.issuing.exts, purposes(clientOID))
	}, want: []Code{Purpose}},
	{name: "no purposes", change: func(t *testing.T, w *world) { w.leaf.exts = append(w.leaf.exts, purposes()) }, want: []Code{Form}, why: whyLax},

	// Paths
	{name: "root alone", change: func(t *testing.T, w *world) { w.leaf, w.noCRLs = w.root, true }},
	{name: "leaf below the root", change: func(t *testing.T, w *world) { w.leaf, w.noIssuing = w.issuing, true }},
	{name: "leaf among the intermediates", change: func(t *testing.T, w *world) { w.leafFirst = true }},
	{name: "no CA", change: func(t *testing.T, w *world) { w.noIssuing = true }, want: []Code{NoPath}},
	{name: "another root", change: func(t *testing.T, w *world) {
		k := newKey(t)
		w.root = newCert(k, k, "Other", "Other", 1, issuerID(keyID(k.Public())), subjectID(keyID(k.Public())), basicConstraints(isTrue), keyUsage(usageCA))
	}, want: []Code{NoPath}},
	{name: "another root of the same name", change: func(t *testing.T, w *world) {
		k := newKey(t)
		w.root = newCert(k, k, "Root", "Root", 1, issuerID(keyID(k.Public())), subjectID(keyID(k.Public())), basicConstraints(isTrue), keyUsage(usageCA))
	}, want: []Code{KeyIdentifierDiffer}},
	{name: "root not trusted but given", change: func(t *testing.T, w *world) {
		other, _ := w.below(t, "Other", "Other", newKey(t), 1)
		w.more, w.root = []*cert{w.root}, other
	}, want: []Code{NoPath}},
	{name: "anchor that is not self-signed", change: func(t *testing.T, w *world) { w.noRoot, w.anchors = true, []*cert{w.issuing} }, want: []Code{Anchor}},
	{name: "CA once expired, once renewed", change: func(t *testing.T, w *world) {
		old := *w.issuing
		old.to, old.serial = timeOf(now-1), []byte{9}
		w.issuing, w.more = &old, []*cert{w.issuing}
	}},
	{name: "circle of CAs", change: func(t *testing.T, w *world) {
		cross := *w.issuing
		cross.subject, cross.issuer, cross.key, cross.signer = name("Root"), name("Issuing"), spkiOf(w.rootKey.Public()), w.issuingKey
		cross.exts = []ext{issuerID(keyID(w.issuingKey.Public())), subjectID(keyID(w.rootKey.Public())), basicConstraints(isTrue), keyUsage(usageCA)}
		other, _ := w.below(t, "Other", "Other", newKey(t), 1)
		w.more, w.root, w.noCRLs = []*cert{&cross}, other, true
	}, want: []Code{NoPath}},
	{name: "circle of CAs beside the path", change: func(t *testing.T, w *world) {
		cross := *w.issuing
		cross.subject, cross.issuer, cross.key, cross.signer = name("Root"), name("Issuing"), spkiOf(w.rootKey.Public()), w.issuingKey
		cross.exts = []ext{issuerID(keyID(w.issuingKey.Public())), subjectID(keyID(w.rootKey.Public())), basicConstraints(isTrue), keyUsage(usageCA)}
		w.more = []*cert{&cross}
	}},
	{name: "eight certificates", change: func(t *testing.T, w *world) { longer(t, w, 6) }},
	{name: "nine certificates", change: func(t *testing.T, w *world) { longer(t, w, 7) }, want: []Code{NoPath}, why: "openssl follows longer paths"},
}

// deeper puts one more CA between the CA and the leaf, and gives the root a path length.
func deeper(t *testing.T, w *world, pathLen byte) {
	set(&w.root.exts, basicConstraints(isTrue, []byte{2, 1, pathLen}))
	set(&w.issuing.exts, basicConstraints(isTrue))
	sub, key := w.below(t, "Issuing", "Sub", w.issuingKey, 8)
	w.more = append(w.more, sub)
	w.leaf.issuer, w.leaf.signer = name("Sub"), key
	set(&w.leaf.exts, issuerID(keyID(key.Public())))
	w.moreCRLs = append(w.moreCRLs, newList(key, "Sub"))
}

// longer makes a path of n CAs between root and leaf.
func longer(t *testing.T, w *world, n byte) {
	w.noIssuing, w.noCRLs = true, true
	issuer, key := "Root", w.rootKey
	for i := range n {
		subject := string([]byte{'A' + i})
		c, k := w.below(t, issuer, subject, key, 10+i)
		w.more = append(w.more, c)
		issuer, key = subject, k
	}
	w.leaf.issuer, w.leaf.signer = name(issuer), key
	set(&w.leaf.exts, issuerID(keyID(key.Public())))
}

func TestChain(t *testing.T) {
	for _, c := range slices.Concat(cases, crlCases) {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			c.change(t, w)
			in := w.input()
			result := Chain(in)
			if got := codes(result.Reasons); !slices.Equal(got, c.want) || result.Accept != (len(c.want) == 0) {
				t.Fatalf("accept %v, %v, want %v\n%v", result.Accept, got, c.want, result.Reasons)
			}
			if result.Accept && (!bytes.Equal(result.Chain[0], in.Leaf) || !slices.ContainsFunc(in.Anchors, func(a []byte) bool { return bytes.Equal(a, result.Chain[len(result.Chain)-1]) })) {
				t.Error("the chain does not lead from the leaf to an anchor")
			}
			if !result.Accept && result.Chain != nil {
				t.Error("a chain was returned that is not accepted")
			}
			for _, r := range result.Reasons {
				if r.Words == "" {
					t.Errorf("%s has no words", r.Code)
				}
			}
		})
	}
}
