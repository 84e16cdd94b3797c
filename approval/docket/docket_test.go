package docket_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"bollard/approval"
	"bollard/approval/docket"
	"bollard/store"
)

const action = "thing.doing"

type rig struct {
	*docket.Docket
	t     *testing.T
	dir   string
	store *store.Store
	cfg   docket.Config
	begun time.Time
	late  atomic.Int64 // how much later it is; the store's goroutine looks too
	about string       // what would be done
}

func (r *rig) clock() time.Time { return r.begun.Add(time.Duration(r.late.Load())) }

func (r *rig) advance(d time.Duration) { r.late.Add(int64(d)) }

// people have their keys in one directory.
func people() []string { return []string{"alice", "bob", "carol"} }

func keygen(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "ssh-keygen", args...).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen %v: %v: %s", args, err, out)
	}
}

func makeKeys(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range people() {
		keygen(t, "-q", "-N", "", "-t", "ed25519", "-f", filepath.Join(dir, name))
	}
	return dir
}

func newRig(t *testing.T, keys string) *rig {
	t.Helper()
	r := &rig{t: t, dir: keys, begun: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC), about: "paint it red\n"}
	var err error
	if r.store, err = store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "db"), Clock: r.clock}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.store.Close() })
	r.cfg = docket.Config{Store: r.store, Clock: r.clock,
		Rules: docket.Rules{Quorums: map[string]approval.Quorum{action: {Needed: 2}, "nothing.known": {Needed: 1}}},
		Actions: map[string]docket.Subject{action: func(_ context.Context, name string) (string, string, error) {
			if r.about == "" {
				return "", "", errors.New("there is no such thing")
			}
			return "thing:" + name, r.about, nil
		}}}
	for _, name := range people() {
		r.cfg.Rules.People = append(r.cfg.Rules.People, approval.Approver{Name: name, Keys: []approval.Key{r.key(name)}})
	}
	r.open()
	return r
}

func (r *rig) open() {
	r.t.Helper()
	var err error
	if r.Docket, err = docket.New(r.cfg); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) key(name string) approval.Key {
	r.t.Helper()
	text, err := os.ReadFile(r.path(name + ".pub"))
	if err != nil {
		r.t.Fatal(err)
	}
	k, err := approval.ParseSSH(text)
	if err != nil {
		r.t.Fatal(err)
	}
	return k
}

func (r *rig) ask() docket.Matter {
	r.t.Helper()
	m, err := r.Open(r.t.Context(), "operator:root", docket.Ask{Action: action, Name: "door", Person: "carol", Reason: "it is grey"})
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

func (r *rig) sign(m docket.Matter, name string) error {
	r.t.Helper()
	text, err := m.Statement()
	if err != nil {
		r.t.Fatal(err)
	}
	file := filepath.Join(r.t.TempDir(), "statement")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		r.t.Fatal(err)
	}
	keygen(r.t, "-q", "-Y", "sign", "-n", approval.Namespace, "-f", r.path(name), file)
	sig, err := os.ReadFile(file + ".sig")
	if err != nil {
		r.t.Fatal(err)
	}
	_, who, err := r.Sign(r.t.Context(), "operator:root", m.Nonce[:8], sig)
	if err == nil && who != name {
		r.t.Errorf("signature of %s counts for %s", name, who)
	}
	return err
}

func (r *rig) granted() error {
	_, err := r.Grant(r.t.Context(), action, "thing:door", r.about)
	return err
}

func TestGrant(t *testing.T) {
	t.Parallel()
	r := newRig(t, makeKeys(t))
	if err := r.granted(); !errors.Is(err, docket.ErrNotGranted) {
		t.Errorf("nobody asked: %v", err)
	}
	m := r.ask()
	if err := r.sign(m, "carol"); err == nil {
		t.Error("the author approved")
	}
	for _, name := range []string{"alice", "bob"} {
		if err := r.granted(); !errors.Is(err, docket.ErrNotGranted) {
			t.Errorf("before %s signed: %v", name, err)
		}
		if err := r.sign(m, name); err != nil {
			t.Fatal(err)
		}
	}
	g, err := r.Grant(t.Context(), action, "thing:door", r.about)
	if err != nil || !slices.Equal(g.By, []string{"alice", "bob"}) {
		t.Fatalf("%+v, %v", g, err)
	}
	for name, f := range map[string]func() error{
		"another action": func() error { _, err := r.Grant(t.Context(), "thing.undoing", "thing:door", r.about); return err },
		"another scope":  func() error { _, err := r.Grant(t.Context(), action, "thing:roof", r.about); return err },
		"another deed":   func() error { _, err := r.Grant(t.Context(), action, "thing:door", "paint it blue\n"); return err },
	} {
		if err := f(); !errors.Is(err, docket.ErrNotGranted) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := r.store.Record(t.Context(), g.Used("operator:root")); err != nil {
		t.Fatal(err)
	}
	if err := r.granted(); !errors.Is(err, docket.ErrNotGranted) {
		t.Errorf("used twice: %v", err)
	}
	if s := r.standing(m); s.State != docket.Used || r.sign(m, "alice") == nil {
		t.Errorf("%+v", s)
	}
	if _, err := r.Withdraw(t.Context(), "operator:root", m.Nonce, "x"); err == nil {
		t.Error("withdrawn after its use")
	}
}

func (r *rig) standing(m docket.Matter) docket.Standing {
	r.t.Helper()
	list, err := r.List(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	for _, s := range list {
		if s.Nonce == m.Nonce {
			return s
		}
	}
	r.t.Fatal("it isn't listed")
	return docket.Standing{}
}

// Whatever changes after people were asked, they have to be asked again.
func TestVoid(t *testing.T) {
	t.Parallel()
	keys := makeKeys(t)
	for name, change := range map[string]func(*testing.T, *rig, docket.Matter){
		"the deed":     func(_ *testing.T, r *rig, _ docket.Matter) { r.about = "paint it blue\n" },
		"nothing left": func(_ *testing.T, r *rig, _ docket.Matter) { r.about = "" },
		"time":         func(_ *testing.T, r *rig, _ docket.Matter) { r.advance(docket.DefaultValid) },
		"fewer people": func(_ *testing.T, r *rig, _ docket.Matter) { r.cfg.Rules.People = r.cfg.Rules.People[1:] },
		"a new key": func(_ *testing.T, r *rig, _ docket.Matter) {
			r.cfg.Rules.People[2].Keys = r.cfg.Rules.People[0].Keys
			r.cfg.Rules.People = r.cfg.Rules.People[1:]
		},
		"a lower quorum":  func(_ *testing.T, r *rig, _ docket.Matter) { r.cfg.Rules.Quorums[action] = approval.Quorum{Needed: 1} },
		"a higher quorum": func(_ *testing.T, r *rig, _ docket.Matter) { r.cfg.Rules.Quorums[action] = approval.Quorum{Needed: 3} },
		"other people": func(_ *testing.T, r *rig, _ docket.Matter) {
			r.cfg.Rules.Quorums[action] = approval.Quorum{Needed: 2, Of: []string{"alice", "bob"}}
		},
		"no quorum": func(_ *testing.T, r *rig, _ docket.Matter) { delete(r.cfg.Rules.Quorums, action) },
		"withdrawn": func(t *testing.T, r *rig, m docket.Matter) {
			if _, err := r.Withdraw(t.Context(), "operator:root", m.Nonce, "changed my mind"); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, keys)
			m := r.ask()
			for _, name := range []string{"alice", "bob"} {
				if err := r.sign(m, name); err != nil {
					t.Fatal(err)
				}
			}
			if s := r.standing(m); s.State != docket.Granted {
				t.Fatalf("%+v", s)
			}
			change(t, r, m)
			r.open()
			if err := r.granted(); !errors.Is(err, docket.ErrNotGranted) {
				t.Errorf("granted: %v", err)
			}
			if s := r.standing(m); s.State != docket.Void && s.State != docket.Withdrawn {
				t.Errorf("it stands as %s: %s", s.State, s.Note)
			}
			if err := r.sign(m, "bob"); err == nil || !strings.Contains(err.Error(), "any more") {
				t.Errorf("signed: %v", err)
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t, makeKeys(t))
	good := docket.Ask{Action: action, Name: "door", Reason: "x"}
	for asked, valid := range map[time.Duration]time.Duration{0: 72 * time.Hour, 30 * 24 * time.Hour: 30 * 24 * time.Hour} { // as docs/approvals.md has it
		good.Valid = asked
		if m, err := r.Open(t.Context(), "operator:root", good); err != nil || !m.Expires.Equal(m.AskedAt.Add(valid).UTC().Truncate(time.Second)) {
			t.Fatalf("asked for %v: until %v, %v", asked, m.Expires, err)
		}
	}
	for name, change := range map[string]func(*docket.Ask){
		"no reason":      func(a *docket.Ask) { a.Reason = "" },
		"long reason":    func(a *docket.Ask) { a.Reason = strings.Repeat("x", 501) },
		"no quorum":      func(a *docket.Ask) { a.Action = "thing.undoing" },
		"unknown action": func(a *docket.Ask) { a.Action = "nothing.known" },
		"too long":       func(a *docket.Ask) { a.Valid = 30*24*time.Hour + 1 },
		"too short":      func(a *docket.Ask) { a.Valid = time.Second },
		"two lines":      func(a *docket.Ask) { a.Name = "a\nb" },
		"person's name":  func(a *docket.Ask) { a.Person = "Carol C" },
	} {
		ask := good
		change(&ask)
		if m, err := r.Open(t.Context(), "operator:root", ask); err == nil {
			t.Errorf("%s: %+v", name, m)
		}
	}
	twice := r.cfg
	twice.Rules.People = append(slices.Clone(twice.Rules.People), approval.Approver{Name: "dave", Keys: twice.Rules.People[0].Keys})
	if _, err := docket.New(twice); err == nil {
		t.Error("one key counts for two people")
	}
	for _, id := range []string{"", "zz", strings.Repeat("0", 33)} {
		if _, err := r.Find(t.Context(), id); !errors.Is(err, docket.ErrUnknown) {
			t.Errorf("%q: %v", id, err)
		}
	}
}

// A kept matter shows by itself who agreed to what, and that nothing was changed.
func TestVerify(t *testing.T) {
	t.Parallel()
	r := newRig(t, makeKeys(t))
	m := r.ask()
	for _, name := range []string{"alice", "bob"} {
		r.advance(time.Minute)
		if err := r.sign(m, name); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := json.Marshal(r.standing(m).Matter)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(*docket.Matter)
		people []approval.Approver
		ok     bool
	}{
		"as it was kept":      {func(*docket.Matter) {}, nil, true},
		"by keys known":       {func(*docket.Matter) {}, r.cfg.Rules.People, true},
		"by other keys known": {func(*docket.Matter) {}, []approval.Approver{{Name: "alice", Keys: []approval.Key{r.key("carol")}}}, false},
		"used in time":        {func(m *docket.Matter) { m.UsedAt = m.Expires.Add(-time.Second) }, nil, true},
		"used late":           {func(m *docket.Matter) { m.UsedAt = m.Expires }, nil, false},
		"used before":         {func(m *docket.Matter) { m.UsedAt = m.AskedAt.Add(time.Second) }, nil, false},
		"signed before":       {func(m *docket.Matter) { m.Signatures[0].At = m.AskedAt.Add(-1) }, nil, false},
		"signed late":         {func(m *docket.Matter) { m.Signatures[0].At = m.Expires }, nil, false},
		"other subject":       {func(m *docket.Matter) { m.Subject = "paint it blue\n" }, nil, false},
		"other digest":        {func(m *docket.Matter) { m.Digest = strings.Repeat("0", 64) }, nil, false},
		"other scope":         {func(m *docket.Matter) { m.Scope = "thing:roof" }, nil, false},
		"other author":        {func(m *docket.Matter) { m.Author = "operator:root" }, nil, false},
		"later expiry":        {func(m *docket.Matter) { m.Expires = m.Expires.Add(time.Hour) }, nil, false},
		"one signature twice": {func(m *docket.Matter) { m.Signatures[1] = m.Signatures[0] }, nil, false},
		"one is missing":      {func(m *docket.Matter) { m.Signatures = m.Signatures[:1] }, nil, false},
		"nobody is needed":    {func(m *docket.Matter) { m.Quorum.Needed, m.Signatures = 0, nil }, nil, false},
		"author's name":       {func(m *docket.Matter) { m.People[0].Name = "root" }, nil, false},
	} {
		var m docket.Matter
		if err := json.Unmarshal(kept, &m); err != nil {
			t.Fatal(err)
		}
		tt.change(&m)
		by, err := docket.Verify(&m, tt.people)
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v, %v", name, by, err)
		}
		if diff := cmp.Diff([]string{"alice", "bob"}, by); tt.ok && diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
