package policy

import (
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"coldseal/protocol"
)

// ApprovalUsage is the extended key usage of approver certificates: signing approvals, and nothing else.
const ApprovalUsage = protocol.Arc + ".2"

func caKeys() []string { return []string{"Ed25519", "P-256", "P-384", "RSA-3072", "RSA-4096"} }

func keyTypes() []string {
	return []string{"Ed25519", "P-256", "P-384", "RSA-2048", "RSA-3072", "RSA-4096"}
}

func keyUsages() []string {
	return []string{"digitalSignature", "nonRepudiation", "keyEncipherment", "dataEncipherment", "keyAgreement", "keyCertSign", "cRLSign",
		"encipherOnly", "decipherOnly"}
}

func extUsages() []string {
	return []string{"serverAuth", "clientAuth", "codeSigning", "emailProtection", "timeStamping", "OCSPSigning", "documentSigning", "smartcardLogon"}
}

func lintSets() []string { return []string{"community", "rfc5280"} }

func joined(words []string) string { return strings.Join(words, ", ") }

var lintName = regexp.MustCompile(`^[newi]_[a-z0-9_]{1,100}$`)

// usable tells whether keys of the type can have the usage: RFC 3279 section 2.3.1, RFC 8813 section 3, RFC 8410
// section 5. Usages that a key can't have are left out of its certificate.
func usable(key, usage string) bool {
	switch usage {
	case "keyEncipherment", "dataEncipherment":
		return strings.HasPrefix(key, "RSA-")
	case "keyAgreement", "encipherOnly", "decipherOnly":
		return strings.HasPrefix(key, "P-")
	}
	return true
}

// checkContents asks that what certificates of the profile hold, names apart, is known and can be encoded.
func (c *CompiledProfile) checkContents(where string, r *report) {
	known := keyTypes()
	if c.Use.IsCA() {
		known = caKeys()
	}
	if len(c.Keys) == 0 {
		r.add(0, where+", keys", "use "+joined(known), "no key is allowed")
	}
	for _, k := range c.Keys {
		if !slices.Contains(known, k) {
			r.add(0, where+", keys", "use "+joined(known), "%s is not a type of key for this", k)
		}
		if len(c.KeyUsage) > 0 && !slices.ContainsFunc(c.KeyUsage, func(u string) bool { return usable(k, u) }) {
			r.add(0, where+", key_usage", "add a usage that the key can have", "nothing of it is for keys of type %s", k)
		}
	}
	if len(c.KeyUsage) == 0 {
		r.add(0, where+", key_usage", "use digitalSignature", "a key without a usage could do everything")
	}
	for _, u := range c.KeyUsage {
		switch {
		case !slices.Contains(keyUsages(), u):
			r.add(0, where+", key_usage", "use "+joined(keyUsages()), "%q is not known", u)
		case !c.Use.IsCA() && (u == "keyCertSign" || u == "cRLSign"):
			r.add(4, where+", key_usage", "leave it out", "%s is for CAs", u)
		}
	}
	for _, u := range c.ExtUsage {
		switch {
		case u == "anyExtendedKeyUsage" || u == "2.5.29.37.0":
			r.add(4, where+", ext_usage", "name the purposes", "any purpose is none")
		case !slices.Contains(extUsages(), u) && !validOID(u):
			r.add(0, where+", ext_usage", "use "+joined(extUsages())+", or an object identifier", "%q is not known", u)
		case (u == "OCSPSigning" || u == "1.3.6.1.5.5.7.3.9") && c.Use != UseOCSP:
			r.add(4, where+", ext_usage", "use a profile of use ocsp", "answering for a CA is for OCSP responders")
		}
	}
	if c.Use == UseOCSP && !slices.Equal(c.ExtUsage, []string{"OCSPSigning"}) {
		r.add(0, where+", ext_usage", "use OCSPSigning alone", "an OCSP responder answers for a CA and does nothing else")
	}
	for _, oid := range c.Policies {
		if !validOID(oid) {
			r.add(0, where+", policies", "write an object identifier such as "+protocol.Arc+".3", "%q is not one that all programs can read", oid)
		}
	}
	if len(c.Lint) == 0 {
		r.add(0, where+", lint", "use "+joined(lintSets()), "nothing would look at the certificates before they are signed")
	}
	for _, set := range c.Lint {
		if !slices.Contains(lintSets(), set) {
			r.add(0, where+", lint", "use "+joined(lintSets()), "there is no set %q", set)
		}
	}
	for _, name := range c.LintIgnore {
		if !lintName.MatchString(name) {
			r.add(0, where+", lint_ignore", "write it as zlint does, such as w_ext_subject_key_identifier_missing_sub_cert", "%q is not the name of a lint", name)
		}
	}
	c.checkURLs(where, r)
}

func (c *CompiledProfile) checkURLs(where string, r *report) {
	for _, u := range []struct{ name, text string }{{"crl_url", c.CRLURL}, {"issuer_url", c.IssuerURL}, {"ocsp_url", c.OCSPURL}} {
		if u.text == "" {
			continue
		}
		filled := u.text
		if u.name != "ocsp_url" {
			filled = strings.ReplaceAll(filled, "{ca}", "x")
		}
		if u.name == "crl_url" {
			filled = strings.ReplaceAll(filled, "{shard}", "1")
		}
		parsed, err := url.Parse(filled)
		if err != nil || badURI(filled) != "" || strings.ContainsAny(filled, "{}") || parsed.Scheme != "http" && parsed.Scheme != "https" {
			r.add(0, where+", "+u.name, "write it as http://pki.example/{ca}-{shard}.crl; {ca} is for crl_url and issuer_url, {shard} for crl_url", "%q is not an absolute address", u.text)
		} else if u.name != "ocsp_url" && len(c.Issuers) > 1 && !strings.Contains(u.text, "{ca}") {
			r.add(0, where+", "+u.name, "put {ca} into it", "several CAs would share one address")
		}
	}
}

// checkCA asks of a CA profile what is for CAs alone. Nobody approves CA certificates but by order.
func (c *CompiledProfile) checkCA(where string, r *report) {
	if !slices.Contains(c.KeyUsage, "keyCertSign") || !slices.Contains(c.KeyUsage, "cRLSign") ||
		slices.ContainsFunc(c.KeyUsage, func(u string) bool { return u != "keyCertSign" && u != "cRLSign" && u != "digitalSignature" }) {
		r.add(0, where+", key_usage", "use keyCertSign and cRLSign, and digitalSignature where the CA signs OCSP answers", "is not that of a CA")
	}
	if len(c.ExtUsage) > 0 || len(c.Bodies) > 0 || c.Segments != 0 || c.Scheme != "" || len(c.Origins) > 0 || c.Renew != (Renewal{}) {
		r.add(0, where, "leave them out", "ext_usage, bodies, segments, scheme, origins and renew are not for CAs")
	}
	for _, rule := range c.rules() {
		if rule.Persons != 0 || len(rule.Roles) > 0 || len(rule.Statements) > 0 || rule.Alone {
			r.add(4, where+", "+rule.name, "leave it out: CA certificates are made by the order sign-ca, under the roster's rule", "is not for CAs")
		}
	}
	if c.Days > c.MaxDays {
		r.add(0, where+", days", "raise max_days or lower days", "the usual term of %d days is longer than the longest, %d", c.Days, c.MaxDays)
	}
	if c.Use == UseCross && len(c.Subject)+len(c.Fields) > 0 {
		r.add(3, where+", subject", "leave subject and fields out", "the other CA has its name already")
	}
	if c.Use == UseIssuing && c.PathLen != 1 {
		r.add(4, where+", path_length", "set path_length: 0", "an issuing CA has no CA below it")
	}
	if c.Use == UseRoot && c.PathLen == 1 {
		r.add(0, where+", path_length", "set path_length: 1, or leave it out", "no issuing CA could stand below the root")
	}
	if c.Use != UseRoot && c.CRLURL == "" {
		r.add(0, where+", crl_url", "give one", "nobody could find out that the CA was revoked")
	}
	if c.Use == UseCross {
		if c.CRLShards != 0 || c.CRLDays != 0 {
			r.add(0, where, "leave them out", "crl_shards and crl_days are for CAs of ours")
		}
		return
	}
	if c.CRLShards != 1 {
		r.add(0, where+", crl_shards", "set crl_shards: 1", "a CRL has one shard for now, not %d", c.CRLShards)
	}
	if c.CRLDays < 1 || c.CRLDays > c.MaxDays {
		r.add(0, where+", crl_days", "say how long a CRL is good, such as 30", "%d days is not possible", c.CRLDays)
	}
}

// validOID takes what encoding/asn1 can hold: programs that use it, ours among them, can't read arcs above 2³¹−1.
func validOID(text string) bool {
	arcs := strings.Split(text, ".")
	if len(arcs) < 2 || len(arcs) > 20 {
		return false
	}
	for i, arc := range arcs {
		n, err := strconv.ParseUint(arc, 10, 31)
		if err != nil || strconv.FormatUint(n, 10) != arc || i == 0 && n > 2 || i == 1 && arcs[0] != "2" && n > 39 {
			return false
		}
	}
	return true
}
