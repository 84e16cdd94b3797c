package ws

import (
	"bytes"
	"sync/atomic"
	"syscall"
	"time"
)

// NewLoop is NewLoops with one loop, which all pairs share.
func NewLoop() (*Loops, error) {
	one, err := newLoop()
	if err != nil {
		return nil, err
	}
	return &Loops{loops: []*Loop{one}}, nil
}

// TurnSize is how many streams have their turn at once at most.
const TurnSize = len(Loop{}.events)

// Waits has an only loop wait by way of the runtime after this turn and the next, as
// one with little to do does. For handlers.
func Waits(l *Loops) { l.loops[0].tempo = tempo{} }

// Stays has an only loop stay after this turn, as under load. For handlers.
func Stays(l *Loops) {
	l.loops[0].tempo = tempo{since: l.loops[0].clock.now(), seen: 1 << 20, lively: true}
}

// BePatient has an idle loop that stays do so for so long.
func BePatient(l *Loops, d time.Duration) { l.loops[0].patience = d }

// Direct reads and writes a connection directly, in race builds too.
type Direct = direct

var NewDirect = newDirect

func (d *direct) Read(p []byte) (int, error)  { return d.read(p) }
func (d *direct) Write(p []byte) (int, error) { return d.write(p) }

// Lends reports whether buffers are lent with this release of Go.
func Lends(release string) bool { return newRecords(release).spare != nil }

// KeptByTLS is the size of the buffers that crypto/tls keeps for the stream.
func (s *Stream) KeptByTLS() int {
	s.reading.Lock()
	defer s.reading.Unlock()
	r := &s.loop.records
	return at[bytes.Buffer](s.secure, r.raw).Cap() + at[bytes.Buffer](s.secure, r.hand).Cap() + int(at[bytes.Reader](s.secure, r.input).Size())
}

// RingSize is how many streams share system calls at most, RingFrom at least.
const (
	RingSize = ringSize
	RingFrom = ringFrom
)

// WithoutRing and BreakRing take from idle loops what lets streams share system calls.
func WithoutRing(l *Loops) {
	for _, one := range l.loops {
		one.batch.close()
		one.batch.ring = nil
	}
}

func BreakRing(l *Loops) {
	for _, one := range l.loops {
		if r := one.batch.ring; r != nil {
			closeFD(r.fd)
			r.fd = -1
		}
	}
}

// SharedCalls counts the reads and sends the kernel took from rings; ok says that
// there are rings that work.
func SharedCalls(l *Loops) (n int, ok bool) {
	for _, one := range l.loops {
		if r := one.batch.ring; r != nil && r.fd >= 0 {
			n, ok = n+int(atomic.LoadUint32(r.sqTail)), true
		}
	}
	return n, ok
}

// FailShared has a shared send of the stream fail while somebody waits until all is
// sent, who is told by the channel.
func (s *Stream) FailShared() <-chan struct{} {
	s.out.mu.Lock()
	s.out.batch = takeBuffer()
	s.out.batch.b = append(s.out.batch.b, "lost"...)
	s.out.size.Add(int64(len(s.out.batch.b)))
	s.out.mu.Unlock()
	told := s.out.drained(false)
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	s.sent(-int32(syscall.ECONNRESET), s.loop.clock.now())
	return told
}
