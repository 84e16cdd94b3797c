package ws

import (
	"bufio"
	"net"
	"net/http"
)

// fakeHijack lets gorilla upgrade a connection no server has accepted.
type fakeHijack struct {
	conn net.Conn
}

func (h *fakeHijack) Header() http.Header         { return http.Header{} }
func (h *fakeHijack) Write(b []byte) (int, error) { return len(b), nil }
func (h *fakeHijack) WriteHeader(int)             {}
func (h *fakeHijack) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReaderSize(h.conn, 16), bufio.NewWriter(h.conn)), nil
}

func upgradeRequest() *http.Request {
	return &http.Request{Method: http.MethodGet, Host: "bollard", Header: http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}}
}
