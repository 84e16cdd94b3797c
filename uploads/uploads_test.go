package uploads_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"bollard/internal/ticket"
	"bollard/uploads"
)

// rig is a folder behind a server, and what it was told has arrived.
type rig struct {
	*uploads.Uploads
	t      *testing.T
	dir    string
	server *httptest.Server

	mu      sync.Mutex
	now     time.Time
	arrived []string
	err     error // of Arrived
}

func newRig(t *testing.T, room int64) *rig {
	t.Helper()
	r := &rig{t: t, dir: filepath.Join(t.TempDir(), "uploads"), now: time.Unix(1780315200, 0)}
	keeper, err := ticket.New(bytes.Repeat([]byte{7}, ticket.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	r.server = httptest.NewUnstartedServer(nil)
	r.server.Config.ReadHeaderTimeout = time.Second
	r.Uploads, err = uploads.New(uploads.Config{
		Dir: r.dir, Base: "http://" + r.server.Listener.Addr().String(), Purpose: "security-log", Tickets: keeper, MaxBytes: 1000, MaxTotal: room,
		Clock: func() time.Time { r.mu.Lock(); defer r.mu.Unlock(); return r.now },
		Arrived: func(_ context.Context, tk ticket.Ticket, f uploads.File) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.err == nil {
				r.arrived = append(r.arrived, fmt.Sprintf("%s/%d %d %.8s", tk.Station, tk.Request, f.Size, f.SHA256))
			}
			return r.err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.server.Config.Handler = r.Uploads
	r.server.Start()
	t.Cleanup(func() { r.server.Close(); r.Close() })
	return r
}

func (r *rig) url(request int64) string {
	r.t.Helper()
	u, err := r.URL("cs-1", request, r.now.Add(time.Hour))
	if err != nil {
		r.t.Fatal(err)
	}
	return u
}

func (r *rig) send(method, url string, body io.Reader) int {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), method, url, body)
	if err != nil {
		r.t.Fatal(err)
	}
	answer, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		r.t.Logf("%s: %v", method, err)
		return 0
	}
	defer answer.Body.Close()
	return answer.StatusCode
}

func (r *rig) files() []string {
	r.t.Helper()
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func (r *rig) told() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.arrived, ", ")
}

// N01.FR.18: PUT and POST; a name that was appended (N01.FR.21) names nothing.
func TestN01FR18UploadIsKept(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1<<20)
	if got := r.send(http.MethodPut, r.url(1), strings.NewReader("hello\n")); got != 201 {
		t.Fatalf("PUT: %d", got)
	}
	if got := r.send(http.MethodPost, r.url(2)+"/../../security.log", strings.NewReader("hello\n")); got != 201 {
		t.Fatalf("POST: %d", got)
	}
	if want := "cs-1/1 6 5891b5b5, cs-1/2 6 5891b5b5"; r.told() != want {
		t.Errorf("arrived %s, want %s", r.told(), want)
	}
	files := r.files()
	if len(files) != 2 {
		t.Fatalf("files %v", files)
	}
	for _, name := range files {
		path := filepath.Join(r.dir, name)
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 || strings.Contains(name, "cs-1") {
			t.Errorf("file %s has mode %v, %v", name, info.Mode(), err)
		}
		if text, err := os.ReadFile(path); err != nil || string(text) != "hello\n" {
			t.Errorf("file %s holds %q, %v", name, text, err)
		}
	}
	if info, err := os.Stat(r.dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder has mode %v, %v", info.Mode(), err)
	}
}

// What is no upload costs nothing and leaves nothing.
func TestWhatIsNotKept(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1<<20)
	good := r.url(1)
	broken := func() io.Reader { return io.MultiReader(strings.NewReader("half"), errReader{}) }
	for name, test := range map[string]struct {
		method, url string
		body        io.Reader
		want        int
	}{
		"no ticket":        {http.MethodPut, r.server.URL + "/uploads/", strings.NewReader("x"), 404},
		"another's ticket": {http.MethodPut, good[:len(good)-1] + "?", strings.NewReader("x"), 404},
		"reading":          {http.MethodGet, good, nil, 405},
		"deleting":         {http.MethodDelete, good, nil, 405},
		"too long":         {http.MethodPut, good, strings.NewReader(strings.Repeat("x", 1001)), 413},
		"too long unsaid":  {http.MethodPut, good, io.MultiReader(strings.NewReader(strings.Repeat("x", 1001))), 413},
		"broken off":       {http.MethodPut, good, broken(), 0},
	} {
		if got := r.send(test.method, test.url, test.body); got != test.want {
			t.Errorf("%s: status %d, want %d", name, got, test.want)
		}
	}
	eventually(t, "what broke off is gone", func() bool { return len(r.files()) == 0 })
	r.mu.Lock()
	r.now = r.now.Add(2 * time.Hour)
	r.mu.Unlock()
	if got := r.send(http.MethodPut, good, strings.NewReader("x")); got != 404 {
		t.Errorf("after its time: status %d", got)
	}
	r.mu.Lock()
	r.now, r.err = r.now.Add(-2*time.Hour), errors.New("the record is gone")
	r.mu.Unlock()
	if got := r.send(http.MethodPut, good, strings.NewReader("x")); got != 500 {
		t.Errorf("without a record: status %d", got)
	}
	eventually(t, "nothing is left", func() bool { return len(r.files()) == 0 })
	r.mu.Lock()
	r.err = nil
	r.mu.Unlock()
	if got := r.send(http.MethodPut, good, strings.NewReader("x")); got != 201 {
		t.Errorf("a retry: status %d", got)
	}
	if got := r.send(http.MethodPut, good, strings.NewReader("other")); got != 409 {
		t.Errorf("the ticket once more: status %d", got)
	}
	if want := "cs-1/1 1 2d711642"; r.told() != want {
		t.Errorf("arrived %q, want %q", r.told(), want)
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("the station lost its power") }

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not so: %s", what)
		}
	}
}

// All files together are bounded, and a sweep makes room of what nobody knows.
func TestRoomIsBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2500)
	full := strings.Repeat("x", 800)
	for request := range int64(2) {
		if got := r.send(http.MethodPut, r.url(request), strings.NewReader(full)); got != 201 {
			t.Fatalf("upload %d: status %d", request, got)
		}
	}
	if got := r.send(http.MethodPut, r.url(3), strings.NewReader("x")); got != 507 {
		t.Errorf("with 1600 of 2500 bytes taken: status %d", got)
	}
	files := r.files()
	if err := r.Sweep(func() (map[string]bool, error) { return map[string]bool{files[0]: true}, nil }); err != nil {
		t.Fatal(err)
	}
	if left := r.files(); len(left) != 1 || left[0] != files[0] {
		t.Errorf("left %v", left)
	}
	if got := r.send(http.MethodPut, r.url(3), strings.NewReader("x")); got != 201 {
		t.Errorf("after the sweep: status %d", got)
	}
}

// An upload that was acknowledged stays, also where it arrives while old ones are
// removed: of what is known before it came it isn't.
func TestSweepKeepsWhatArrivesMeanwhile(t *testing.T) {
	t.Parallel()
	r := newRig(t, 5000)
	send := func(request int64) {
		if got := r.send(http.MethodPut, r.url(request), strings.NewReader("x")); got != 201 {
			t.Fatalf("upload %d: status %d", request, got)
		}
	}
	send(1) // of which nobody knows any more
	err := r.Sweep(func() (map[string]bool, error) {
		known := map[string]bool{} // as the records stand now
		send(2)
		return known, nil
	})
	if left := r.files(); err != nil || len(left) != 1 {
		t.Fatalf("left %v, %v", left, err)
	}
	failed := errors.New("the records can't be read")
	if err := r.Sweep(func() (map[string]bool, error) { return nil, failed }); !errors.Is(err, failed) || len(r.files()) != 1 {
		t.Errorf("left %v, %v", r.files(), err)
	}
}

// Uploads that drip hold sixteen places, not the server, and not their own.
func TestDrippingUploadsHoldNobodyUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1<<20)
	var drips []net.Conn
	for i := range 16 {
		conn, err := net.Dial("tcp", r.server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		drips = append(drips, conn)
		if _, err := fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\nx", strings.TrimPrefix(r.url(int64(i)), "http://"+r.server.Listener.Addr().String())); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the places are taken", func() bool {
		n := 0
		for _, f := range r.files() {
			if strings.HasSuffix(f, ".part") {
				n++
			}
		}
		return n == 16
	})
	if got := r.send(http.MethodPut, r.url(99), strings.NewReader("x")); got != 503 {
		t.Errorf("the seventeenth: status %d", got)
	}
	if got := r.send(http.MethodPut, r.server.URL+"/uploads/none", strings.NewReader("x")); got != 404 {
		t.Errorf("a stranger: status %d", got)
	}
	for _, c := range drips {
		c.Close()
	}
	eventually(t, "the places are free", func() bool { return r.send(http.MethodPut, r.url(99), strings.NewReader("x")) == 201 })
	if want := "cs-1/99 1 2d711642"; r.told() != want {
		t.Errorf("arrived %q, want %q", r.told(), want)
	}
}
