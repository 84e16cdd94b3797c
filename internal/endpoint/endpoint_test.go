package endpoint_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"bollard/internal/endpoint"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	for address, wantErr := range map[string]string{
		"https://h":               "",
		"https://h:8200/":         "",
		"http://127.0.0.1:8200":   "",
		"http://[::1]:8200":       "",
		"http://localhost":        "",
		"http://h:8200":           "must be https",
		"http://127.0.0.1.evil.x": "must be https",
		"ftp://h":                 "must be https",
		"https://u:p@h":           "https://HOST:PORT",
		"https://h/v1":            "https://HOST:PORT",
		"https://h?x":             "https://HOST:PORT",
		"https://h#x":             "https://HOST:PORT",
		"h:8200":                  "https://HOST:PORT",
		"":                        "https://HOST:PORT",
	} {
		err := endpoint.Check("it", address)
		if wantErr == "" && err != nil || wantErr != "" && (err == nil || !strings.Contains(err.Error(), wantErr)) {
			t.Errorf("%q: got %v, want %q", address, err, wantErr)
		}
	}
}

// An answer is cut off at its bound, a redirect isn't followed, and who isn't known by the
// roots is told nothing.
func TestClient(t *testing.T) {
	t.Parallel()
	var told int
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { told++ }))
	t.Cleanup(elsewhere.Close)
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		told++
		if r.URL.Path == "/away" {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
			return
		}
		_, _ = w.Write(make([]byte, 2000))
	}))
	t.Cleanup(s.Close)
	if _, err := endpoint.New(endpoint.Config{}).Get(s.URL); err == nil || told != 0 {
		t.Errorf("a stranger's certificate: %v, %d requests", err, told)
	}
	web := endpoint.New(endpoint.Config{Roots: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, Answer: 1000})
	t.Cleanup(web.CloseIdleConnections)
	answer, err := web.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(answer.Body); err == nil || len(got) > 1000 {
		t.Errorf("%d bytes were taken, %v", len(got), err)
	}
	answer, err = web.Get(s.URL + "/away")
	if err != nil || answer.StatusCode != http.StatusTemporaryRedirect || told != 2 {
		t.Errorf("a redirect: %v, %v, %d requests", answer, err, told)
	}
}
