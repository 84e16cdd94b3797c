package rawws_test

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"testing"

	"bollard/e2e/rawws"
)

// The rig itself: what one side writes the other side reads, whole, cut or
// compressed, and a refusal arrives as one.
func TestConnCarriesMessages(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	type end struct {
		conn *rawws.Conn
		err  error
	}
	served := make(chan end, 2)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conn, _, err := rawws.Server(c, func(r *http.Request) (string, int) {
				if r.URL.Path == "/no" {
					return "", http.StatusUnauthorized
				}
				return "ocpp1.6", http.StatusSwitchingProtocols
			})
			served <- end{conn, err}
			if err != nil {
				c.Close()
			}
		}
	}()
	dial := func(target string) (*rawws.Conn, error) {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return rawws.Client(c, rawws.Request{Host: "localhost", Target: target, Subprotocols: []string{"ocpp1.6"}})
	}
	var refused *rawws.HandshakeError
	_, err = dial("/no")
	if !errors.As(err, &refused) || refused.Status != http.StatusUnauthorized {
		t.Fatalf("refused handshake: %v, want 401", err)
	}
	<-served
	client, err := dial("/yes")
	if err != nil {
		t.Fatal(err)
	}
	server := <-served
	if server.err != nil {
		t.Fatal(server.err)
	}
	defer server.conn.Net.Close()
	for _, size := range []int{0, 1, 125, 126, 65535, 65536, 200_000} {
		msg := bytes.Repeat([]byte("aä"), size/3+1)[:size]
		half := size / 2
		writes := map[string][]rawws.Frame{
			"whole":      {{Fin: true, Op: rawws.Text, Payload: msg}},
			"cut":        {{Op: rawws.Text, Payload: msg[:half]}, {Fin: true, Op: rawws.Ping}, {Fin: true, Payload: msg[half:]}},
			"compressed": {{Fin: true, RSV1: true, Op: rawws.Text, Payload: rawws.Deflate(msg)}},
		}
		for name, frames := range writes {
			go func() { _ = client.WriteFrames(frames...) }()
			got, err := server.conn.ReadMessage()
			if err != nil || !bytes.Equal(got, msg) {
				t.Fatalf("%s message of %d bytes: got %d bytes, %v", name, size, len(got), err)
			}
		}
	}
	if got := server.conn.Pings.Load(); got != 7 {
		t.Errorf("answered %d pings, want 7", got)
	}
	_ = server.conn.WriteFrame(rawws.CloseFrame(1008))
	var closed *rawws.CloseError
	_, err = client.ReadMessage()
	if !errors.As(err, &closed) || closed.Code != 1008 {
		t.Errorf("after close: %v, want 1008", err)
	}
}
