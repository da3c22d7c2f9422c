package protocol_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"coldseal/protocol"
)

const refusalsDoc = "../docs/refusals.md"

// document makes docs/refusals.md.
func document() string {
	var b strings.Builder
	b.WriteString(`# Why something was not done

Each refusal has a code, which never changes, and words about what happened and what to do next. This page is made from the
table in protocol/catalogue.go.

An *open* refusal may be tried again: bring the same request, unchanged, once its reason is gone, until the request expires. A
*final* one stands for that request; make a new one. A code that a program does not know is final.

Words in braces are filled in, such as {person} or {expires}. ` + "`coldseal inspect`" + ` shows them as they were sent.

| code | | what it says | what to do |
|---|---|---|---|
`)
	for _, r := range protocol.Refusals() {
		state := "final"
		if r.Open {
			state = "open"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.Code, state, r.Text.Words, r.Text.Hint)
	}
	return b.String()
}

func TestRefusalsAreDocumented(t *testing.T) {
	if *update {
		if err := os.MkdirAll(filepath.Dir(refusalsDoc), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(refusalsDoc, []byte(document()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(refusalsDoc)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != document() {
		t.Errorf("%s is not what the table makes; run the test with -update", refusalsDoc)
	}
}

func TestRefusalTable(t *testing.T) {
	seen := map[protocol.Code]bool{}
	for _, r := range protocol.Refusals() {
		if seen[r.Code] || !protocol.ValidName(string(r.Code)) {
			t.Errorf("code %q is no name or stands twice", r.Code)
		}
		seen[r.Code] = true
		for _, text := range []string{r.Text.Words, r.Text.Hint} {
			if text == "" || strings.Trim(text, " .") != text || strings.Contains(text, "|") {
				t.Errorf("%s: %q", r.Code, text)
			}
			if braces := strings.Count(text, "{") + strings.Count(text, "}"); braces != 2*len(regexp.MustCompile(`\{[a-z]+\}`).FindAllString(text, -1)) {
				t.Errorf("%s: braces in %q", r.Code, text)
			}
		}
		if refusal := protocol.Refuse(r.Code); refusal.Open() != r.Open {
			t.Errorf("%s is open: %v", r.Code, refusal.Open())
		}
	}
	names := codeNames(t)
	for code := range names {
		if !seen[protocol.Code(code)] {
			t.Errorf("%s has no row", code)
		}
	}
	if len(names) != len(seen) {
		t.Errorf("%d constants, %d rows", len(names), len(seen))
	}
	protocol.Refusals()[0].Open = false
	if !protocol.Refuse(protocol.CodeBadSeal).Open() {
		t.Error("the table can be changed")
	}
}

func TestRender(t *testing.T) {
	r := protocol.Refuse(protocol.CodeApprovalsMissing, "have", "1", "need", "2", "missing", "1", "who", "somebody with {have}")
	if got, want := r.Words()+"; "+r.Hint(), "1 of 2 persons approved; needs 1 more: somebody with {have}"; got != want {
		t.Errorf("got %q", got)
	}
	if got := r.Render(protocol.English()); got.Words != r.Words() || got.Hint != r.Hint() {
		t.Errorf("English is %q", got)
	}
	italian := protocol.Catalogue{protocol.CodeApprovalsMissing: {Words: "{need} persone, {have} hanno approvato", Hint: "ne manca {missing}"}}
	if got, want := r.Render(italian), (protocol.Text{Words: "2 persone, 1 hanno approvato", Hint: "ne manca 1"}); got != want {
		t.Errorf("Italian is %q", got)
	}
	if got := protocol.Refuse(protocol.CodeWithdrawn).Render(italian).Words; got != "the request was withdrawn" {
		t.Errorf("without Italian words: %q", got)
	}
	if got := protocol.Refuse(protocol.CodeSenderScope).Words(); got != "the agent may not bring requests of ?" {
		t.Errorf("without parameters: %q", got)
	}
	future := protocol.Refuse("of-tomorrow")
	if future.Open() || !strings.Contains(future.Words(), "of-tomorrow") || future.Hint() == "" {
		t.Errorf("unknown code: %v, %q", future.Open(), future.Words())
	}
}

func TestRefuseCutsValues(t *testing.T) {
	for _, value := range []string{strings.Repeat("a", 1000), strings.Repeat("è", 200), "a" + strings.Repeat("è", 200), "\xff\xfe", ""} {
		r := protocol.Refuse(protocol.CodeMalformed, "reason", value, "thing", "x")
		if got := r.Params["reason"]; len(got) > protocol.MaxText || !utf8.ValidString(got) {
			t.Errorf("%d bytes: %q", len(got), got)
		}
		if _, err := protocol.ParseResult(marshal(t, protocol.Result{ID: protocol.Digest{1}, Outcome: protocol.OutcomeRefused, Refusal: r})); err != nil {
			t.Error(err)
		}
	}
}

func TestCatalogueCheck(t *testing.T) {
	if err := protocol.English().Check(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(protocol.Catalogue){
		"code missing":      func(c protocol.Catalogue) { delete(c, protocol.CodeQuota) },
		"no words":          func(c protocol.Catalogue) { c[protocol.CodeQuota] = protocol.Text{Hint: "x"} },
		"no hint":           func(c protocol.Catalogue) { c[protocol.CodeQuota] = protocol.Text{Words: "x"} },
		"unknown code":      func(c protocol.Catalogue) { c["of-tomorrow"] = protocol.Text{Words: "x", Hint: "x"} },
		"unknown parameter": func(c protocol.Catalogue) { c[protocol.CodeQuota] = protocol.Text{Words: "{limt}", Hint: "x"} },
	} {
		c := protocol.English()
		change(c)
		if err := c.Check(); err == nil {
			t.Errorf("%s: was accepted", name)
		}
	}
}

// TestEveryRefusalGivesItsParameters reads the sources: where a refusal is made, each parameter that its words name is
// given. Calls with a list of parameters made elsewhere cannot be seen here.
func TestEveryRefusalGivesItsParameters(t *testing.T) {
	codes, rows := codeNames(t), map[string]protocol.RefusalRow{}
	for _, r := range protocol.Refusals() {
		rows[codes[string(r.Code)]] = r
	}
	seen := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(node ast.Node) bool {
			call, ok := node.(*ast.CallExpr)
			if !ok || call.Ellipsis.IsValid() || len(call.Args) == 0 || lastName(call.Fun) != "Refuse" {
				return true
			}
			row, known := rows[lastName(call.Args[0])]
			if !known {
				return true
			}
			seen++
			var given []string
			for i := 1; i < len(call.Args); i += 2 {
				name, ok := call.Args[i].(*ast.BasicLit)
				if !ok {
					return true
				}
				given = append(given, strings.Trim(name.Value, `"`))
			}
			if len(call.Args)%2 == 0 {
				t.Errorf("%s: %s has a name without a value", set.Position(call.Pos()), row.Code)
			}
			for _, name := range row.Params() {
				if !slices.Contains(given, name) {
					t.Errorf("%s: %s is made without {%s}", set.Position(call.Pos()), row.Code, name)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 20 {
		t.Errorf("only %d refusals were found", seen)
	}
}

// codeNames maps each code to the name of its constant.
func codeNames(t *testing.T) map[string]string {
	file, err := parser.ParseFile(token.NewFileSet(), "refusal.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{}
	ast.Inspect(file, func(node ast.Node) bool {
		if spec, ok := node.(*ast.ValueSpec); ok && strings.HasPrefix(spec.Names[0].Name, "Code") {
			names[strings.Trim(spec.Values[0].(*ast.BasicLit).Value, `"`)] = spec.Names[0].Name
		}
		return true
	})
	return names
}

func lastName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	}
	return ""
}
