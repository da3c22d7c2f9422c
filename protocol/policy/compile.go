package policy

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// Compiled is a policy made ready for work: templates parsed, patterns compiled, digests known. It is immutable and safe
// for concurrent use, as long as the policy in it is left alone.
type Compiled struct {
	*Policy
	Digest   protocol.Digest // SHA-256 of the encoded policy: what an order replaces
	profiles map[string]*CompiledProfile
}

// CompiledProfile is a profile made ready for work.
type CompiledProfile struct {
	*Profile
	Digest   protocol.Digest // what requests bind
	subject  []template
	names    []template
	machine  template
	unique   template
	patterns []*regexp.Regexp // of fields, whole value
	holder   Rule             // Approve with the statement about the fingerprint
}

// Compile makes a policy ready for work. It fails if a template or pattern can't be read; whether the policy keeps the
// laws is asked by Check.
func Compile(p *Policy) (*Compiled, error) {
	data, err := cose.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("compile policy %s: %w", p.Name, err)
	}
	c := &Compiled{Policy: p, Digest: protocol.DigestOf(data), profiles: make(map[string]*CompiledProfile, len(p.Profiles))}
	for i := range p.Profiles {
		var r report
		profile := compileProfile(&p.Profiles[i], &r)
		if len(r) > 0 {
			return nil, fmt.Errorf("compile policy %s: %w", p.Name, r[0])
		}
		if profile.Digest, err = p.Profiles[i].Digest(); err != nil {
			return nil, fmt.Errorf("compile policy %s: %w", p.Name, err)
		}
		c.profiles[profile.Name] = profile
	}
	return c, nil
}

// Profile finds a profile by name.
func (c *Compiled) Profile(name string) (*CompiledProfile, bool) {
	p, found := c.profiles[name]
	return p, found
}

// RuleFor gives the rule for a kind of request about a certificate. Approvers of a key of origin holder always state
// that its fingerprint matched (law 2). The rule of a CA profile, and of orders, is the zero Rule, which nobody meets.
func (c *CompiledProfile) RuleFor(kind protocol.Kind, origin protocol.Origin) Rule {
	switch kind {
	case protocol.KindIssue, protocol.KindRenew:
		if origin == protocol.OriginHolder {
			return c.holder
		}
		return c.Approve
	case protocol.KindWithdraw:
		return c.Approve
	case protocol.KindRevoke, protocol.KindHold:
		return c.TakeAway
	case protocol.KindRelease:
		return c.Release
	}
	return Rule{}
}

// Limits of patterns: the longest in characters, and the longest program; both keep Check and matching fast.
const (
	MaxPattern  = 256
	maxProgram  = 1024
	maxElements = 16 // attributes of a subject, alternative names
)

// compileProfile parses templates and patterns and reports those that can't be used; law 3 proper is for checkBinding.
func compileProfile(p *Profile, r *report) *CompiledProfile {
	c := &CompiledProfile{Profile: p, holder: p.Approve}
	if c.holder.Persons > 0 && !slices.Contains(c.holder.Statements, protocol.StatementFingerprint) {
		c.holder.Statements = append(slices.Clone(c.holder.Statements), protocol.StatementFingerprint)
		slices.Sort(c.holder.Statements)
	}
	where := "profile " + p.Name
	if len(p.Fields) > protocol.MaxFields || len(p.Subject) > maxElements || len(p.Names) > maxElements {
		r.add(0, where, "split the profile", "has more than %d fields, or more than %d attributes or names", protocol.MaxFields, maxElements)
		return c
	}
	for i := range p.Fields {
		f := &p.Fields[i]
		pattern, err := compilePattern(f.Pattern)
		if err != nil {
			r.add(0, where+", field "+f.Name, "write a pattern of RE2 syntax without (?, such as [0-9]{4}", "the pattern %s", err)
		}
		c.patterns = append(c.patterns, pattern)
		if !protocol.ValidName(f.Name) || reserved(f.Name) {
			r.add(0, where+", field "+f.Name, "choose another name", "small letters, digits and hyphens make a field's name, and body, body-path, person and scheme are taken")
		}
		if f.Max == 0 || f.Max > protocol.MaxText {
			r.add(0, where+", field "+f.Name, "set max to what the longest real value has", "at most %d characters; a request's value has from 1 to %d", f.Max, protocol.MaxText)
		}
	}
	parse := func(place, text string) template {
		t, err := parseTemplate(text, p.Fields)
		if err != nil {
			r.add(0, where+", "+place, "write {name} for a field, {body}, {body-path}, {person} or {scheme}, with something between them", "the template %s", err)
		}
		return t
	}
	for _, a := range p.Subject {
		t := parse("subject "+a.Type, a.Value)
		c.subject = append(c.subject, t)
		if attributeMax(a.Type) == 0 {
			r.add(0, where+", subject "+a.Type, "use CN, O, OU, C, L, ST, SN, GN, serialNumber, organizationIdentifier, title or E", "is not an attribute we know")
		} else if text, ok := t.fixed(); ok {
			if reason := badAttribute(a.Type, text); reason != "" {
				r.add(0, where+", subject "+a.Type, "write the value as certificates can hold it", "%q %s", text, reason)
			}
		} else if a.Value == "" {
			r.add(0, where+", subject "+a.Type, "leave it out", "has no value")
		}
	}
	for _, n := range p.Names {
		t := parse("name "+n.Type, n.Value)
		c.names = append(c.names, t)
		if !slices.Contains([]string{"dns", "email", "ip", "uri", "upn"}, n.Type) {
			r.add(0, where+", name "+n.Type, "use dns, email, ip, uri or upn", "is not a type of name we know")
		} else if text, ok := t.fixed(); ok {
			if reason := badName(n.Type, text); reason != "" {
				r.add(0, where+", name "+n.Type, "write the value as certificates can hold it", "%q %s", text, reason)
			}
		} else if n.Value == "" {
			r.add(0, where+", name "+n.Type, "leave it out", "has no value")
		}
	}
	c.machine = parse("machine", p.Machine)
	c.unique = parse("unique", p.Unique)
	return c
}

// compilePattern compiles RE2 without what would make "matches the whole value" or "differs in case only" mean
// something else: anchors, flags, quoting.
func compilePattern(text string) (*regexp.Regexp, error) {
	if text == "" || len(text) > MaxPattern {
		return nil, fmt.Errorf("has %d characters, from 1 to %d", len(text), MaxPattern)
	}
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && strings.HasPrefix(text[i+1:], "Q"):
			return nil, fmt.Errorf("%s quotes with \\Q", text)
		case text[i] == '\\':
			i++
		case strings.HasPrefix(text[i:], "(?") && !strings.HasPrefix(text[i:], "(?:"):
			return nil, fmt.Errorf("%s has (?", text)
		}
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("can't be read: %w", err)
	}
	if anchored(parsed) {
		return nil, fmt.Errorf("%s has ^, $ or \\b; it matches the whole value by itself", text)
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, fmt.Errorf("can't be compiled: %w", err)
	}
	if len(program.Inst) > maxProgram {
		return nil, fmt.Errorf("%s repeats too much", text)
	}
	return regexp.Compile("^(?:" + text + ")$")
}

func anchored(r *syntax.Regexp) bool {
	switch r.Op {
	case syntax.OpBeginLine, syntax.OpEndLine, syntax.OpBeginText, syntax.OpEndText, syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		return true
	}
	return slices.ContainsFunc(r.Sub, anchored)
}
