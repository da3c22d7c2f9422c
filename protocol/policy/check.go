package policy

import (
	"slices"
	"strings"

	"coldseal/protocol"
	"coldseal/protocol/cose"
)

// Check finds what in a policy, and in the roster it is to work with, breaks a law or can't work; none is that both may
// be used. The roster may be nil: then nothing about officers is asked. What is proved:
//
//   - a name of one body's machine is never made for another body, nor for a person, by any profile (law 3, binding.go)
//   - a person's certificate names that person, and its uniqueness key is that person's (law 3)
//   - approver certificates are given by persons in presence, one at a time, on keys that do nothing else, and every
//     power over a profile has enough officers who may grant it (laws 1 and 4; the grant itself is Escalation's)
//   - one officer more than a rule needs is there, so that the loss of one stops nothing
func Check(p *Policy, o *Roster) []Problem {
	var r report
	p.checkForm(&r)
	var sound []*CompiledProfile
	for i := range p.Profiles {
		before := len(r)
		c := compileProfile(&p.Profiles[i], &r)
		p.checkProfile(c, &r)
		if len(r) == before {
			sound = append(sound, c)
		}
	}
	checkBinding(sound, &r)
	p.checkTerms(&r)
	if data, err := cose.Marshal(p); err != nil || len(data) > MaxEncoded {
		r.add(0, "policy", "use fewer or smaller profiles", "has %d bytes compiled, at most %d", len(data), MaxEncoded)
	}
	if o != nil {
		o.checkForm(&r)
		o.check(&r)
		for i := range p.Profiles {
			p.checkEnough(&p.Profiles[i], o, &r)
		}
	}
	return r
}

func (p *Policy) checkProfile(c *CompiledProfile, r *report) {
	where := "profile " + c.Name
	for _, label := range c.Issuers {
		if !protocol.ValidName(label) {
			r.add(0, where+", issuers", "use labels of keys, such as issuing", "%q is not a label", label)
		}
	}
	if len(c.Issuers) == 0 {
		r.add(0, where+", issuers", "name the label of the CA key, its own in a root", "no CA may sign it")
	}
	c.checkSubject(where, r)
	c.checkFields(where, r)
	c.checkContents(where, r)
	if c.Use.IsCA() {
		c.checkCA(where, r)
		return
	}
	c.checkOrigins(where, r)
	p.checkRules(c, where, r)
	if len(c.Bodies) == 0 {
		r.add(3, where+", bodies", `say whom it is for, such as it, or "*"`, "is for no body")
	}
	for _, b := range c.Bodies {
		if b != protocol.Any && !protocol.ValidBody(b) {
			r.add(0, where+", bodies", "write it as it/058091", "%q is not a body", b)
		}
	}
	if c.Days > c.MaxDays {
		r.add(0, where+", days", "raise max_days or lower days", "the usual term of %d days is longer than the longest, %d", c.Days, c.MaxDays)
	}
	if c.PathLen != 0 || c.CRLShards != 0 || c.CRLDays != 0 {
		r.add(0, where, "leave them out", "path_length, crl_shards and crl_days are for CA profiles")
	}
	if c.CRLURL == "" && c.OCSPURL == "" && c.Use != UseOCSP {
		r.add(0, where+", crl_url", "give a crl_url or an ocsp_url", "nobody could find out that a certificate was revoked")
	}
	if c.Renew != (Renewal{}) {
		if c.Renew.WindowDays < 1 || c.Renew.SinceDays < 1 || c.Renew.WindowDays > c.MaxDays || !slices.Contains(c.Origins, protocol.OriginCurrent) {
			r.add(4, where+", renew", "give window_days, since_days and the origin current, or leave renew out", "a renewal by the current key needs a window within the term, a limit, and the origin current")
		}
	}
	if c.Scheme != "" && (!c.Use.IsPerson() || !protocol.ValidName(c.Scheme)) {
		r.add(3, where+", scheme", "write it as in persons' identifiers, such as it", "%q is not a scheme, or the profile is not for persons", c.Scheme)
	}
	if c.Use == UseApprover {
		c.checkApprover(where, r)
	}
}

// checkSubject asks that the subject can stand in a certificate, whatever the values.
func (c *CompiledProfile) checkSubject(where string, r *report) {
	if len(c.Subject) == 0 && c.Use != UseCross {
		r.add(3, where+", subject", "give at least a CN", "is empty")
	}
	seen := map[string]bool{}
	for _, a := range c.Subject {
		if seen[a.Type] && a.Type != "OU" {
			r.add(3, where+", subject "+a.Type, "keep one", "stands twice, so that programs would choose one of them")
		}
		seen[a.Type] = true
	}
	person, machine := c.Use.IsPerson(), !c.Use.IsPerson() && !c.Use.IsCA()
	for _, n := range c.Profile.Names {
		switch {
		case c.Use.IsCA():
			r.add(0, where+", name "+n.Type, "leave it out", "CAs have no other names than the subject")
		case n.Type == "ip":
			r.add(3, where+", name ip", "leave it out", "an address isn't tied to a body")
		case person && n.Type == "dns":
			r.add(3, where+", name dns", "leave it out", "a person is not a host")
		}
	}
	if machine == (c.Machine == "") {
		r.add(3, where+", machine", "machines, stations and OCSP responders have one, others have none", "is missing or out of place")
	}
	if c.Use.IsCA() != (c.Unique == "") {
		r.add(3, where+", unique", "all profiles but CAs' have one", "is missing or out of place")
	}
}

// checkFields asks that every field is used, and that an optional one is missed nowhere.
func (c *CompiledProfile) checkFields(where string, r *report) {
	type use struct {
		place    string
		t        template
		optional bool
	}
	uses := []use{{"machine", c.machine, false}, {"unique", c.unique, false}}
	for i, t := range c.subject {
		uses = append(uses, use{"subject " + c.Subject[i].Type, t, false})
	}
	for i, t := range c.names {
		uses = append(uses, use{"name " + c.Profile.Names[i].Type, t, c.Profile.Names[i].Optional})
	}
	used := make([]bool, len(c.Fields))
	for _, u := range uses {
		anyOptional := false
		for _, p := range u.t {
			switch {
			case p.ref >= 0:
				used[p.ref] = true
				anyOptional = anyOptional || c.Fields[p.ref].Optional
			case (p.ref == refBody || p.ref == refPath) && c.Use.IsCA(), (p.ref == refPerson || p.ref == refScheme) && !c.Use.IsPerson():
				r.add(3, where+", "+u.place, "use a field", "CAs have no body, and only people's certificates have a person")
			}
		}
		if anyOptional != u.optional {
			r.add(0, where+", "+u.place, "make name and field optional, both or neither", "is there without its field, or is left out never")
		}
	}
	for i, f := range c.Fields {
		if !used[i] {
			r.add(0, where+", field "+f.Name, "use it in a template, or leave it out", "is asked for and used nowhere")
		}
	}
}

// checkOrigins asks for law 2.
func (c *CompiledProfile) checkOrigins(where string, r *report) {
	first := false
	for _, o := range c.Origins {
		first = first || o != protocol.OriginCurrent
		if o == protocol.OriginAgent && c.Use != UseMachine {
			r.add(2, where+", origins", "use holder, station or attested", "the agent makes keys of machines only")
		}
	}
	if !first {
		r.add(2, where+", origins", "add holder, station, attested or, for machines, agent", "nobody can vouch for a first key: current is for renewals")
	}
}

func (p *Policy) checkRules(c *CompiledProfile, where string, r *report) {
	for _, rule := range c.rules() {
		where := where + ", " + rule.name
		if rule.Persons == 0 || len(rule.Roles) == 0 {
			r.add(1, where, "give persons, at least 1, and roles", "nobody can meet the rule")
		}
		for _, role := range rule.Roles {
			if !protocol.ValidName(role) {
				r.add(0, where, "use small letters, digits and hyphens, at most 32", "the role %q is not a name", role)
			}
		}
		if slices.Contains(rule.Roles, RoleApprover) && !slices.ContainsFunc(p.Profiles, func(q Profile) bool { return q.Use == UseApprover }) {
			r.add(4, where, "add a profile of use approver, or name roles of the roster", "no profile makes approvers")
		}
		if slices.Contains(rule.Statements, protocol.StatementPresence) && !rule.Alone {
			r.add(1, where, "set alone: true", "what needs a person's presence is approved one at a time")
		}
	}
	if len(c.TakeAway.Statements) > 0 || c.TakeAway.Alone {
		r.add(6, where+", take_away", "leave statements and alone out", "revoking must not need presence, nor be done one by one")
	}
}

// checkApprover asks that what makes approvers is harder to come by than what they approve (laws 1, 2 and 4).
func (c *CompiledProfile) checkApprover(where string, r *report) {
	a := c.Approve
	if !a.Alone || !slices.Contains(a.Statements, protocol.StatementPresence) {
		r.add(1, where+", approve", "set alone: true and statements: [presence, fingerprint]", "approvers are made one at a time, in presence")
	}
	if !slices.Equal(c.KeyUsage, []string{"digitalSignature"}) {
		r.add(1, where+", key_usage", "use digitalSignature alone", "approving is all the key is for")
	}
	if len(c.ExtUsage) == 0 || slices.ContainsFunc(c.ExtUsage, func(u string) bool { return !strings.Contains(u, ".") }) {
		r.add(1, where+", ext_usage", "use an object identifier of yours alone, such as "+ApprovalUsage, "approving is all the key is for: without a purpose of its own it would log in and sign mail")
	}
}

// checkTerms asks that some CA of the policy can live as long as what it signs.
func (p *Policy) checkTerms(r *report) {
	var root, issuing int64
	for _, q := range p.Profiles {
		switch q.Use {
		case UseRoot:
			root = max(root, q.MaxDays)
		case UseIssuing:
			issuing = max(issuing, q.MaxDays)
		}
	}
	for _, q := range p.Profiles {
		limit, ca := issuing, "issuing CA"
		if q.Use == UseIssuing || q.Use == UseCross || limit == 0 {
			limit, ca = root, "root"
		}
		if q.Use != UseRoot && limit != 0 && q.MaxDays+q.AheadDays > limit {
			r.add(0, "profile "+q.Name+", max_days", "shorten it, or lengthen the CA's", "%d days are longer than any %s lives, %d", q.MaxDays+q.AheadDays, ca, limit)
		}
	}
}
