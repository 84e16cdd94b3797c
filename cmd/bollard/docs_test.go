package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// namedTest is how the documents name a test: `package.TestName` or
// `package.TestName/case`.
var namedTest = regexp.MustCompile("`([a-z0-9/]+)\\.((?:Test|Fuzz)[A-Za-z0-9_]+)(?:/([^`]+))?`")

// TestDocumentsNameRealTests keeps the tables of docs/ true: a test that is
// renamed or deleted is missed here.
func TestDocumentsNameRealTests(t *testing.T) {
	t.Parallel()
	for _, document := range []string{"conformance.md", "promises.md"} {
		text, err := os.ReadFile(filepath.Join("../../docs", document))
		if err != nil {
			t.Fatal(err)
		}
		for n, line := range strings.Split(string(text), "\n") {
			if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| ---") || strings.Contains(line, "| test |") {
				continue
			}
			names := namedTest.FindAllStringSubmatch(line, -1)
			if len(names) == 0 {
				t.Errorf("docs/%s:%d names no test", document, n+1)
			}
			for _, name := range names {
				if missing := missingTest(t, name[1], name[2], name[3]); missing != "" {
					t.Errorf("docs/%s:%d: %s", document, n+1, missing)
				}
			}
		}
	}
}

// TestReadmeLeadsToEveryDocument: a page that the README doesn't name is found by nobody.
func TestReadmeLeadsToEveryDocument(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(files) == 0 {
		t.Fatal("no documents", err)
	}
	_, list, _ := strings.Cut(string(readme), "\n## Documents\n")
	list, _, _ = strings.Cut(list, "\n## ")
	for _, file := range files {
		if link := "](docs/" + filepath.Base(file) + ")"; !strings.Contains(list, link) {
			t.Errorf("the documents in README.md lack %s", filepath.Base(file))
		}
	}
}

// TestDecisionsHaveTheirOwnNumbers: two decisions written at the same time must
// not go by one number.
func TestDecisionsHaveTheirOwnNumbers(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../docs/adr/[0-9]*.md")
	if err != nil || len(files) == 0 {
		t.Fatal("no decisions", err)
	}
	taken := map[string]string{}
	for _, file := range files {
		number, _, _ := strings.Cut(filepath.Base(file), "-")
		if other := taken[number]; other != "" {
			t.Errorf("%s has the number of %s", file, other)
		}
		taken[number] = file
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if want := "# " + strings.TrimLeft(number, "0") + ". "; !strings.HasPrefix(string(text), want) {
			t.Errorf("%s doesn't begin with %q", file, want)
		}
	}
}

func missingTest(t *testing.T, pkg, test, subtest string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(source), "\nfunc "+test+"(") {
			if subtest != "" && !strings.Contains(string(source), `"`+subtest+`"`) {
				return pkg + "." + test + " has no case " + subtest
			}
			return ""
		}
	}
	return "there is no test " + pkg + "." + test
}
