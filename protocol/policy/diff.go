package policy

import (
	"fmt"
	"slices"
	"strings"

	"coldseal/protocol"
)

// differ collects what changed, in words a security officer reads aloud at a ceremony.
type differ struct {
	what  string
	lines []string
}

// Diff says in words what an order to replace the policy changes; nothing is that both are the same.
func Diff(old, new *Policy) []string {
	d := &differ{what: "policy"}
	d.word("form version", fmt.Sprint(old.Version), fmt.Sprint(new.Version))
	d.word("name", old.Name, new.Name)
	d.word("clock may be ahead of the log by", duration(old.ClockAhead), duration(new.ClockAhead))
	var names []string
	for _, p := range slices.Concat(old.Profiles, new.Profiles) {
		names = append(names, p.Name)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		a, before := old.Profile(name)
		b, after := new.Profile(name)
		switch {
		case !after:
			d.lines = append(d.lines, fmt.Sprintf("profile %s: taken away; nothing more is issued under it", name))
		case !before:
			d.lines = append(d.lines, fmt.Sprintf("profile %s: new, use %s, %s, longest term %d days", name, b.Use, b.Approve.words(), b.MaxDays))
		default:
			d.what = name
			d.profile(a, b)
		}
	}
	return d.lines
}

func (d *differ) profile(a, b *Profile) {
	d.word("use", a.Use.String(), b.Use.String())
	d.set("CA keys that sign it", a.Issuers, b.Issuers)
	d.set("bodies", a.Bodies, b.Bodies)
	d.word("segments of a body", number(int64(a.Segments), "any number"), number(int64(b.Segments), "any number"))
	d.word("scheme of persons", a.Scheme, b.Scheme)
	d.list("subject", each(a.Subject, attributeText), each(b.Subject, attributeText))
	d.list("other names", each(a.Names, altNameText), each(b.Names, altNameText))
	d.set("fields", each(a.Fields, fieldText), each(b.Fields, fieldText))
	d.word("machine's name", a.Machine, b.Machine)
	d.word("uniqueness key", a.Unique, b.Unique)
	d.set("types of key", a.Keys, b.Keys)
	d.set("origins of the key", each(a.Origins, protocol.Origin.String), each(b.Origins, protocol.Origin.String))
	d.word("what a CSR asks for beyond the profile is", extras(a.DropExtras), extras(b.DropExtras))
	d.word("usual term", days(a.Days), days(b.Days))
	d.word("longest term", days(a.MaxDays), days(b.MaxDays))
	d.word("may begin ahead by", days(a.AheadDays), days(b.AheadDays))
	d.set("key usage", a.KeyUsage, b.KeyUsage)
	d.set("extended key usage", a.ExtUsage, b.ExtUsage)
	d.set("certificate policies", a.Policies, b.Policies)
	d.word("CAs below it", below(a.PathLen), below(b.PathLen))
	d.word("CRL address", a.CRLURL, b.CRLURL)
	d.word("address of the CA certificate", a.IssuerURL, b.IssuerURL)
	d.word("OCSP address", a.OCSPURL, b.OCSPURL)
	d.word("CRL shards", fmt.Sprint(a.CRLShards), fmt.Sprint(b.CRLShards))
	d.word("a CRL is good for", days(a.CRLDays), days(b.CRLDays))
	d.set("lint sets", a.Lint, b.Lint)
	d.set("lints that are not asked", a.LintIgnore, b.LintIgnore)
	d.rule("to issue and renew", a.Approve, b.Approve)
	d.rule("to revoke and hold", a.TakeAway, b.TakeAway)
	d.rule("to release", a.Release, b.Release)
	d.word("renewal by the current key alone", a.Renew.words(), b.Renew.words())
}

// DiffRoster says in words what an order to replace the roster changes.
func DiffRoster(old, new *Roster) []string {
	d := &differ{what: "roster"}
	d.word("form version", fmt.Sprint(old.Version), fmt.Sprint(new.Version))
	var persons []string
	for _, o := range slices.Concat(old.Officers, new.Officers) {
		persons = append(persons, o.Person)
	}
	slices.Sort(persons)
	for _, person := range slices.Compact(persons) {
		a, b := old.officer(person), new.officer(person)
		switch {
		case b == nil:
			d.lines = append(d.lines, fmt.Sprintf("officer %s (%s): leaves the roster", person, a.Name))
		case a == nil:
			d.lines = append(d.lines, fmt.Sprintf("officer %s (%s): new, with %d keys, roles %s, scopes %s", person, b.Name, len(b.Keys), joined(b.Roles), joined(each(b.Scopes, scopeText))))
			if b.Suspended {
				d.lines = append(d.lines, fmt.Sprintf("officer %s (%s): is suspended", person, b.Name))
			}
		default:
			d.what = fmt.Sprintf("officer %s (%s)", person, a.Name)
			d.word("name", a.Name, b.Name)
			d.set("keys", each(a.Keys, keyText), each(b.Keys, keyText))
			d.set("roles", a.Roles, b.Roles)
			d.set("scopes", each(a.Scopes, scopeText), each(b.Scopes, scopeText))
			if a.Suspended != b.Suspended {
				d.lines = append(d.lines, d.what+map[bool]string{true: ": is suspended", false: ": is no longer suspended"}[b.Suspended])
			}
		}
	}
	for kind := range 1 << 8 { // kinds are small numbers
		k := protocol.Kind(kind)
		a, before := old.Order(k)
		b, after := new.Order(k)
		d.what = "orders of kind " + k.String()
		switch {
		case before && !after:
			d.lines = append(d.lines, d.what+": no rule any more")
		case !before && after:
			d.lines = append(d.lines, fmt.Sprintf("%s: need %s of role %s", d.what, people(b.Persons), b.Role))
		case before && a != b:
			d.persons(a.Persons, b.Persons, "")
			d.word("role", a.Role, b.Role)
		}
	}
	d.recovery(old.Recovery, new.Recovery)
	return d.lines
}

func (d *differ) recovery(a, b *Recovery) {
	d.what = "recovery"
	switch {
	case a == nil && b == nil:
		return
	case a == nil:
		d.lines = append(d.lines, fmt.Sprintf("%s: possible from now on, by %s after %s", d.what, people(b.Persons), days(b.Days)))
		a = &Recovery{Persons: b.Persons, Days: b.Days}
	case b == nil:
		d.lines = append(d.lines, d.what+": not possible any more")
		return
	}
	d.persons(a.Persons, b.Persons, "")
	d.word("waits", days(a.Days), days(b.Days))
	d.set("holders", each(a.Holders, holderText), each(b.Holders, holderText))
}

func holderText(h Holder) string {
	return fmt.Sprintf("%s (%s), keys %s", h.Person, h.Name, joined(each(h.Keys, keyText)))
}

func (r *Roster) officer(person string) *Officer {
	for i := range r.Officers {
		if r.Officers[i].Person == person {
			return &r.Officers[i]
		}
	}
	return nil
}

func (d *differ) word(name, a, b string) {
	if a != b {
		d.lines = append(d.lines, fmt.Sprintf("%s: %s %s → %s", d.what, name, none(a), none(b)))
	}
}

// set says what came and what went.
func (d *differ) set(name string, a, b []string) {
	var parts []string
	for _, v := range b {
		if !slices.Contains(a, v) {
			parts = append(parts, "added "+v)
		}
	}
	for _, v := range a {
		if !slices.Contains(b, v) {
			parts = append(parts, "removed "+v)
		}
	}
	if len(parts) > 0 {
		d.lines = append(d.lines, fmt.Sprintf("%s: %s: %s", d.what, name, joined(parts)))
	}
}

// list says what stood and what stands: the order matters.
func (d *differ) list(name string, a, b []string) {
	d.word(name, strings.Join(a, "; "), strings.Join(b, "; "))
}

func (d *differ) rule(name string, a, b Rule) {
	d.persons(a.Persons, b.Persons, " "+name)
	d.set("roles "+name, a.Roles, b.Roles)
	d.set("statements "+name, each(a.Statements, protocol.Statement.String), each(b.Statements, protocol.Statement.String))
	if a.Alone != b.Alone {
		d.lines = append(d.lines, fmt.Sprintf("%s: %s, approvals are now %s", d.what, name, map[bool]string{true: "one at a time", false: "many at once, if the approver likes"}[b.Alone]))
	}
}

func (d *differ) persons(a, b uint64, name string) {
	if a != b {
		d.lines = append(d.lines, fmt.Sprintf("%s: now needs %s instead of %d%s", d.what, people(b), a, name))
	}
}

func (r Rule) words() string {
	if r.Persons == 0 {
		return "made by order only"
	}
	return fmt.Sprintf("needs %s of role %s", people(r.Persons), strings.Join(r.Roles, " or "))
}

func (r Renewal) words() string {
	if r == (Renewal{}) {
		return ""
	}
	return fmt.Sprintf("in the last %s, at most %s after persons approved", days(r.WindowDays), days(r.SinceDays))
}

func people(n uint64) string {
	if n == 1 {
		return "1 person"
	}
	return fmt.Sprintf("%d persons", n)
}

func days(n int64) string {
	if n == 1 {
		return "1 day"
	}
	return fmt.Sprintf("%d days", n)
}

func duration(seconds int64) string {
	if seconds%86400 == 0 {
		return days(seconds / 86400)
	}
	return fmt.Sprintf("%d seconds", seconds)
}

// below puts a path length into words; it is kept plus one.
func below(pathLen int64) string {
	if pathLen == 0 {
		return "without limit"
	}
	return fmt.Sprintf("at most %d deep", pathLen-1)
}

// number is n, or what zero means.
func number(n int64, zero string) string {
	if n == 0 {
		return zero
	}
	return fmt.Sprint(n)
}

func none(text string) string {
	if text == "" {
		return "none"
	}
	return text
}

func extras(drop bool) string { return map[bool]string{true: "dropped", false: "refused"}[drop] }

func attributeText(a Attribute) string { return a.Type + "=" + a.Value }

func altNameText(n AltName) string { return n.Type + ":" + n.Value + optional(n.Optional) }

func fieldText(f Field) string {
	return fmt.Sprintf("%s (%s, at most %d characters)%s", f.Name, f.Pattern, f.Max, optional(f.Optional))
}

func optional(yes bool) string { return map[bool]string{true: ", optional", false: ""}[yes] }

// keyText names a key by its id, as officers compare it.
func keyText(spki []byte) string { return protocol.DigestOf(spki).String() }

func each[T any](list []T, text func(T) string) []string {
	all := make([]string, 0, len(list))
	for _, v := range list {
		all = append(all, text(v))
	}
	return all
}
