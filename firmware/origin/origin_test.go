package origin_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bollard/firmware/depot"
	"bollard/firmware/origin"
	"bollard/internal/safehttp"
	"bollard/ledger"
)

const location = "https://files.example.com/volt.bin?token=hunter2"

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// shelf is a store in memory: what it has is what a kill leaves.
type shelf struct {
	mu     sync.Mutex
	leads  map[string]string
	events []ledger.Event
}

func (s *shelf) PutLead(_ context.Context, l origin.Lead, gone []string, events ...ledger.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range gone {
		delete(s.leads, key)
	}
	text, err := json.Marshal(l)
	if err != nil {
		return err
	}
	s.leads[l.Key] = string(text)
	s.events = append(s.events, events...)
	return nil
}

func (s *shelf) Leads(context.Context) ([]origin.Lead, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]origin.Lead, 0, len(s.leads))
	for _, text := range s.leads {
		var l origin.Lead
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			return nil, err
		}
		list = append(list, l)
	}
	return list, nil
}

func (s *shelf) kinds() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []string
	for _, e := range s.events {
		list = append(list, e.Kind)
	}
	return list
}

// answer is what one fetch gets.
type answer = func(from safehttp.Mark, begin safehttp.Begin, ctx context.Context) error

// rig is a server of files that a test bends, and who fetches from it.
type rig struct {
	*origin.Origins
	t     *testing.T
	shelf *shelf
	depot *depot.Depot

	mu      sync.Mutex
	image   []byte
	etag    string
	answers []answer // of the next fetches
	counted []ledger.Event
	asked   []int64
	stop    context.CancelFunc
	stopped chan struct{}
}

func newRig(t *testing.T) *rig {
	t.Helper()
	d, err := depot.Open(depot.Config{Dir: filepath.Join(t.TempDir(), "depot")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	r := &rig{t: t, depot: d, shelf: &shelf{leads: map[string]string{}}, image: bytes.Repeat([]byte("firmware"), 1000), etag: `"v1"`}
	r.start()
	return r
}

func (r *rig) start() {
	r.t.Helper()
	var err error
	r.Origins, err = origin.New(r.t.Context(), origin.Config{Store: r.shelf, Depot: r.depot, Fetch: r.fetch,
		Known: func(_ context.Context, digest string) (bool, error) {
			return digest == sum(bytes.Repeat([]byte("firmware"), 1000)), nil
		},
		Record: func(_ context.Context, e ledger.Event) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.counted = append(r.counted, e)
			return nil
		}, Check: func(at string) error {
			if strings.HasPrefix(at, "https://evil.example/") {
				return &safehttp.Error{Rule: safehttp.RuleAllow, Reason: "not listed"}
			}
			return nil
		}})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(r.t.Context())
	r.stop, r.stopped = cancel, make(chan struct{})
	run, ended := r.Origins, r.stopped
	go func() {
		if err := run.Run(ctx); err != nil {
			r.t.Error(err)
		}
		close(ended)
	}()
	r.t.Cleanup(r.kill)
}

// kill ends who fetches: the shelf stays.
func (r *rig) kill() { r.stop(); <-r.stopped }

func (r *rig) fetch(ctx context.Context, _ string, from safehttp.Mark, begin safehttp.Begin) error {
	r.mu.Lock()
	r.asked = append(r.asked, from.At)
	var bent answer
	if len(r.answers) > 0 {
		bent, r.answers = r.answers[0], r.answers[1:]
	}
	r.mu.Unlock()
	if bent != nil {
		return bent(from, begin, ctx)
	}
	return r.give(from, begin, len(r.image))
}

var errCut = &safehttp.Error{Rule: safehttp.RuleHTTP, Reason: "the answer broke off"}

// give sends the image from a mark up to before a byte.
func (r *rig) give(from safehttp.Mark, begin safehttp.Begin, to int) error {
	if from.ETag != r.etag {
		from = safehttp.Mark{}
	}
	w, err := begin(safehttp.Mark{At: from.At, ETag: r.etag}, int64(len(r.image)))
	if err != nil {
		return err
	}
	if _, err := w.Write(r.image[from.At:to]); err != nil {
		return &safehttp.Error{Rule: safehttp.RuleHTTP, Reason: "the answer broke off", Err: err}
	}
	if to < len(r.image) {
		return errCut
	}
	return nil
}

func (r *rig) next(answers ...answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers = answers
}

func (r *rig) fetches() []int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.asked)
}

func cut(r *rig, to int) answer {
	return func(from safehttp.Mark, begin safehttp.Begin, _ context.Context) error {
		return r.give(from, begin, to)
	}
}

// hang gives some bytes and then nothing until it is given up.
func hang(r *rig, to int) answer {
	return func(from safehttp.Mark, begin safehttp.Begin, ctx context.Context) error {
		_ = r.give(from, begin, to)
		<-ctx.Done()
		return ctx.Err()
	}
}

// One fetch is for all who ask, and for an hour; who waits no longer is told how far
// it is, and the fetch goes on without anybody.
func TestFetchedOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		gate := make(chan struct{})
		r.next(func(from safehttp.Mark, begin safehttp.Begin, _ context.Context) error {
			if err := r.give(from, begin, 3000); !errors.Is(err, errCut) {
				return err
			}
			<-gate
			return errCut
		})
		short, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		var underway *origin.Underway
		if _, err := r.Find(short, location, nil); !errors.As(err, &underway) || underway.Lead.Here != 3000 || underway.Lead.Size != 8000 {
			t.Fatalf("%v", err)
		}
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() {
				if l, err := r.Find(t.Context(), location, nil); err != nil || l.SHA256 != sum(r.image) || l.Location != "" {
					t.Errorf("%+v, %v", l, err)
				}
			})
		}
		synctest.Wait()
		close(gate)
		all.Wait()
		if got := r.fetches(); !slices.Equal(got, []int64{0, 3000}) {
			t.Errorf("fetched from %v: the rest alone was left, once", got)
		}
		if list := r.List(); len(list) != 1 || list[0].State != origin.Known || list[0].Where != "https://files.example.com" || list[0].Here != 8000 {
			t.Errorf("%+v", list)
		}
		for _, text := range r.shelf.leads {
			if strings.Contains(text, "hunter2") {
				t.Errorf("the location is kept after it was fetched: %s", text)
			}
		}
		time.Sleep(origin.Fresh - time.Second)
		if _, err := r.Find(t.Context(), location, nil); err != nil || len(r.fetches()) != 2 {
			t.Errorf("%v, fetched from %v", err, r.fetches())
		}
		// Later it is looked at again, and what changed is told.
		time.Sleep(time.Hour)
		r.image, r.etag = []byte("other"), `"v2"`
		if l, err := r.Find(t.Context(), location, nil); err != nil || l.SHA256 != sum(r.image) {
			t.Errorf("%+v, %v", l, err)
		}
		if got := r.shelf.kinds(); !slices.Equal(got, []string{"firmware.fetched", "firmware.fetched", "firmware.origin-changed"}) {
			t.Errorf("recorded %v", got)
		}
	})
}

// Who names ever new locations fills no ledger, and pushes out nothing that led to a
// release, neither by what is none nor by the one release again and again.
func TestManyLocations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		find := func(location string) origin.Lead {
			t.Helper()
			time.Sleep(time.Second)
			l, err := r.Find(t.Context(), location, nil)
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		if l := find(location); !l.Release {
			t.Errorf("%+v", l)
		}
		good := r.image
		r.image = []byte("none")
		for i := range 300 {
			find(fmt.Sprint("https://files.example.com/none?", i))
		}
		kept := func(where string) (n int) {
			for _, l := range r.List() {
				if l.Release == (where == "release") {
					n++
				}
			}
			return n
		}
		if kept("release") != 1 || kept("none") != 199 || len(r.shelf.leads) != 200 {
			t.Errorf("%d releases and %d others are known, %d kept", kept("release"), kept("none"), len(r.shelf.leads))
		}
		r.image = good
		for i := range 300 {
			find(fmt.Sprint("https://files.example.com/again?", i))
		}
		if kept("release") != 200 || len(r.shelf.leads) != 200 {
			t.Errorf("%d releases are known, %d kept", kept("release"), len(r.shelf.leads))
		}
		r.kill()
		told, counted := 0, 0
		for _, kind := range r.shelf.kinds() {
			if kind == "firmware.fetched" {
				told++
			}
		}
		for _, e := range r.counted {
			n, err := strconv.Atoi(e.Data["count"])
			if err != nil || e.Kind != "firmware.fetched" || e.Subject != "https://files.example.com" || len(e.Data["image-sha256"]) != 64 {
				t.Errorf("%+v", e)
			}
			counted += n
		}
		if told+counted != 601 || told+len(r.counted) > 30 {
			t.Errorf("601 fetches: %d were told, %d counted, in %d entries", told, counted, told+len(r.counted))
		}
	})
}

// What was known before doesn't count for who asks what is there now.
func TestSince(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		if _, err := r.Find(t.Context(), location, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		asked := time.Now()
		r.image, r.etag = []byte("other"), `"v2"`
		for range 2 {
			if l, err := r.Since(t.Context(), location, asked); err != nil || l.SHA256 != sum(r.image) {
				t.Errorf("%+v, %v", l, err)
			}
			time.Sleep(time.Minute)
		}
		if got := r.fetches(); len(got) != 2 {
			t.Errorf("fetched %d times", len(got))
		}
	})
}

// A server that stops in the middle goes on where it was recorded, by the hash's own
// state: what comes out is the digest of the whole.
func TestFetchGoesOnAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.image = bytes.Repeat([]byte("0123456789abcdef"), 3<<20) // 48 MiB
		const half = 24 << 20
		r.next(func(from safehttp.Mark, begin safehttp.Begin, ctx context.Context) error {
			w, err := begin(safehttp.Mark{ETag: r.etag}, int64(len(r.image)))
			if err == nil {
				for at := 0; at < half && err == nil; at += 1 << 20 {
					_, err = w.Write(r.image[at : at+1<<20])
				}
			}
			if err != nil {
				return err
			}
			<-ctx.Done()
			return ctx.Err()
		})
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Find(short, location, nil); err == nil {
			t.Fatal("it was known at once")
		}
		r.kill()
		r.start()
		if l, err := r.Find(t.Context(), location, nil); err != nil || l.SHA256 != sum(r.image) {
			t.Errorf("%s, %v; want %s", l.SHA256, err, sum(r.image))
		}
		if got := r.fetches(); !slices.Equal(got, []int64{0, 16 << 20}) {
			t.Errorf("fetched from %v: it was recorded at 16 MiB", got)
		}
	})
}

// Whatever an origin does, it costs bounded time and ends in a reason; a failure is
// told to who asks at once, and tried again when somebody asks later.
func TestBadOrigins(t *testing.T) {
	for name, tt := range map[string]struct {
		answers func(r *rig) []answer
		rule    safehttp.Rule
		fetches int
	}{
		"nothing comes": {func(r *rig) []answer {
			return []answer{func(_ safehttp.Mark, _ safehttp.Begin, ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
		}, safehttp.RuleTime, 1},
		"it stops": {func(r *rig) []answer {
			return []answer{hang(r, 10)}
		}, safehttp.RuleTime, 1},
		"it drips": {func(r *rig) []answer {
			return []answer{func(_ safehttp.Mark, begin safehttp.Begin, _ context.Context) error {
				w, err := begin(safehttp.Mark{}, -1)
				for err == nil {
					time.Sleep(30 * time.Second)
					_, err = w.Write([]byte("x"))
				}
				return &safehttp.Error{Rule: safehttp.RuleHTTP, Err: err}
			}}
		}, safehttp.RuleTime, 1},
		"it comes at 3 KiB a second": {func(r *rig) []answer {
			return []answer{func(_ safehttp.Mark, begin safehttp.Begin, _ context.Context) error {
				w, err := begin(safehttp.Mark{}, -1)
				for n := 0; err == nil && n < 6; n++ {
					time.Sleep(30 * time.Second)
					_, err = w.Write(make([]byte, 90<<10))
				}
				return &safehttp.Error{Rule: safehttp.RuleHTTP, Err: err}
			}}
		}, safehttp.RuleTime, 1},
		"a page that says no": {func(r *rig) []answer {
			return []answer{func(safehttp.Mark, safehttp.Begin, context.Context) error {
				return &safehttp.Error{Rule: safehttp.RuleHTTP, Reason: "the answer has status 404, not 200"}
			}}
		}, safehttp.RuleHTTP, 1},
		"a private address": {func(r *rig) []answer {
			return []answer{func(safehttp.Mark, safehttp.Begin, context.Context) error {
				return &safehttp.Error{Rule: safehttp.RuleAddress, Reason: "the address isn't public"}
			}}
		}, safehttp.RuleAddress, 1},
		"ranges that lie": {func(r *rig) []answer {
			return []answer{cut(r, 10), func(safehttp.Mark, safehttp.Begin, context.Context) error {
				return &safehttp.Error{Rule: safehttp.RuleRange, Reason: "the answer is a part that wasn't asked for"}
			}}
		}, safehttp.RuleRange, 2},
		"it breaks off each time": {func(r *rig) []answer {
			var list []answer
			for i := range 20 {
				list = append(list, cut(r, 10+i))
			}
			return list
		}, safehttp.RuleHTTP, 10},
		"it breaks off in one place": {func(r *rig) []answer {
			return []answer{cut(r, 10), cut(r, 10), cut(r, 8000)}
		}, safehttp.RuleHTTP, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				r.next(tt.answers(r)...)
				began := time.Now()
				fault := func() {
					t.Helper()
					var fault *origin.Fault
					if _, err := r.Find(t.Context(), location, nil); !errors.As(err, &fault) || fault.Rule != tt.rule {
						t.Fatalf("%v, want rule %s", err, tt.rule)
					}
				}
				fault()
				if took := time.Since(began); took > 3*time.Minute {
					t.Errorf("it took %s", took)
				}
				fault()
				if n := len(r.fetches()); n != tt.fetches {
					t.Errorf("fetched %d times, want %d", n, tt.fetches)
				}
				time.Sleep(time.Minute)
				r.next()
				if l, err := r.Find(t.Context(), location, nil); err != nil || l.SHA256 != sum(r.image) {
					t.Errorf("a minute later: %+v, %v", l, err)
				}
			})
		})
	}
	t.Run("not listed", func(t *testing.T) {
		r := newRig(t)
		var fault *origin.Fault
		if _, err := r.Find(t.Context(), "https://evil.example/x", nil); !errors.As(err, &fault) || fault.Rule != safehttp.RuleAllow || len(r.fetches()) > 0 || len(r.List()) > 0 {
			t.Errorf("%v, fetched from %v", err, r.fetches())
		}
	})
	t.Run("the file changes in the middle", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t)
			r.next(func(from safehttp.Mark, begin safehttp.Begin, _ context.Context) error {
				err := r.give(from, begin, 3000)
				r.image, r.etag = bytes.Repeat([]byte("FIRMWARE"), 1000), `"v2"`
				return err
			})
			if l, err := r.Find(t.Context(), location, nil); err != nil || l.SHA256 != sum(r.image) {
				t.Errorf("%+v, %v: it isn't the sum of one file", l, err)
			}
		})
	})
}

// Who asks for more locations than are fetched at a time waits, then is told to ask
// again; nothing grows with it.
func TestFetchesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for range 100 {
			r.answers = append(r.answers, hang(r, 1))
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		crowded := 0
		var all sync.WaitGroup
		var mu sync.Mutex
		for i := range 100 {
			all.Go(func() {
				_, err := r.Find(short, location+strings.Repeat("x", i), nil)
				if fault := (*origin.Fault)(nil); errors.As(err, &fault) {
					mu.Lock()
					crowded++
					mu.Unlock()
				}
			})
		}
		all.Wait()
		if n := len(r.fetches()); n != 4 || crowded < 60 || crowded > 68 {
			t.Errorf("%d fetched, %d turned away", n, crowded)
		}
		if n := len(r.List()); n > 40 {
			t.Errorf("%d are noted", n)
		}
	})
}

// An image that is wanted is in the depot once it is found; what is there instead is
// kept by nobody.
func TestWantedImage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		want := &depot.Image{SHA256: sum(r.image), Size: 8000}
		if _, err := r.Find(t.Context(), location, nil); err != nil {
			t.Fatal(err)
		}
		r.next(cut(r, 3000))
		if _, err := r.Find(t.Context(), location, want); err != nil {
			t.Fatal(err)
		}
		f, _, err := r.depot.Open(want.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if text, err := io.ReadAll(f); err != nil || !bytes.Equal(text, r.image) {
			t.Errorf("%d bytes, %v", len(text), err)
		}
		if _, err := r.Find(t.Context(), location, want); err != nil || !slices.Equal(r.fetches(), []int64{0, 0, 3000}) {
			t.Errorf("%v, fetched from %v", err, r.fetches())
		}
		other := &depot.Image{SHA256: sum([]byte("other")), Size: 8000}
		var fault *origin.Fault
		for n := range 2 { // by what is known, then by what is there
			if _, err := r.Find(t.Context(), location, other); !errors.As(err, &fault) || fault.Rule != "" || !strings.Contains(fault.Reason, want.SHA256) {
				t.Errorf("another image: %v", err)
			}
			if len(r.fetches()) != 3+n {
				t.Errorf("fetched from %v: what it leads to was known", r.fetches())
			}
			time.Sleep(origin.Fresh)
		}
		for name, size := range map[string]int64{"shorter": 7999, "longer": 8001} {
			time.Sleep(origin.Fresh)
			if _, err := r.Find(t.Context(), location, &depot.Image{SHA256: sum([]byte(name)), Size: size}); !errors.As(err, &fault) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
