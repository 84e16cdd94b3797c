package ws_test

import (
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"bollard/internal/ws"
)

// Whoever builds with another release of Go has to read its crypto/tls again:
// until then stations cost more memory.
func TestBuffersAreLentWithThisGo(t *testing.T) {
	t.Parallel()
	for release, want := range map[string]bool{
		runtime.Version(): true, "go1.26": true, "go1.26.99": true,
		"go1.27.1": false, "go1.260": false, "devel go1.27-abcdef": false, "": false,
	} {
		if got := ws.Lends(release); got != want {
			t.Errorf("%q: lent is %t, want %t", release, got, want)
		}
	}
}

// crumbs writes in pieces of any size, each with a pause in which others are read.
type crumbs struct {
	net.Conn
	rnd *rand.Rand
}

func (c crumbs) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		piece := 1 + c.rnd.IntN(min(len(p)-n, 1<<c.rnd.IntN(15)))
		var k int
		k, err = c.Conn.Write(p[n : n+piece])
		n += k
		runtime.Gosched()
	}
	return n, err
}

// All stations of a loop have their records read into one buffer. Cut in any way
// and mixed with others' each still gets its own bytes, and afterwards none of
// them keeps a buffer.
func TestRecordsOfALoopDontMix(t *testing.T) {
	t.Parallel()
	loops := oneLoop(t)
	front, back := newRig(t, true, ws.Limits{}, ""), newRig(t, false, ws.Limits{}, "")
	var kept []*ws.Stream
	var stations sync.WaitGroup
	for i := range 6 {
		version := []uint16{tls.VersionTLS12, tls.VersionTLS13}[i%2]
		station, stream := crumbling(t, loops, front, back, version, uint64(i))
		kept = append(kept, stream)
		stations.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 5))
			for n := range 12 {
				want := fmt.Sprintf("%d %s", n, strings.Repeat(string(rune('a'+i)), rnd.IntN(1<<rnd.IntN(16))))
				if err := station.WriteMessage(websocket.TextMessage, []byte(want)); err != nil {
					t.Errorf("station %d: %v", i, err)
					return
				}
				if _, got, err := station.ReadMessage(); err != nil || string(got) != want {
					t.Errorf("station %d: got %d bytes, %.20q, and %v, want the %d bytes of %.20q", i, len(got), got, err, len(want), want)
					return
				}
			}
		})
	}
	stations.Wait()
	for i, s := range kept {
		if n := s.KeptByTLS(); n != 0 {
			t.Errorf("station %d: crypto/tls keeps buffers of %d bytes", i, n)
		}
	}
}

// crumbling is relay with a station that writes crumbs.
func crumbling(t *testing.T, loops *ws.Loops, front, back *rig, version uint16, seed uint64) (*websocket.Conn, *ws.Stream) {
	t.Helper()
	cfg := front.TLS.Clone()
	cfg.MinVersion, cfg.MaxVersion = version, version
	dialer := websocket.Dialer{TLSClientConfig: cfg, NetDial: func(network, addr string) (net.Conn, error) {
		plain, err := net.Dial(network, addr)
		return crumbs{plain, rand.New(rand.NewPCG(seed, 4))}, err
	}}
	station, resp, err := dialer.DialContext(t.Context(), front.URL+"/ocpp/CS-1", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	_ = station.SetReadDeadline(time.Now().Add(patience))
	stream := join(t, loops, <-front.conns, back, seed)
	t.Cleanup(func() { _ = station.Close() }) // before the stream, which would wait for its farewell
	return station, stream
}
