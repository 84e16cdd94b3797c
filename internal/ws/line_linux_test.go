package ws_test

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	"bollard/internal/ws"
)

// corked keeps back what is written while it is on.
type corked struct {
	net.Conn
	on   bool
	kept []byte
}

func (c *corked) Write(p []byte) (int, error) {
	if !c.on {
		return c.Conn.Write(p)
	}
	c.kept = append(c.kept, p...)
	return len(p), nil
}

// What crypto/tls has read before a loop takes over may be more than one record: it
// is asked until it has no more, and nothing the peer does next is waited for.
func TestRecordsFromBeforeTheLoop(t *testing.T) {
	t.Parallel()
	loops, front, back := oneLoop(t), newRig(t, true, ws.Limits{}, ""), newRig(t, false, ws.Limits{}, "")
	plain, err := net.Dial("tcp", front.Addr)
	if err != nil {
		t.Fatal(err)
	}
	cork := &corked{Conn: plain}
	cfg := front.TLS.Clone()
	cfg.ServerName = "127.0.0.1"
	station := tls.Client(cork, cfg)
	if err := station.Handshake(); err != nil {
		t.Fatal(err)
	}
	cork.on = true
	for _, record := range [][]byte{[]byte(handshake + "\r\n"), frame(fin|opText, []byte("one")), frame(fin|opText, []byte("two")), frame(fin|opText, []byte("three"))} {
		if _, err := station.Write(record); err != nil {
			t.Fatal(err)
		}
	}
	cork.on = false
	if _, err := plain.Write(cork.kept); err != nil {
		t.Fatal(err)
	}
	up, backend := back.connect(t, ws.Limits{})
	said := make(chan string, 3)
	a, b, ok := loops.Pair(<-front.conns, handler(func(msg []byte) bool { said <- string(msg); return false }), up, handler(func([]byte) bool { return false }))
	if !ok {
		t.Fatal("the connections can't be moved to a loop")
	}
	closing(t, a, b, backend)
	t.Cleanup(func() { station.Close() }) // before the stream, which would wait for its farewell
	a.Resume()
	b.Resume()
	for _, want := range []string{"one", "two", "three"} {
		select {
		case got := <-said:
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		case <-time.After(patience):
			t.Fatalf("no %q", want)
		}
	}
}
