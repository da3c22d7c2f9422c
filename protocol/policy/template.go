package policy

import (
	"fmt"
	"strings"

	"coldseal/protocol"
)

// What a part of a template stands for. From 0 on it is the index of a field.
const (
	literal = -1 - iota
	refBody
	refPath
	refPerson
	refScheme
)

// template is a parsed template. No two references touch, so that a name can be read back.
type template []part

type part struct {
	ref  int
	text string // of a literal
}

// values is what references stand for in one request.
type values struct {
	body, path, person, scheme string
	fields                     [protocol.MaxFields]string // "" where an optional one is absent
}

func parseTemplate(text string, fields []Field) (template, error) {
	var t template
	for rest := text; rest != ""; {
		open := strings.IndexAny(rest, "{}")
		if open < 0 {
			t = append(t, part{literal, rest})
			break
		}
		if open > 0 {
			t = append(t, part{literal, rest[:open]})
		}
		length := strings.IndexByte(rest, '}') - open
		if length < 0 || rest[open] == '}' {
			return nil, fmt.Errorf("%q has a brace that doesn't open or close a name", text)
		}
		ref, err := reference(rest[open+1:open+length], fields)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		if n := len(t); n > 0 && t[n-1].ref != literal {
			return nil, fmt.Errorf("%q: {%s} touches another value, so that nobody can tell where it begins", text, rest[open+1:open+length])
		}
		t = append(t, part{ref, ""})
		rest = rest[open+length+1:]
	}
	for _, p := range t {
		if reason := badCharacter(p.text); reason != "" {
			return nil, fmt.Errorf("%q %s", text, reason)
		}
	}
	return t, nil
}

func reference(name string, fields []Field) (int, error) {
	for i := range fields {
		if fields[i].Name == name {
			return i, nil
		}
	}
	switch name {
	case "body":
		return refBody, nil
	case "body-path":
		return refPath, nil
	case "person":
		return refPerson, nil
	case "scheme":
		return refScheme, nil
	}
	return 0, fmt.Errorf("there is no field %q", name)
}

// reserved tells whether no field may have the name.
func reserved(name string) bool {
	_, err := reference(name, nil)
	return err == nil
}

func (t template) has(ref int) bool {
	for _, p := range t {
		if p.ref == ref {
			return true
		}
	}
	return false
}

// fixed is the text of a template without references.
func (t template) fixed() (string, bool) {
	if len(t) == 1 && t[0].ref == literal {
		return t[0].text, true
	}
	return "", false
}

// expand puts values in place of references; false is that an optional field is absent.
func (t template) expand(v *values) (string, bool) {
	size := 0
	for i := range t {
		text := t[i].value(v)
		if text == "" {
			return "", false
		}
		size += len(text)
	}
	b := make([]byte, 0, size)
	for i := range t {
		b = append(b, t[i].value(v)...)
	}
	return string(b), true
}

func (p *part) value(v *values) string {
	switch p.ref {
	case literal:
		return p.text
	case refBody:
		return v.body
	case refPath:
		return v.path
	case refPerson:
		return v.person
	case refScheme:
		return v.scheme
	}
	return v.fields[p.ref]
}

// URL puts the label of a CA and the number of a CRL shard into a CRLURL or IssuerURL.
func URL(template, ca string, shard uint64) string {
	return strings.NewReplacer("{ca}", ca, "{shard}", fmt.Sprint(shard)).Replace(template)
}
