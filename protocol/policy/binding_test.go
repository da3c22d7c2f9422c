package policy

import (
	"fmt"
	"regexp"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// all lists every string of at most three of the letters that the pattern matches.
func all(pattern string) []string {
	re := regexp.MustCompile("^(?:" + pattern + ")$")
	found, last := []string{}, []string{""}
	for range 3 {
		var next []string
		for _, s := range last {
			for _, c := range []string{"a", "b", "-", ".", "A"} {
				if next = append(next, s+c); re.MatchString(s + c) {
					found = append(found, s+c)
				}
			}
		}
		last = next
	}
	return found
}

// What the automata prove is true: where they find no name of two bodies, trying all short values finds none either.
func TestBindingAgreesWithTrying(t *testing.T) {
	patterns := []string{"a", "[ab]", "[ab-]+", "[a-]*b", "b|-b|b-", "[A]", "(a|b)?-", "[^-]+", "a*\\.?", "."}
	texts := []string{"-", ".", "a", "b-", "A"}
	proved, refuted := 0, 0
	draw := func(t *rapid.T, fields []Field) template {
		refs := rapid.Permutation([]string{"{x}", "{y}", "{body}"}).Draw(t, "refs")
		text := rapid.SampledFrom(append(texts, "")).Draw(t, "begin")
		for i, ref := range refs[:max(slices.Index(refs, "{body}")+1, rapid.IntRange(1, 3).Draw(t, "length"))] {
			if i > 0 {
				text += rapid.SampledFrom(texts).Draw(t, "between")
			}
			text += ref
		}
		parsed, err := parseTemplate(text+rapid.SampledFrom(append(texts, "")).Draw(t, "end"), fields)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	rapid.Check(t, func(t *rapid.T) {
		fields := []Field{{Name: "x", Pattern: rapid.SampledFrom(patterns).Draw(t, "x")}, {Name: "y", Pattern: rapid.SampledFrom(patterns).Draw(t, "y")}}
		templates := [2]template{draw(t, fields), draw(t, fields)}
		var made [2]*automaton
		for i := range made {
			made[i], _ = newAutomaton(templates[i], fields)
		}
		work, found := maxWork, false
		for _, two := range [][2]int{{0, 0}, {0, 1}, {1, 1}} {
			if witness, clash := common(made[two[0]], made[two[1]], false, &work); clash {
				found = true
				for _, i := range two {
					if !matches(templates[i], fields, witness) {
						t.Fatalf("%q is not made by %v", witness, templates[i])
					}
				}
			}
		}
		if work == 0 {
			t.Fatal("gave up")
		}
		bodies := map[string]string{} // by name: the body it was first made for
		var clash string
		for i, u := range templates {
			for _, body := range all("[ab-]+") {
				for _, x := range all(fields[0].Pattern) {
					for _, y := range all(fields[1].Pattern) {
						v := values{body: body}
						v.fields[0], v.fields[1] = x, y
						name, _ := u.expand(&v)
						name = fold(name)
						if other, known := bodies[name]; !known {
							bodies[name] = body
						} else if other != body {
							clash = fmt.Sprintf("%d: %q is of %q and %q", i, name, other, body)
						}
						if !u.has(1) {
							break
						}
					}
					if !u.has(0) {
						break
					}
				}
			}
		}
		if clash != "" && !found {
			t.Fatalf("nothing was found, but %s", clash)
		}
		if found {
			refuted++
		} else {
			proved++
		}
	})
	if proved < 10 || refuted < 10 {
		t.Errorf("%d were proved and %d refuted: the test says little", proved, refuted)
	}
}

// matches asks a regular expression whether a template can make a name, case apart.
func matches(u template, fields []Field, name string) bool {
	expression := ""
	for _, p := range u {
		switch {
		case p.ref == literal:
			expression += regexp.QuoteMeta(p.text)
		case p.ref == refBody:
			expression += "[a-z0-9-]+"
		default:
			expression += "(?:" + fields[p.ref].Pattern + ")"
		}
	}
	return regexp.MustCompile("^(?i:" + expression + ")$").MatchString(name)
}

// A policy that was made to be hard to prove is given up in time.
func TestBindingEnds(t *testing.T) {
	p := libraryPolicy(t)
	base, _ := p.Profile("it-workstation")
	base.Fields[0].Pattern = "[0-9a-zA-Z-]{0,400}"
	base.Subject[3].Value = "{body}.{number}-{number}"
	base.Machine, base.Unique = base.Subject[3].Value, base.Subject[3].Value
	for i := range 30 {
		q := *base
		q.Name = fmt.Sprintf("zz-%02d", i)
		p.Profiles = append(p.Profiles, q)
	}
	begin := time.Now()
	if len(Check(p, nil)) == 0 {
		t.Error("it was proved")
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("took %s", took)
	} else {
		t.Logf("took %s", took)
	}
}
