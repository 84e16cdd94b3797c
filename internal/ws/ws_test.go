package ws_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"bollard/internal/ws"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of the tests. It is for a machine that does much
// else: success never takes so long.
const patience = time.Minute

// A rig is a server whose upgraded connections come out of a channel.
type rig struct {
	URL    string // ws:// or wss://
	Addr   string
	TLS    *tls.Config // what a client needs
	conns  chan *ws.Conn
	errs   chan error
	target chan string // request targets as they came
}

func newRig(t *testing.T, secure bool, limits ws.Limits, subprotocol string) *rig {
	t.Helper()
	r := &rig{conns: make(chan *ws.Conn, 8), errs: make(chan error, 8), target: make(chan string, 8)}
	handler := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		select {
		case r.target <- req.RequestURI:
		default: // only one test looks
		}
		c, err := ws.Upgrade(w, req, subprotocol, limits)
		if err != nil {
			r.errs <- err
			return
		}
		r.conns <- c
	})
	srv := httptest.NewUnstartedServer(handler)
	srv.Listener = lines{srv.Listener}
	if secure {
		srv.StartTLS()
		pool := x509.NewCertPool()
		pool.AddCert(srv.Certificate())
		r.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
	r.Addr = srv.Listener.Addr().String()
	r.URL = "ws" + strings.TrimPrefix(srv.URL, "http")
	return r
}

// lines is a listener whose connections can be moved to a loop.
type lines struct{ net.Listener }

func (l lines) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return ws.NewLine(c), nil
}

// accept waits for the server's side of a connection.
func (r *rig) accept(t *testing.T) *ws.Conn {
	t.Helper()
	select {
	case c := <-r.conns:
		t.Cleanup(func() { c.Close(ws.CloseNormal, "") })
		return c
	case err := <-r.errs:
		t.Fatalf("upgrade: %v", err)
	case <-time.After(patience):
		t.Fatal("no connection was accepted")
	}
	return nil
}

// pair connects both sides.
func (r *rig) pair(t *testing.T, limits ws.Limits, subprotocols ...string) (client, server *ws.Conn) {
	t.Helper()
	client, err := ws.Dial(t.Context(), ws.DialConfig{URL: r.URL + "/ocpp/CS-1", TLS: r.TLS, Subprotocols: subprotocols, Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	server = r.accept(t)
	t.Cleanup(func() { client.Close(ws.CloseNormal, "") })
	return client, server
}

func TestMessagesBothWays(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		secure, compression bool
	}{
		"ws":             {false, false},
		"wss":            {true, false},
		"wss compressed": {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limits := ws.Limits{Compression: tc.compression}
			client, server := newRig(t, tc.secure, limits, "ocpp2.0.1").pair(t, limits, "ocpp2.1", "ocpp2.0.1")
			if got := client.Subprotocol(); got != "ocpp2.0.1" {
				t.Errorf("client's subprotocol is %q", got)
			}
			if got := server.Subprotocol(); got != "ocpp2.0.1" {
				t.Errorf("server's subprotocol is %q", got)
			}
			for _, msg := range []string{"", "x", "é", strings.Repeat("0123456789", 20_000)} {
				for _, way := range [][2]*ws.Conn{{client, server}, {server, client}} {
					sent := make(chan error, 1)
					go func() { sent <- way[0].Write([]byte(msg)) }()
					got, err := way[1].Read(nil)
					if err != nil || string(got) != msg {
						t.Fatalf("%d bytes came as %d, %v", len(msg), len(got), err)
					}
					if err := <-sent; err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	}
}

func TestCloseCodeReachesThePeer(t *testing.T) {
	t.Parallel()
	client, server := newRig(t, true, ws.Limits{}, "").pair(t, ws.Limits{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Close(ws.ClosePolicyViolation, "no")
	}()
	_, err := client.Read(nil)
	if got := ws.CloseStatus(err); got != ws.ClosePolicyViolation {
		t.Errorf("client got %v", err)
	}
	<-done
	if _, err := server.Read(nil); !errors.Is(err, ws.ErrClosed) {
		t.Errorf("server's Read after its Close: %v", err)
	}
}

func TestPingIsAnswered(t *testing.T) {
	t.Parallel()
	client, server := newRig(t, true, ws.Limits{}, "").pair(t, ws.Limits{})
	for _, c := range []*ws.Conn{client, server} {
		go func() {
			for {
				if _, err := c.Read(nil); err != nil {
					return
				}
			}
		}()
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := server.Ping(ctx); err != nil {
		t.Errorf("server's ping: %v", err)
	}
	if err := client.Ping(ctx); err != nil {
		t.Errorf("client's ping: %v", err)
	}
}
