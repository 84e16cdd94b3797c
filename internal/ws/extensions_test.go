package ws_test

import (
	"crypto/sha1" //nolint:gosec // RFC 6455 §4.2.2
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"bollard/internal/ws"
)

// An offer is taken only if what it asks for is kept: who wants a window smaller than
// the one that is used could not read a word (RFC 7692 §7.1.2.1).
func TestOffersOfCompression(t *testing.T) {
	t.Parallel()
	for offer, taken := range map[string]bool{
		"permessage-deflate":                         true,
		"permessage-deflate; client_max_window_bits": true,
		`permessage-deflate; client_max_window_bits="10"; server_no_context_takeover`: true,
		"permessage-deflate; server_max_window_bits=10":                               false,
		"permessage-deflate; server_max_window_bits=10, permessage-deflate":           true,
		"permessage-deflate; client_max_window_bits=16":                               false,
		"permessage-deflate; client_max_window_bits=8; client_max_window_bits=8":      false,
		"permessage-deflate; server_no_context_takeover=1":                            false,
		"permessage-deflate; x":  false,
		"x-webkit-deflate-frame": false,
		"bbf-usp-protocol, permessage-deflate; client_no_context_takeover": true,
	} {
		t.Run(offer, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, false, ws.Limits{Compression: true}, "")
			raw := dialRaw(t, r.Addr, "Sec-WebSocket-Extensions: "+offer+"\r\n")
			server := r.accept(t)
			if err := server.Write([]byte(strings.Repeat("{}", 1000))); err != nil {
				t.Fatal(err)
			}
			first, _, err := raw.next()
			if deflated := first&rsv1 != 0; err != nil || deflated != taken {
				t.Errorf("deflated is %t, want %t; %v", deflated, taken, err)
			}
			raw.Close()
		})
	}
}

// A server that chooses what it wasn't offered is no WebSocket server (RFC 6455 §4.1).
func TestServersChoiceOfExtensions(t *testing.T) {
	t.Parallel()
	const chosen = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	for _, tt := range []struct {
		name, chosen string
		offered, ok  bool
	}{
		{"none", "", false, true},
		{"none of what was offered", "", true, true},
		{"what was offered", chosen, true, true},
		{"unasked", chosen, false, false},
		{"another one", "x-webkit-deflate-frame", true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				conn, _, err := w.(http.Hijacker).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				sum := sha1.Sum([]byte(r.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // as above
				_, _ = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\nSec-WebSocket-Extensions: %s\r\n\r\n",
					base64.StdEncoding.EncodeToString(sum[:]), tt.chosen)
				_, _ = conn.Read(make([]byte, 64)) // the client's close frame
			})}
			go func() { _ = srv.Serve(ln) }()
			defer srv.Close()
			c, err := ws.Dial(t.Context(), ws.DialConfig{URL: "ws://" + ln.Addr().String(), Limits: ws.Limits{Compression: tt.offered}})
			if c != nil {
				c.Close(ws.CloseNormal, "")
			}
			var told *ws.DialError
			if (err == nil) != tt.ok || err != nil && !errors.As(err, &told) {
				t.Errorf("dial gave %v, want success %t", err, tt.ok)
			}
		})
	}
}
