package window_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"bollard/internal/window"
)

func parse(t testing.TB, texts ...string) window.Windows {
	t.Helper()
	list, err := window.ParseAll(texts)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func at(t testing.TB, text string) time.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestOpen(t *testing.T) {
	t.Parallel()
	const night = "mon-fri 22:00-05:00 Europe/Amsterdam" // UTC+2 in summer
	for _, tt := range []struct {
		name, window, at string
		open             bool
	}{
		{"before it begins", night, "2026-06-01T19:59:59Z", false},
		{"as it begins", night, "2026-06-01T20:00:00Z", true},
		{"after midnight", night, "2026-06-02T02:59:59Z", true},
		{"as it ends", night, "2026-06-02T03:00:00Z", false},
		{"Saturday morning belongs to Friday", night, "2026-06-06T02:00:00Z", true},
		{"Saturday night", night, "2026-06-06T21:00:00Z", false},
		{"Monday morning belongs to Sunday", night, "2026-06-08T02:00:00Z", false},
		{"winter is an hour later", night, "2026-12-01T20:30:00Z", false},
		{"winter", night, "2026-12-01T21:00:00Z", true},
		{"days over the week's end", "fri-mon 10:00-11:00 UTC", "2026-06-07T10:30:00Z", true},
		{"a day between", "fri-mon 10:00-11:00 UTC", "2026-06-02T10:30:00Z", false},
		{"to midnight", "daily 23:00-24:00 UTC", "2026-06-02T23:59:59Z", true},
		{"whole day", "sat 00:00-24:00 UTC", "2026-06-06T12:00:00Z", true},
		{"not the next", "sat 00:00-24:00 UTC", "2026-06-07T00:00:00Z", false},
		// Clocks go from 02:00 to 03:00 on 2026-03-29, from 03:00 to 02:00 on 2026-10-25.
		{"an hour that isn't there", "daily 02:15-02:45 Europe/Amsterdam", "2026-03-29T01:30:00Z", true},
		{"over the change, forward", "daily 01:00-04:00 Europe/Amsterdam", "2026-03-29T01:59:00Z", true},
		{"ends by the new time", "daily 01:00-04:00 Europe/Amsterdam", "2026-03-29T02:00:00Z", false},
		{"over the change, back", "daily 01:00-04:00 Europe/Amsterdam", "2026-10-25T02:59:00Z", true},
		{"ends by the old time", "daily 01:00-04:00 Europe/Amsterdam", "2026-10-25T03:00:00Z", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := parse(t, tt.window).Open(at(t, tt.at)); got != tt.open {
				t.Errorf("open at %s: %v", tt.at, got)
			}
		})
	}
	if !parse(t).Open(at(t, "2026-06-01T00:00:00Z")) {
		t.Error("closed without any window")
	}
}

func TestNext(t *testing.T) {
	t.Parallel()
	list := parse(t, "mon 03:00-04:00 UTC", "wed 01:00-02:00 UTC")
	for from, want := range map[string]string{
		"2026-06-01T03:30:00Z": "2026-06-01T03:30:00Z",
		"2026-06-01T04:00:00Z": "2026-06-03T01:00:00Z",
		"2026-06-03T02:00:00Z": "2026-06-08T03:00:00Z",
	} {
		if got := list.Next(at(t, from)); !got.Equal(at(t, want)) {
			t.Errorf("next after %s is %s, want %s", from, got, want)
		}
	}
	until, open := parse(t, "daily 01:00-03:00 UTC", "daily 02:00-05:00 UTC").Until(at(t, "2026-06-01T02:30:00Z"))
	if !open || !until.Equal(at(t, "2026-06-01T05:00:00Z")) {
		t.Errorf("until %s, %v", until, open)
	}
}

func TestUntilGoesOnWhereAnotherWindowBegins(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, at, until string // "": it never closes
		windows         []string
	}{
		{"over midnight by two days", "2026-06-01T23:55:00Z", "2026-06-03T00:00:00Z", []string{"mon,tue 00:00-24:00 UTC"}},
		{"from one window into the next", "2026-06-01T01:59:00Z", "2026-06-01T04:00:00Z", []string{"daily 02:00-04:00 UTC", "daily 01:00-02:00 UTC"}},
		{"a minute between", "2026-06-01T01:59:00Z", "2026-06-01T02:00:00Z", []string{"daily 02:01-04:00 UTC", "daily 01:00-02:00 UTC"}},
		{"always open", "2026-06-01T01:59:00Z", "", []string{"daily 00:00-24:00 Europe/Amsterdam"}},
		{"always open in halves", "2026-06-01T01:59:00Z", "", []string{"daily 00:00-12:00 UTC", "daily 12:00-24:00 UTC"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			end, closes := parse(t, tt.windows...).Until(at(t, tt.at))
			if closes != (tt.until != "") || closes && !end.Equal(at(t, tt.until)) {
				t.Errorf("until %s, closes %v, want %q", end, closes, tt.until)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                "write it as",
		"mon 22:00-05:00":                 "write it as",
		"mon 22:00-05:00 Mars/Olympus":    "no time zone",
		"mon 22:00-05:00 Local":           "no time zone",
		"mon 22:00-05:00 ../etc/passwd":   "no time zone",
		"moon 22:00-05:00 UTC":            "no day",
		"mon- 22:00-05:00 UTC":            "no day",
		"mon 22-05 UTC":                   "no time",
		"mon 25:00-05:00 UTC":             "no time",
		"mon 1:00-05:00 UTC":              "no time",
		"mon 22:00 UTC":                   "no time",
		strings.Repeat("mon,", 100) + "x": "characters",
	} {
		if _, err := window.Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := window.ParseAll(make([]string, 40)); err == nil {
		t.Error("took empty ones")
	}
}

// Next is open, nothing before it is, and what is open ends.
func TestNextIsTheFirst(t *testing.T) {
	t.Parallel()
	zones := []string{"UTC", "Europe/Amsterdam", "America/St_Johns", "Pacific/Apia", "Australia/Lord_Howe", "Africa/Casablanca"}
	rapid.Check(t, func(t *rapid.T) {
		hour := rapid.IntRange(0, 23)
		text := rapid.SampledFrom([]string{"daily", "mon", "sat-tue", "wed,fri"}).Draw(t, "days") +
			" " + time.Date(0, 1, 1, hour.Draw(t, "from"), 30, 0, 0, time.UTC).Format("15:04") +
			"-" + time.Date(0, 1, 1, hour.Draw(t, "to"), rapid.SampledFrom([]int{0, 30, 45}).Draw(t, "minute"), 0, 0, time.UTC).Format("15:04") +
			" " + rapid.SampledFrom(zones).Draw(t, "zone")
		list, err := window.ParseAll([]string{text})
		if err != nil {
			t.Fatal(err)
		}
		if again, err := window.Parse(list[0].String()); err != nil || again.String() != list[0].String() {
			t.Fatalf("%q is read back as %v, %v", list[0], again, err)
		}
		from := time.Unix(rapid.Int64Range(1_700_000_000, 1_900_000_000).Draw(t, "at"), 0)
		next := list.Next(from)
		if next.Before(from) || next.Sub(from) > 15*24*time.Hour || !list.Open(next) {
			t.Fatalf("%s: next after %s is %s", text, from, next)
		}
		for probe := from; probe.Before(next); probe = probe.Add(10 * time.Minute) {
			if list.Open(probe) {
				t.Fatalf("%s: open at %s, next was %s", text, probe, next)
			}
		}
		end, closes := list.Until(next)
		if closes && (!end.After(next) || list.Open(end)) {
			t.Fatalf("%s: open at %s until %s", text, next, end)
		}
		if !closes {
			end = next.Add(8 * 24 * time.Hour)
		}
		for probe := next; probe.Before(end); probe = probe.Add(10 * time.Minute) {
			if !list.Open(probe) {
				t.Fatalf("%s: open at %s until %s (closes: %v), but not at %s", text, next, end, closes, probe)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add("mon-fri 22:00-05:00 Europe/Amsterdam")
	f.Add("daily 00:00-24:00 UTC")
	f.Fuzz(func(t *testing.T, text string) {
		w, err := window.Parse(text)
		if err != nil {
			return
		}
		again, err := window.Parse(w.String())
		if err != nil || again.String() != w.String() {
			t.Errorf("%q reads as %q, which reads as %v, %v", text, w, again, err)
		}
	})
}
