package policy

import (
	"strings"

	"coldseal/protocol"
)

// identity is one name that a profile makes and that others must not be able to make: of the same class in any profile.
type identity struct {
	profile *CompiledProfile
	place   string // as in YAML
	class   string // names of different classes are never taken for one another
	t       template
	made    *automaton
	bound   string // to whom the template ties the name beyond the characters in it; "" is nobody
	ours    bool   // it has to be tied
}

// checkBinding proves law 3 of names. Every name that identifies a machine, and every number and uniqueness key that
// identifies a person, has its body or person in it; and no two readings of a name, by one profile or by two, see
// different ones. The proof explores the automata of the templates, so it holds for whatever values requests give.
func checkBinding(profiles []*CompiledProfile, r *report) {
	var all []*identity
	for _, c := range profiles {
		if !c.Use.IsCA() {
			all = append(all, c.identities(r)...)
		}
	}
	work := maxWork
	for i, a := range all {
		if !a.ours || a.bound == "" {
			continue
		}
		for j, b := range all {
			if a.class != b.class || b.ours && b.bound != "" && j < i {
				continue // seen from the other side
			}
			other := a.bound != b.bound || b.bound == ""
			name, found := common(a.made, b.made, other, &work)
			where := "profile " + a.profile.Name + ", " + a.place
			switch {
			case found && a == b:
				r.add(3, where, "use patterns of fixed length, or a character between that neither can have", "%q can be read in two ways, so that it would name two of different bodies or persons", name)
			case found:
				r.add(3, where, "put a fixed text into one of them that the other can't have", "%s of profile %s can make the same name, such as %q, for another body or person", b.place, b.profile.Name, name)
			case work == 0:
				r.add(3, where, "use simpler patterns", "whether %s of profile %s can make the same name is too much work to find out", b.place, b.profile.Name)
				return
			}
		}
	}
}

// identities lists the names of a profile and says which of them lack their body or person.
func (c *CompiledProfile) identities(r *report) []*identity {
	var all []*identity
	add := func(place, class string, t template, ours bool) {
		where := "profile " + c.Name + ", " + place
		made, ok := newAutomaton(t, c.Fields)
		if !ok {
			r.add(3, where, "use simpler patterns", "is too large to be proved")
			return
		}
		n := &identity{profile: c, place: place, class: class, t: t, made: made, ours: ours}
		var missing, hint string
		if n.bound, missing, hint = c.binds(t); ours && n.bound == "" {
			r.add(3, where, hint, "%s", missing)
		}
		all = append(all, n)
	}
	person := c.Use.IsPerson()
	number, common := false, false
	for i, t := range c.subject {
		kind := c.Subject[i].Type
		number, common = number || kind == "serialNumber", common || kind == "CN"
		add("subject "+kind, kind, t, !person && kind == "CN" || person && kind == "serialNumber")
	}
	switch {
	case person && !number:
		r.add(3, "profile "+c.Name+", subject", "add serialNumber with {person}", "doesn't say which person of that name it is")
	case !person && !common:
		r.add(3, "profile "+c.Name+", subject", "add a CN with {body} or {body-path}", "has no name that ties the machine to its body")
	}
	for i, t := range c.names {
		kind := c.Profile.Names[i].Type
		add("name "+kind, "name "+kind, t, !person)
	}
	if !person {
		add("machine", "machine", c.machine, true)
	}
	add("unique", "unique", c.unique, true)
	return all
}

// binds tells to whom a template ties what it makes. Two templates that are bound alike, and whose names are read alike,
// make a name for one body or person only. What is missing is said if it ties it to nobody.
func (c *CompiledProfile) binds(t template) (bound, missing, hint string) {
	if c.Use.IsPerson() {
		switch {
		case !t.has(refPerson):
			return "", "doesn't have the person's identifier in it", "put {person} into it"
		case c.Scheme != "":
			return "person of " + c.Scheme, "", ""
		case !t.has(refScheme):
			return "", "would be the same for persons of different schemes", "set scheme, or put {scheme} into it"
		}
		return "person", "", ""
	}
	if t.has(refPath) {
		return "body", "", ""
	}
	if !t.has(refBody) {
		return "", "doesn't have the body in it", "put {body} or {body-path} into it"
	}
	parent, ok := c.parent()
	if !ok {
		return "", "would be the same for bodies that end alike", "use {body-path}, or set segments so that all bodies lie side by side, one level below one body"
	}
	return "body under " + parent, "", ""
}

// parent is what all bodies of the profile have before their last segment.
func (c *CompiledProfile) parent() (string, bool) {
	n := int(c.Segments)
	if n == 0 {
		return "", false
	}
	if n == 1 {
		return "", true
	}
	parent := ""
	for _, b := range c.Bodies {
		segments := strings.Split(b, "/")
		if b == protocol.Any || len(segments) < n-1 || len(segments) > n {
			return "", false
		}
		above := strings.Join(segments[:n-1], "/")
		if parent != "" && parent != above {
			return "", false
		}
		parent = above
	}
	return parent, parent != ""
}
