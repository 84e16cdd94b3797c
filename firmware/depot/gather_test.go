package depot_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bollard/firmware/depot"
)

// counted is a listener that counts what its connections are handed.
type counted struct {
	net.Listener
	writes atomic.Int64
}

type countedConn struct {
	net.Conn
	writes *atomic.Int64
}

func (l *counted) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return countedConn{c, &l.writes}, err
}

func (c countedConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// A download over TLS arrives as it is, in few writes, and so does what is answered
// on the same connection after it.
func TestGatheredRecords(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	server := httptest.NewUnstartedServer(r.Door)
	server.Config.ConnContext = depot.Gathers
	written := &counted{Listener: server.Listener}
	server.Listener = depot.Gather(written)
	server.StartTLS()
	defer server.Close()
	get := func(path string) (*http.Response, []byte) {
		t.Helper()
		res, err := server.Client().Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return res, body
	}
	path := strings.TrimPrefix(r.url(), r.server.URL)
	get("/") // shakes hands
	before := written.writes.Load()
	if _, body := get(path); !bytes.Equal(body, r.image) {
		t.Fatalf("%d bytes arrived that aren't the image's %d", len(body), len(r.image))
	}
	// The image has 200,000 bytes; small records at first, until TLS trusts the line.
	if n := written.writes.Load() - before; n > 4 {
		t.Errorf("%d writes for one image", n)
	}
	if res, _ := get("/d/nothing"); res.StatusCode != http.StatusNotFound {
		t.Errorf("after a download: %s", res.Status)
	}
	if _, body := get(path); !bytes.Equal(body, r.image) {
		t.Error("the second download isn't the image")
	}
}

// What may be sent is sent before the rest is waited for.
func TestGatheredAtAPace(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(cfg *depot.DoorConfig) { cfg.PerStation = 1 }) // the second chunk would be due in hours
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url(), nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := r.server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	first := make([]byte, 32<<10)
	if _, err := io.ReadFull(res.Body, first); err != nil || !bytes.Equal(first, r.image[:len(first)]) {
		t.Errorf("the first chunk: %v", err)
	}
}
