package rawws

import (
	"bufio"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"strings"
)

// HandshakeError is an answer other than 101.
type HandshakeError struct {
	Status int
	Header http.Header
}

func (e *HandshakeError) Error() string { return fmt.Sprintf("the server answered %d", e.Status) }

// Request is a client's opening handshake.
type Request struct {
	Host         string
	Target       string // request target as written, unchecked
	Subprotocols []string
	User         string // Basic, if Password or User is set
	Password     []byte
	Compress     bool // offer permessage-deflate without context takeover
	Header       map[string]string
}

// Client does the handshake on an open connection; *HandshakeError if refused.
func Client(conn net.Conn, req Request) (*Conn, error) {
	var nonce [16]byte
	_, _ = rand.Read(nonce[:])
	key := base64.StdEncoding.EncodeToString(nonce[:])
	var b strings.Builder
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n", req.Target, req.Host, key)
	if len(req.Subprotocols) > 0 {
		fmt.Fprintf(&b, "Sec-WebSocket-Protocol: %s\r\n", strings.Join(req.Subprotocols, ", "))
	}
	if req.User != "" || req.Password != nil {
		credentials := append([]byte(req.User+":"), req.Password...)
		fmt.Fprintf(&b, "Authorization: Basic %s\r\n", base64.StdEncoding.EncodeToString(credentials))
	}
	if req.Compress {
		b.WriteString("Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n")
	}
	for k, v := range req.Header {
		fmt.Fprintf(&b, "%s: %s\r\n", k, v)
	}
	b.WriteString("\r\n")
	_, err := conn.Write([]byte(b.String()))
	if err != nil {
		return nil, fmt.Errorf("couldn't write the handshake: %w", err)
	}
	br := bufio.NewReaderSize(conn, 4096)
	resp, err := http.ReadResponse(br, &http.Request{Method: http.MethodGet})
	if err != nil {
		return nil, fmt.Errorf("couldn't read the handshake's answer: %w", err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, &HandshakeError{Status: resp.StatusCode, Header: resp.Header}
	}
	if resp.Header.Get("Sec-WebSocket-Accept") != accept(key) {
		return nil, fmt.Errorf("wrong Sec-WebSocket-Accept")
	}
	return &Conn{
		Net: conn, br: br, client: true,
		Subprotocol: resp.Header.Get("Sec-WebSocket-Protocol"),
		Extensions:  resp.Header.Get("Sec-WebSocket-Extensions"),
	}, nil
}

// Server answers a handshake on an accepted connection. choose returns the
// subprotocol, or a status other than 101 to refuse with.
func Server(conn net.Conn, choose func(r *http.Request) (subprotocol string, status int)) (*Conn, *http.Request, error) {
	br := bufio.NewReaderSize(conn, 4096)
	r, err := http.ReadRequest(br)
	if err != nil {
		return nil, nil, fmt.Errorf("couldn't read the handshake: %w", err)
	}
	subprotocol, status := choose(r)
	if status != http.StatusSwitchingProtocols {
		fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status, http.StatusText(status))
		return nil, r, &HandshakeError{Status: status}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n", accept(r.Header.Get("Sec-WebSocket-Key")))
	if subprotocol != "" {
		fmt.Fprintf(&b, "Sec-WebSocket-Protocol: %s\r\n", subprotocol)
	}
	b.WriteString("\r\n")
	_, err = conn.Write([]byte(b.String()))
	if err != nil {
		return nil, r, fmt.Errorf("couldn't answer the handshake: %w", err)
	}
	return &Conn{Net: conn, br: br, Subprotocol: subprotocol}, r, nil
}

func accept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) // RFC 6455 §4.2.2
	return base64.StdEncoding.EncodeToString(sum[:])
}
