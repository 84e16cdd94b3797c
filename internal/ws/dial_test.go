package ws_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"bollard/internal/ws"
)

func TestDialKeepsTheSpelling(t *testing.T) {
	t.Parallel()
	r := newRig(t, false, ws.Limits{}, "")
	for _, path := range []string{"/ocpp/CS-1", "/ocpp/CS%2A1", "/ocpp/C%531", "/ocpp/a%7Cb", "/ocpp/a%20b", "/ocpp/a:b=+@*", "/a%2Fb/x?y=%31"} {
		c, err := ws.Dial(t.Context(), ws.DialConfig{URL: r.URL + path})
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		readAll(r.accept(t))
		c.Close(ws.CloseNormal, "")
		if got := <-r.target; got != path {
			t.Errorf("%s went out as %s", path, got)
		}
	}
}

func TestDialErrors(t *testing.T) {
	t.Parallel()
	redirected := make(chan struct{}, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/401":
			w.WriteHeader(http.StatusUnauthorized)
		case "/307":
			http.Redirect(w, r, "/target", http.StatusTemporaryRedirect)
		case "/target":
			redirected <- struct{}{}
		case "/stranger":
			if c, err := ws.Upgrade(w, r, "ocpp9", ws.Limits{}); err == nil {
				c.Close(ws.CloseNormal, "")
			}
		}
	}))
	t.Cleanup(srv.Close)
	base := "ws" + strings.TrimPrefix(srv.URL, "http")
	for path, status := range map[string]int{"/401": 401, "/307": 307, "/200": 200, "/stranger": 101} {
		_, err := ws.Dial(t.Context(), ws.DialConfig{URL: base + path, Subprotocols: []string{"ocpp1.6"}})
		var e *ws.DialError
		if !errors.As(err, &e) || e.Status != status {
			t.Errorf("%s: %v, want status %d", path, err, status)
		}
	}
	select {
	case <-redirected:
		t.Error("a redirect was followed")
	default:
	}
	for _, url := range []string{"http://127.0.0.1/", "ws://u:p@127.0.0.1/", "ws://127.0.0.1:1/x", "::"} {
		_, err := ws.Dial(t.Context(), ws.DialConfig{URL: url})
		var e *ws.DialError
		if !errors.As(err, &e) || e.Status != 0 {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestDialVerifiesTheServer(t *testing.T) {
	t.Parallel()
	r := newRig(t, true, ws.Limits{}, "")
	if _, err := ws.Dial(t.Context(), ws.DialConfig{URL: r.URL}); err == nil {
		t.Error("an unknown root was accepted")
	}
	cfg := r.TLS.Clone()
	cfg.ServerName = "elsewhere.example"
	if _, err := ws.Dial(t.Context(), ws.DialConfig{URL: r.URL + "/x", TLS: cfg}); err == nil || strings.Contains(err.Error(), "%!") {
		t.Errorf("a wrong name gave %v", err)
	}
}

// rawServer accepts one connection and writes to it.
func rawServer(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		serve(c)
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return "ws://" + l.Addr().String() + "/ocpp/CS-1"
}

// A silent server is given up in time, and at once when the caller gives up.
func TestDialTimeout(t *testing.T) {
	t.Parallel()
	silent := func(c net.Conn) {
		buf := make([]byte, 4096)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
		}
	}
	for name, tc := range map[string]struct {
		timeout, cancel time.Duration
		want            error
	}{
		"timeout": {100 * time.Millisecond, time.Minute, context.DeadlineExceeded},
		"cancel":  {time.Minute, 100 * time.Millisecond, context.Canceled},
	} {
		for _, scheme := range []string{"ws", "wss"} {
			ctx, cancel := context.WithCancel(t.Context())
			timer := time.AfterFunc(tc.cancel, cancel)
			start := time.Now()
			url := strings.Replace(rawServer(t, silent), "ws", scheme, 1)
			_, err := ws.Dial(ctx, ws.DialConfig{URL: url, Timeout: tc.timeout})
			if !errors.Is(err, tc.want) {
				t.Errorf("%s %s: %v", name, scheme, err)
			}
			if took := time.Since(start); took > 45*time.Second { // the other of the two is a minute
				t.Errorf("%s %s: took %v", name, scheme, took)
			}
			timer.Stop()
			cancel()
		}
	}
}

// A server can't fill our memory with an endless answer.
func TestDialBoundsTheAnswer(t *testing.T) {
	t.Parallel()
	sent := make(chan int, 1)
	url := rawServer(t, func(c net.Conn) {
		total := 0
		defer func() { sent <- total }()
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		n, err := fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\n")
		for i := 0; err == nil && total < 64<<20; i++ {
			total += n
			n, err = fmt.Fprintf(c, "X-%d: %s\r\n", i, strings.Repeat("x", 1000))
		}
	})
	start := time.Now()
	if _, err := ws.Dial(t.Context(), ws.DialConfig{URL: url, Timeout: 2 * patience}); err == nil {
		t.Error("an endless answer was accepted")
	}
	if took := time.Since(start); took > patience {
		t.Errorf("took %v", took)
	}
	if n := wait(t, sent, "the server's end"); n >= 64<<20 {
		t.Errorf("the server could send %d bytes", n)
	}
}

func TestUpgradeRefusesOtherRequests(t *testing.T) {
	t.Parallel()
	r := newRig(t, false, ws.Limits{}, "")
	full := map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-Websocket-Version": "13", "Sec-Websocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
	for missing := range full {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.Addr+"/ocpp/CS-1", nil)
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range full {
			if k != missing {
				req.Header.Set(k, v)
			}
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("without %s: %s", missing, resp.Status)
		}
		if err := wait(t, r.errs, "an upgrade error"); err == nil {
			t.Errorf("without %s: no error", missing)
		}
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

func TestUpgradeIgnoresOrigin(t *testing.T) {
	t.Parallel()
	r := newRig(t, false, ws.Limits{}, "")
	dialRaw(t, r.Addr, "Origin: https://github.com/gilmaimon/TinyWebsockets\r\n")
	r.accept(t)
}
