package show

import (
	"fmt"
	"strings"

	"coldseal/protocol"
	"coldseal/protocol/policy"
)

// Policy shows a compiled policy in words.
func Policy(raw []byte) (Sheet, error) {
	p, err := policy.Decode(raw)
	if err != nil {
		return nil, fmt.Errorf("show policy: %w", err)
	}
	s := Sheet{{Name: "type", Value: "policy"}, {Name: "name", Value: p.Name}}
	s.digest("digest", protocol.DigestOf(raw))
	s.add("clock ahead", duration(p.ClockAhead))
	var profiles []Sheet
	for i := range p.Profiles {
		sheet, err := profile(&p.Profiles[i])
		if err != nil {
			return nil, err
		}
		profiles = append(profiles, sheet)
	}
	s.items("profiles", profiles)
	return s, nil
}

func profile(p *policy.Profile) (Sheet, error) {
	digest, err := p.Digest()
	if err != nil {
		return nil, err
	}
	s := Sheet{{Name: "profile", Value: p.Name}, {Name: "use", Value: p.Use.String()}, {Name: "digest", Value: digest.String()}}
	s.list("issuers", p.Issuers)
	s.list("bodies", p.Bodies)
	if p.Segments != 0 {
		s.add("segments", p.Segments)
	}
	s.text("scheme", p.Scheme)
	s.list("subject", each(p.Subject, func(a policy.Attribute) string { return a.Type + "=" + a.Value }))
	s.list("names", each(p.Names, func(n policy.AltName) string { return n.Type + ":" + n.Value + optional(n.Optional) }))
	s.list("fields", each(p.Fields, func(f policy.Field) string {
		return fmt.Sprintf("%s: %s, at most %d characters%s", f.Name, f.Pattern, f.Max, optional(f.Optional))
	}))
	s.text("machine", p.Machine)
	s.text("unique", p.Unique)
	s.list("keys", p.Keys)
	s.list("origins", each(p.Origins, protocol.Origin.String))
	s.add("csr extras", map[bool]string{true: "dropped", false: "refused"}[p.DropExtras])
	s.add("term", fmt.Sprintf("%s, at most %s", count(int(p.Days), "day"), count(int(p.MaxDays), "day")))
	if p.AheadDays > 0 {
		s.add("ahead", count(int(p.AheadDays), "day"))
	}
	s.list("key usage", p.KeyUsage)
	s.list("ext usage", p.ExtUsage)
	s.list("policies", p.Policies)
	if p.PathLen > 0 {
		s.add("path length", p.PathLen-1)
	}
	s.text("crl at", p.CRLURL)
	s.text("issuer at", p.IssuerURL)
	s.text("ocsp at", p.OCSPURL)
	if p.Use.IsCA() {
		s.add("crl shards", p.CRLShards)
		s.add("crl term", count(int(p.CRLDays), "day"))
	}
	s.list("lint", p.Lint)
	s.list("lint ignore", p.LintIgnore)
	if !p.Use.IsCA() {
		s.add("approve", rule(p.Approve))
		s.add("take away", rule(p.TakeAway))
		s.add("release", rule(p.Release))
	}
	if p.Renew != (policy.Renewal{}) {
		s.add("renew by key", fmt.Sprintf("in the last %s, at most %s after persons approved", count(int(p.Renew.WindowDays), "day"), count(int(p.Renew.SinceDays), "day")))
	}
	return s, nil
}

func optional(yes bool) string { return map[bool]string{true: " (optional)", false: ""}[yes] }

func rule(r policy.Rule) string {
	text := fmt.Sprintf("%s of role %s", count(int(r.Persons), "person"), strings.Join(r.Roles, " or "))
	if len(r.Statements) > 0 {
		text += ", stating " + strings.Join(each(r.Statements, protocol.Statement.String), " and ")
	}
	if r.Alone {
		text += ", one request at a time"
	}
	return text
}

func duration(seconds int64) string {
	if seconds%86400 == 0 {
		return count(int(seconds/86400), "day")
	}
	return count(int(seconds), "second")
}

// Roster shows a compiled roster.
func Roster(raw []byte) (Sheet, error) {
	r, err := policy.DecodeRoster(raw)
	if err != nil {
		return nil, fmt.Errorf("show roster: %w", err)
	}
	s := Sheet{{Name: "type", Value: "roster"}}
	s.digest("digest", protocol.DigestOf(raw))
	var officers []Sheet
	for _, o := range r.Officers {
		officer := Sheet{{Name: "person", Value: o.Person}, {Name: "name", Value: o.Name}}
		if o.Suspended {
			officer.add("suspended", true)
		}
		officer.list("roles", o.Roles)
		officer.list("scopes", each(o.Scopes, scope))
		if err := officer.keys(o.Keys); err != nil {
			return nil, err
		}
		officers = append(officers, officer)
	}
	s.items("officers", officers)
	s.list("orders", each(r.Orders, func(o policy.OrderRule) string {
		return fmt.Sprintf("%s: %s of role %s", o.Kind, count(int(o.Persons), "person"), o.Role)
	}))
	if c := r.Recovery; c != nil {
		rows := Sheet{{Name: "needs", Value: fmt.Sprintf("%s, %s after the announcement", count(int(c.Persons), "person"), count(int(c.Days), "day"))}}
		var holders []Sheet
		for _, h := range c.Holders {
			holder := Sheet{{Name: "person", Value: h.Person}, {Name: "name", Value: h.Name}}
			if err := holder.keys(h.Keys); err != nil {
				return nil, err
			}
			holders = append(holders, holder)
		}
		rows.items("holders", holders)
		s.below("recovery", nil, rows)
	}
	return s, nil
}

func (s *Sheet) keys(spkis [][]byte) error {
	var keys []Sheet
	for _, spki := range spkis {
		key, err := PublicKey(spki)
		if err != nil {
			return err
		}
		keys = append(keys, key[1:])
	}
	s.items("keys", keys)
	return nil
}
