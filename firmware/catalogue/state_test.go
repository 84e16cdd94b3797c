package catalogue_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"bollard/approval"
	"bollard/firmware/catalogue"
	"bollard/firmware/release"
	"bollard/ledger"
)

// No release comes back from where it is, but from a halt, and to another rollout; each move is one entry
// that says from where to where.
func TestReleasesGoForwardOnly(t *testing.T) { // promise 10
	t.Parallel()
	rank := map[catalogue.State]int{
		catalogue.Added: 0, catalogue.Published: 1, catalogue.Rolling: 2, catalogue.Halted: 2, catalogue.Complete: 2,
		catalogue.Superseded: 4, catalogue.Withdrawn: 5, catalogue.Revoked: 6,
	}
	now := time.Unix(1780315200, 0)
	kinds := map[string]bool{}
	for from := range rank {
		for to := range rank {
			e := catalogue.Entry{Release: &release.Release{ID: "x"}, State: from, PublishedAt: time.Unix(1, 0)}
			ev, err := e.Move(to, "operator:root", "a reason", now)
			back := rank[to] < rank[from] || from == to || rank[to] == rank[from] && rank[to] != rank[catalogue.Halted]
			switch {
			case err == nil && back:
				t.Errorf("from %s to %s", from, to)
			case err != nil && to == catalogue.Revoked && from != catalogue.Revoked:
				t.Errorf("a release that is %s can't be revoked: %v", from, err)
			case err != nil && e.State != from:
				t.Errorf("it is %s after %v", e.State, err)
			case err == nil && (e.State != to || e.ChangedAt != now || e.Reason != "a reason" || ev.Data["from"] != string(from) || ev.Data["to"] != string(to) || !strings.HasPrefix(ev.Kind, "firmware.")):
				t.Errorf("from %s to %s: %+v, %+v", from, to, e, ev)
			}
			if err == nil {
				kinds[ev.Kind] = true
			}
		}
	}
	if len(kinds) != len(rank)-1 { // nothing comes to added
		t.Errorf("kinds of entries: %v", kinds)
	}
	for _, to := range []catalogue.State{catalogue.Halted, catalogue.Withdrawn, catalogue.Revoked} {
		e := catalogue.Entry{Release: &release.Release{ID: "x"}, State: catalogue.Published}
		for _, why := range []string{"", " \n", strings.Repeat("x", 501)} {
			if _, err := e.Move(to, "operator:root", why, now); err == nil {
				t.Errorf("%s because of %.10q", to, why)
			}
		}
	}
	for s := range rank {
		if want := s == catalogue.Published || s == catalogue.Rolling || s == catalogue.Complete; s.Offered() != want {
			t.Errorf("%s is offered: %t", s, s.Offered())
		}
	}
}

// What people sign names release, record, signer and ring, and is asked for only
// where it can be done.
func TestWhatPeopleApprove(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	r := s.add(7, func(r *release.Release) { r.Supersedes = release.NewID(time.Unix(1, 0), [10]byte{9}) })
	ask := func(action catalogue.Action, name string) (scope, text string) {
		t.Helper()
		scope, text, err := s.Asking(t.Context(), action, name)
		if err != nil {
			return "", ""
		}
		return scope, text
	}
	scope, text := ask(catalogue.ActionPublish, r.ID)
	digest, err := r.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{r.ID, digest, release.Fingerprint(s.cert), r.SHA256, "for: ACME Volt", "supersedes: " + r.Supersedes} {
		if !strings.Contains(text, want) {
			t.Errorf("people don't read %q:\n%s", want, text)
		}
	}
	if scope != "release:"+r.ID {
		t.Errorf("scope %q", scope)
	}
	can := func() (list []string) {
		for _, action := range catalogue.Actions() {
			for _, name := range []string{r.ID, r.ID + "/canary of x"} {
				if scope, _ := ask(action, name); scope != "" {
					list = append(list, string(action)+strings.TrimPrefix(scope, "release:"+r.ID))
				}
			}
		}
		return list
	}
	move := func(to catalogue.State) {
		t.Helper()
		if err := s.UpdateReleases(t.Context(), func(list []*catalogue.Entry) ([]ledger.Event, error) {
			ev, err := list[0].Move(to, "operator:root", "a reason", s.now)
			return []ledger.Event{ev}, err
		}); err != nil {
			t.Fatal(err)
		}
	}
	read := map[string]bool{}
	for _, tt := range []struct {
		state catalogue.State
		want  []string
	}{
		{catalogue.Added, []string{"firmware.publish"}},
		{catalogue.Published, []string{"firmware.start/canary of x"}},
		{catalogue.Rolling, []string{"firmware.start/canary of x", "firmware.widen/canary of x"}},
		{catalogue.Halted, []string{"firmware.resume"}},
		{catalogue.Rolling, []string{"firmware.start/canary of x", "firmware.widen/canary of x"}},
		{catalogue.Halted, []string{"firmware.resume"}},
		{catalogue.Rolling, []string{"firmware.start/canary of x", "firmware.widen/canary of x"}},
		{catalogue.Complete, []string{"firmware.start/canary of x"}},
	} {
		if tt.state != catalogue.Added {
			move(tt.state)
		}
		for _, action := range []catalogue.Action{catalogue.ActionStart, catalogue.ActionWiden, catalogue.ActionResume} {
			for _, name := range []string{r.ID, r.ID + "/canary of x"} {
				_, text := ask(action, name)
				if text != "" && read[string(action)+text] {
					t.Errorf("people sign the same for %s as the last time:\n%s", action, text)
				}
				read[string(action)+text] = true
			}
		}
		s.now = s.now.Add(time.Second)
		if got := can(); !slices.Equal(got, tt.want) {
			t.Errorf("of one that is %s people can approve %v, want %v", tt.state, got, tt.want)
		}
	}
	other := s.publish(8)
	_, canary := ask(catalogue.ActionStart, other.ID+"/canary of x")
	_, early := ask(catalogue.ActionStart, other.ID+"/early of x")
	_, another := ask(catalogue.ActionStart, other.ID+"/canary of y")
	if canary == early || canary == another || canary == "" {
		t.Errorf("two rings, or two rollouts, read the same:\n%s", canary)
	}
	for _, ring := range []string{"", "/canary", "/canary of ", "/Canary of x", "/a b", "/" + strings.Repeat("x", 33) + " of x", "/a/b of x"} {
		if _, text := ask(catalogue.ActionStart, other.ID+ring); text != "" {
			t.Errorf("ring %q:\n%s", ring, text)
		}
	}
	e, err := s.Find(t.Context(), other.ID)
	if err != nil {
		t.Fatal(err)
	}
	s.granted["firmware.start release:"+other.ID+"/canary of x"] = []string{"alice"}
	if _, err := s.Grant(t.Context(), catalogue.ActionStart, &e, "early of x"); err == nil {
		t.Error("an approval of one ring starts another")
	}
	if _, err := s.Grant(t.Context(), catalogue.ActionStart, &e, "canary of y"); err == nil {
		t.Error("an approval of one rollout starts another")
	}
	if g, err := s.Grant(t.Context(), catalogue.ActionStart, &e, "canary of x"); err != nil || !slices.Equal(g.By, []string{"alice"}) {
		t.Errorf("%+v, %v", g, err)
	}
}

// What people sign for an exception names all that it lets pass.
func TestWhatExceptionsMean(t *testing.T) { // promise 10
	t.Parallel()
	s := newShelf(t)
	r := s.publish(7)
	for action, words := range map[catalogue.Action][]string{
		catalogue.ActionDowngrade: {"isn't newer", "lower security epoch", "superseded", "isn't to be installed over"},
		catalogue.ActionForce:     {"before its ring", "halted", "superseded", "isn't to be installed over"},
		catalogue.ActionUnsigned:  {"without a signature"},
	} {
		_, text, err := s.Asking(t.Context(), action, r.ID+"/cs-1")
		if err != nil || !strings.Contains(text, "station: cs-1\n") {
			t.Errorf("%s: %q, %v", action, text, err)
		}
		_, exception, _ := strings.Cut(text, "exception: ")
		for _, word := range words {
			if !strings.Contains(exception, word) {
				t.Errorf("%s says %q, and nothing of what %s", action, exception, word)
			}
		}
	}
}

// Metrology takes somebody more, and both approvals are used up together.
func TestLegallyRelevantTakesOneMore(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	r := s.add(7, func(r *release.Release) { r.LegalRelevant = true })
	s.granted["firmware.publish release:"+r.ID] = []string{"alice", "bob"}
	if _, err := s.Publish(t.Context(), "operator:root", r.ID); err == nil {
		t.Error("published without its own approval")
	}
	s.granted["firmware.legal release:"+r.ID] = []string{"bob"}
	if _, err := s.Publish(t.Context(), "operator:root", r.ID); err == nil || !strings.Contains(err.Error(), "somebody else") {
		t.Errorf("by one of those who approved the publication: %v", err)
	}
	s.granted["firmware.legal release:"+r.ID] = []string{"bob", "mara"}
	s.events = nil
	if _, err := s.Publish(t.Context(), "operator:root", r.ID); err != nil {
		t.Fatal(err)
	}
	var used []string
	for _, e := range s.events {
		if e.Kind == approval.KindUsed {
			used = append(used, e.Data["action"])
		}
	}
	if !slices.Equal(used, []string{"firmware.publish", "firmware.legal"}) || len(s.events) != 3 {
		t.Errorf("%+v", s.events)
	}
	plain := s.add(8)
	if _, _, err := s.Asking(t.Context(), catalogue.ActionLegal, plain.ID); err == nil {
		t.Error("a release that isn't legally relevant can be approved as one")
	}
}

// Only what stations are offered, is newer and for all its models takes a release's
// place.
func TestSupersede(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	old := s.publish(7)
	for name, by := range map[string]*release.Release{
		"itself":            old,
		"older":             s.publish(6),
		"not published":     s.add(8),
		"another component": s.publish(9, func(r *release.Release) { r.Component = "modem" }),
		"another model":     s.publish(10, func(r *release.Release) { r.Models[0].Model = "Amp" }),
		"some revisions":    s.publish(11, func(r *release.Release) { r.Models[0].Hardware = []string{"B"} }),
	} {
		if _, err := s.Supersede(t.Context(), "operator:root", old.ID, by.ID); err == nil || s.state(old.ID) != catalogue.Published {
			t.Errorf("%s: %v", name, err)
		}
	}
	newer := s.publish(12, func(r *release.Release) { r.Models = append(r.Models, release.Model{Vendor: "ACME", Model: "Amp"}) })
	e, err := s.Supersede(t.Context(), "operator:root", old.ID, newer.ID)
	if err != nil || e.State != catalogue.Superseded || e.Successor != newer.ID || s.events[len(s.events)-1].Data["by"] != newer.ID {
		t.Errorf("%+v, %v", e, err)
	}
	if e, err := s.Withdraw(t.Context(), "operator:root", old.ID, "it is old"); err != nil || e.State != catalogue.Withdrawn {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := s.Publish(t.Context(), "operator:root", old.ID); err == nil {
		t.Error("what was withdrawn was published again")
	}
	last := s.publish(13, func(r *release.Release) { r.Models = append(r.Models, release.Model{Vendor: "ACME", Model: "Amp"}) })
	s.now = s.now.Add(2 * time.Hour)
	if _, err := s.Supersede(t.Context(), "operator:root", newer.ID, last.ID); err == nil || s.state(newer.ID) != catalogue.Published {
		t.Errorf("by one that expired: %v", err)
	}
}
