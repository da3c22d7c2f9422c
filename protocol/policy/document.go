package policy

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits of YAML: the whole library is 10 KiB and has 300 keys, the deepest is 5 (profiles, profile, fields, field, value).
// The parser takes hundreds of times the size of a file that is made for that, and grows with the square of the keys.
const (
	MaxYAML  = 256 << 10
	maxKeys  = 4096
	maxDepth = 16
)

// document reads one YAML file. Of YAML it takes mappings, sequences and scalars; a scalar is the text that is written,
// whatever it looks like. The first error stays, with file, line and column, and makes all that follows do nothing.
type document struct {
	file string
	err  error
}

// open parses the file; nil is that there was an error.
func (d *document) open(data []byte) ast.Node {
	switch {
	case len(data) > MaxYAML:
		d.err = fmt.Errorf("%s: %d bytes, at most %d", d.file, len(data), MaxYAML)
	case !utf8.Valid(data):
		d.err = fmt.Errorf("%s: not UTF-8", d.file)
	case bytes.ContainsFunc(data, func(r rune) bool { return r < ' ' && r != '\n' && r != '\r' || r == 0x7f || r == 0xfeff }):
		d.err = fmt.Errorf("%s: has a tab or another control character, or a byte order mark", d.file)
	}
	if d.err != nil {
		return nil
	}
	tokens := lexer.Tokenize(string(data))
	if d.shallow(tokens); d.err != nil {
		return nil
	}
	file, err := parser.Parse(tokens, 0)
	if err != nil {
		var placed interface {
			GetToken() *token.Token
			GetMessage() string
		}
		if errors.As(err, &placed) && placed.GetToken() != nil {
			d.fail(placed.GetToken(), "%s", placed.GetMessage())
		} else {
			d.err = fmt.Errorf("%s: %w", d.file, err)
		}
		return nil
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		d.err = fmt.Errorf("%s: has %d documents with something in them, want one", d.file, len(file.Docs))
		return nil
	}
	return file.Docs[0].Body
}

// shallow refuses, before the parser recurses, what would make it recurse deeply; and the parts of YAML that make one
// text mean another.
func (d *document) shallow(tokens token.Tokens) {
	depth, keys := 0, 0
	for _, t := range tokens {
		if t.Type == token.MappingValueType {
			keys++
		}
		if keys > maxKeys {
			d.fail(t, "has more than %d keys", maxKeys)
		}
		switch t.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType, token.TagType, token.DirectiveType, token.MappingKeyType:
			d.fail(t, "%q is YAML that is not taken here: anchors, aliases, merges, tags, directives and ? keys; a text with such a character wants quotes", t.Value)
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.SequenceEntryType, token.MappingValueType:
			if depth == 0 && t.Position.Column > 8*maxDepth {
				d.fail(t, "is too far to the right")
			}
		}
		if depth > maxDepth {
			d.fail(t, "is nested too deeply")
		}
		if d.err != nil {
			return
		}
	}
}

func (d *document) fail(t *token.Token, format string, a ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%s:%d:%d: %s", d.file, t.Position.Line, t.Position.Column, fmt.Sprintf(format, a...))
	}
}

// place is where a node begins. A mapping's own token is its first colon.
func place(n ast.Node) *token.Token {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return n.Values[0].Key.GetToken()
		}
	case *ast.MappingValueNode:
		return n.Key.GetToken()
	}
	return n.GetToken()
}

// entry is one key of a mapping with its value.
type entry struct {
	key   string
	token *token.Token
	value ast.Node
}

func (d *document) entries(n ast.Node) []entry {
	var pairs []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		d.fail(place(n), "wants keys and values")
	}
	all := make([]entry, 0, len(pairs))
	seen := make(map[string]bool, len(pairs))
	for _, p := range pairs {
		e := entry{d.text(p.Key), p.Key.GetToken(), p.Value}
		if seen[e.key] {
			d.fail(e.token, "%q stands twice", e.key)
		}
		if d.err != nil {
			return nil
		}
		seen[e.key], all = true, append(all, e)
	}
	return all
}

// keys reads a mapping of known keys. Those in the table must be there if their name ends in "!".
func (d *document) keys(at *token.Token, n ast.Node, table map[string]func(ast.Node)) {
	seen := map[string]bool{}
	for _, e := range d.entries(n) {
		read, found := table[e.key]
		if !found {
			read, found = table[e.key+"!"]
		}
		if !found {
			d.fail(e.token, "unknown key %q", e.key)
			return
		}
		seen[e.key] = true
		read(e.value)
	}
	var missing []string
	for key := range table {
		if name := key[:len(key)-1]; key[len(key)-1] == '!' && !seen[name] {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		d.fail(at, "%s is missing", missing[0])
	}
}

func (d *document) list(n ast.Node, each func(ast.Node)) {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		d.fail(place(n), "wants a list, in [ ] or of lines that begin with -")
		return
	}
	for _, v := range s.Values {
		if d.err != nil {
			return
		}
		each(v)
	}
}

// text is a scalar as it is written: 058091 is a text of six digits.
func (d *document) text(n ast.Node) string {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return n.Value.Value
	case *ast.IntegerNode, *ast.FloatNode:
		return n.GetToken().Value
	case *ast.NullNode:
		d.fail(place(n), "has no value")
	default:
		d.fail(place(n), "wants a text; put it in quotes if it is one")
	}
	return ""
}

func (d *document) number(n ast.Node) int64 {
	text := d.text(n)
	v, err := strconv.ParseInt(text, 10, 32)
	if err != nil || v < 0 || strconv.FormatInt(v, 10) != text {
		d.fail(place(n), "wants a whole number, not %q", text)
	}
	return v
}

func (d *document) yes(n ast.Node) bool {
	b, ok := n.(*ast.BoolNode)
	if !ok || b.Token.Value != "true" && b.Token.Value != "false" {
		d.fail(place(n), "wants true or false")
		return false
	}
	return b.Value
}

// set is a list of texts whose order doesn't matter.
func (d *document) set(n ast.Node) []string {
	return set(d, n, d.text)
}

// set reads a list whose order doesn't matter, and sorts it: one policy has one encoding.
func set[T string | ~uint64](d *document, n ast.Node, read func(ast.Node) T) []T {
	var all []T
	d.list(n, func(n ast.Node) {
		v := read(n)
		switch {
		case slices.Contains(all, v):
			d.fail(place(n), "stands twice in the list")
		case len(all) == MaxList:
			d.fail(place(n), "the list has more than %d entries", MaxList)
		}
		all = append(all, v)
	})
	slices.Sort(all)
	return all
}

// word reads one of an enumeration.
func word[T any](d *document, n ast.Node, what string, parse func(string) (T, bool)) T {
	text := d.text(n)
	v, ok := parse(text)
	if !ok {
		d.fail(place(n), "%q is not %s", text, what)
	}
	return v
}
