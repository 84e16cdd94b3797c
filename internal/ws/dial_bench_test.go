package ws_test

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"net"
	"net/http"
	"testing"

	"bollard/internal/ws"
)

// BenchmarkDial opens connections to a server that answers with as little as it can.
func BenchmarkDial(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		in := bufio.NewReader(nil)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			in.Reset(c)
			r, err := http.ReadRequest(in)
			if err == nil {
				sum := sha1.Sum([]byte(r.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
				_, _ = c.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol: ocpp1.6\r\nSec-WebSocket-Accept: " +
					base64.StdEncoding.EncodeToString(sum[:]) + "\r\n\r\n"))
			}
			_ = c.Close()
		}
	}()
	cfg := ws.DialConfig{URL: "ws://" + l.Addr().String() + "/ocpp/CS-1", Subprotocols: []string{"ocpp1.6"}}
	b.ReportAllocs()
	for b.Loop() {
		c, err := ws.Dial(b.Context(), cfg)
		if err != nil {
			b.Fatal(err)
		}
		c.Close(ws.CloseGoingAway, "")
	}
}
