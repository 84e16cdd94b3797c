package inventory_test

import (
	"slices"
	"testing"
	"time"

	"bollard/firmware/bundle"
	"bollard/firmware/catalogue"
	"bollard/firmware/inventory"
	"bollard/firmware/release"
)

func entry(id, component, version string, sequence uint64, models ...string) catalogue.Entry {
	r := &release.Release{ID: id, Vendor: "ACME", Component: component, Version: version, Sequence: sequence}
	for _, m := range models {
		r.Models = append(r.Models, release.Model{Vendor: "ACME", Model: m, Hardware: []string{"B"}})
	}
	return catalogue.Entry{Release: r}
}

func stations() []inventory.Station {
	return []inventory.Station{
		{ID: "old", Vendor: "ACME", Model: "Volt", Version: "1.9"},
		{ID: "new", Vendor: "ACME", Model: "Volt", Version: "1.10"},
		{ID: "foreign", Vendor: "ACME", Model: "Volt", Version: "7"},
		{ID: "silent", Vendor: "ACME", Model: "Volt"},
		{ID: "sister", Vendor: "ACME", Model: "Amp", Version: "1.9"},
		{ID: "other", Vendor: "Other", Model: "Volt", Version: "1.9"},
	}
}

func names(list []inventory.Row) (ids []string) {
	for _, r := range list {
		ids = append(ids, r.ID)
	}
	return ids
}

// Sequences say what is less, never version texts, and who can't be told of is named.
func TestStationsBelowARelease(t *testing.T) {
	t.Parallel()
	list := []catalogue.Entry{
		entry("1", "firmware", "1.9", 9, "Volt"), entry("2", "firmware", "1.10", 10, "Volt"), entry("3", "modem", "7", 1, "Volt"),
		entry("again", "firmware", "1.9", 11, "Volt"), // the same version once more: the older counts
	}
	a := inventory.BelowRelease(stations(), list, list[1].Release)
	if !slices.Equal(names(a.Below), []string{"old"}) || !slices.Equal(names(a.Unknown), []string{"foreign", "silent"}) || a.Models != 4 {
		t.Errorf("%+v", a)
	}
	if a.Below[0].Release != "1" || a.Below[0].Sequence != 9 {
		t.Errorf("%+v", a.Below[0])
	}
}

func TestStationsWithAPart(t *testing.T) {
	t.Parallel()
	list := []catalogue.Entry{entry("1", "firmware", "1.9", 9, "Volt", "Amp"), entry("2", "firmware", "1.10", 10, "Volt"), entry("3", "firmware", "7", 70, "Volt")}
	parts := inventory.Parts{
		"1": {{Name: "zlib", Version: "1"}, {Name: "openssl", Version: "3.0.9", PURL: "pkg:generic/openssl@3.0.9"}},
		"2": {{Name: "openssl", Version: "3.0.10"}},
	}
	for _, name := range []string{"openssl", "pkg:generic/openssl"} {
		a := inventory.BelowPart(stations(), list, parts, name, "3.0.10")
		if !slices.Equal(names(a.Below), []string{"old", "sister"}) || !slices.Equal(names(a.Unknown), []string{"foreign", "silent", "other"}) || a.Models != 6 {
			t.Errorf("%+v", a)
		}
	}
	parts["2"] = append(parts["2"], bundle.Part{Name: "openssl"}) // of a part without version the worst is thought
	if a := inventory.BelowPart(stations(), list, parts, "openssl", "3.0.10"); !slices.Contains(names(a.Below), "new") {
		t.Errorf("%+v", a)
	}
}

func TestCompareVersions(t *testing.T) {
	t.Parallel()
	rising := []string{"", "0.9", "1.0-rc1", "1.0-rc2", "1.0-rc10", "1.0~x", "1.0", "1.0a", "1.0b", "1.0.1", "1.9", "1.10", "1.010.1", "2", "10", "99999999999999999999999", "100000000000000000000000"}
	for i, a := range rising {
		for j, b := range rising {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := inventory.CompareVersions(a, b); got != want {
				t.Errorf("%q and %q: %d, want %d", a, b, got, want)
			}
		}
	}
	for _, same := range [][2]string{{"1.0", "1.00"}, {"1", "01"}} {
		if inventory.CompareVersions(same[0], same[1]) != 0 {
			t.Errorf("%v", same)
		}
	}
}

// A report counts each station once, names who can't be told of, and has the time its
// clause gives.
func TestVulnerability(t *testing.T) { // CRA article 14
	t.Parallel()
	aware := time.Date(2026, 11, 1, 8, 0, 0, 0, time.UTC)
	list := []catalogue.Entry{entry("1", "firmware", "1.9", 9, "Volt"), entry("2", "firmware", "1.10", 10, "Volt"), entry("late", "firmware", "1.11", 11, "Volt"), entry("bad", "firmware", "1.8", 8, "Volt")}
	for i, state := range []catalogue.State{catalogue.Complete, catalogue.Published, catalogue.Published, catalogue.Revoked} {
		list[i].State, list[i].PublishedAt = state, aware.Add(time.Duration(i)*time.Hour)
	}
	for i := 1; i < 4; i++ {
		list[i].Release.CVEsFixed = []string{"CVE-2026-1"}
	}
	for stage, due := range map[inventory.Stage]time.Time{
		inventory.EarlyWarning: aware.Add(24 * time.Hour), inventory.Notification: aware.Add(72 * time.Hour), inventory.Final: aware.Add(time.Hour + 14*24*time.Hour),
	} {
		r, err := inventory.Vulnerability(stations(), list, "CVE-2026-1", stage, aware, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !r.DueAt.Equal(due) || r.Article == "" || len(r.People) == 0 {
			t.Errorf("%s: %+v", stage, r)
		}
		if !slices.Equal(names(r.Affected), []string{"old"}) || !slices.Equal(names(r.Unknown), []string{"foreign", "silent"}) || r.Stations != 4 || r.Mended != 1 {
			t.Errorf("%s: %+v", stage, r)
		}
		if len(r.Fixes) != 2 { // what was revoked mends nothing
			t.Errorf("%+v", r.Fixes)
		}
	}
	if _, err := inventory.Vulnerability(stations(), list, "CVE-2026-2", inventory.Final, aware, nil); err == nil {
		t.Error("a report from nothing")
	}
	if _, err := inventory.Vulnerability(stations(), list, "CVE-2026-1", "soon", aware, nil); err == nil {
		t.Error("a stage there isn't")
	}
	bill := inventory.BelowPart(stations(), list, inventory.Parts{"1": {{Name: "openssl", Version: "3.0.9"}}}, "openssl", "3.1")
	r, err := inventory.Vulnerability(stations(), list, "CVE-2026-2", inventory.Final, aware, &bill)
	if err != nil || !r.DueAt.IsZero() || !slices.Equal(names(r.Affected), []string{"old"}) || r.Stations != 6 {
		t.Errorf("%+v, %v", r, err)
	}
}
