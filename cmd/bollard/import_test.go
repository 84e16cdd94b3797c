package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bollard/admin"
	"bollard/fleet"
)

func TestParseImport(t *testing.T) {
	t.Parallel()
	const text = "\ufeffalias, identity,serial,profile,vendor,model,password,cert_sha256,secc\r\n" +
		"OLD,CS-1,SN-1,2,\"Acme, Inc.\",X1,  spaces count ,, DE*ABC*E1=1;DE*ABC*E2=2 DE*ABC*S1 ;\r\n" +
		"\r\n" +
		",CS-2, SN-2 ,3,Acme,X1,,AABB,\r\n"
	got, err := parseImport("in.csv", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []admin.Enrolment{
		{Identity: "CS-1", Serial: "SN-1", Profile: 2, Vendor: "Acme, Inc.", Model: "X1", Alias: "OLD", Password: admin.Secret("  spaces count "), Line: 2,
			SECCs: []fleet.SECC{{ID: "DE*ABC*E1", EVSE: 1}, {ID: "DE*ABC*E2", EVSE: 2}, {ID: "DE*ABC*S1"}}},
		{Identity: "CS-2", Serial: "SN-2", Profile: 3, Vendor: "Acme", Model: "X1", FactoryHash: "aabb", Line: 4},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// What is wrong with SECC identifiers is told with its line, and nothing is taken.
func TestParseImportOfSECCs(t *testing.T) {
	t.Parallel()
	const head = "identity,serial,profile,vendor,model,secc\nCS-1,SN-1,2,V,M,DE*ABC*E1=1\n"
	for cell, reason := range map[string]string{
		"DE*ABC*E2=0":               "no number from 1 up",
		"DE*ABC*E2=one":             "no number from 1 up",
		"DE*ABC*E2=1;de*abc*e2":     "twice",
		"DE*ABC*E2=1;de*abc*e1":     "is in line 2 already",
		"DE+ABC":                    "it isn't letters, digits",
		"=1":                        "0 characters",
		strings.Repeat("E", 65):     "65 characters",
		"\"DE*ABC*E2=1,DE*ABC*E3\"": "no number from 1 up",
	} {
		_, err := parseImport("in.csv", strings.NewReader(head+"CS-2,SN-2,2,V,M,"+cell+"\n"))
		if err == nil || !strings.Contains(err.Error(), "line 3: ") || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: %v", cell, err)
		}
	}
}

// Errors are bounded: the first 20 lines, and how many more.
func TestParseImportBoundsItsErrors(t *testing.T) {
	t.Parallel()
	text := "identity,serial,profile,vendor,model\n" + strings.Repeat("CS,SN,9,V,M\n", 1000)
	_, err := parseImport("in.csv", strings.NewReader(text))
	if err == nil {
		t.Fatal("a wrong file was taken")
	}
	if n := strings.Count(err.Error(), "\n"); n != maxImportErrors+1 || !strings.Contains(err.Error(), "and 980 more lines") {
		t.Errorf("%d lines: %v", n, err)
	}
}

// A file in Latin-1 would enrol a station nobody asked for: its bytes don't
// survive the way to a running server, which takes JSON.
func TestParseImportTakesOnlyUTF8(t *testing.T) {
	t.Parallel()
	const head = "identity,serial,profile,vendor,model,password\n"
	for _, row := range []string{"S\xe4ule,SN-1,2,V,M,\n", "CS-1,SN-1,2,V,M,p\xe4sswort-p\xe4sswort\n"} {
		_, err := parseImport("in.csv", strings.NewReader(head+row))
		if err == nil || !strings.Contains(err.Error(), "line 2: ") || !strings.Contains(err.Error(), "not UTF-8") || strings.Contains(err.Error(), "sswort") {
			t.Errorf("%q: %v", row, err)
		}
	}
	if _, err := parseImport("in.csv", strings.NewReader("")); err == nil || !strings.Contains(err.Error(), "in.csv is empty") {
		t.Errorf("empty file: %v", err)
	}
}

func TestParseImportOfManyStations(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	text.WriteString("identity,serial,profile,vendor,model\n")
	for i := range 100_000 {
		fmt.Fprintf(&text, "CS-%d,SN-%d,2,Acme,X1\n", i, i)
	}
	got, err := parseImport("in.csv", strings.NewReader(text.String()))
	if err != nil || len(got) != 100_000 || got[99_999].Line != 100_001 {
		t.Errorf("%d stations, %v", len(got), err)
	}
}

// endlessFile makes an endless import file and counts what was read of it.
type endlessFile struct {
	n, read int
	rest    []byte
}

func (l *endlessFile) Read(p []byte) (int, error) {
	for len(l.rest) == 0 {
		l.rest = fmt.Appendf(nil, "CS-%d,SN-%d,2,V,M\n", l.n, l.n)
		if l.n == 0 {
			l.rest = []byte("identity,serial,profile,vendor,model\n")
		}
		l.n++
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	l.read += n
	return n, nil
}

// A file of a million lines is refused where it gets too long, and not read on.
func TestParseImportEnds(t *testing.T) {
	t.Parallel()
	endless := &endlessFile{}
	_, err := parseImport("in.csv", endless)
	if err == nil || !strings.Contains(err.Error(), "line 100002: more than 100000 stations: split the file") {
		t.Errorf("%v", err)
	}
	if endless.n > 101_000 {
		t.Errorf("%d lines were read", endless.n)
	}
}

// Of files that are too long, or have the last of very many stations twice, nothing is
// taken, and the line is named.
func TestImportOfAMillionLines(t *testing.T) { // issue: bad input
	t.Parallel()
	y := &yard{t: t, rig: &rig{dir: newDataDir(t, "ws://127.0.0.1:1/ocpp")}}
	before := y.must("station", "list", "--json")
	write := func(name string, lines int, last string) string {
		text := bytes.NewBufferString("identity,serial,profile,vendor,model\n")
		for i := range lines {
			fmt.Fprintf(text, "C%d,S%d,3,V,M\n", i, i)
		}
		text.WriteString(last)
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, tt := range map[string]struct{ file, want string }{
		"a million lines": {write("million.csv", 1_000_000, ""), "line 100002: more than 100000 stations: split the file"},
		"a double":        {write("double.csv", 99_999, "c7,S-other,3,V,M\n"), `line 100001: identity "c7" is in line 9 already`},
	} {
		if _, errs, code := y.cli("station", "import", tt.file); code != 1 || !strings.Contains(errs, tt.want) {
			t.Errorf("%s: %d %s", name, code, errs)
		}
		if after := y.must("station", "list", "--json"); after != before {
			t.Errorf("%s: something was taken", name)
		}
	}
}

func TestParseImportNamesDuplicates(t *testing.T) {
	t.Parallel()
	_, err := parseImport("in.csv", strings.NewReader("identity,serial,profile,vendor,model,alias\nA,1,2,V,M,9\nB,1,2,V,M,\na,2,2,V,M,\nC,3,2,V,M,1\nD,9,2,V,M,\n"))
	for _, want := range []string{
		`line 3: serial number "1" is in line 2 already`, `line 4: identity "a" is in line 2 already`,
		`line 5: serial number "1" is in line 2 already`, `line 6: serial number "9" is in line 2 already`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in: %v", want, err)
		}
	}
}

func FuzzParseImport(f *testing.F) {
	for _, seed := range []string{
		"identity,serial,profile,vendor,model\nCS-1,SN-1,2,V,M\n",
		"identity,serial,profile,vendor,model,password\nCS-1,SN-1,2,V,M,hex:00\n",
		"identity,serial,profile,vendor,model\n\"CS-1,SN-1,2,V,M\n",
		"\ufeff", "\n\n", "identity,identity", "a\"b,c\n",
		"identity,serial,profile,vendor,model\nCS-1,SN-1,2,V\nCS-1\n",
		"identity,serial,profile,vendor,model,secc\nCS-1,SN-1,2,V,M,DE*ABC*E1=1;S2\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		stations, err := parseImport("in.csv", strings.NewReader(text))
		if err == nil && len(stations) == 0 {
			t.Error("a file without stations was taken")
		}
		if err != nil && len(err.Error()) > 64<<10 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
		for _, s := range stations {
			if s.Identity == "" || s.Serial == "" || s.Profile < 1 || s.Profile > 3 || s.Line < 2 {
				t.Errorf("took %+v", s)
			}
		}
	})
}
