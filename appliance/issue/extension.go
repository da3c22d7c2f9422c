package issue

import (
	"crypto/x509"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"
)

// Contents of the OIDs of extensions and access methods (RFC 5280 sections 4.2 and 5.2, RFC 6960 section 4.2.2.2.1).
const (
	oidSubjectKeyID     = "\x55\x1d\x0e"
	oidKeyUsage         = "\x55\x1d\x0f"
	oidSubjectAltName   = "\x55\x1d\x11"
	oidBasicConstraints = "\x55\x1d\x13"
	oidCRLNumber        = "\x55\x1d\x14"
	oidReasonCode       = "\x55\x1d\x15"
	oidInvalidityDate   = "\x55\x1d\x18"
	oidIssuingPoint     = "\x55\x1d\x1c"
	oidCRLPoints        = "\x55\x1d\x1f"
	oidPolicies         = "\x55\x1d\x20"
	oidAuthorityKeyID   = "\x55\x1d\x23"
	oidExtKeyUsage      = "\x55\x1d\x25"
	oidAuthorityAccess  = "\x2b\x06\x01\x05\x05\x07\x01\x01"
	oidAccessOCSP       = "\x2b\x06\x01\x05\x05\x07\x30\x01"
	oidAccessIssuers    = "\x2b\x06\x01\x05\x05\x07\x30\x02"
	oidOCSPNoCheck      = "\x2b\x06\x01\x05\x05\x07\x30\x01\x05"
)

type build = cryptobyte.BuilderContinuation

// addExtension adds one Extension whose value is built by value.
func addExtension(b *cryptobyte.Builder, oid string, critical bool, value build) {
	b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		addRaw(b, tag.OBJECT_IDENTIFIER, oid)
		if critical {
			b.AddASN1Boolean(true)
		}
		b.AddASN1(tag.OCTET_STRING, value)
	})
}

func addAuthorityKeyID(b *cryptobyte.Builder, id []byte) {
	addExtension(b, oidAuthorityKeyID, false, func(b *cryptobyte.Builder) {
		b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(tag.Tag(0x80), func(b *cryptobyte.Builder) { b.AddBytes(id) })
		})
	})
}

// usageNames are the bits of KeyUsage, RFC 5280 section 4.2.1.3.
var usageNames = [...]string{"digitalSignature", "nonRepudiation", "keyEncipherment", "dataEncipherment", "keyAgreement",
	"keyCertSign", "cRLSign", "encipherOnly", "decipherOnly"}

// canNot tells which usages a kind of key cannot have: RFC 3279 section 2.3.1 for RSA, RFC 8813 section 3 for elliptic
// curves, RFC 8410 section 5 for Ed25519.
var canNot = [keyKinds][]string{
	keyRSA:     {"keyAgreement", "encipherOnly", "decipherOnly"},
	keyEC:      {"keyEncipherment", "dataEncipherment"},
	keyEd25519: {"keyEncipherment", "dataEncipherment", "keyAgreement", "encipherOnly", "decipherOnly"},
}

// usageBits gives those of the usages that a key of the kind can have, bit 0 first; 0 if there are none.
func usageBits(names []string, kind keyKind) (uint16, error) {
	var bits uint16
	for _, name := range names {
		i := slices.Index(usageNames[:], name)
		if i < 0 {
			return 0, fmt.Errorf("no key usage %q", name)
		}
		if !slices.Contains(canNot[kind], name) {
			bits |= 1 << i
		}
	}
	return bits, nil
}

// addKeyUsage adds a named bit list: DER leaves out trailing zeros (X.690 section 11.2.2).
func addKeyUsage(b *cryptobyte.Builder, bits uint16) {
	last := 0
	for i := range usageNames {
		if bits&(1<<i) != 0 {
			last = i
		}
	}
	octets := make([]byte, last/8+1)
	for i := range last + 1 {
		if bits&(1<<i) != 0 {
			octets[i/8] |= 0x80 >> (i % 8)
		}
	}
	addExtension(b, oidKeyUsage, true, func(b *cryptobyte.Builder) {
		b.AddASN1(tag.BIT_STRING, func(b *cryptobyte.Builder) {
			b.AddUint8(uint8(7 - last%8))
			b.AddBytes(octets)
		})
	})
}

// addBasicConstraints is for CAs only: RFC 5280 section 4.2.1.9 lets others leave it out. A negative length is none.
func addBasicConstraints(b *cryptobyte.Builder, pathLen int64) {
	addExtension(b, oidBasicConstraints, true, func(b *cryptobyte.Builder) {
		b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1Boolean(true)
			if pathLen >= 0 {
				b.AddASN1Int64(pathLen)
			}
		})
	})
}

// extUsageOID translates a purpose: a name or a dotted OID (RFC 5280 section 4.2.1.12).
func extUsageOID(name string) (string, error) {
	switch name {
	case "serverAuth":
		return "\x2b\x06\x01\x05\x05\x07\x03\x01", nil
	case "clientAuth":
		return "\x2b\x06\x01\x05\x05\x07\x03\x02", nil
	case "codeSigning":
		return "\x2b\x06\x01\x05\x05\x07\x03\x03", nil
	case "emailProtection":
		return "\x2b\x06\x01\x05\x05\x07\x03\x04", nil
	case "timeStamping":
		return "\x2b\x06\x01\x05\x05\x07\x03\x08", nil
	case "OCSPSigning":
		return "\x2b\x06\x01\x05\x05\x07\x03\x09", nil
	case "documentSigning": // RFC 9336
		return "\x2b\x06\x01\x05\x05\x07\x03\x24", nil
	case "smartcardLogon": // Microsoft, 1.3.6.1.4.1.311.20.2.2
		return "\x2b\x06\x01\x04\x01\x82\x37\x14\x02\x02", nil
	}
	return dottedOID(name)
}

// dottedOID gives the contents of the OID, whatever the size of its arcs.
func dottedOID(text string) (string, error) {
	oid, err := x509.ParseOID(text)
	if err != nil {
		return "", fmt.Errorf("%q is not an object identifier: %w", text, err)
	}
	contents, err := oid.MarshalBinary()
	if err != nil {
		return "", fmt.Errorf("encode object identifier %s: %w", text, err)
	}
	return string(contents), nil
}

// addOIDs adds an extension that is a list of OIDs, each wrapped in a SEQUENCE (certificatePolicies) or bare (extKeyUsage).
func addOIDs(b *cryptobyte.Builder, oid string, contents []string, wrapped bool) {
	addExtension(b, oid, false, func(b *cryptobyte.Builder) {
		b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, c := range contents {
				if wrapped {
					b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) { addRaw(b, tag.OBJECT_IDENTIFIER, c) })
				} else {
					addRaw(b, tag.OBJECT_IDENTIFIER, c)
				}
			}
		})
	})
}

// addPoint adds a DistributionPointName of URIs in its field 0 (RFC 5280 section 4.2.1.13).
func addPoint(b *cryptobyte.Builder, urls []string) {
	b.AddASN1(tag.Tag(0xa0), func(b *cryptobyte.Builder) {
		b.AddASN1(tag.Tag(0xa0), func(b *cryptobyte.Builder) {
			for _, u := range urls {
				addString(b, tagURI, tag.IA5String, "URL", u)
			}
		})
	})
}

func addCRLPoint(b *cryptobyte.Builder, url string) {
	addExtension(b, oidCRLPoints, false, func(b *cryptobyte.Builder) {
		b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) { addPoint(b, []string{url}) })
		})
	})
}

// addAuthorityAccess says where to ask and where the CA's certificate is (RFC 5280 section 4.2.2.1); "" is left out.
func addAuthorityAccess(b *cryptobyte.Builder, ocsp, issuer string) {
	if ocsp == "" && issuer == "" {
		return
	}
	addExtension(b, oidAuthorityAccess, false, func(b *cryptobyte.Builder) {
		b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, access := range [...][2]string{{oidAccessOCSP, ocsp}, {oidAccessIssuers, issuer}} {
				if access[1] == "" {
					continue
				}
				b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
					addRaw(b, tag.OBJECT_IDENTIFIER, access[0])
					addString(b, tagURI, tag.IA5String, "URL", access[1])
				})
			}
		})
	})
}
