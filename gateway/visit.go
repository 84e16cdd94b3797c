package gateway

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	// maxHead bounds the request line and headers.
	maxHead = 20 << 10
	// watchAfter is how long an admission goes on before somebody looks whether its
	// station has hung up: most are through by then.
	watchAfter = 100 * time.Millisecond
	// answerFor is how long a station may take to take a refusal.
	answerFor = 5 * time.Second
	// A connection closed with bytes unread is reset, and the reset may overtake the
	// answer: what still comes is read for so long, and so much of it.
	lingerFor   = 500 * time.Millisecond
	lingerBytes = 256 << 10
)

// visit is the one request of a connection and its answer. It is read and answered
// on the goroutine of the handshake: net/http's server would take one more for the
// connection and another to see it end, and grow the stack of each. It is the
// http.ResponseWriter of its request.
type visit struct {
	*benches
	conn    net.Conn
	request *http.Request
	cancel  context.CancelFunc
	timer   *time.Timer // to watch; nil before the request is read

	header http.Header
	status int // of the answer; 0: none
	body   bytes.Buffer
	linger bool // the station may still be sending
	taken  bool // by Hijack

	mu       sync.Mutex
	over     bool          // nobody may begin to watch any more; under mu
	watching chan struct{} // closed when the watch is over, nil before it begins; under mu
}

// benches are what one visit after the other works with.
type benches struct {
	head io.LimitedReader
	in   *bufio.Reader
	out  *bufio.Writer // for whoever takes the connection over
}

func newBenches() any {
	b := &benches{out: bufio.NewWriterSize(nil, 1<<10)}
	b.in = bufio.NewReaderSize(&b.head, 4<<10)
	return b
}

func (d *door) visit(conn net.Conn) *visit {
	b := d.benches.Get().(*benches) //nolint:forcetypeassert // the pool's New makes nothing else
	b.head = io.LimitedReader{R: conn, N: maxHead}
	b.in.Reset(&b.head)
	b.out.Reset(conn)
	return &visit{benches: b, conn: conn}
}

// leave gives the benches back.
func (d *door) leave(v *visit) {
	v.head.R = nil
	v.out.Reset(nil)
	d.benches.Put(v.benches)
}

// read reads the request, until ctx ends or patience does. Without a request to see
// to it reports false; the visit may have an answer then, for end to give.
func (v *visit) read(ctx context.Context, patience time.Duration) bool {
	v.by(time.Now().Add(patience))
	stop := context.AfterFunc(ctx, v.interrupt)
	r, err := http.ReadRequest(v.in)
	if !stop() {
		return false
	}
	var lost *net.OpError
	v.linger = true
	switch {
	case err != nil && v.head.N <= 0:
		v.wrong(http.StatusRequestHeaderFieldsTooLarge)
	case errors.As(err, &lost), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		// Nobody is there to be answered.
	case err != nil:
		v.wrong(http.StatusBadRequest)
	case r.ProtoMajor != 1:
		v.wrong(http.StatusHTTPVersionNotSupported)
	case r.ProtoAtLeast(1, 1) && r.Host == "", spaced(r.Header): // RFC 9112 §3.2, §5.1
		v.wrong(http.StatusBadRequest)
	case r.Header.Get("Expect") != "" && !strings.EqualFold(r.Header.Get("Expect"), "100-continue"):
		v.wrong(http.StatusExpectationFailed)
	default:
		v.by(time.Time{})
		v.head.N = math.MaxInt64
		v.request = r
		v.linger = r.ContentLength != 0 || v.in.Buffered() > 0
		return true
	}
	return false
}

// spaced tells of a space in a header's name, which net/textproto lets through.
func spaced(h http.Header) bool {
	for name := range h {
		if strings.Contains(name, " ") {
			return true
		}
	}
	return false
}

// begin gives the request what it is judged by. The context ends with the visit, and if
// the station hangs up; the request has none, which would be a copy of it.
func (v *visit) begin(ctx context.Context, state *tls.ConnectionState) context.Context {
	ctx, v.cancel = context.WithCancel(ctx)
	v.request.TLS = state
	v.timer = time.AfterFunc(watchAfter, v.watch)
	return ctx
}

// watch waits for the station's end, or its next byte.
func (v *visit) watch() {
	v.mu.Lock()
	if v.over {
		v.mu.Unlock()
		return
	}
	watching := make(chan struct{})
	v.watching = watching
	v.mu.Unlock()
	defer close(watching)
	_, err := v.in.Peek(v.in.Buffered() + 1)
	v.mu.Lock()
	defer v.mu.Unlock()
	if err != nil && !v.over && !errors.Is(err, bufio.ErrBufferFull) {
		v.cancel()
	}
}

// unwatch returns when nobody else reads the connection. It is called once.
func (v *visit) unwatch() {
	if v.timer == nil || v.timer.Stop() {
		return
	}
	v.mu.Lock()
	v.over = true
	watching := v.watching
	v.mu.Unlock()
	if watching == nil {
		return
	}
	v.interrupt()
	<-watching
	v.by(time.Time{})
}

// interrupt ends the reading under way.
func (v *visit) interrupt() { v.by(time.Unix(1, 0)) }

// by is when what is under way ends at the latest. Reading may write, too: crypto/tls
// answers key updates, and a station that doesn't take the answers would hold the
// reader for ever. Whatever is wrong with the connection shows when it is read.
func (v *visit) by(deadline time.Time) { _ = v.conn.SetDeadline(deadline) }

// wrong answers what is no request.
func (v *visit) wrong(status int) { http.Error(v, http.StatusText(status), status) }

// Header is the answer's.
func (v *visit) Header() http.Header {
	if v.header == nil {
		v.header = http.Header{}
	}
	return v.header
}

// WriteHeader sets the answer's status, once.
func (v *visit) WriteHeader(status int) {
	if v.status == 0 {
		v.status = status
	}
}

// Write adds to the answer's body. Nothing is sent before end.
func (v *visit) Write(p []byte) (int, error) {
	if v.taken {
		return 0, http.ErrHijacked
	}
	v.WriteHeader(http.StatusOK)
	return v.body.Write(p)
}

// Hijack hands the connection over, with what the station sent behind its request.
// Both buffers are the visit's again when the request has been seen to.
func (v *visit) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if v.taken {
		return nil, nil, http.ErrHijacked
	}
	v.unwatch()
	v.taken = true
	return v.conn, bufio.NewReadWriter(v.in, v.out), nil
}

// end answers and closes, unless somebody took the connection over.
func (v *visit) end() {
	if v.cancel != nil {
		v.cancel()
	}
	if v.taken { // and isn't ours any more
		return
	}
	v.unwatch()
	defer v.conn.Close() // whatever comes of the answer
	v.by(time.Now().Add(answerFor))
	if v.status == 0 || v.answer() != nil || !v.linger {
		return
	}
	if half, ok := v.conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		v.by(time.Now().Add(lingerFor))
		_, _ = io.CopyN(io.Discard, v.conn, lingerBytes)
	}
}

func (v *visit) answer() error {
	v.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
	r := http.Response{
		StatusCode: v.status, ProtoMajor: 1, ProtoMinor: 1, Header: v.header, Request: v.request,
		ContentLength: int64(v.body.Len()), Body: io.NopCloser(&v.body), Close: true,
	}
	if err := r.Write(v.out); err != nil {
		return err
	}
	return v.out.Flush()
}
