package quote_test

import (
	"bytes"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"bollard/detect"
	"bollard/firmware/catalogue"
	"bollard/firmware/quote"
	"bollard/firmware/release"
)

func values(register, value string) *release.Registers {
	return &release.Registers{SHA256: map[string][]string{register: {strings.Repeat("ab", 32), value}}}
}

// A station is recorded to run what was delivered by a quote whose registers are the
// signed release's, and by nothing else; what is wrong is an alarm, a refusal and an
// entry of the ledger with the reason.
func TestQuotes(t *testing.T) {
	t.Parallel()
	mine, other := newMachine(t), newMachine(t)
	right := mine.measure(t, 8, "image 1.0")
	other.measure(t, 8, "image 1.0")
	first := mine.said(t, []byte("a nonce that was"), 8)
	with := func(key string, value any) func(*rig, nonce) any {
		return func(r *rig, n nonce) any {
			body := mine.said(r.t, n.Nonce, 8)
			body[key] = value
			return body
		}
	}
	own := func(r *rig, n nonce) any { return mine.said(r.t, n.Nonce, 8) }
	for name, tt := range map[string]struct {
		prepare func(*rig) // of the releases
		say     func(*rig, nonce) any
		outcome quote.Outcome
		alarm   string
	}{
		"right":                 {func(r *rig) { r.publish("r1", "1.0", values("8", right)) }, own, quote.Delivered, ""},
		"one of two releases":   {func(r *rig) { r.publish("r1", "1.0", values("8", right)); r.publish("r2", "1.0", values("9", right)) }, func(r *rig, n nonce) any { return mine.said(r.t, n.Nonce, 8, 9) }, quote.Delivered, ""},
		"wrong value":           {func(r *rig) { r.publish("r1", "1.0", values("8", strings.Repeat("cd", 32))) }, own, quote.Wrong, "a register differs"},
		"too few registers":     {func(r *rig) { r.publish("r1", "1.0", values("9", strings.Repeat("00", 32))) }, own, quote.Wrong, "a register differs"},
		"without a log":         {func(r *rig) { r.publish("r1", "1.0", &release.Registers{Events: map[string][]string{"8": {right}}}) }, own, quote.Wrong, "malformed"},
		"of another machine":    {func(r *rig) { r.publish("r1", "1.0", values("8", right)) }, func(r *rig, n nonce) any { return other.said(r.t, n.Nonce, 8) }, quote.Wrong, "signed by this attestation key"},
		"for another nonce":     {func(r *rig) { r.publish("r1", "1.0", values("8", right)) }, func(r *rig, n nonce) any { return mine.said(r.t, append(n.Nonce, 0), 8) }, quote.Wrong, "another question"},
		"a replay":              {func(r *rig) { r.publish("r1", "1.0", values("8", right)) }, func(*rig, nonce) any { return first }, quote.Wrong, "another question"},
		"with another value":    {func(r *rig) { r.publish("r1", "1.0", values("8", right)) }, with("registers", map[int][]byte{8: make([]byte, 32)}), quote.Wrong, "a register differs"},
		"no statement":          {func(r *rig) { r.publish("r1", "1.0", values("8", right)) }, with("quoted", []byte("TCG")), quote.Wrong, "isn't one of a TPM"},
		"no signature":          {func(r *rig) { r.publish("r1", "1.0", values("8", right)) }, with("signature", nil), quote.Wrong, "malformed"},
		"a log that lies":       {func(r *rig) { r.publish("r1", "1.0", values("8", right)) }, with("log", bytes.Repeat([]byte{1}, 64)), quote.Wrong, "malformed"},
		"no registers":          {func(r *rig) { r.publish("r1", "1.0", nil) }, own, quote.Unknown, ""},
		"another version":       {func(r *rig) { r.publish("r1", "1.1", values("8", right)) }, own, quote.Unknown, ""},
		"another model":         {func(r *rig) { r.publish("r1", "1.0", values("8", right)).Release.Models[0].Model = "AC-11" }, own, quote.Unknown, ""},
		"a revoked release":     {func(r *rig) { r.publish("r1", "1.0", values("8", right)).State = catalogue.Revoked }, own, quote.Unknown, ""},
		"an unsigned release":   {func(r *rig) { r.publish("r1", "1.0", values("8", right)); r.unsigned["r1"] = true }, own, quote.Unknown, ""},
		"the one it updates to": {func(r *rig) { r.publish("r1", "1.1", values("8", right)); r.expects = "r1" }, own, quote.Delivered, ""},
		"one it has yet to boot": {func(r *rig) {
			r.publish("r0", "1.0", nil)
			r.publish("r1", "1.1", values("8", strings.Repeat("cd", 32)))
			r.expects = "r1"
		}, own, quote.Unknown, ""},
		"what it booted while it updates": {func(r *rig) {
			r.publish("r1", "1.0", values("8", right))
			r.publish("r2", "1.1", values("8", strings.Repeat("cd", 32)))
			r.expects = "r2"
		}, own, quote.Delivered, ""},
		"neither": {func(r *rig) {
			r.publish("r1", "1.0", values("8", strings.Repeat("ef", 32)))
			r.publish("r2", "1.1", values("8", strings.Repeat("cd", 32)))
			r.expects = "r2"
		}, own, quote.Wrong, "a register differs"},
		"one that isn't for its model, by an exception": {func(r *rig) {
			r.publish("r1", "1.0", values("8", strings.Repeat("cd", 32))).Release.Models[0].Model = "AC-11"
			r.expects = "r1"
		}, own, quote.Wrong, "a register differs"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.keys["cs-1"] = append(r.keys["cs-1"], other.key, mine.key)
			if strings.Contains(name, "another machine") {
				r.keys["cs-1"] = r.keys["cs-1"][1:]
			}
			tt.prepare(r)
			var n nonce
			if status := r.ask("cs-1", "nonce", struct{}{}, &n); status != http.StatusOK {
				t.Fatalf("no nonce: %d", status)
			}
			var got answer
			status := r.ask("cs-1", "quote", tt.say(r, n), &got)
			rec := r.records["cs-1"]
			if rec.Outcome != tt.outcome || (status == http.StatusOK) == (tt.outcome == quote.Wrong) || status == http.StatusOK && got.Outcome != string(tt.outcome) {
				t.Fatalf("%d %+v, want %s; record %+v", status, got, tt.outcome, rec)
			}
			if (rec.Outcome == quote.Delivered) != (rec.ShownAt.Equal(r.now) && rec.Release == "r1") {
				t.Errorf("record %+v", rec)
			}
			kind := map[bool]string{true: "quote.wrong", false: "quote.shown"}[tt.alarm != ""]
			if len(r.events) != 1 || r.events[0].Kind != kind || r.events[0].Subject != "cs-1" || tt.alarm != "" && !strings.Contains(r.events[0].Data["reason"], tt.alarm) {
				t.Errorf("entries %+v", r.events)
			}
			var alarm []string
			for _, a := range r.alarms {
				alarm = append(alarm, a.Detail)
			}
			if len(alarm) != 0 != (tt.alarm != "") || len(alarm) == 1 && (!strings.Contains(alarm[0], tt.alarm) || r.alarms[0].Kind != detect.QuoteWrong || r.alarms[0].Station != "cs-1") {
				t.Errorf("alarms %+v, want %q", r.alarms, tt.alarm)
			}
			if rec.Outcome == quote.Wrong && len(rec.Registers) > 0 && rec.Release != "r1" {
				t.Errorf("it should have been %s", rec.Release)
			}
			// Updates learn of what is genuine and can be told alone.
			told := rec.Outcome == quote.Delivered || len(rec.Registers) > 0 && rec.Outcome == quote.Wrong
			if told != (len(r.told) == 1) || told && (r.told[0][1] == "r1") != (rec.Outcome == quote.Delivered) {
				t.Errorf("updates were told %v", r.told)
			}
		})
	}
}

// A nonce is of one station, for one quote, in its time; who asks for one has a certified
// key. What is refused for that leaves no alarm: a slow TPM asks again.
func TestNonces(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	r := newRig(t)
	r.stations["cs-2"] = r.stations["cs-1"]
	r.keys["cs-1"] = append(r.keys["cs-1"], m.key)
	r.publish("r1", "1.0", &release.Registers{SHA256: map[string][]string{"12": {m.measure(t, 12, "x")}, "8": {strings.Repeat("00", 32)}}})
	r.demands["cs-1"] = 24 * time.Hour
	var n, second nonce
	for _, refused := range []struct {
		station, operation string
		status             int
	}{{"", "nonce", 401}, {"", "quote", 401}, {"cs-2", "nonce", 403}, {"cs-1", "quote", 403}} {
		if status := r.ask(refused.station, refused.operation, struct{}{}, nil); status != refused.status {
			t.Errorf("%+v: %d", refused, status)
		}
	}
	if r.ask("cs-1", "nonce", struct{}{}, &n); len(n.Nonce) != 32 || !slices.Equal(n.Registers, []int{8, 12}) || n.Log {
		t.Errorf("asked for %+v", n)
	}
	if status := r.ask("cs-2", "quote", m.said(t, n.Nonce, 8, 12), nil); status != http.StatusForbidden {
		t.Errorf("another station's nonce: %d", status)
	}
	good := m.said(t, n.Nonce, 8, 12)
	var got answer
	if status := r.ask("cs-1", "quote", good, &got); status != http.StatusOK || got.Outcome != "delivered" || got.Next != 12*3600 {
		t.Errorf("%d %+v", status, got)
	}
	if status := r.ask("cs-1", "quote", good, nil); status != http.StatusForbidden {
		t.Errorf("a second time: %d", status)
	}
	if r.ask("cs-1", "nonce", struct{}{}, &second); len(second.Nonce) != 32 || bytes.Equal(n.Nonce, second.Nonce) {
		t.Error("a nonce was given twice")
	}
	r.now = r.now.Add(2 * time.Minute)
	if status := r.ask("cs-1", "quote", m.said(t, second.Nonce, 8, 12), nil); status != http.StatusForbidden {
		t.Errorf("too late: %d", status)
	}
	for name, body := range map[string][]byte{"no JSON": []byte("{"), "too long": bytes.Repeat([]byte(" "), 2<<20), "no number": []byte(`{"registers":{"08":"AAAA"}}`)} {
		r.ask("cs-1", "nonce", struct{}{}, &n)
		if status := r.ask("cs-1", "quote", body, nil); status != http.StatusBadRequest && status != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: %d", name, status)
		}
		if status := r.ask("cs-1", "quote", m.said(t, n.Nonce, 8, 12), nil); status != http.StatusForbidden {
			t.Errorf("%s: a nonce was answered again: %d", name, status)
		}
	}
	if r.spent = true; r.ask("cs-1", "nonce", struct{}{}, nil) != http.StatusTooManyRequests {
		t.Error("a nonce beyond its budget")
	}
	if len(r.alarms) > 0 || len(r.events) != 1 {
		t.Errorf("alarms %v, entries %v", r.alarms, r.events)
	}
}

// What is shown again stands in the ledger once; what can't be told of isn't kept.
func TestQuotesAgain(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	r := newRig(t)
	r.keys["cs-1"] = append(r.keys["cs-1"], m.key)
	r.publish("r1", "1.0", values("8", m.measure(t, 8, "image 1.0")))
	show := func() int {
		t.Helper()
		r.now = r.now.Add(time.Hour)
		var n nonce
		r.ask("cs-1", "nonce", struct{}{}, &n)
		return r.ask("cs-1", "quote", m.said(t, n.Nonce, 8), nil)
	}
	if show(); show() != http.StatusOK || len(r.events) != 1 || !r.records["cs-1"].ShownAt.Equal(r.now) {
		t.Errorf("%v, record %+v", r.events, r.records["cs-1"])
	}
	shown := r.now
	m.measure(t, 8, "a rootkit")
	r.broken = errors.New("disk full")
	if status := show(); status != http.StatusServiceUnavailable || len(r.events) != 1 {
		t.Errorf("%d, entries %v", status, r.events)
	}
	r.broken = nil
	var n nonce
	r.ask("cs-1", "nonce", struct{}{}, &n)
	told := len(r.told)
	r.unread = catalogue.ErrUnjudged
	if status := r.ask("cs-1", "quote", m.said(t, n.Nonce, 8), nil); status != http.StatusServiceUnavailable || r.records["cs-1"].Outcome != quote.Delivered || len(r.told) > told {
		t.Errorf("%d while nobody knows who signed, record %+v, told %v", status, r.records["cs-1"], r.told)
	}
	r.unread = nil
	if status := show(); status != http.StatusForbidden || len(r.events) != 2 {
		t.Errorf("%d, entries %v", status, r.events)
	}
	if rec := r.records["cs-1"]; !rec.ShownAt.Equal(shown) || rec.Outcome != quote.Wrong || rec.Release != "r1" || len(rec.Registers) != 1 {
		t.Errorf("record %+v", rec)
	}
	if show(); len(r.events) != 2 || len(r.alarms) != 3 {
		t.Errorf("entries %v, alarms %v", r.events, r.alarms)
	}
	for i, over := range []string{"not the nonce", "not it either", ""} { // of another reason, and of none
		var n nonce
		r.ask("cs-1", "nonce", struct{}{}, &n)
		body := m.said(t, []byte(over+"x"), 8)
		if over == "" {
			body["signature"] = nil
		}
		if r.ask("cs-1", "quote", body, nil); len(r.events) != 3+i/2 {
			t.Errorf("%d entries after %q: %v", len(r.events), over, r.events[len(r.events)-1])
		}
	}
}

// What a TPM showed isn't kept, and ends no update, once its station has got another one.
func TestAnotherTPMWhileJudged(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	r := newRig(t)
	r.keys["cs-1"] = append(r.keys["cs-1"], m.key)
	r.publish("r1", "1.0", values("8", m.measure(t, 8, "image 1.0")))
	for i, tt := range []struct {
		ek   string
		want int
	}{{"another", http.StatusForbidden}, {"another", http.StatusOK}} {
		var n nonce
		r.ask("cs-1", "nonce", struct{}{}, &n)
		r.judging = func() { r.ek = tt.ek }
		if status := r.ask("cs-1", "quote", m.said(t, n.Nonce, 8), nil); status != tt.want || len(r.told) != i || len(r.records) != i || len(r.events) != i {
			t.Errorf("%d, want %d; told %v, records %v, entries %v", status, tt.want, r.told, r.records, r.events)
		}
	}
}

// Who doesn't show in time that it runs what was delivered is told of, once a day; of
// whom it isn't demanded nobody is missed.
func TestOverdue(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	r := newRig(t)
	r.stations["cs-2"] = r.stations["cs-1"]
	r.keys["cs-1"] = append(r.keys["cs-1"], m.key)
	r.publish("r1", "1.0", values("8", m.measure(t, 8, "image 1.0")))
	look := func(after time.Duration, alarms, entries int) {
		t.Helper()
		r.now = r.now.Add(after)
		if err := r.service.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		late := 0
		for _, e := range r.events {
			if e.Kind == "quote.overdue" {
				late++
			}
		}
		if len(r.alarms) != alarms || late != entries {
			t.Errorf("%d alarms (%v), want %d; %d entries, want %d", len(r.alarms), r.alarms, alarms, late, entries)
		}
	}
	show := func() {
		t.Helper()
		var n nonce
		r.ask("cs-1", "nonce", struct{}{}, &n)
		if status := r.ask("cs-1", "quote", m.said(t, n.Nonce, 8), nil); status != http.StatusOK {
			t.Fatalf("%d", status)
		}
	}
	look(1000*time.Hour, 0, 0)
	if len(r.records) > 0 {
		t.Errorf("nothing is demanded, and there is %v", r.records)
	}
	r.demands = map[string]time.Duration{"cs-1": 24 * time.Hour, "removed": time.Hour}
	look(time.Hour, 0, 0) // its time begins
	look(24*time.Hour, 0, 0)
	show()
	look(24*time.Hour, 0, 0)
	look(time.Minute, 1, 1)
	look(time.Hour, 1, 1)
	look(24*time.Hour, 2, 1)
	show()
	look(time.Hour, 2, 1)
	// What shows nothing doesn't count.
	r.stations["cs-1"] = quote.Station{Vendor: "Acme", Model: "AC-22", Firmware: "of nobody"}
	r.now = r.now.Add(20 * time.Hour)
	show()
	look(4*time.Hour, 3, 2)
	r.demands = map[string]time.Duration{}
	look(time.Hour, 3, 2)
	if rec := r.records["cs-1"]; !rec.OverdueAt.IsZero() || !rec.DemandedAt.IsZero() {
		t.Errorf("record %+v", rec)
	}
	look(1000*time.Hour, 3, 2)
	kinds := map[detect.Kind]bool{}
	for _, a := range r.alarms {
		kinds[a.Kind] = true
	}
	if !maps.Equal(kinds, map[detect.Kind]bool{detect.QuoteOverdue: true}) {
		t.Errorf("alarms %v", r.alarms)
	}
}

// What a clock noted that was a year ahead keeps no station from being told of as late once
// it was set right.
func TestOverdueAfterAClockThatWasAhead(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for name, before := range map[string]func(r *rig){ // by that clock
		"demanded": func(*rig) {},
		"shown": func(r *rig) {
			var n nonce
			r.ask("cs-1", "nonce", struct{}{}, &n)
			if status := r.ask("cs-1", "quote", m.said(t, n.Nonce, 8), nil); status != http.StatusOK {
				t.Fatalf("%d", status)
			}
		},
		"told of": func(r *rig) {
			r.now = r.now.Add(25 * time.Hour)
			if err := r.service.Look(t.Context()); err != nil || len(r.alarms) != 1 {
				t.Fatal(err, r.alarms)
			}
		},
	} {
		r := newRig(t)
		r.keys["cs-1"] = append(r.keys["cs-1"], m.key)
		r.publish("r1", "1.0", values("8", m.measure(t, 8, "image 1.0")))
		r.demands = map[string]time.Duration{"cs-1": 24 * time.Hour}
		right := r.now
		r.now = right.Add(365 * 24 * time.Hour)
		if err := r.service.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		before(r)
		r.alarms = nil
		for r.now = right; r.now.Sub(right) <= 26*time.Hour; r.now = r.now.Add(time.Hour) {
			if err := r.service.Look(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if len(r.alarms) != 1 {
			t.Errorf("%s: %d alarms within 26 hours", name, len(r.alarms))
		}
	}
}

// Nor is one told of as late by a clock that was behind for a look.
func TestOverdueAfterAClockThatWasBehind(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.demands = map[string]time.Duration{"cs-1": 24 * time.Hour}
	right := r.now
	for _, r.now = range []time.Time{right, right.AddDate(-1, 0, 0), right} {
		r.behind = r.now.Before(right)
		if err := r.service.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.records["cs-1"]; !got.DemandedAt.Equal(right) || len(r.alarms) != 0 {
		t.Errorf("demanded since %s, %d alarms", got.DemandedAt, len(r.alarms))
	}
}
