package depot

import (
	"context"
	"net"
	"sync"
)

// gatherSize is how much is written to a connection at once while a file is sent. TLS
// writes each record of 16 KB by itself, which was a third of what a download costs.
const gatherSize = 4 * chunk

// Gather returns a listener whose connections write the records of a download several
// at a time. Its server needs Gathers as its ConnContext.
func Gather(l net.Listener) net.Listener { return gatherer{l} }

type gatherer struct{ net.Listener }

func (l gatherer) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &gathered{Conn: c}, nil
}

type gatherKey struct{}

// Gathers tells the requests of a connection what it is behind TLS.
func Gathers(ctx context.Context, c net.Conn) context.Context {
	if over, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = over.NetConn()
	}
	if g, ok := c.(*gathered); ok {
		return context.WithValue(ctx, gatherKey{}, g)
	}
	return ctx
}

// gathering returns what a request's connection is gathered in; nil: nothing is.
func gathering(ctx context.Context) *gathered {
	g, _ := ctx.Value(gatherKey{}).(*gathered)
	return g
}

// gathered is a connection that keeps what is written between begin and end until
// there is enough of it. TLS may write beside the handler: where its peer asks for a new
// key, which it reads meanwhile.
type gathered struct {
	net.Conn

	mu   sync.Mutex
	kept []byte // nil: nothing is gathered
	err  error  // of a write whose caller had gone on
}

var buffers = sync.Pool{New: func() any { return new([gatherSize]byte) }}

func (g *gathered) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.kept)+len(p) > cap(g.kept) {
		if err := g.write(); err != nil {
			return 0, err
		}
	}
	if g.err != nil {
		return 0, g.err
	}
	if len(p) > cap(g.kept) {
		return g.Conn.Write(p)
	}
	g.kept = append(g.kept, p...)
	return len(p), nil
}

// write hands on what is kept. The caller holds mu.
func (g *gathered) write() error {
	if len(g.kept) > 0 && g.err == nil {
		_, g.err = g.Conn.Write(g.kept)
	}
	g.kept = g.kept[:0]
	return g.err
}

// begin has writes gathered until end is called.
func (g *gathered) begin() (end func()) {
	buffer := buffers.Get().(*[gatherSize]byte)
	g.mu.Lock()
	g.kept = buffer[:0]
	g.mu.Unlock()
	return func() {
		g.mu.Lock()
		_ = g.write() // the next write says so
		g.kept = nil
		g.mu.Unlock()
		buffers.Put(buffer)
	}
}

// flush hands on what is kept: the next write may be a while off.
func (g *gathered) flush() {
	g.mu.Lock()
	defer g.mu.Unlock()
	_ = g.write() // the next write says so
}
