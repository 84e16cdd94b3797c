package ca_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bollard/ca"
	"bollard/keys"
)

func TestInitNeverOverwrites(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	root := r.Roots(ca.KindCSMS)[0]
	before, err := os.ReadFile(filepath.Join(r.dir, "csms-root.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := ca.Init(t.Context(), r.initConfig()); !errors.Is(err, ca.ErrHierarchyExists) {
		t.Errorf("got %v, want ErrHierarchyExists", err)
	}
	after, err := os.ReadFile(filepath.Join(r.dir, "csms-root.key"))
	if err != nil || string(after) != string(before) {
		t.Errorf("the root's key changed: %v", err)
	}
	r.open(t)
	if !r.Roots(ca.KindCSMS)[0].Equal(root) {
		t.Error("another root")
	}
}

// Every write of Init fails once; the next Init goes on and ends with exactly
// one certificate of each CA, and everything ever signed has a record.
func TestInitGoesOnAfterACrash(t *testing.T) {
	t.Parallel()
	full := errors.New("no space left on device")
	for _, method := range []string{"PutIntent", "PutIssued"} {
		for step := 1; step <= 2; step++ {
			t.Run(method+[]string{"", " of the root", " of the issuing CA"}[step], func(t *testing.T) {
				t.Parallel()
				r := bareRig(t)
				seen := 0
				r.store.Before = func(m string) {
					if m == method {
						if seen++; seen == step {
							r.store.Fail[method] = full
						}
					}
				}
				if err := ca.Init(t.Context(), r.initConfig()); !errors.Is(err, full) {
					t.Fatalf("got %v", err)
				}
				if _, err := ca.New(t.Context(), r.config()); !errors.Is(err, ca.ErrNoHierarchy) && !errors.Is(err, full) {
					t.Errorf("half a hierarchy opened: %v", err)
				}
				delete(r.store.Fail, method)
				err := ca.Init(t.Context(), r.initConfig())
				if method == "PutIntent" {
					// The key was made, nothing recorded: nobody knows whose it is.
					if err == nil || !strings.Contains(err.Error(), "move it away") {
						t.Fatalf("got %v", err)
					}
					name := []string{"", "csms-root.key", "csms-issuing.key"}[step]
					if err := os.Rename(filepath.Join(r.dir, name), filepath.Join(r.dir, "away")); err != nil {
						t.Fatal(err)
					}
					err = ca.Init(t.Context(), r.initConfig())
				}
				if err != nil {
					t.Fatal(err)
				}
				r.open(t)
				for _, profile := range []string{ca.ProfileRoot, ca.ProfileIssuing} {
					list, err := r.store.Certificates(t.Context(), ca.Filter{Profile: profile, State: ca.StateIssued})
					if err != nil || len(list) != 1 {
						t.Errorf("%d %s certificates, %v", len(list), profile, err)
					}
				}
				r.issue(t, order(t, newKey(t)))
			})
		}
	}
}

func TestInitRefuses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*ca.InitConfig)
		want   string
	}{
		"no organisation":   {func(c *ca.InitConfig) { c.Organisation = "" }, "organisation is empty"},
		"long organisation": {func(c *ca.InitConfig) { c.Organisation = strings.Repeat("x", 65) }, "64"},
		"country":           {func(c *ca.InitConfig) { c.Country = "nl" }, "two capital letters"},
		"kind":              {func(c *ca.InitConfig) { c.Kind = "private" }, "known: csms"},
		"scheme":            {func(c *ca.InitConfig) { c.KeyBase = "elsewhere:" }, "supported"},
		"algorithm":         {func(c *ca.InitConfig) { c.Algorithm = "dsa" }, "known: p256"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := bareRig(t)
			cfg := r.initConfig()
			tt.change(&cfg)
			if err := ca.Init(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// A lost database doesn't lead to a second root under the old key.
func TestInitRefusesAKeyNoRecordKnows(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.store = ca.NewMemStore()
	if err := ca.Init(t.Context(), r.initConfig()); err == nil || !strings.Contains(err.Error(), "restore the database") {
		t.Errorf("got %v", err)
	}
}

func TestInterruptedInitOfAnotherOrganisation(t *testing.T) {
	t.Parallel()
	r := bareRig(t)
	intents := 0
	r.store.Before = func(method string) {
		if method == "PutIntent" {
			if intents++; intents == 2 {
				r.store.Fail[method] = errors.New("full")
			}
		}
	}
	if err := ca.Init(t.Context(), r.initConfig()); err == nil {
		t.Fatal("no failure")
	}
	r.store.Before = nil
	delete(r.store.Fail, "PutIntent")
	cfg := r.initConfig()
	cfg.Organisation = "Another"
	if err := ca.Init(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "Example CPO") {
		t.Errorf("got %v", err)
	}
}

func TestHierarchyOfEachAlgorithm(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []keys.Algorithm{keys.P256, keys.P384, keys.P521, keys.RSA2048} {
		t.Run(string(algorithm), func(t *testing.T) {
			t.Parallel()
			r := bareRig(t)
			cfg := r.initConfig()
			cfg.Algorithm = algorithm
			cfg.KeyBase = "softkms:ca"
			if err := ca.Init(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			r.open(t)
			issued := r.issue(t, order(t, newKey(t)))
			if err := issued.Certificate.CheckSignatureFrom(r.Intermediates(ca.KindCSMS)[0]); err != nil {
				t.Error(err)
			}
			if err := r.CheckKeys(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	t.Run("before init", func(t *testing.T) {
		t.Parallel()
		if _, err := ca.New(t.Context(), bareRig(t).config()); !errors.Is(err, ca.ErrNoHierarchy) || !strings.Contains(err.Error(), "bollard init") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("another key", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		if err := os.Rename(filepath.Join(r.dir, "csms-root.key"), filepath.Join(r.dir, "csms-issuing.key")); err != nil {
			t.Fatal(err)
		}
		if _, err := ca.New(t.Context(), r.config()); err == nil || !strings.Contains(err.Error(), "isn't the one of certificate") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no key", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		if err := os.Remove(filepath.Join(r.dir, "csms-issuing.key")); err != nil {
			t.Fatal(err)
		}
		if _, err := ca.New(t.Context(), r.config()); !errors.Is(err, keys.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a key of another role", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		cfg := r.config()
		tlsKeys := &countingKeys{keeper: r.keeper}
		if _, err := r.keeper.Create(t.Context(), "softkms:t.key", keys.RoleTLS, keys.P256); err != nil {
			t.Fatal(err)
		}
		cfg.Keys = ca.KeyOpener(tlsKeys.openTLS)
		if _, err := ca.New(t.Context(), cfg); !errors.Is(err, keys.ErrRole) {
			t.Errorf("got %v", err)
		}
	})
	// The root's key may be kept elsewhere from day to day.
	t.Run("not without the root's key", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		if err := os.Remove(filepath.Join(r.dir, "csms-root.key")); err != nil {
			t.Fatal(err)
		}
		r.open(t)
		r.issue(t, order(t, newKey(t)))
		if err := r.CheckKeys(t.Context()); !errors.Is(err, keys.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	})
}

// An intent left behind is given up at the start even if the clock went back.
func TestOrphansAtStartWithAClockThatWentBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p, err := r.Prepare(t.Context(), order(t, newKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	r.now = start.Add(-240 * time.Hour)
	r.open(t)
	rec, err := r.store.Certificate(t.Context(), p.Intent().Serial)
	if err != nil || rec.State != ca.StateOrphaned {
		t.Errorf("state %s, %v", rec.State, err)
	}
}

// Where that can't be written, such as on a full disk, an authority is there all the same:
// it issues once it could be, and gives up nothing of its own.
func TestOrphansOnceTheyCanBeWritten(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	left, err := r.Prepare(t.Context(), order(t, newKey(t)))
	if err != nil {
		t.Fatal(err)
	}
	full := errors.New("the disk is full")
	r.store.FailWith("OrphanIntents", full)
	r.open(t)
	o := order(t, newKey(t))
	if _, err := r.Prepare(t.Context(), o); !errors.Is(err, full) {
		t.Errorf("prepared before what is unfinished was given up: %v", err)
	}
	r.store.FailWith("OrphanIntents", nil)
	var written atomic.Int64
	r.store.Before = func(method string) {
		if method == "OrphanIntents" {
			written.Add(1)
			time.Sleep(5 * time.Millisecond) // for the others to come along
		}
	}
	var all sync.WaitGroup
	for range 4 {
		one := order(t, newKey(t))
		all.Go(func() {
			p, err := r.Prepare(t.Context(), one)
			if err == nil {
				_, err = r.Issue(t.Context(), p)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := written.Load(); n != 1 {
		t.Errorf("given up %d times: the later ones may find what is being issued", n)
	}
	if rec, err := r.store.Certificate(t.Context(), left.Intent().Serial); err != nil || rec.State != ca.StateOrphaned {
		t.Errorf("state %s, %v", rec.State, err)
	}
}
