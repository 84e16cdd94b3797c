package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"bollard/ledger/report"
)

// Every kind of entry the product writes is explained, each explained one is
// written somewhere, and each is evidence for a clause.
func TestEveryKindOfEntryIsExplained(t *testing.T) {
	t.Parallel()
	written := writtenKinds(t)
	if len(written) < 60 {
		t.Fatalf("only %d kinds were found in the code: has the search gone blind?", len(written))
	}
	known := report.Kinds()
	for kind, where := range written {
		if known[kind] == "" {
			t.Errorf("%s writes %q, which ledger/report.Kinds doesn't explain", where, kind)
		}
		if !report.Covered(kind) {
			t.Errorf("%q, written by %s, is evidence for no clause of ledger/report", kind, where)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(known)) {
		if written[kind] == "" {
			t.Errorf("ledger/report.Kinds explains %q, which nothing writes", kind)
		}
	}
}

var kindPattern = regexp.MustCompile(`^[a-z][a-z0-9]*\.[a-z0-9-]+$`)

// writtenKinds finds the kinds of all ledger.Event literals of the product, by
// kind with the file. A kind that is a parameter or a variable is looked for
// among the literals of the same package which are handed on under a name of
// the package's events: as an argument of a function with a parameter "kind",
// as a constant Kind…, or as a value assigned to a variable "kind".
func writtenKinds(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	fset := token.NewFileSet()
	packages := map[string][]*ast.File{}
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || slices.Contains([]string{"bench", "testdata", "node_modules"}, d.Name())):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err == nil {
			packages[filepath.Dir(path)] = append(packages[filepath.Dir(path)], f)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, files := range packages {
		s := kindSearch{fset: fset, found: found, takers: map[string]int{}}
		for _, f := range files {
			ast.Inspect(f, s.note)
		}
		for _, f := range files {
			ast.Inspect(f, s.look)
		}
	}
	return found
}

type kindSearch struct {
	fset   *token.FileSet
	found  map[string]string
	takers map[string]int // functions with a parameter "kind", and which one it is
	events bool           // the package writes entries
}

// note learns what takes a kind.
func (s *kindSearch) note(n ast.Node) bool {
	parameters := func(name string, f *ast.FuncType) {
		at := 0
		for _, field := range f.Params.List {
			for _, p := range field.Names {
				if p.Name == "kind" {
					s.takers[name] = at
				}
				at++
			}
		}
	}
	switch n := n.(type) {
	case *ast.FuncDecl:
		parameters(n.Name.Name, n.Type)
	case *ast.AssignStmt:
		if f, ok := n.Rhs[0].(*ast.FuncLit); ok {
			if name, ok := n.Lhs[0].(*ast.Ident); ok {
				parameters(name.Name, f.Type)
			}
		}
	case *ast.SelectorExpr:
		if x, ok := n.X.(*ast.Ident); ok && x.Name == "ledger" && n.Sel.Name == "Event" {
			s.events = true
		}
	case *ast.TypeSpec:
		s.events = s.events || n.Name.Name == "Event"
	}
	return true
}

func (s *kindSearch) look(n ast.Node) bool {
	if !s.events {
		return false
	}
	switch n := n.(type) {
	case *ast.CompositeLit:
		for _, element := range n.Elts {
			if kv, ok := element.(*ast.KeyValueExpr); ok && isIdent(kv.Key, "Kind") {
				s.take(kv.Value)
			}
		}
	case *ast.CallExpr:
		name := ""
		switch f := n.Fun.(type) {
		case *ast.Ident:
			name = f.Name
		case *ast.SelectorExpr:
			name = f.Sel.Name
		}
		if at, ok := s.takers[name]; ok && at < len(n.Args) {
			s.take(n.Args[at])
		}
	case *ast.AssignStmt:
		for i, left := range n.Lhs {
			if isIdent(left, "kind") && i < len(n.Rhs) {
				s.take(n.Rhs[i])
			}
		}
	case *ast.ValueSpec:
		for i, name := range n.Names {
			if strings.HasPrefix(strings.ToLower(name.Name), "kind") && i < len(n.Values) {
				s.take(n.Values[i])
			}
		}
	}
	return true
}

func isIdent(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

func (s *kindSearch) take(e ast.Expr) {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		if err == nil && kindPattern.MatchString(text) {
			s.found[text] = s.fset.Position(e.Pos()).String()
		}
	case *ast.BinaryExpr: // "order." + string(state)
		if l, ok := e.X.(*ast.BasicLit); ok && l.Value == `"order."` {
			for _, state := range []string{"issued", "delivered", "confirmed", "rejected", "superseded"} {
				s.found["order."+state] = s.fset.Position(e.Pos()).String()
			}
		}
	}
}
