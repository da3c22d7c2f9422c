package coldseal

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// Every decoder of bytes that come from outside has a fuzz target, so that make fuzz runs it. What a decoder is, the code
// itself says: an exported function or method that takes bytes or a reader and may refuse them, or decodes what a request
// holds. A target calls it by name, in what it does with what was drawn or by way of functions of its tests. What this
// can't see is in the tables below.
// That a decoder gets just what was drawn, is for the reader of the target to see.

// inside are folders below which functions take nothing from outside.
var inside = map[string]string{
	"agent/store":     "the agent's own disk",
	"appliance/store": "the appliance's own disk: what is there is held against the log at start",
	"appliance/hsm":   "a device, of the signer's own",
	"appliance/piv":   "a device, of the signer's own",
	"appliance/tpm":   "a device, of the signer's own",
	"bench":           "measures",
	"protocol/forge":  "makes what is forged, for tests",
	"sabotage":        "breaks the code, for tests",
}

// isInside tells whether a folder is one of those, or made for tests.
func isInside(dir string) bool {
	for ; dir != "."; dir = path.Dir(dir) {
		if inside[dir] != "" || strings.HasSuffix(dir, "test") {
			return true
		}
	}
	return false
}

// byWayOf are decoders that targets get to through others.
var byWayOf = map[string]string{
	"protocol/auditlog NewState":               "FuzzLog",
	"protocol/auditlog State.Apply":            "FuzzAudit",
	"protocol/auditlog State.Authorize":        "FuzzAudit",
	"protocol/policy CompiledProfile.CheckCSR": "FuzzProcess",
	"appliance/signer Client.SignBatch":        "FuzzReply",
	"protocol/policy CompiledProfile.CheckKey": "FuzzCheckKey",
	"appliance/signer Client.ECDH":             "FuzzReply",
	"appliance/signer Share":                   "FuzzReply",
	"appliance/lint Client.Certificates":       "FuzzMessages",
	"appliance/lint Client.CRLs":               "FuzzMessages",
}

// notDecoders take bytes and may fail, and decode nothing that comes from outside.
var notDecoders = map[string]string{
	"appliance/issue NewCA":            "a CA's certificate that the ledger has",
	"appliance/issue NewSelf":          "a key that the signer made",
	"protocol/shamir Split":            "draws",
	"protocol/auditlog SignCheckpoint": "signs",
	"protocol WriteResponseHeader":     "writes",
	"protocol/policy Renewal.Renews":   "compares times",
	"appliance/softkey ReadPassphrase": "the operator's own line, taken as it is",
	"protocol/media File.ReadAt":       "gives the bytes of a file as they are",
	"appliance Engine.ExportedLog":     "spools a file as it is; ReadExported reads it",
}

// unexported are decoders that no package exports: those of commands, and of what people prepare.
var unexported = []string{
	"agent table.readHeader", "agent table.next", "agent parseCRL", "protocol/policy altNames",
	"cmd/coldseal inspection.file", "cmd/coldseal replay.run",
	"cmd/coldseal-lint answer", "cmd/coldseal-lint selection.check", "appliance/signer server.handle", "appliance/softkey unseal", "appliance/softkey openCounter", "appliance/wire readFrame",
}

// function is one function or method of the house.
type function struct {
	dir, name string
	decl      *ast.FuncDecl
}

// functions reads all functions of the house; tests tells which.
func functions(t *testing.T, tests bool) (all []function) {
	t.Helper()
	set := token.NewFileSet()
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "testdata" || entry.Name() == "tools" || entry.Name() == "bin"):
			return fs.SkipDir
		case entry.IsDir() || path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") != tests:
			return nil
		}
		file, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range file.Decls {
			if decl, is := d.(*ast.FuncDecl); is {
				all = append(all, function{filepath.ToSlash(filepath.Dir(name)), nameOf(decl), decl})
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// nameOf is the name of a function, or Type.Name of a method.
func nameOf(decl *ast.FuncDecl) string {
	if decl.Recv == nil {
		return decl.Name.Name
	}
	return strings.Trim(typeText(decl.Recv.List[0].Type), "*") + "." + decl.Name.Name
}

func typeText(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.StarExpr:
		return "*" + typeText(e.X)
	case *ast.SelectorExpr:
		return typeText(e.X) + "." + e.Sel.Name
	case *ast.ArrayType:
		if e.Len == nil {
			return "[]" + typeText(e.Elt)
		}
	case *ast.Ellipsis:
		return "[]" + typeText(e.Elt)
	case *ast.IndexExpr:
		return typeText(e.X)
	}
	return ""
}

// mayDecode tells whether a function takes bytes, or is about a request, and may refuse.
func (f function) mayDecode() bool {
	if f.decl.Type.Results == nil || f.decl.Name.Name == "Sign" {
		return false
	}
	refuses := slices.ContainsFunc(f.decl.Type.Results.List, func(r *ast.Field) bool {
		switch strings.TrimPrefix(typeText(r.Type), "protocol.") {
		case "error", "*Refusal", "*protocol.Refusal", "Verdict", "[]Reason", "Reason":
			return true
		}
		return false
	})
	takes := slices.ContainsFunc(f.decl.Type.Params.List, func(p *ast.Field) bool {
		switch typeText(p.Type) {
		case "[]byte", "[][]byte", "io.Reader", "io.ReaderAt", "*bufio.Reader", "Spool", "protocol.Spool", "[]File", "Input":
			return true
		}
		return false
	})
	ofRequest := strings.HasPrefix(f.name, "Request.") && f.dir == "protocol"
	return refuses && (takes || ofRequest)
}

func (f function) exported() bool {
	for part := range strings.SplitSeq(f.name, ".") {
		if !unicode.IsUpper(rune(part[0])) {
			return false
		}
	}
	return f.decl.Name.IsExported()
}

// id names a function in the tables: folder and name.
func (f function) id() string { return f.dir + " " + f.name }

// fuzzed gives the names that fuzz targets use, directly or by way of functions of their tests, each after its folder:
// plain ones, those after a package's name, and methods after a dot alone; and the targets.
func fuzzed(t *testing.T) (used, targets map[string]bool) {
	t.Helper()
	byDir := map[string]map[string]*ast.FuncDecl{}
	for _, f := range functions(t, true) {
		if byDir[f.dir] == nil {
			byDir[f.dir] = map[string]*ast.FuncDecl{}
		}
		byDir[f.dir][f.decl.Name.Name] = f.decl
	}
	used, targets = map[string]bool{}, map[string]bool{}
	for dir, helpers := range byDir {
		seen := map[string]bool{}
		var visit func(body ast.Node)
		follow := func(name string) {
			if decl := helpers[name]; decl != nil && decl.Body != nil && !seen[name] {
				seen[name] = true
				visit(decl.Body)
			}
		}
		visit = func(body ast.Node) {
			ast.Inspect(body, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.SelectorExpr:
					if x, is := n.X.(*ast.Ident); is {
						used[dir+" "+x.Name+"."+n.Sel.Name] = true
					}
					used[dir+" ."+n.Sel.Name] = true
					follow(n.Sel.Name)
				case *ast.Ident:
					used[dir+" "+n.Name] = true
					follow(n.Name)
				}
				return true
			})
		}
		for name, decl := range helpers {
			if !strings.HasPrefix(name, "Fuzz") {
				continue
			}
			targets[name] = true
			ast.Inspect(decl.Body, func(n ast.Node) bool { // what is drawn goes to the function that Fuzz is given
				if call, is := n.(*ast.CallExpr); is && strings.HasSuffix(typeText(call.Fun), ".Fuzz") {
					visit(call)
				}
				return true
			})
		}
	}
	return used, targets
}

// isFuzzed tells whether a target beside the function uses it.
func (f function) isFuzzed(used map[string]bool) bool {
	if _, method, isMethod := strings.Cut(f.name, "."); isMethod {
		return used[f.dir+" ."+method]
	}
	return used[f.id()] || used[f.dir+" "+path.Base(f.dir)+"."+f.name]
}

func TestEveryDecoderIsFuzzed(t *testing.T) {
	used, targets := fuzzed(t)
	decoders := map[string]bool{}
	for _, f := range functions(t, false) {
		isCommand := strings.HasPrefix(f.dir, "cmd")
		if !slices.Contains(unexported, f.id()) && (isCommand || isInside(f.dir) || !f.exported() || !f.mayDecode()) {
			continue
		}
		decoders[f.id()] = true
		switch {
		case notDecoders[f.id()] != "":
		case byWayOf[f.id()] != "":
			if !targets[byWayOf[f.id()]] {
				t.Errorf("%s is to be reached by %s, which is not there", f.id(), byWayOf[f.id()])
			}
		case !f.isFuzzed(used):
			t.Errorf("%s has no fuzz target; if it decodes nothing from outside, say why in notDecoders", f.id())
		}
	}
	for _, id := range slices.Concat(unexported, slices.Collect(maps.Keys(notDecoders)), slices.Collect(maps.Keys(byWayOf))) {
		if !decoders[id] {
			t.Errorf("a table names %s, which is not there", id)
		}
	}
	if len(decoders) < 50 {
		t.Errorf("only %d decoders were found: %s", len(decoders), fmt.Sprint(slices.Sorted(maps.Keys(decoders))))
	}
}
