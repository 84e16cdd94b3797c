package ws

import (
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// batch lets streams that have something to do at the same time share system
// calls: those that are ready are read together, then one after the other is
// served, then what they have to send is sent together.
type batch struct {
	ring *ring // nil: none is to be had, and each stream is read and sent to for itself

	// The loop's own.
	room     []byte
	receipts [ringSize]receipt
	asked    []int     // places of those that are read together
	sending  []*Stream // those that are sent to together

	open atomic.Bool // whoever has something to send may join; ends under mu

	mu     sync.Mutex
	joined []*Stream // those that have something to send, once it isn't open any more
}

// ringFrom is how many streams share a system call at least. What a ring costs by
// itself, two or three calls cost too where they are cheap.
const ringFrom = 8

func newBatch() *batch {
	b := &batch{}
	ring, err := newRing()
	if err == nil { // else the kernel is old, or was told to have none (docs/adr/0034-rings.md)
		b.ring, b.room = ring, make([]byte, ringSize*receiptSize)
	}
	return b
}

func (b *batch) close() {
	if b.ring != nil {
		b.ring.close()
	}
}

// join reports whether what s has to send waits for that of others. Then it is
// kept in its outbox.
func (b *batch) join(s *Stream) bool {
	if !b.open.Load() { // as mostly
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	open := b.open.Load()
	if open {
		b.joined = append(b.joined, s)
	}
	return open
}

// serve serves streams that have events, at most ringSize.
func (b *batch) serve(events []syscall.EpollEvent, streams []*Stream, now int64) {
	together := b.ring != nil && len(streams) >= ringFrom
	if together {
		b.read(events, streams)
		b.open.Store(true)
	}
	for i, s := range streams {
		streams[i] = nil
		if s != nil {
			s.serve(events[i].Events, now, b.receipts[i])
		}
		b.receipts[i] = receipt{}
	}
	if together {
		b.send(now)
	}
}

// read reads the streams that would be read at once if they were served.
func (b *batch) read(events []syscall.EpollEvent, streams []*Stream) {
	b.asked = b.asked[:0]
	for i, s := range streams {
		if s == nil || events[i].Events&evIn == 0 {
			continue
		}
		s.reading.Lock() // also keeps the descriptor; several are held only here
		if !s.listens() {
			s.reading.Unlock()
			continue
		}
		b.ring.add(ringRecv, int(s.out.fd), b.room[i*receiptSize:][:receiptSize], 0)
		b.asked = append(b.asked, i)
	}
	b.ring.do()
	for k, i := range b.asked {
		streams[i].reading.Unlock()
		switch n := b.ring.results[k]; {
		case n >= 0:
			b.receipts[i] = receipt{made: true, b: b.room[i*receiptSize:][:n]}
		case n != notDone:
			b.receipts[i] = receipt{made: true, err: syscall.Errno(-n)}
		}
	}
}

// send sends what was kept back.
func (b *batch) send(now int64) {
	b.mu.Lock()
	b.open.Store(false)
	joined := b.joined // nobody joins before it is open again
	b.mu.Unlock()
	for len(joined) > 0 {
		n := min(len(joined), ringSize)
		b.sending = b.sending[:0]
		for i, s := range joined[:n] {
			joined[i] = nil
			s.out.mu.Lock() // several are held only here
			if s.out.batch == nil {
				s.out.mu.Unlock() // closed meanwhile
				continue
			}
			b.ring.add(ringSend, int(s.out.fd), s.out.batch.b, syscall.MSG_NOSIGNAL)
			b.sending = append(b.sending, s)
		}
		b.ring.do()
		for i, s := range b.sending {
			s.sent(b.ring.results[i], now)
			s.out.mu.Unlock()
		}
		for i, s := range b.sending {
			b.sending[i] = nil
			s.wakeReaders()
		}
		joined = joined[n:]
	}
	b.joined = b.joined[:0]
}

// sent takes what became of the batch. The caller holds out.mu.
func (s *Stream) sent(result int32, now int64) {
	o := &s.out
	batch, n, err := o.batch, int(result), error(nil)
	p := batch.b
	switch {
	case result == notDone:
		n, err = transmit(int(o.fd), p)
	case result == -int32(syscall.EAGAIN), result == -int32(syscall.EINTR):
		n = 0
	case result < 0:
		n, err = 0, syscall.Errno(-result)
	}
	o.size.Add(-int64(n))
	o.batch = nil
	switch {
	case err != nil:
		o.err = err
		s.wakeIn(time.Millisecond) // to say so
		o.settle()
	case n < len(p):
		s.enqueue(p[n:], now)
	default:
		o.settle()
	}
	batch.give()
}
