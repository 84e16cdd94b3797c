package ws

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"sync"

	"github.com/gorilla/websocket"
)

// Buffer sizes. 99 % of messages fit 2 kB (OCPP 2.1 part 4 §5.2). Each
// connection keeps its read buffer, unless a Stream takes it over; write buffers are taken while writing. A
// client's frames are cut at its write buffer, so that one is larger: stations
// and back ends exist that dislike fragments.
const (
	readBuffer        = 1 << 10
	serverWriteBuffer = 4 << 10
	clientWriteBuffer = 16 << 10
)

// The pools hold no state but spare buffers.
var (
	serverBuffers sync.Pool
	clientBuffers sync.Pool
	readers       = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, readBuffer) }}
)

// Upgrade answers 101 with the given subprotocol ("": none). The Origin header
// is not judged: stations are no browsers, and callers that care decide before.
// On an error the request has been answered (400, 405 or 500) or its connection
// closed.
func Upgrade(w http.ResponseWriter, r *http.Request, subprotocol string, limits Limits) (*Conn, error) {
	limits = limits.withDefaults()
	compressed := limits.Compression && offersDeflate(r.Header)
	u := websocket.Upgrader{
		HandshakeTimeout:  limits.WriteTimeout,
		ReadBufferSize:    0, // the hijacker's reader
		WriteBufferSize:   serverWriteBuffer,
		WriteBufferPool:   &serverBuffers,
		CheckOrigin:       func(*http.Request) bool { return true },
		EnableCompression: compressed,
	}
	var header http.Header
	if subprotocol != "" {
		header = http.Header{"Sec-Websocket-Protocol": {subprotocol}}
	}
	h := &hijacker{ResponseWriter: w, reader: readers.Get().(*bufio.Reader)} //nolint:forcetypeassert // the pool's New makes nothing else
	conn, err := u.Upgrade(h, r, header)
	if err != nil {
		return nil, fmt.Errorf("couldn't upgrade to WebSocket: %w", err)
	}
	c := newConn(conn, h.sock, limits)
	c.lent = h.reader
	c.compressed = compressed
	return c, nil
}

// hijacker gives gorilla a socket of ours and keeps what an eager client sent
// behind its handshake; gorilla would drop the connection.
type hijacker struct {
	http.ResponseWriter
	reader *bufio.Reader
	sock   *socket
}

func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.sock = newSocket(conn)
	if n := buffered.Reader.Buffered(); n > 0 {
		early, err := buffered.Reader.Peek(n)
		if err != nil {
			_ = conn.Close()
			return nil, nil, err
		}
		h.sock.early = append([]byte(nil), early...)
	}
	h.reader.Reset(h.sock)
	return h.sock, bufio.NewReadWriter(h.reader, buffered.Writer), nil
}
