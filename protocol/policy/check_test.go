package policy

import (
	"crypto/x509"
	"encoding/pem"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"coldseal/protocol"
)

// law is one thing that Check asks: bad breaks it, good comes as close as may be.
type law struct {
	name  string
	where string // where the problem is said to be
	words string // a part of its words
	bad   func(*Policy, *Roster)
	good  func(*Policy, *Roster) // nil: the library itself
}

func on(name string, change func(*Profile)) func(*Policy, *Roster) {
	return func(p *Policy, _ *Roster) {
		q, _ := p.Profile(name)
		change(q)
	}
}

// onCross changes a profile for certificates over other CAs.
func onCross(change func(*Profile)) func(*Policy, *Roster) {
	return func(p *Policy, _ *Roster) {
		q := Profile{Name: "cross", Use: UseCross, Issuers: []string{"root"}, Keys: []string{"P-256"}, Days: 365, MaxDays: 365,
			KeyUsage: []string{"cRLSign", "keyCertSign"}, PathLen: 2, CRLURL: "http://pki.example/{ca}.crl", Lint: []string{"rfc5280"}}
		change(&q)
		p.Profiles = append(p.Profiles, q)
		slices.SortFunc(p.Profiles, func(a, b Profile) int { return strings.Compare(a.Name, b.Name) })
	}
}

func onRoster(change func(*Roster)) func(*Policy, *Roster) {
	return func(_ *Policy, o *Roster) { change(o) }
}

func laws(t *testing.T) []law {
	onRecovery := func(change func(*Recovery)) func(*Policy, *Roster) {
		return onRoster(func(o *Roster) {
			o.Recovery = recovery(t)
			change(o.Recovery)
		})
	}
	pc, server, servant, maker, issuing, root := "it-workstation", "it-server", "gr-public-servant", "approver", "issuing-ca", "root"
	fifty := make([]string, MaxList+1)
	for i := range fifty {
		fifty[i] = "e_" + string(rune('a'+i/26)) + string(rune('a'+i%26))
	}
	return []law{
		// the policy
		{"version", "policy", "version 2", func(p *Policy, _ *Roster) { p.Version = 2 }, nil},
		{"name of the policy", "policy", `"Test" is not one`, func(p *Policy, _ *Roster) { p.Name = "Test" }, nil},
		{"clock", "policy, clock_ahead", "0 seconds", func(p *Policy, _ *Roster) { p.ClockAhead = 0 }, func(p *Policy, _ *Roster) { p.ClockAhead = 1 }},
		{"no profiles", "policy, profiles", "there are 0", func(p *Policy, _ *Roster) { p.Profiles = nil }, nil},
		{"order of profiles", "profile approver", "stands twice or out of order", func(p *Policy, _ *Roster) { slices.Reverse(p.Profiles) }, nil},
		{"size", "policy", "bytes compiled", func(p *Policy, _ *Roster) {
			for i := range p.Profiles {
				p.Profiles[i].LintIgnore = nil
				for j := range MaxList {
					p.Profiles[i].LintIgnore = append(p.Profiles[i].LintIgnore, "e_"+strings.Repeat("x", 96)+string(rune('a'+j/26))+string(rune('a'+j%26)))
				}
			}
			for i := range MaxProfiles - len(p.Profiles) {
				q := p.Profiles[2] // a CA, so that no names are compared
				q.Name = "zz-" + string(rune('a'+i/26)) + string(rune('a'+i%26))
				p.Profiles = append(p.Profiles, q)
			}
		}, nil},

		// form of a profile
		{"name of a profile", "profile Root", "the name is not one", on(root, func(q *Profile) { q.Name = "Root" }), nil},
		{"use", "profile root, use", "9 is not known", on(root, func(q *Profile) { q.Use = 9 }), nil},
		{"cross with a name", "profile cross, subject", "the other CA has its name already", onCross(func(q *Profile) { q.Subject = []Attribute{{Type: "CN", Value: "x"}} }), onCross(func(*Profile) {})},
		{"cross without a CRL", "profile cross, crl_url", "nobody could find out", onCross(func(q *Profile) { q.CRLURL = "" }), nil},
		{"cross with CRLs", "profile cross", "are for CAs of ours", onCross(func(q *Profile) { q.CRLDays = 30 }), nil},
		{"cross that outlives the root", "profile cross, max_days", "longer than any root lives", onCross(func(q *Profile) { q.MaxDays = 9000 }), nil},
		{"order of a list", "profile root, keys", "entry 2 stands twice", on(root, func(q *Profile) { q.Keys = []string{"P-256", "P-256"} }), nil},
		{"length of a list", "profile it-workstation, lint_ignore", "has 65 entries", on(pc, func(q *Profile) { q.LintIgnore = fifty }), on(pc, func(q *Profile) { q.LintIgnore = fifty[1:] })},
		{"statement", "profile it-workstation, approve", "statement 3 is not known", on(pc, func(q *Profile) { q.Approve.Statements = []protocol.Statement{3} }), nil},
		{"many persons", "profile it-workstation, approve", "needs 65 persons", on(pc, func(q *Profile) { q.Approve.Persons = 65 }), nil},
		{"origin", "profile it-workstation, origins", "6 is not known", on(pc, func(q *Profile) { q.Origins = []protocol.Origin{4, 6} }), nil},
		{"no term", "profile it-workstation, days", "0 days is not possible", on(pc, func(q *Profile) { q.Days = 0 }), on(pc, func(q *Profile) { q.Days = 1 })},
		{"long term", "profile root, max_days", "18301 days is not possible", on(root, func(q *Profile) { q.MaxDays = MaxDays + 1 }), on(root, func(q *Profile) { q.MaxDays = MaxDays })},
		{"negative days", "profile it-workstation, ahead_days", "-1 days is not possible", on(pc, func(q *Profile) { q.AheadDays = -1 }), on(pc, func(q *Profile) { q.AheadDays = 0 })},
		{"large numbers", "profile it-workstation", "is not possible", on(pc, func(q *Profile) { q.Segments = protocol.MaxSegments + 1 }), nil},

		// templates and patterns
		{"too many fields", "profile it-workstation", "more than 32 fields", on(pc, func(q *Profile) { q.Subject = slices.Repeat(q.Subject, 5) }), nil},
		{"pattern", "profile it-workstation, field number", "the pattern can't be read", on(pc, func(q *Profile) { q.Fields[0].Pattern = "[" }), nil},
		{"anchor in a pattern", "profile it-workstation, field number", "it matches the whole value by itself", on(pc, func(q *Profile) { q.Fields[0].Pattern = "^[0-9]{4}$" }), nil},
		{"flag in a pattern", "profile it-workstation, field number", "has (?", on(pc, func(q *Profile) { q.Fields[0].Pattern = "(?-i)[0-9]{4}" }), on(pc, func(q *Profile) { q.Fields[0].Pattern = "(?:[0-9]){4}" })},
		{"quoting in a pattern", "profile it-workstation, field number", `quotes with \Q`, on(pc, func(q *Profile) { q.Fields[0].Pattern = `\Q1\E` }), nil},
		{"large pattern", "profile it-workstation, field number", "repeats too much", on(pc, func(q *Profile) { q.Fields[0].Pattern = "[0-9]{900}[0-9]{900}" }), nil},
		{"name of a field", "profile it-workstation, field body", "make a field's name", on(pc, func(q *Profile) {
			q.Fields = append([]Field{{Name: "body", Pattern: "a", Max: 1}}, q.Fields...)
		}), nil},
		{"length of a field", "profile it-workstation, field number", "at most 0 characters", on(pc, func(q *Profile) { q.Fields[0].Max = 0 }), on(pc, func(q *Profile) { q.Fields[0].Max = protocol.MaxText })},
		{"unknown field", "profile it-workstation, machine", `there is no field "nummer"`, on(pc, func(q *Profile) { q.Machine = "{body}-PC-{nummer}" }), nil},
		{"open brace", "profile it-workstation, machine", "has a brace", on(pc, func(q *Profile) { q.Machine = "{body}-PC-{number" }), nil},
		{"touching", "profile it-workstation, machine", "touches another value", on(pc, func(q *Profile) { q.Machine = "{body}{number}" }), on(pc, func(q *Profile) { q.Machine = "{body} {number}" })},
		{"control in a template", "profile it-workstation, machine", "is not shown", on(pc, func(q *Profile) { q.Machine = "{body}\u200b{number}" }), nil},
		{"unknown attribute", "profile it-workstation, subject DC", "not an attribute we know", on(pc, func(q *Profile) { q.Subject[1].Type = "DC" }), on(pc, func(q *Profile) { q.Subject[1].Type = "L" })},
		{"fixed attribute", "profile it-workstation, subject C", `"Italia" has 6 characters`, on(pc, func(q *Profile) { q.Subject[0].Value = "Italia" }), on(pc, func(q *Profile) { q.Subject[0].Value = "SM" })},
		{"empty attribute", "profile it-workstation, subject C", "has no value", on(pc, func(q *Profile) { q.Subject[0].Value = "" }), nil},
		{"unknown name", "profile gr-public-servant, name x400", "is not a type of name we know", on(servant, func(q *Profile) { q.Names[0].Type = "x400" }), on(servant, func(q *Profile) { q.Names[0].Type = "upn" })},
		{"fixed name", "profile gr-public-servant, name uri", "is not an absolute URI", on(servant, func(q *Profile) { q.Names = append(q.Names, AltName{Type: "uri", Value: "a"}) }),
			on(servant, func(q *Profile) { q.Names = append(q.Names, AltName{Type: "uri", Value: "http://gr.example/"}) })},
		{"empty name", "profile gr-public-servant, name uri", "has no value", on(servant, func(q *Profile) { q.Names = append(q.Names, AltName{Type: "uri"}) }), nil},
		{"template of a name", "profile gr-public-servant, name email", `there is no field "e-mail"`, on(servant, func(q *Profile) { q.Names[0].Value = "{e-mail}" }), nil},

		// what every profile has
		{"no issuer", "profile it-workstation, issuers", "no CA may sign it", on(pc, func(q *Profile) { q.Issuers = nil }), nil},
		{"label", "profile it-workstation, issuers", `"Issuing" is not a label`, on(pc, func(q *Profile) { q.Issuers = []string{"Issuing"} }), nil},
		{"no subject", "profile root, subject", "is empty", on(root, func(q *Profile) { q.Subject = nil }), nil},
		{"two CNs", "profile it-workstation, subject CN", "stands twice, so that programs", on(pc, func(q *Profile) { q.Subject = append(q.Subject, q.Subject[3]) }),
			on(pc, func(q *Profile) { q.Subject = append(q.Subject, q.Subject[2]) })},
		{"names of a CA", "profile root, name uri", "no other names than the subject", on(root, func(q *Profile) { q.Names = []AltName{{Type: "uri", Value: "http://a.example/"}} }), nil},
		{"address", "profile it-server, name ip", "isn't tied to a body", on(server, func(q *Profile) { q.Names = append(q.Names, AltName{Type: "ip", Value: "192.0.2.1"}) }), nil},
		{"person as a host", "profile gr-public-servant, name dns", "a person is not a host", on(servant, func(q *Profile) { q.Names = append(q.Names, AltName{Type: "dns", Value: "a.example"}) }), nil},
		{"machine without a name", "profile it-workstation, machine", "missing or out of place", on(pc, func(q *Profile) { q.Machine = "" }), nil},
		{"person with a machine's name", "profile gr-public-servant, machine", "missing or out of place", on(servant, func(q *Profile) { q.Machine = "{person}" }), nil},
		{"no uniqueness key", "profile it-workstation, unique", "missing or out of place", on(pc, func(q *Profile) { q.Unique = "" }), nil},
		{"body of a CA", "profile root, subject CN", "CAs have no body", on(root, func(q *Profile) { q.Subject[2].Value = "{name} {body}" }), nil},
		{"person of a machine", "profile it-workstation, subject O", "only people's certificates have a person", on(pc, func(q *Profile) { q.Subject[1].Value = "x {person}" }),
			on(servant, func(q *Profile) { q.Subject[1].Value = "x {person} {organization}" })},
		{"optional field in the subject", "profile it-server, subject O", "left out never", on(server, func(q *Profile) { q.Subject[1].Value = "x {host}" }),
			on(server, func(q *Profile) { q.Subject[1].Value = "x {number}" })},
		{"optional name without an optional field", "profile gr-public-servant, name email", "left out never", on(servant, func(q *Profile) { q.Names[0].Optional = true }),
			on(servant, func(q *Profile) { q.Names[0].Optional, q.Fields[0].Optional = true, true })},
		{"unused field", "profile it-server, field host", "used nowhere", on(server, func(q *Profile) { q.Names = nil }), nil},

		// law 3: names tied to bodies and persons
		{"CN without body", "profile it-workstation, subject CN", "doesn't have the body in it", on(pc, func(q *Profile) { q.Subject[3].Value = "PC-{number}" }),
			on(pc, func(q *Profile) { q.Subject[3].Value = "PC-{number} of {body-path}" })},
		{"host without body", "profile it-server, name dns", "doesn't have the body in it", on(server, func(q *Profile) { q.Names[0].Value = "{host}.comune.example" }),
			on(server, func(q *Profile) { q.Names[0].Value = "{host}.{body}.example" })},
		{"machine without body", "profile it-workstation, machine", "doesn't have the body in it", on(pc, func(q *Profile) { q.Machine = "PC-{number}" }), nil},
		{"uniqueness key without body", "profile it-workstation, unique", "doesn't have the body in it", on(pc, func(q *Profile) { q.Unique = "PC-{number}" }), nil},
		{"no CN", "profile it-workstation, subject", "no name that ties the machine", on(pc, func(q *Profile) { q.Subject = q.Subject[:3] }), nil},
		{"bodies that end alike, below", "profile it-workstation, subject CN", "bodies that end alike", on(pc, func(q *Profile) { q.Segments = 0 }), nil},
		{"bodies that end alike, two levels below", "profile it-workstation, subject CN", "bodies that end alike", on(pc, func(q *Profile) { q.Segments = 3 }),
			on(pc, func(q *Profile) { q.Segments, q.Bodies = 3, []string{"it/058091", "it/058091/anagrafe"} })},
		{"bodies that end alike, side by side", "profile it-workstation, subject CN", "bodies that end alike", on(pc, func(q *Profile) { q.Bodies = []string{"it", "sm"} }),
			on(pc, func(q *Profile) { q.Bodies = []string{"it/058091", "it/058092"} })},
		{"bodies that end alike, everywhere", "profile it-workstation, subject CN", "bodies that end alike", on(pc, func(q *Profile) { q.Bodies = []string{"*"} }), nil},
		{"field that imitates a body", "profile it-workstation, subject CN", "can be read in two ways", on(pc, func(q *Profile) { q.Fields[0].Pattern = "[0-9A-Z-]{1,9}" }),
			on(pc, func(q *Profile) { q.Fields[0].Pattern = "[0-9][0-9A-Z]{3}" })},
		{"field that imitates a body in capitals", "profile it-workstation, subject CN", "can be read in two ways", on(pc, func(q *Profile) { q.Fields[0].Pattern = "1-PC-2|2" }),
			on(pc, func(q *Profile) { q.Fields[0].Pattern = "1-PD-2|2" })},
		{"field before a body", "profile it-server, name dns", "can be read in two ways", on(server, func(q *Profile) { q.Names[0].Value = "{host}-{body}.comune.example" }), nil},
		{"two profiles", "profile it-server, subject CN", "subject CN of profile it-workstation can make the same name", func(p *Policy, r *Roster) {
			on(server, func(q *Profile) {
				q.Subject[3].Value, q.Fields[1].Pattern = "{body}-{number}", "(PC-)?[0-9]{4}"
			})(p, r)
		}, on(server, func(q *Profile) { q.Subject[3].Value = "{body}-PC-{number}" })}, // the same names of the same body
		{"two profiles, bodies that end alike", "profile it-server, subject CN", "can make the same name", func(p *Policy, r *Roster) {
			on(server, func(q *Profile) {
				q.Subject[3].Value, q.Bodies = "{body}-PC-{number}", []string{"sm"}
			})(p, r)
		}, on(server, func(q *Profile) { q.Bodies = []string{"sm"} })},
		{"person named like a machine", "profile it-workstation, subject CN", "subject CN of profile gr-public-servant can make the same name", on(servant, func(q *Profile) {
			q.Subject[5].Value = "{surname}"
			q.Fields[3].Pattern = "[0-9A-Z-]+"
		}), on(servant, func(q *Profile) {
			q.Subject[5].Value = "{surname}"
			q.Fields[3].Pattern = "[A-Z-]+"
		})},
		{"person without a number", "profile gr-public-servant, subject", "which person of that name", on(servant, func(q *Profile) { q.Subject = slices.Delete(q.Subject, 4, 5) }), nil},
		{"number without person", "profile gr-public-servant, subject serialNumber", "doesn't have the person's identifier", on(servant, func(q *Profile) { q.Subject[4].Value = "{surname}" }), nil},
		{"person without a scheme", "profile gr-public-servant, subject serialNumber", "persons of different schemes", on(servant, func(q *Profile) { q.Scheme = "" }),
			on(servant, func(q *Profile) {
				q.Scheme, q.Subject[4].Value, q.Unique = "", "{scheme}:{person}", "servant:{scheme}:{person}"
			})},
		{"scheme of a machine", "profile it-workstation, scheme", "not a scheme", on(pc, func(q *Profile) { q.Scheme = "it" }), nil},
		{"field that imitates a person", "profile gr-public-servant, subject serialNumber", "can be read in two ways", on(servant, func(q *Profile) { q.Subject[4].Value = "{surname}-{person}" }), nil},
		{"uniqueness keys of two profiles", "profile approver, unique", "unique of profile gr-public-servant can make the same name", on(servant, func(q *Profile) { q.Unique = "approver:gr:{person}" }),
			on(servant, func(q *Profile) { q.Unique = "approvers:gr:{person}" })},
		{"large automaton", "profile it-workstation, subject CN", "is too large to be proved", on(pc, func(q *Profile) {
			q.Fields[0].Pattern = "[0-9]{900}"
			q.Subject[3].Value = "{body}-" + strings.Repeat("{number}-", 5)
		}), nil},
		{"much work", "profile it-workstation, machine", "is too much work", on(pc, func(q *Profile) {
			q.Fields[0].Pattern = "[0-9x]{0,400}"
			q.Machine = "{body} {number}x{number}x{number}"
		}), nil},
		{"no body", "profile it-workstation, bodies", "is for no body", on(pc, func(q *Profile) { q.Bodies = nil }), nil},
		{"bad body", "profile it-workstation, bodies", `"It" is not a body`, on(pc, func(q *Profile) { q.Bodies = []string{"It"} }), nil},

		// what a certificate holds
		{"no key", "profile it-workstation, keys", "no key is allowed", on(pc, func(q *Profile) { q.Keys = nil }), nil},
		{"key type", "profile it-workstation, keys", "RSA-1024 is not a type of key", on(pc, func(q *Profile) { q.Keys = []string{"RSA-1024"} }), nil},
		{"key type of a CA", "profile root, keys", "RSA-2048 is not a type of key", on(root, func(q *Profile) { q.Keys = []string{"RSA-2048"} }), nil},
		{"usage for no key", "profile it-workstation, key_usage", "nothing of it is for keys of type Ed25519", on(pc, func(q *Profile) { q.KeyUsage = []string{"keyAgreement", "keyEncipherment"} }),
			on(pc, func(q *Profile) { q.KeyUsage = []string{"digitalSignature", "keyAgreement", "keyEncipherment"} })},
		{"no usage", "profile it-workstation, key_usage", "could do everything", on(pc, func(q *Profile) { q.KeyUsage = nil }), nil},
		{"unknown usage", "profile it-workstation, key_usage", `"sign" is not known`, on(pc, func(q *Profile) { q.KeyUsage = []string{"sign"} }), nil},
		{"CA's usage", "profile it-workstation, key_usage", "cRLSign is for CAs", on(pc, func(q *Profile) { q.KeyUsage = []string{"cRLSign", "digitalSignature"} }), nil},
		{"any purpose", "profile it-workstation, ext_usage", "any purpose is none", on(pc, func(q *Profile) { q.ExtUsage = []string{"2.5.29.37.0"} }), nil},
		{"unknown purpose", "profile it-workstation, ext_usage", `"ipsec" is not known`, on(pc, func(q *Profile) { q.ExtUsage = []string{"ipsec"} }), on(pc, func(q *Profile) { q.ExtUsage = []string{"1.3.6.1.5.5.7.3.17"} })},
		{"machine as OCSP responder", "profile it-workstation, ext_usage", "for OCSP responders", on(pc, func(q *Profile) { q.ExtUsage = []string{"1.3.6.1.5.5.7.3.9"} }), nil},
		{"OCSP responder as server", "profile ocsp-responder, ext_usage", "does nothing else", on("ocsp-responder", func(q *Profile) { q.ExtUsage = []string{"OCSPSigning", "serverAuth"} }), nil},
		{"large arc", "profile it-workstation, policies", "not one that all programs can read", on(pc, func(q *Profile) { q.Policies = []string{"2.25.2147483648"} }),
			on(pc, func(q *Profile) { q.Policies = []string{"1.3.6", "2.25.2147483647"} })},
		{"no lints", "profile it-workstation, lint", "nothing would look", on(pc, func(q *Profile) { q.Lint = nil }), nil},
		{"lint set", "profile it-workstation, lint", `there is no set "all"`, on(pc, func(q *Profile) { q.Lint = []string{"all"} }), on(pc, func(q *Profile) { q.Lint = []string{"rfc5280"} })},
		{"lint", "profile it-workstation, lint_ignore", "not the name of a lint", on(pc, func(q *Profile) { q.LintIgnore = []string{"all"} }), on(pc, func(q *Profile) { q.LintIgnore = []string{"w_subject_dn_trailing_whitespace"} })},
		{"address of the CRL", "profile it-workstation, crl_url", "is not an absolute address", on(pc, func(q *Profile) { q.CRLURL = "http://pki.example/{body}.crl" }),
			on(pc, func(q *Profile) { q.CRLURL = "https://pki.example:8443/{ca}-{shard}.crl" })},
		{"LDAP", "profile it-workstation, crl_url", "is not an absolute address", on(pc, func(q *Profile) { q.CRLURL = "ldap://pki.example/x" }), nil},
		{"address of OCSP", "profile it-workstation, ocsp_url", "is not an absolute address", on(pc, func(q *Profile) { q.OCSPURL = "http://pki.example/{ca}" }), on(pc, func(q *Profile) { q.OCSPURL = "http://pki.example/ocsp" })},
		{"one address of two CAs", "profile it-workstation, crl_url", "several CAs would share", on(pc, func(q *Profile) { q.Issuers, q.CRLURL = []string{"a", "b"}, "http://pki.example/crl" }),
			on(pc, func(q *Profile) { q.CRLURL = "http://pki.example/crl" })},
		{"no way to check", "profile it-workstation, crl_url", "nobody could find out", on(pc, func(q *Profile) { q.CRLURL = "" }), on(pc, func(q *Profile) { q.CRLURL, q.OCSPURL = "", "http://pki.example/ocsp" })},

		// CAs
		{"usage of a CA", "profile root, key_usage", "is not that of a CA", on(root, func(q *Profile) { q.KeyUsage = []string{"keyCertSign"} }), on(root, func(q *Profile) { q.KeyUsage = []string{"cRLSign", "digitalSignature", "keyCertSign"} })},
		{"body of a CA", "profile root", "are not for CAs", on(root, func(q *Profile) { q.Bodies = []string{"it"} }), nil},
		{"rule of a CA", "profile root, approve", "is not for CAs", on(root, func(q *Profile) { q.Approve = Rule{Persons: 1, Roles: []string{"security-officer"}} }), nil},
		{"term of a CA", "profile root, days", "longer than the longest", on(root, func(q *Profile) { q.Days = q.MaxDays + 1 }), nil},
		{"CA below an issuing CA", "profile issuing-ca, path_length", "has no CA below it", on(issuing, func(q *Profile) { q.PathLen = 2 }), nil},
		{"nothing below the root", "profile root, path_length", "no issuing CA could stand", on(root, func(q *Profile) { q.PathLen = 1 }), on(root, func(q *Profile) { q.PathLen = 2 })},
		{"CRL of the root", "profile issuing-ca, crl_url", "the CA was revoked", on(issuing, func(q *Profile) { q.CRLURL = "" }), nil},
		{"shards", "profile root, crl_shards", "one shard for now, not 2", on(root, func(q *Profile) { q.CRLShards = 2 }), nil},
		{"life of a CRL", "profile root, crl_days", "0 days is not possible", on(root, func(q *Profile) { q.CRLDays = 0 }), on(root, func(q *Profile) { q.CRLDays = 1 })},
		{"shards of a machine", "profile it-workstation", "are for CA profiles", on(pc, func(q *Profile) { q.CRLShards = 1 }), nil},
		{"longer than the CA", "profile it-workstation, max_days", "longer than any issuing CA lives", on(pc, func(q *Profile) { q.MaxDays = 3621 }), on(pc, func(q *Profile) { q.MaxDays = 3620 })},
		{"longer than the root", "profile issuing-ca, max_days", "longer than any root lives", on(issuing, func(q *Profile) { q.MaxDays = 7301 }), on(issuing, func(q *Profile) { q.MaxDays = 7300 })},

		// terms, origins, renewal
		{"usual term", "profile it-workstation, days", "longer than the longest, 730", on(pc, func(q *Profile) { q.Days = 731 }), on(pc, func(q *Profile) { q.Days = 729 })},
		{"key made by the agent", "profile gr-public-servant, origins", "keys of machines only", on(servant, func(q *Profile) { q.Origins = append(q.Origins, protocol.OriginAgent) }), nil},
		{"renewals only", "profile it-workstation, origins", "current is for renewals", on(pc, func(q *Profile) { q.Origins = []protocol.Origin{protocol.OriginCurrent} }),
			on(pc, func(q *Profile) { q.Origins = []protocol.Origin{protocol.OriginCurrent, protocol.OriginAgent} })},
		{"renewal without current", "profile it-workstation, renew", "a renewal by the current key needs", on(pc, func(q *Profile) { q.Origins = []protocol.Origin{protocol.OriginHolder} }),
			on(pc, func(q *Profile) { q.Origins, q.Renew = []protocol.Origin{protocol.OriginHolder}, Renewal{} })},
		{"renewal without end", "profile it-workstation, renew", "a renewal by the current key needs", on(pc, func(q *Profile) { q.Renew.SinceDays = 0 }), on(pc, func(q *Profile) { q.Renew.SinceDays = 1 })},

		// rules and approvers
		{"nobody", "profile it-workstation, release", "nobody can meet the rule", on(pc, func(q *Profile) { q.Release = Rule{} }), nil},
		{"role", "profile it-workstation, release", `the role "RA" is not a name`, on(pc, func(q *Profile) { q.Release.Roles = []string{"RA", "approver"} }), nil},
		{"no approvers", "profile it-workstation, approve", "no profile makes approvers", func(p *Policy, _ *Roster) { p.Profiles = p.Profiles[1:] }, nil},
		{"presence in passing", "profile gr-public-servant, approve", "approved one at a time", on(servant, func(q *Profile) { q.Approve.Alone = false }),
			on(servant, func(q *Profile) {
				q.Approve.Alone, q.Approve.Statements = false, []protocol.Statement{protocol.StatementFingerprint}
			})},
		{"slow revocation", "profile it-workstation, take_away", "revoking must not need presence", on(pc, func(q *Profile) { q.TakeAway.Alone = true }), nil},
		{"approvers in passing", "profile approver, approve", "in presence", on(maker, func(q *Profile) {
			q.Approve.Statements = []protocol.Statement{protocol.StatementFingerprint}
		}), on(maker, func(q *Profile) {
			q.Approve.Statements = []protocol.Statement{protocol.StatementPresence}
		})},
		{"usage of approvers", "profile approver, key_usage", "approving is all the key is for", on(maker, func(q *Profile) { q.KeyUsage = []string{"digitalSignature", "nonRepudiation"} }), nil},
		{"purpose of approvers", "profile approver, ext_usage", "would log in and sign mail", on(maker, func(q *Profile) { q.ExtUsage = []string{ApprovalUsage, "clientAuth"} }), nil},

		// the roster
		{"version of the roster", "roster", "version 2", onRoster(func(o *Roster) { o.Version = 2 }), nil},
		{"no officers", "roster, officers", "there are 0", onRoster(func(o *Roster) { o.Officers = nil }), nil},
		{"order of officers", "roster, officer it:CMPGUO66A30A326C", "stands twice or out of order", onRoster(func(o *Roster) { slices.Reverse(o.Officers) }), nil},
		{"person", "roster, officer Bruno", "is not a person's identifier", onRoster(func(o *Roster) { o.Officers[0].Person = "Bruno" }), nil},
		{"name of an officer", "roster, officer it:CMPGUO66A30A326C, name", "is not shown", onRoster(func(o *Roster) { o.Officers[0].Name = "B\u202eruno" }), onRoster(func(o *Roster) { o.Officers[0].Name = "Μπρούνο" })},
		{"key", "roster, officer it:CMPGUO66A30A326C", "key 1 can't verify approvals", onRoster(func(o *Roster) { o.Officers[0].Keys[0] = []byte{0x30, 0} }), nil},
		{"key that is easy to factor", "roster, officer it:CMPGUO66A30A326C", "key 1 can't verify approvals: RSA modulus has the ROCA fingerprint", onRoster(func(o *Roster) { o.Officers[0].Keys[0] = keyOf(t, "forge-rsa2048-roca") }),
			onRoster(func(o *Roster) { o.Officers[0].Keys[0] = keyOf(t, "openssl-rsa2048-plain") })},
		{"one key of two", "roster, officer it:PRVLCU91M67L736T", "key 1 is also that of it:CMPGUO66A30A326C", onRoster(func(o *Roster) { o.Officers[1].Keys = o.Officers[0].Keys }), nil},
		{"scope", "roster, officer it:CMPGUO66A30A326C, scopes", `"*" and "It" are not`, onRoster(func(o *Roster) { o.Officers[0].Scopes[0].Body = "It" }), nil},
		{"not an order", "roster, orders of kind issue", "is not a kind of order", onRoster(func(o *Roster) {
			o.Orders = append([]OrderRule{{Kind: protocol.KindIssue, Persons: 1, Role: "security-officer"}}, o.Orders...)
		}), nil},
		{"order by nobody", "roster, orders of kind policy", "0 persons is not possible", onRoster(func(o *Roster) { o.Orders[3].Persons = 0 }), onRoster(func(o *Roster) { o.Orders[3].Persons = 1 })},
		{"role of an order", "roster, orders of kind policy", `the role "" is not a name`, onRoster(func(o *Roster) { o.Orders[3].Role = "" }), nil},
		{"no key", "roster, officer it:CMPGUO66A30A326C", "has 0 keys", onRoster(func(o *Roster) { o.Officers[0].Keys = nil }), nil},
		{"approver as a role", "roster, officer it:CMPGUO66A30A326C, roles", "is for holders of approver certificates", onRoster(func(o *Roster) { o.Officers[0].Roles = []string{"approver", "security-officer"} }),
			onRoster(func(o *Roster) { o.Officers[0].Roles = []string{"approvers", "security-officer"} })},
		{"no rule for an order", "roster, orders of kind crl", "there is no rule", onRoster(func(o *Roster) { o.Orders = slices.Delete(o.Orders, 7, 8) }), nil},
		{"all are needed", "roster, orders of kind policy", "needs 3 persons of role security-officer, 3 are there", onRoster(func(o *Roster) { o.Orders[3].Persons = 3 }), nil},
		{"one is suspended", "roster, all orders", "needs 2 persons of role security-officer, 2 are there", onRoster(func(o *Roster) { o.Officers[0].Suspended = true }),
			func(p *Policy, o *Roster) {
				o.Officers[0].Suspended = true
				for i := range o.Orders {
					o.Orders[i].Persons = 1
				}
				for i := range p.Profiles {
					q := &p.Profiles[i]
					q.Approve.Persons, q.Release.Persons = min(q.Approve.Persons, 1), min(q.Release.Persons, 1)
				}
			}},
		{"nobody has the role", "profile it-workstation, take_away", "no officer has the role ra", on(pc, func(q *Profile) { q.TakeAway.Roles = []string{"approver", "ra"} }),
			func(p *Policy, o *Roster) {
				on(pc, func(q *Profile) { q.TakeAway.Roles = []string{"approver", "ra"} })(p, o)
				o.Officers[0].Roles = []string{"ra", "security-officer"}
			}},
		{"recovery that is easier", "roster, recovery", "1 person could replace a roster that 2 persons change", onRecovery(func(c *Recovery) { c.Persons = 1 }), onRecovery(func(*Recovery) {})},
		{"recovery that can lose nobody", "roster, recovery", "needs 3 persons, 3 are there", onRecovery(func(c *Recovery) { c.Persons = 3 }), nil},
		{"recovery at once", "roster, recovery", "2 persons and 0 days is not possible", onRecovery(func(c *Recovery) { c.Days = 0 }), onRecovery(func(c *Recovery) { c.Days = 1 })},
		{"order of holders", "roster, recovery, gr:000123454", "stands twice or out of order", onRecovery(func(c *Recovery) { slices.Reverse(c.Holders) }), nil},
		{"holder without a key", "roster, recovery, gr:000123454", "has 0 keys", onRecovery(func(c *Recovery) { c.Holders[0].Keys = nil }), nil},
		{"holder with an officer's key", "roster, recovery, gr:000123454", "key 1 is also that of it:CMPGUO66A30A326C", onRoster(func(o *Roster) {
			o.Recovery = recovery(t)
			o.Recovery.Holders[0].Keys = o.Officers[0].Keys
		}), nil},
		{"too many holders", "roster, recovery", "there are 65", onRecovery(func(c *Recovery) {
			for len(c.Holders) < 65 {
				c.Holders = append(c.Holders, c.Holders[2])
			}
		}), nil},
		{"all are needed for a profile", "profile approver, approve", "needs 2 persons for *, 2 of the officers may", onRoster(func(o *Roster) { o.Officers[0].Scopes[0].Body = "it" }),
			func(p *Policy, o *Roster) {
				for i := range p.Profiles {
					if q := &p.Profiles[i]; slices.Equal(q.Bodies, []string{"*"}) {
						q.Bodies = []string{"it"}
					}
				}
				o.Officers[0].Scopes[0].Body = "it"
			}},
		{"nobody can make approvers", "profile approver, approve", "approvers of gr-public-servant for gr are made by 1 person who may approve that themselves; 0 of the officers may", func(p *Policy, o *Roster) {
			for i := range o.Officers {
				o.Officers[i].Scopes[0].Body = "it"
			}
		}, func(p *Policy, o *Roster) {
			o.Officers[0].Scopes[0].Profile = "gr-public-servant"
			o.Officers = append(o.Officers, Officer{Person: "it:Z", Name: "Z", Keys: [][]byte{spki(t, "z")}, Roles: []string{"security-officer"}, Scopes: []protocol.Scope{{Profile: "*", Body: "*"}}})
		}},
	}
}

func TestCheck(t *testing.T) {
	var words []string
	asked := 0
	for _, l := range laws(t) {
		t.Run(l.name, func(t *testing.T) {
			asked++
			p, o := libraryPolicy(t), threeOfficers(t)
			l.bad(p, o)
			problems := Check(p, o)
			found := false
			for _, problem := range problems {
				words = append(words, problem.Words)
				found = found || problem.Where == l.where && strings.Contains(problem.Words, l.words)
				if problem.Hint == "" || strings.Contains(problem.Error(), "%!") {
					t.Errorf("%q has no hint, or a broken one", problem)
				}
			}
			if !found {
				t.Errorf("problems %v\nlack %s: %s", problems, l.where, l.words)
			}
			p, o = libraryPolicy(t), threeOfficers(t)
			if l.good != nil {
				l.good(p, o)
			}
			if problems := Check(p, o); len(problems) > 0 {
				t.Errorf("the good one has %v", problems)
			}
		})
	}
	for place, format := range formats(t) {
		if asked == len(laws(t)) && !slices.ContainsFunc(words, format.MatchString) {
			t.Errorf("%s: no case has the problem %s", place, format)
		}
	}
}

// formats reads from the source every problem that can be reported.
func formats(t *testing.T) map[string]*regexp.Regexp {
	all := map[string]*regexp.Regexp{}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	verb := regexp.MustCompile(`%[a-z]`)
	for _, name := range files {
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, source, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) < 4 {
				return true
			}
			if f, ok := call.Fun.(*ast.SelectorExpr); !ok || f.Sel.Name != "add" {
				return true
			}
			if l, ok := call.Args[3].(*ast.BasicLit); ok {
				format, err := strconv.Unquote(l.Value)
				if err != nil {
					t.Fatal(err)
				}
				parts := verb.Split(format, -1)
				for i := range parts {
					parts[i] = regexp.QuoteMeta(parts[i])
				}
				all[set.Position(l.Pos()).String()] = regexp.MustCompile("^" + strings.Join(parts, ".*") + "$")
			}
			return true
		})
	}
	if len(all) < 80 {
		t.Fatalf("only %d problems were found in the source", len(all))
	}
	return all
}

// Without a roster nothing about officers is asked, and everything else still is.
func TestCheckWithoutRoster(t *testing.T) {
	p := libraryPolicy(t)
	if problems := Check(p, nil); len(problems) > 0 {
		t.Error(problems)
	}
	p.Profiles[4].Unique = "x"
	if problems := Check(p, nil); len(problems) == 0 {
		t.Error("nothing was found")
	}
	if problems := Check(&Policy{}, &Roster{}); len(problems) == 0 {
		t.Error("an empty policy was taken")
	}
}

// keyOf is the SubjectPublicKeyInfo of one of the requests in testdata/csr.
func keyOf(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("../../testdata/csr/" + name + ".csr")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return request.RawSubjectPublicKeyInfo
}
