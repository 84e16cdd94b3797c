// Package window is times of the week at which something may be done: a
// station's maintenance windows.
//
// It promises that a window is open by the clocks on the wall of its zone, over
// changes to and from summer time, and that Next names the first moment at
// which one is open. It is pure: time is an argument, and the zones are in it.
package window

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // a machine may have no database of zones
)

// Window is one span of some days of the week, such as "mon-fri 22:00-05:00
// Europe/Amsterdam". One that ends no later than it begins ends on the next day.
type Window struct {
	days     [7]bool // on which it begins, by time.Weekday
	from, to int     // minutes since midnight; from == to: the whole day from there
	zone     *time.Location
}

// Windows are open while any of them is; none: always.
type Windows []Window

var dayNames = [7]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// maxText bounds a window's text; the longest zone has 32 characters.
const maxText = 120

// Parse reads "DAYS HH:MM-HH:MM ZONE": days are "daily" or a list of days and
// ranges of them (mon,wed-fri), the zone is an IANA name.
func Parse(text string) (Window, error) {
	if len(text) > maxText {
		return Window{}, fmt.Errorf("window has %d characters, at most %d", len(text), maxText)
	}
	parts := strings.Fields(text)
	if len(parts) != 3 {
		return Window{}, fmt.Errorf("window %q: write it as `mon-fri 22:00-05:00 Europe/Amsterdam`", text)
	}
	w, err := Window{}, error(nil)
	if w.days, err = parseDays(parts[0]); err != nil {
		return Window{}, fmt.Errorf("window %q: %w", text, err)
	}
	from, to, _ := strings.Cut(parts[1], "-")
	if w.from, err = parseMinute(from); err == nil {
		w.to, err = parseMinute(to)
	}
	if err != nil {
		return Window{}, fmt.Errorf("window %q: %w", text, err)
	}
	// "Local" and "" would be whatever the machine has.
	if w.zone, err = time.LoadLocation(parts[2]); err != nil || parts[2] == "Local" {
		return Window{}, fmt.Errorf("window %q: no time zone %q: give an IANA name such as Europe/Amsterdam", text, parts[2])
	}
	return w, nil
}

func parseDays(text string) (days [7]bool, err error) {
	if text == "daily" {
		return [7]bool{true, true, true, true, true, true, true}, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		first, last, span := strings.Cut(part, "-")
		if !span {
			last = first
		}
		from, to := slices.Index(dayNames[:], first), slices.Index(dayNames[:], last)
		if from < 0 || to < 0 {
			return days, fmt.Errorf("no day %q: there are %s, or daily", part, strings.Join(dayNames[:], ", "))
		}
		for d := from; ; d = (d + 1) % 7 {
			days[d] = true
			if d == to {
				break
			}
		}
	}
	return days, nil
}

// parseMinute reads HH:MM; 24:00 is the midnight at a day's end.
func parseMinute(text string) (int, error) {
	if text == "24:00" {
		return 0, nil
	}
	t, err := time.Parse("15:04", text)
	if err != nil || len(text) != len("15:04") {
		return 0, fmt.Errorf("no time %q: write HH:MM", text)
	}
	return t.Hour()*60 + t.Minute(), nil
}

// String is the text Parse reads.
func (w Window) String() string {
	var days []string
	for d, on := range w.days {
		if on {
			days = append(days, dayNames[d])
		}
	}
	list := strings.Join(days, ",")
	if len(days) == 7 {
		list = "daily"
	}
	return fmt.Sprintf("%s %02d:%02d-%02d:%02d %s", list, w.from/60, w.from%60, w.to/60, w.to%60, w.zone)
}

// span is the window that begins on the day n days after t's, if one does.
func (w *Window) span(t time.Time, n int) (from, to time.Time, ok bool) {
	local := t.In(w.zone)
	y, m, d := local.Date()
	// Noon is there on every day, whatever a zone does at night.
	if day := time.Date(y, m, d+n, 12, 0, 0, 0, w.zone); !w.days[day.Weekday()] {
		return time.Time{}, time.Time{}, false
	}
	from = time.Date(y, m, d+n, w.from/60, w.from%60, 0, 0, w.zone)
	if w.to <= w.from {
		n++
	}
	to = time.Date(y, m, d+n, w.to/60, w.to%60, 0, 0, w.zone)
	return from, to, from.Before(to)
}

// Length is how long the window is by the clocks on the wall.
func (w Window) Length() time.Duration {
	minutes := w.to - w.from
	if minutes <= 0 {
		minutes += 24 * 60
	}
	return time.Duration(minutes) * time.Minute
}

// Open says whether a window is open.
func (list Windows) Open(at time.Time) bool {
	_, open := list.last(at)
	return open || len(list) == 0
}

// week is how far Until looks: windows that stay open for one come again every
// week, so they never close.
const week = 8 * 24 * time.Hour

// Until is when the windows close, those that begin as others end included; false
// if none is open or they never close.
func (list Windows) Until(at time.Time) (end time.Time, closes bool) {
	end, open := list.last(at)
	closes = open
	for open {
		if end.Sub(at) > week {
			return time.Time{}, false
		}
		var further time.Time
		if further, open = list.last(end); open {
			end = further
		}
	}
	return end, closes
}

// last is when the open window ends that ends last; false if none is open.
func (list Windows) last(at time.Time) (end time.Time, open bool) {
	for i := range list {
		for n := -1; n <= 0; n++ { // it may have begun the day before
			from, to, ok := list[i].span(at, n)
			if ok && !at.Before(from) && at.Before(to) && to.After(end) {
				end, open = to, true
			}
		}
	}
	return end, open
}

// Next is the first moment at or after a time at which a window is open.
func (list Windows) Next(at time.Time) time.Time {
	if list.Open(at) {
		return at
	}
	var next time.Time
	for i := range list {
		// A day's window may not be there when the clocks go forward.
		for n := 0; n <= 14; n++ {
			if from, _, ok := list[i].span(at, n); ok && !from.Before(at) && (next.IsZero() || from.Before(next)) {
				next = from
			}
		}
	}
	return next
}

// ParseAll reads several.
func ParseAll(texts []string) (Windows, error) {
	var list Windows
	for _, text := range texts {
		w, err := Parse(text)
		if err != nil {
			return nil, err
		}
		list = append(list, w)
	}
	if len(list) > maxWindows {
		return nil, errors.New("more than 32 windows")
	}
	return list, nil
}

// maxWindows bounds what each look costs.
const maxWindows = 32
