package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"coldseal/protocol"
)

// Names is what a certificate will say of its holder: the templates of a profile, filled in.
type Names struct {
	Subject []Attribute // in order; none is empty
	Alt     []AltName   // in order; those left out are absent
	Unique  string      // uniqueness key with case folded; empty for CA certificates
}

// Names fills in the profile's templates for a request. It asks that the profile is for the body, that the fields are
// those of the profile and match their patterns, that every name can stand in a certificate (RFC 5280 sections 4.1.2.4
// and 4.2.1.6 and appendix A.1), and that the request's subject is the machine that the names say, or a person.
//
// Refusals are body-not-allowed and subject-mismatch; the latter's parameter field names a field of the profile, an
// attribute or name type, "subject" or "unique". Whether the names are taken is the ledger's to say.
func (c *CompiledProfile) Names(req *protocol.Request, fields map[string]string) (Names, *protocol.Refusal) {
	var n Names
	v, refusal := c.values(req, fields)
	if refusal != nil {
		return n, refusal
	}
	n.Subject = make([]Attribute, len(c.subject))
	for i, t := range c.subject {
		a := &n.Subject[i]
		a.Type = c.Subject[i].Type
		if a.Value, _ = t.expand(&v); a.Value == "" {
			return Names{}, c.mismatch(a.Type, "has no value")
		}
		if reason := badAttribute(a.Type, a.Value); reason != "" {
			return Names{}, c.mismatch(a.Type, reason)
		}
	}
	if len(c.names) > 0 {
		n.Alt = make([]AltName, 0, len(c.names))
	}
	for i, t := range c.names {
		kind := c.Profile.Names[i].Type
		value, given := t.expand(&v)
		if !given && c.Profile.Names[i].Optional {
			continue
		}
		reason := "has no value"
		if given {
			reason = badName(kind, value)
		}
		if reason != "" {
			return Names{}, c.mismatch(kind, reason)
		}
		name := AltName{Type: kind, Value: value}
		if slices.Contains(n.Alt, name) {
			return Names{}, c.mismatch(kind, "is given twice")
		}
		n.Alt = append(n.Alt, name)
	}
	if c.Use.IsCA() {
		return n, nil
	}
	if !c.Use.IsPerson() {
		machine, _ := c.machine.expand(&v)
		if machine == "" || req.Subject != machine || badCharacter(machine) != "" || badSpaces(machine) != "" {
			return Names{}, c.mismatch("subject", "is not "+machine)
		}
	}
	unique, _ := c.unique.expand(&v)
	if unique == "" || badCharacter(unique) != "" || badSpaces(unique) != "" {
		return Names{}, c.mismatch("unique", "has no value, or spaces out of place")
	}
	n.Unique = fold(unique)
	return n, nil
}

// values judges what the request gives.
func (c *CompiledProfile) values(req *protocol.Request, fields map[string]string) (values, *protocol.Refusal) {
	var v values
	if !c.Use.IsCA() {
		if !protocol.ValidBody(req.Body) || !c.AllowsBody(req.Body) {
			return v, protocol.Refuse(protocol.CodeBodyNotAllowed, "profile", c.Name, "body", req.Body)
		}
		v.path, v.body = req.Body, req.Body[strings.LastIndexByte(req.Body, '/')+1:]
	}
	if c.Use.IsPerson() {
		if !protocol.ValidPerson(req.Subject) {
			return v, c.mismatch("subject", "is not a person such as it:FTTCRL84C52H501V")
		}
		v.scheme, v.person, _ = strings.Cut(req.Subject, ":")
		if c.Scheme != "" && v.scheme != c.Scheme {
			return v, c.mismatch("subject", "is not a person of scheme "+c.Scheme)
		}
	}
	given := 0
	for i := range c.Fields {
		f := &c.Fields[i]
		value, found := fields[f.Name]
		if !found {
			if !f.Optional {
				return v, c.mismatch(f.Name, "is missing")
			}
			continue
		}
		given++
		reason := badCharacter(value)
		switch {
		case reason != "":
		case value == "":
			reason = "is empty"
		case uint64(utf8.RuneCountInString(value)) > f.Max:
			reason = fmt.Sprintf("has more than %d characters", f.Max)
		case !c.patterns[i].MatchString(value):
			reason = "doesn't match " + f.Pattern
		}
		if reason != "" {
			return v, c.mismatch(f.Name, reason)
		}
		v.fields[i] = value
	}
	if given != len(fields) {
		return v, c.mismatch(c.unknown(fields), "is not a field of the profile")
	}
	return v, nil
}

// unknown is the first given field that the profile doesn't have.
func (c *CompiledProfile) unknown(fields map[string]string) string {
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if !slices.ContainsFunc(c.Fields, func(f Field) bool { return f.Name == name }) {
			return name
		}
	}
	return ""
}

func (c *CompiledProfile) mismatch(field, reason string) *protocol.Refusal {
	return protocol.Refuse(protocol.CodeSubjectMismatch, "field", field, "profile", c.Name, "reason", reason)
}
