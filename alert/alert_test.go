package alert_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"bollard/alert"
	"bollard/detect"
	"bollard/fleet"
	"bollard/ledger"
	"bollard/store"
)

func openStore(t *testing.T) *store.Store {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "bollard.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := db.AddStations(t.Context(), []fleet.Station{{Identity: "cs-1"}, {Identity: "cs-2"}}); err != nil {
		t.Fatal(err)
	}
	return db
}

// receiver is one whose answers the test decides.
type receiver struct {
	name string
	mu   sync.Mutex
	err  error
	got  []alert.Message
	seen int // attempts
}

func (r *receiver) Name() string { return r.name }

func (r *receiver) Send(_ context.Context, a alert.Alert) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen++
	if r.err != nil {
		return r.err
	}
	var m alert.Message
	if err := json.Unmarshal(a.Body, &m); err != nil {
		return err
	}
	r.got = append(r.got, m)
	return nil
}

func (r *receiver) say(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func (r *receiver) received() (list []alert.Message, attempts int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]alert.Message(nil), r.got...), r.seen
}

func run(t *testing.T, db *store.Store, receivers ...alert.Receiver) *alert.Service {
	t.Helper()
	s, err := alert.New(alert.Config{Store: db, Receivers: receivers, Organisation: "Example CPO", Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not so: %s", what)
		}
	}
}

func tampering(station string) detect.Sign {
	return detect.Sign{Kind: detect.Event, Station: station, Live: true, Detail: "TamperDetectionActivated"}
}

// A sign that was recorded is told to every receiver, with the evidence of it;
// one receiver that is dead doesn't keep it from another.
func TestFindingIsToldToEveryReceiver(t *testing.T) {
	t.Parallel()
	db := openStore(t)
	good, dead := &receiver{name: "good"}, &receiver{name: "dead", err: errors.New("connection refused")}
	s := run(t, db, good, dead)
	if err := s.Record(t.Context(), tampering("cs-1")); err != nil {
		t.Fatal(err)
	}
	s.Notice(tampering("cs-2"))
	eventually(t, "both are told", func() bool { list, _ := good.received(); return len(list) == 2 })
	list, _ := good.received()
	if m := list[0]; m.ID == "" || m.ID == list[1].ID || m.Organisation != "Example CPO" || m.Finding.Name != "tampering" || m.Finding.Station != "cs-1" || m.Finding.Count != 1 {
		t.Errorf("told %+v", m)
	}
	eventually(t, "the good one's queue is empty, the dead one's isn't", func() bool {
		q, err := s.Queues(t.Context())
		return err == nil && fmt.Sprint(q[0].Receiver, q[0].Waiting, " ", q[1].Receiver, q[1].Waiting, q[1].Oldest.IsZero()) == "good0 dead2 false"
	})
	kinds := 0
	for e, err := range db.Entries(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == "finding.raised" {
			kinds++
		}
	}
	if kinds != 2 {
		t.Errorf("the ledger has %d findings", kinds)
	}
}

// Below the minimum a finding is kept and nobody is told; a name nobody
// enrolled is kept nowhere.
func TestMinimumAndUnknown(t *testing.T) {
	t.Parallel()
	db := openStore(t)
	r := &receiver{name: "r"}
	s, err := alert.New(alert.Config{Store: db, Receivers: []alert.Receiver{r}, Minimum: detect.Critical, Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	for _, sign := range []detect.Sign{{Kind: detect.Flapped, Station: "cs-1"}, tampering("nobody"), tampering("cs-2")} {
		if err := s.Record(t.Context(), sign); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := s.Findings(t.Context(), "", 10)
	if err != nil || len(kept) != 2 || kept[0].Station != "cs-2" || kept[1].Name != "flapping" {
		t.Errorf("kept %+v, %v", kept, err)
	}
	if kept, err := s.Findings(t.Context(), "cs-1", 10); err != nil || len(kept) != 1 {
		t.Errorf("of one station %+v, %v", kept, err)
	}
	queued, err := db.Alerts(t.Context(), "r", 10)
	if err != nil || len(queued) != 1 {
		t.Errorf("queued %+v, %v", queued, err)
	}
}

// A later telling replaces the earlier one.
func TestTellingAgainReplaces(t *testing.T) {
	t.Parallel()
	db := openStore(t)
	s, err := alert.New(alert.Config{Store: db, Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err := s.Record(t.Context(), tampering("cs-1")); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := s.Findings(t.Context(), "cs-1", 10)
	if err != nil || len(kept) != 1 || kept[0].Count != 64 || !kept[0].Again {
		t.Errorf("kept %+v, %v", kept, err)
	}
}

// What keeps being refused is given up and counted, those behind it arrive; a
// receiver that is merely away loses nothing.
func TestRefusedAlertMakesWay(t *testing.T) {
	t.Parallel()
	db := openStore(t)
	queue := func(n int) {
		body, _ := json.Marshal(alert.Message{ID: strconv.Itoa(n)})
		f := detect.Finding{Name: "test", Station: "cs-1", First: time.Now().Add(time.Duration(n) * time.Second), Last: time.Now(), Count: 1}
		if err := db.KeepFinding(t.Context(), f, []alert.Alert{{Receiver: "r", Body: body, QueuedAt: time.Now(), Tries: 4}}); err != nil {
			t.Fatal(err)
		}
	}
	queue(1)
	r := &receiver{name: "r", err: fmt.Errorf("status 422: %w", alert.ErrRefused)}
	s := run(t, db, r)
	eventually(t, "it is given up", func() bool {
		q, err := s.Queues(t.Context())
		return err == nil && q[0].Lost == 1 && q[0].Waiting == 0
	})
	r.say(nil)
	if err := s.Record(t.Context(), tampering("cs-1")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the next arrives", func() bool { list, _ := r.received(); return len(list) == 1 })
}

// The queue of a receiver that is dead for long is bounded: the oldest go and
// are counted. One that is configured no more has none.
func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	db := openStore(t)
	f := detect.Finding{Name: "test", Station: "cs-1", First: time.Now(), Last: time.Now(), Count: 1}
	batch := make([]alert.Alert, 1000)
	for i := range batch {
		batch[i] = alert.Alert{Receiver: "dead", Body: []byte("{}"), QueuedAt: time.Now()}
	}
	for range alert.AlertsKept/1000 + 1 {
		if err := db.KeepFinding(t.Context(), f, batch); err != nil {
			t.Fatal(err)
		}
	}
	q, err := db.AlertQueues(t.Context())
	if err != nil || len(q) != 1 || q[0].Waiting != alert.AlertsKept || q[0].Lost != 1000 {
		t.Errorf("queues %+v, %v", q, err)
	}
	run(t, db, &receiver{name: "other"})
	eventually(t, "the former receiver's queue is gone", func() bool {
		q, err := db.AlertQueues(t.Context())
		return err == nil && len(q) == 0
	})
}

// Findings of one station don't push out those of another, and all of them are
// bounded; they go with their station.
func TestFindingsAreBounded(t *testing.T) {
	t.Parallel()
	db := openStore(t)
	keep := func(station string, n int) {
		f := detect.Finding{Name: "test", Station: station, First: time.UnixMilli(int64(n)), Last: time.UnixMilli(int64(n)), Count: 1}
		if err := db.KeepFinding(t.Context(), f, nil); err != nil {
			t.Fatal(err)
		}
	}
	keep("cs-2", 1)
	for n := range alert.StationFindings + 10 {
		keep("cs-1", n)
	}
	for station, want := range map[string]int{"cs-1": alert.StationFindings, "cs-2": 1} {
		if list, err := db.Findings(t.Context(), station, 1000); err != nil || len(list) != want {
			t.Errorf("%s has %d findings, %v", station, len(list), err)
		}
	}
	if err := db.RemoveStation(t.Context(), "cs-1", func(*fleet.Station) []ledger.Event {
		return []ledger.Event{{Kind: "station.removed", Actor: "test"}}
	}); err != nil {
		t.Fatal(err)
	}
	if list, err := db.Findings(t.Context(), "", 1000); err != nil || len(list) != 1 {
		t.Errorf("after the removal %d findings are left, %v", len(list), err)
	}
}

// signedBy checks a delivery as docs/alerts.md tells receivers to.
func signedBy(secret string, header string, body []byte) bool {
	stamp, sum, _ := strings.Cut(strings.TrimPrefix(header, "t="), ",v1=")
	h := hmac.New(sha256.New, []byte(secret))
	h.Write([]byte(stamp + "." + string(body)))
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	return err == nil && time.Since(time.Unix(seconds, 0)).Abs() < 5*time.Minute && hex.EncodeToString(h.Sum(nil)) == sum
}

func TestWebhookIsSigned(t *testing.T) {
	t.Parallel()
	const secret = "0123456789abcdef0123456789abcdef"
	status := http.StatusNoContent
	var header string
	var body []byte
	ts := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ = io.ReadAll(r.Body)
		header = r.Header.Get(alert.SignatureHeader)
		if r.Header.Get("Content-Type") != "application/json" || r.Method != http.MethodPost {
			t.Errorf("%s %v", r.Method, r.Header)
		}
		w.WriteHeader(status)
	}))
	defer ts.Close()
	roots := ts.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	cfg := alert.WebhookConfig{Name: "w", URL: ts.URL + "/hook", Secret: []byte(secret), Networks: loopback, RootCAs: roots}
	w, err := alert.NewWebhook(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Send(t.Context(), alert.Alert{Body: []byte(`{"id":"1"}`)}); err != nil || !signedBy(secret, header, body) || signedBy("another secret", header, body) || string(body) != `{"id":"1"}` {
		t.Errorf("sent %s with %q, %v", body, header, err)
	}
	for code, refused := range map[int]bool{301: false, 400: true, 410: true, 429: false, 500: false, 503: false} {
		status = code
		if err := w.Send(t.Context(), alert.Alert{}); err == nil || errors.Is(err, alert.ErrRefused) != refused {
			t.Errorf("status %d: %v", code, err)
		}
	}
	// Private addresses are the operator's to allow, and only https is.
	for name, change := range map[string]func(*alert.WebhookConfig){
		"private address": func(c *alert.WebhookConfig) { c.Networks = nil },
		"plain http": func(c *alert.WebhookConfig) {
			c.URL = "http://10.0.0.1/"
			c.Networks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		},
		"credentials":      func(c *alert.WebhookConfig) { c.URL = "https://user:pass@example.com/" },
		"metadata service": func(c *alert.WebhookConfig) { c.URL = "https://169.254.169.254/" },
		"short secret":     func(c *alert.WebhookConfig) { c.Secret = []byte("short") },
		"no URL":           func(c *alert.WebhookConfig) { c.URL = "" },
	} {
		bad := cfg
		change(&bad)
		if _, err := alert.NewWebhook(bad); err == nil || strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "pass@") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
