package ocpp_test

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"bollard/ocpp"
)

// TestHostilePaths is the table of the OCPP fact sheet, 1.4: each is a 400.
func TestHostilePaths(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]error{
		"/ocpp/CP%2F..%2Fadmin":                 ocpp.ErrIdentitySlash,
		"/ocpp/CP%2fx":                          ocpp.ErrIdentitySlash,
		"/ocpp/CP%5Cx":                          ocpp.ErrIdentitySlash,
		"/ocpp/CP\\x":                           ocpp.ErrIdentityChar,
		"/ocpp/..":                              ocpp.ErrIdentityDot,
		"/ocpp/.":                               ocpp.ErrIdentityDot,
		"/ocpp/%2e%2e":                          ocpp.ErrIdentityDot,
		"/ocpp/%2E.":                            ocpp.ErrIdentityDot,
		"/ocpp/%2e":                             ocpp.ErrIdentityDot,
		"/ocpp/../admin":                        ocpp.ErrPathSegments,
		"/ocpp/":                                ocpp.ErrIdentityEmpty,
		"/ocpp":                                 ocpp.ErrPathPrefix,
		"/OCPP/CP":                              ocpp.ErrPathPrefix,
		"/%6fcpp/CP":                            ocpp.ErrPathPrefix,
		"//ocpp/CP":                             ocpp.ErrPathPrefix,
		"http://host/ocpp/CP":                   ocpp.ErrPathPrefix,
		"*":                                     ocpp.ErrPathPrefix,
		"":                                      ocpp.ErrPathPrefix,
		"/ocpp//CP":                             ocpp.ErrPathSegments,
		"/ocpp/CP/":                             ocpp.ErrPathSegments,
		"/ocpp/CP/2":                            ocpp.ErrPathSegments,
		"/ocpp/CP%00":                           ocpp.ErrIdentityControl,
		"/ocpp/%0d%0aX:1":                       ocpp.ErrIdentityControl,
		"/ocpp/CP%7F":                           ocpp.ErrIdentityControl,
		"/ocpp/CP%C2%85":                        ocpp.ErrIdentityControl, // next line
		"/ocpp/CP%E2%80%AE1":                    ocpp.ErrIdentityControl, // right-to-left override
		"/ocpp/CP%E2%80%8B":                     ocpp.ErrIdentityControl, // zero width
		"/ocpp/%20CP":                           ocpp.ErrIdentityControl,
		"/ocpp/CP%20":                           ocpp.ErrIdentityControl,
		"/ocpp/%FF":                             ocpp.ErrIdentityUTF8,
		"/ocpp/%C0%AF":                          ocpp.ErrIdentityUTF8, // overlong slash
		"/ocpp/%ED%A0%80":                       ocpp.ErrIdentityUTF8, // surrogate
		"/ocpp/CP%2541":                         ocpp.ErrIdentityTwice,
		"/ocpp/CP%25":                           ocpp.ErrIdentityTwice,
		"/ocpp/CP%4":                            ocpp.ErrIdentityEscape,
		"/ocpp/CP%":                             ocpp.ErrIdentityEscape,
		"/ocpp/CP%zz":                           ocpp.ErrIdentityEscape,
		"/ocpp/CP?id=1":                         ocpp.ErrPathQuery,
		"/ocpp/?id=CP":                          ocpp.ErrPathQuery,
		"/ocpp/CP#x":                            ocpp.ErrPathQuery,
		"/ocpp/" + strings.Repeat("x", 49):      ocpp.ErrIdentityLength,
		"/ocpp/" + strings.Repeat("%41", 49):    ocpp.ErrIdentityLength,
		"/ocpp/e%CC%81":                         ocpp.ErrIdentityNotEqual, // NFD é
		"/ocpp/%EF%BC%A3%EF%BC%B0":              ocpp.ErrIdentityNotEqual, // full-width CP
		"/ocpp/%E2%84%AA1":                      ocpp.ErrIdentityNotEqual, // Kelvin sign
		"/ocpp/%EF%AC%81":                       ocpp.ErrIdentityNotEqual, // ligature
		"/ocpp/é":                               ocpp.ErrIdentityChar,
		"/ocpp/C P":                             ocpp.ErrIdentityChar,
		"/ocpp/CP\x00":                          ocpp.ErrIdentityChar,
		"/ocpp/CP\"":                            ocpp.ErrIdentityChar,
		"/ocpp/<CP>":                            ocpp.ErrIdentityChar,
		"/ocpp/" + strings.Repeat("é", 1<<16):   ocpp.ErrIdentityChar,
		"/ocpp/" + strings.Repeat("%C3%A9", 49): ocpp.ErrIdentityLength,
	} {
		id, err := ocpp.ParsePath(target, "/ocpp/")
		if !errors.Is(err, want) {
			t.Errorf("%.60q: %v (%+v), want %v", target, err, id, want)
		}
	}
}

func TestParsePathAccepts(t *testing.T) {
	t.Parallel()
	for escaped, tc := range map[string]struct {
		name  string
		enrol bool
	}{
		"CS-1":                  {"CS-1", false},
		"aZ09*-_=+|@.":          {"aZ09*-_=+|@.", false},
		"a%7Cb":                 {"a|b", false},
		"a%7cb":                 {"a|b", false},
		"a%40b%3Dc%2Bd%2A":      {"a@b=c+d*", false},
		"...":                   {"...", false},
		strings.Repeat("x", 48): {strings.Repeat("x", 48), false},
		"C%531":                 {"CS1", true}, // an escape no encoder makes
		"CS%2D1":                {"CS-1", true},
		"a%20b":                 {"a b", true},
		"a:b":                   {"a:b", true},
		"a%3Ab":                 {"a:b", true},
		"a;b":                   {"a;b", true},
		"%C3%A9":                {"é", true},
	} {
		id, err := ocpp.ParsePath("/ocpp/"+escaped, "/ocpp/")
		if err != nil {
			t.Errorf("%s: %v", escaped, err)
			continue
		}
		if id.Name != tc.name || id.Escaped != escaped || id.NeedsEnrolment() != tc.enrol {
			t.Errorf("%s: %+v, needs enrolment: %v", escaped, id, id.NeedsEnrolment())
		}
	}
}

func TestKeyHasNoCase(t *testing.T) {
	t.Parallel()
	a, _ := ocpp.ParsePath("/ocpp/Cs-1%40X", "/ocpp/")
	b, _ := ocpp.ParseIdentity("cS-1@x")
	if a.Key() != b.Key() || a.Key() == "" {
		t.Errorf("%q and %q", a.Key(), b.Key())
	}
}

func TestParseIdentity(t *testing.T) {
	t.Parallel()
	for typed, want := range map[string]ocpp.Identity{
		"CS-1":  {Name: "CS-1", Escaped: "CS-1"},
		"a|b":   {Name: "a|b", Escaped: "a%7Cb"},
		"a b":   {Name: "a b", Escaped: "a%20b"},
		"C%531": {Name: "CS1", Escaped: "C%531"},
		"é":     {Name: "é", Escaped: "%C3%A9"},
	} {
		if got, err := ocpp.ParseIdentity(typed); err != nil || got != want {
			t.Errorf("%s: %+v, %v", typed, got, err)
		}
	}
	for _, typed := range []string{"", ".", "..", "a/b", `a\b`, "a\n", "%2e%2e", "%2F", "a%", "a%41?", "\xff", strings.Repeat("x", 49), "e\u0301", "%/%"} {
		if got, err := ocpp.ParseIdentity(typed); err == nil {
			t.Errorf("%q: %+v", typed, got)
		}
	}
}

// FuzzParsePath wants that an accepted identity has one reading: net/url
// decodes it alike, it is one clean segment, and it comes back when typed.
func FuzzParsePath(f *testing.F) {
	for _, seed := range []string{"/ocpp/CS-1", "/ocpp/a%7Cb", "/ocpp/%2e%2e", "/ocpp/%C3%A9", "/ocpp/a%20b", "/ocpp/%2541", "/ocpp/CP%2F..%2Fadmin"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, target string) {
		id, err := ocpp.ParsePath(target, "/ocpp/")
		if err != nil {
			if strings.ContainsAny(err.Error(), "\r\n\x00%") {
				t.Fatalf("the reason is %q", err)
			}
			return
		}
		u, err := url.ParseRequestURI(target)
		if err != nil || u.Path != "/ocpp/"+id.Name || u.RawQuery != "" {
			t.Fatalf("net/url reads %q as %+v, %v", target, u, err)
		}
		if strings.ContainsAny(id.Name, "/\\%\x00\r\n") || strings.Count(target, "/") != 2 {
			t.Fatalf("%q was accepted as %q", target, id.Name)
		}
		typed, err := ocpp.ParseIdentity(id.Name)
		if err != nil || typed.Key() != id.Key() {
			t.Fatalf("%q typed gives %+v, %v", id.Name, typed, err)
		}
		if _, err := http.NewRequest(http.MethodGet, "http://h/ocpp/"+typed.Escaped, nil); err != nil {
			t.Fatal(err)
		}
	})
}
