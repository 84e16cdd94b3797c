package admin_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"bollard/admin"
)

// privateDir is a data directory as init makes it.
func privateDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// serveSocket serves a registry until the test ends.
func serveSocket(t *testing.T, dir string, r *admin.Registry) {
	t.Helper()
	l, err := admin.ListenSocket(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- admin.ServeSocket(ctx, l, r, time.Second, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(filepath.Join(dir, admin.SocketName)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket's file is still there: %v", err)
		}
	})
}

func TestSocketCarriesCallsAndTheirActor(t *testing.T) {
	t.Parallel()
	dir := privateDir(t)
	serveSocket(t, dir, newRegistry(nil))
	info, err := os.Lstat(filepath.Join(dir, admin.SocketName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket mode %v, %v", info.Mode(), err)
	}
	// The actor is who the kernel says connected, not what the caller's context says.
	ctx := admin.WithActor(t.Context(), "operator:mallory")
	got, err := admin.Call[greeting, greeted](ctx, admin.NewClient(dir), "greet", greeting{"CS-1"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(greeted{"hello CS-1", admin.OperatorName(os.Geteuid())}, got); diff != "" {
		t.Error(diff)
	}
}

func TestSocketCarriesErrorsWhole(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]*admin.Error{
		"usage":   admin.Usagef("do this", "wrong %q", "x"),
		"refused": admin.Refusedf("", "no"),
		"failed":  admin.Failedf("wait", "broken: %w", errors.New("cause")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := privateDir(t)
			serveSocket(t, dir, newRegistry(want))
			_, err := admin.Call[struct{}, struct{}](t.Context(), admin.NewClient(dir), "fail", struct{}{})
			var got *admin.Error
			if !errors.As(err, &got) {
				t.Fatalf("got %v", err)
			}
			if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(admin.Error{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSocketRefusesOtherPaths(t *testing.T) {
	t.Parallel()
	dir := privateDir(t)
	serveSocket(t, dir, newRegistry(nil))
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(dir, admin.SocketName))
	}}}
	defer client.CloseIdleConnections()
	for _, path := range []string{"/", "/v2/greet", "/v1"} {
		resp, err := client.Post("http://bollard"+path, "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	resp, err := client.Get("http://bollard/v1/greet")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		t.Error("an operation was run by GET")
	}
}

func TestNoServer(t *testing.T) {
	t.Parallel()
	c := admin.NewClient(privateDir(t))
	if c.Reachable(t.Context()) {
		t.Error("a server was reached where there is none")
	}
	if _, err := c.Invoke(t.Context(), "greet", nil); !errors.Is(err, admin.ErrNoServer) {
		t.Errorf("got %v, want ErrNoServer", err)
	}
}

func TestListenSocketReplacesAStaleOne(t *testing.T) {
	t.Parallel()
	dir := privateDir(t)
	path := filepath.Join(dir, admin.SocketName)
	old, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false) // as after kill -9
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	serveSocket(t, dir, newRegistry(nil))
	if !admin.NewClient(dir).Reachable(t.Context()) {
		t.Error("nobody answers on the new socket")
	}
}

func TestListenSocketKeepsWhatIsNoSocket(t *testing.T) {
	t.Parallel()
	dir := privateDir(t)
	path := filepath.Join(dir, admin.SocketName)
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.ListenSocket(dir); err == nil {
		t.Error("a file that is no socket was replaced")
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "precious" {
		t.Errorf("the file is now %q, %v", data, err)
	}
}

// sockaddr_un has 108 bytes; a data directory may lie deeper.
func TestSocketInADeepDirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(privateDir(t), strings.Repeat("deep/", 30))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	serveSocket(t, dir, newRegistry(nil))
	if _, err := admin.Call[greeting, greeted](t.Context(), admin.NewClient(dir), "greet", greeting{}); err != nil {
		t.Error(err)
	}
}

// The file mode keeps other users out; the handler does too, should somebody
// widen it.
func TestSocketRefusesOtherUsers(t *testing.T) {
	t.Parallel()
	own := uint32(os.Geteuid())
	for name, tt := range map[string]struct {
		handler http.Handler
		status  int
	}{
		"own user": {admin.SocketHandler(newRegistry(nil), own), 200},
		"root":     {admin.SocketHandler(newRegistry(nil), 0), 200},
		"other":    {admin.SocketHandler(newRegistry(nil), own+54321), 403},
		"unknown":  {admin.NamelessHandler(newRegistry(nil)), 403},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := httptest.NewRecorder()
			tt.handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "http://bollard/v1/greet", strings.NewReader("{}")))
			if w.Code != tt.status {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
		})
	}
}
