package show

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"

	"coldseal/protocol"
	"coldseal/protocol/csr"
)

// CSR shows a certificate request, DER; one that may not be worked with as refused.
func CSR(der []byte) Sheet {
	return append(Sheet{{Name: "type", Value: "csr"}}, csrSheet(der)...)
}

func csrSheet(der []byte) Sheet {
	r, err := csr.Check(der)
	if err != nil {
		return Sheet{{Name: "refused", Value: err.Error()}}
	}
	s := Sheet{{Name: "key type", Value: r.KeyType}}
	s.digest("key", protocol.DigestOf(r.SPKI))
	s.list("asks subject", name(r.Subject))
	asked := slices.Concat(prefixed("dns:", r.Names.DNS), prefixed("email:", r.Names.Email), prefixed("uri:", r.Names.URI))
	for _, ip := range r.Names.IP {
		asked = append(asked, "ip:"+ip.String())
	}
	for _, other := range r.Names.Other {
		asked = append(asked, fmt.Sprintf("other:%x", other))
	}
	s.list("asks names", asked)
	s.list("asks extension", each(r.Extensions, extension))
	return s
}

func prefixed(prefix string, values []string) []string {
	return each(values, func(v string) string { return prefix + v })
}

// name shows a Name in DER, an attribute each, in the order they are in; or as hexadecimal where Go can't read it. One
// line would let a value look like two attributes.
func name(der []byte) []string {
	var rdns pkix.RDNSequence
	if rest, err := asn1.Unmarshal(der, &rdns); err != nil || len(rest) > 0 {
		return []string{fmt.Sprintf("DER %x", der)}
	}
	var all []string
	for _, rdn := range rdns {
		for _, a := range rdn {
			kind := attributeName(a.Type.String())
			if text, ok := a.Value.(string); ok {
				all = append(all, kind+"="+text)
			} else {
				all = append(all, fmt.Sprintf("%s, not a text: %x", kind, a.Value))
			}
		}
	}
	if len(all) == 0 {
		all = []string{"(none)"}
	}
	return all
}

func attributeName(oid string) string {
	switch oid {
	case "2.5.4.3":
		return "CN"
	case "2.5.4.4":
		return "SN"
	case "2.5.4.5":
		return "serialNumber"
	case "2.5.4.6":
		return "C"
	case "2.5.4.7":
		return "L"
	case "2.5.4.8":
		return "ST"
	case "2.5.4.10":
		return "O"
	case "2.5.4.11":
		return "OU"
	case "2.5.4.12":
		return "title"
	case "2.5.4.42":
		return "GN"
	case "2.5.4.97":
		return "organizationIdentifier"
	case "0.9.2342.19200300.100.1.25":
		return "DC"
	case "1.2.840.113549.1.9.1":
		return "E"
	}
	return oid
}

func extension(e pkix.Extension) string {
	text := e.Id.String()
	if known := extensionName(text); known != "" {
		text = known
	}
	if e.Critical {
		text += " (critical)"
	}
	return text
}

func extensionName(oid string) string {
	switch oid {
	case "2.5.29.14":
		return "subjectKeyIdentifier"
	case "2.5.29.15":
		return "keyUsage"
	case "2.5.29.17":
		return "subjectAltName"
	case "2.5.29.19":
		return "basicConstraints"
	case "2.5.29.20":
		return "cRLNumber"
	case "2.5.29.28":
		return "issuingDistributionPoint"
	case "2.5.29.31":
		return "cRLDistributionPoints"
	case "2.5.29.32":
		return "certificatePolicies"
	case "2.5.29.35":
		return "authorityKeyIdentifier"
	case "2.5.29.37":
		return "extKeyUsage"
	case "1.3.6.1.5.5.7.1.1":
		return "authorityInfoAccess"
	case "1.3.6.1.5.5.7.48.1.5":
		return "ocspNoCheck"
	case protocol.ScopeOID:
		return "approver scope"
	}
	return ""
}

// KeyType names the kind of a public key as profiles do.
func KeyType(public crypto.PublicKey) string {
	switch k := public.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA-%d", k.N.BitLen())
	case *ecdsa.PublicKey:
		return k.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return fmt.Sprintf("unknown (%T)", public)
}

// Certificate shows a certificate, DER. Nothing about it is verified.
func Certificate(der []byte) (Sheet, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("show certificate: %w", err)
	}
	s := Sheet{{Name: "type", Value: "certificate"}}
	s.digest("sha256", protocol.DigestOf(der))
	s.list("subject", name(c.RawSubject))
	s.list("issuer", name(c.RawIssuer))
	s.add("serial", fmt.Sprintf("%x", c.SerialNumber.Bytes()))
	s.add("not before", protocol.Date(c.NotBefore.Unix()))
	s.add("not after", protocol.Date(c.NotAfter.Unix()))
	s.add("key type", KeyType(c.PublicKey))
	s.digest("key", protocol.DigestOf(c.RawSubjectPublicKeyInfo))
	if c.BasicConstraintsValid && c.IsCA {
		text := "yes"
		if c.MaxPathLen >= 0 {
			text += fmt.Sprintf(", at most %s below it", count(c.MaxPathLen, "CA"))
		}
		s.add("ca", text)
	}
	names := append(prefixed("dns:", c.DNSNames), prefixed("email:", c.EmailAddresses)...)
	for _, u := range c.URIs {
		names = append(names, "uri:"+u.String())
	}
	for _, ip := range c.IPAddresses {
		names = append(names, "ip:"+ip.String())
	}
	s.list("names", names)
	s.list("crl", c.CRLDistributionPoints)
	s.list("ocsp", c.OCSPServer)
	s.list("issuer at", c.IssuingCertificateURL)
	s.list("extensions", each(c.Extensions, extension))
	a, found, err := protocol.ScopeOf(c)
	switch {
	case err != nil:
		s.add("approver", "the scope extension can't be read: "+err.Error())
	case found:
		s.below("approver", nil, Sheet{{Name: "person", Value: a.Person}, {Name: "scopes", List: each(a.Scopes, scope)}})
	}
	s.add("signed with", c.SignatureAlgorithm.String())
	s.add("signature", "NOT VERIFIED: coldseal verify chain does that")
	return s, nil
}

// PublicKey shows a public key by its SubjectPublicKeyInfo.
func PublicKey(spki []byte) (Sheet, error) {
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, fmt.Errorf("show public key: %w", err)
	}
	s := Sheet{{Name: "type", Value: "public key"}, {Name: "key type", Value: KeyType(public)}}
	s.digest("key", protocol.DigestOf(spki))
	return s, nil
}
