package tiles_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bollard/ledger/tiles"
)

// The log's files are served as they are, and nothing else is.
func TestServedReadOnly(t *testing.T) {
	t.Parallel()
	dir := newLog(t)
	grow(t, dir, 0, 2)
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "tile", "0", "999")); err != nil {
		t.Fatal(err)
	}
	h := tiles.Handler(dir)
	get := func(method, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, "http://log"+path, nil))
		return w
	}
	for _, path := range []string{"/checkpoint", "/tile/0/000.p/2", "/tile/entries/000.p/2"} {
		want, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		w := get(http.MethodGet, path)
		if w.Code != http.StatusOK || w.Body.String() != string(want) || w.Header().Get("Cache-Control") == "" {
			t.Errorf("%s: %d %q %v", path, w.Code, w.Body, w.Header())
		}
	}
	for _, path := range []string{"/", "/secret", "/.lock", "/tile/0/", "/tile/0/000", "/tile/0/999", "/tile/0/../../secret", "/tile/entries", "/tile/64/000", "//checkpoint", "/checkpoint/"} {
		if w := get(http.MethodGet, path); w.Code == http.StatusOK || strings.Contains(w.Body.String(), "root:") {
			t.Errorf("%s: %d %q", path, w.Code, w.Body)
		}
	}
	if w := get(http.MethodPost, "/checkpoint"); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
	h = tiles.Handler(filepath.Join(dir, "nowhere"))
	if w := get(http.MethodGet, "/checkpoint"); w.Code != http.StatusNotFound {
		t.Errorf("no log: %d", w.Code)
	}
}
