package ws

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// Events of a socket.
const (
	evIn  = uint32(syscall.EPOLLIN)
	evOut = uint32(syscall.EPOLLOUT)
	evErr = uint32(syscall.EPOLLERR)
	evHup = uint32(syscall.EPOLLHUP)
	evEnd = uint32(syscall.EPOLLRDHUP)

	evEdge = uint32(1 << 31) // EPOLLET
)

// maxLoops bounds how many loops there are: beyond, they wait for each other.
const maxLoops = 16

// Among the places of streams these stand for the bell and for the end of patience.
const (
	ofBell = -1 - iota
	ofPatience
)

// Loops carry streams, one loop per processor that Go may use.
type Loops struct {
	loops []*Loop
	next  atomic.Uint32
}

// NewLoops starts the loops. Close ends them, once no stream is left.
func NewLoops() (*Loops, error) {
	l := &Loops{}
	for range min(runtime.GOMAXPROCS(0), maxLoops) {
		one, err := newLoop()
		if err != nil {
			l.Close()
			return nil, err
		}
		l.loops = append(l.loops, one)
	}
	return l, nil
}

// Close ends the loops and waits for them.
func (l *Loops) Close() {
	if l == nil {
		return
	}
	for _, one := range l.loops {
		one.stop()
	}
}

// Loop is an edge-triggered epoll set and the goroutine that serves it.
//
// The set's own descriptor is registered with the runtime's poller, so that
// waiting for it is parking a goroutine; the system calls on sockets are raw
// ones that the scheduler doesn't see. Both together halve the CPU time of a
// little-used gateway. Raw calls on sockets never block. Under load two others
// do, with the processor: a wait for the set, until patience ends, and a pause.
type Loop struct {
	file *os.File // of the epoll set
	raw  syscall.RawConn
	ep   int
	bell int // an eventfd: the loop has something to run
	end  int // a timerfd, in the set: the loop's patience is over
	ends chan struct{}

	clock    clock
	paces    paces
	patience time.Duration

	mu      sync.Mutex
	streams []*Stream // by place; nil: a free one
	free    []int32   // places of streams
	ready   []*Stream // to be run
	awake   bool      // the goroutine is in a turn, or has one without the bell

	// The goroutine's own.
	events  [128]syscall.EpollEvent // Fd is a place, ofBell or ofPatience
	due     [128]*Stream
	tempo   tempo
	hurries bool // streams are to be run: the next turn doesn't wait for its set
	bounded bool // end is set for as long as the loop stays now
	running []*Stream
	buf     []byte // what one read takes
	in      []byte // what of it, or of a read ahead, is left for the layer above
	plain   []byte // what one record holds
	records records
	batch   *batch
}

func newLoop() (*Loop, error) {
	ep, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("couldn't make an epoll set: %w", err)
	}
	if err := syscall.SetNonblock(ep, true); err != nil { // so that os takes it for pollable
		closeFD(ep)
		return nil, fmt.Errorf("couldn't make an epoll set: %w", err)
	}
	const flags = syscall.O_CLOEXEC | syscall.O_NONBLOCK // EFD_CLOEXEC and EFD_NONBLOCK, TFD_ likewise
	bell, _, errno := syscall.RawSyscall(syscall.SYS_EVENTFD2, 0, flags, 0)
	if errno != 0 {
		closeFD(ep)
		return nil, fmt.Errorf("couldn't make an event descriptor: %w", errno)
	}
	const monotonic = 1 // CLOCK_MONOTONIC
	end, _, errno := syscall.RawSyscall(syscall.SYS_TIMERFD_CREATE, monotonic, flags, 0)
	if errno != 0 {
		closeFD(ep)
		closeFD(int(bell))
		return nil, fmt.Errorf("couldn't make a timer's descriptor: %w", errno)
	}
	l := &Loop{ep: ep, bell: int(bell), end: int(end), file: os.NewFile(uintptr(ep), "epoll"), ends: make(chan struct{}), clock: clock{began: time.Now()},
		patience: patience, buf: make([]byte, loopBuffer), plain: make([]byte, 16<<10), records: runningRecords(), batch: newBatch()}
	if l.raw, err = l.file.SyscallConn(); err == nil {
		err = syscall.EpollCtl(ep, syscall.EPOLL_CTL_ADD, l.bell, &syscall.EpollEvent{Events: evIn | evEdge, Fd: ofBell})
	}
	if err == nil {
		err = syscall.EpollCtl(ep, syscall.EPOLL_CTL_ADD, l.end, &syscall.EpollEvent{Events: evIn | evEdge, Fd: ofPatience})
	}
	if err != nil {
		_ = l.file.Close()
		l.batch.close()
		closeFD(l.bell)
		closeFD(l.end)
		return nil, fmt.Errorf("couldn't watch an epoll set: %w", err)
	}
	go func() {
		defer close(l.ends)
		_ = l.raw.Read(func(uintptr) bool {
			for l.turn() {
				l.yield()
			}
			return false // until it is closed
		})
	}()
	return l, nil
}

func (l *Loop) stop() {
	_ = l.file.Close() // wakes the goroutine
	<-l.ends
	l.batch.close()
	closeFD(l.bell)
	closeFD(l.end)
}

// yield has others run who can: handshakes want to get on too.
func (l *Loop) yield() {
	began := l.clock.now()
	runtime.Gosched()
	if l.clock.now()-began >= crowd {
		l.tempo.crowded()
	}
}

// turn serves what is there and reports whether the next one may follow at once.
func (l *Loop) turn() bool {
	if l.tempo.gathers {
		pause(gatherTime)
	}
	l.tempo.waited = l.tempo.stays && !l.hurries
	if l.tempo.waited && !l.bounded {
		l.endPatience()
	}
	l.bounded = l.tempo.waited || l.bounded && l.tempo.stays
	n := l.wait(l.tempo.waited)
	ready := n
	now := l.clock.now()
	l.mu.Lock()
	l.running, l.ready = l.ready, l.running[:0]
	l.awake = true
	for i := range n {
		l.due[i] = nil
		switch place := l.events[i].Fd; place {
		case ofBell:
		case ofPatience:
			ready--
			l.bounded = false
		default:
			l.due[i] = l.streams[place]
		}
	}
	l.mu.Unlock()
	for i, s := range l.running {
		l.running[i] = nil
		s.run(now)
	}
	for from := 0; from < n; from += ringSize {
		to := min(n, from+ringSize)
		l.batch.serve(l.events[from:to], l.due[from:to], now)
	}
	more := l.tempo.again(ready, now)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hurries = len(l.ready) > 0
	l.awake = l.hurries
	more = more || l.hurries
	if !more && n == len(l.events) {
		l.ring() // others may be ready, of whom the runtime has heard: it doesn't say so twice
	}
	return more
}

// pause sleeps. It is for so short that the scheduler needn't know.
func pause(d time.Duration) {
	t := syscall.NsecToTimespec(int64(d))
	_, _, _ = syscall.RawSyscall(syscall.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&t)), 0, 0)
}

// endPatience has the set tell when the loop has stayed for long enough. A wait that
// ends by itself would have the kernel set a timer and take it back each time: 2 % of
// what a message costs.
func (l *Loop) endPatience() {
	at := [2]syscall.Timespec{1: syscall.NsecToTimespec(int64(l.patience))} // once
	_, _, _ = syscall.RawSyscall6(syscall.SYS_TIMERFD_SETTIME, uintptr(l.end), 0, uintptr(unsafe.Pointer(&at)), 0, 0, 0)
}

// wait asks who is ready. A loop that stays waits until somebody is, or its patience
// is over, or the runtime wants to stop the goroutine, whose signal ends the call.
func (l *Loop) wait(stays bool) int {
	atMost := 0
	if stays {
		atMost = -1
	}
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(l.ep), uintptr(unsafe.Pointer(&l.events[0])),
		uintptr(len(l.events)), uintptr(atMost), 0, 0)
	if errno != 0 {
		return 0 // interrupted, or closed: the next wait tells
	}
	return int(n)
}

// enter registers a stream.
func (l *Loop) enter(s *Stream) {
	l.mu.Lock()
	if n := len(l.free); n > 0 {
		s.place, l.free = l.free[n-1], l.free[:n-1]
	} else {
		s.place = int32(len(l.streams)) //nolint:gosec // no more than descriptors
		l.streams = append(l.streams, nil)
	}
	l.streams[s.place] = s
	l.mu.Unlock()
	err := syscall.EpollCtl(l.ep, syscall.EPOLL_CTL_ADD, int(s.out.fd),
		&syscall.EpollEvent{Events: evIn | evOut | evEnd | evEdge, Fd: s.place})
	if err != nil { // no memory: the peer never gets a word, and so goes
		s.out.spoil(fmt.Errorf("couldn't watch a connection: %w", err))
	}
}

// leave forgets a stream, once. Events under way find nobody, or a newer stream in
// the same place, which just finds nothing to read.
func (l *Loop) leave(s *Stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.streams[s.place] = nil
	l.free = append(l.free, s.place)
}

// again lets the loop run a stream.
func (l *Loop) again(s *Stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ready = append(l.ready, s)
	if !l.awake {
		l.ring()
	}
}

// ring has the goroutine make a turn. The caller holds mu.
func (l *Loop) ring() {
	l.awake = true
	one := uint64(1)
	_, _, _ = syscall.RawSyscall(syscall.SYS_WRITE, uintptr(l.bell), uintptr(unsafe.Pointer(&one)), 8)
}

// duplicate returns a descriptor of the connection's socket that only we have.
func duplicate(c *Conn) (int, bool) {
	line, _ := lineOf(c.sock.Conn)
	if line == nil {
		return -1, false
	}
	sys, ok := line.Conn.(syscall.Conn)
	if !ok {
		return -1, false
	}
	raw, err := sys.SyscallConn()
	if err != nil {
		return -1, false
	}
	dup := -1
	err = raw.Control(func(fd uintptr) {
		n, _, errno := syscall.RawSyscall(syscall.SYS_FCNTL, fd, syscall.F_DUPFD_CLOEXEC, 0)
		if errno == 0 {
			dup = int(n)
		}
	})
	return dup, err == nil && dup >= 0
}

func closeFD(fd int) {
	if fd >= 0 {
		_ = syscall.Close(fd)
	}
}

// halfClose ends the sending half. The close that follows does the rest.
func halfClose(fd int) { _ = syscall.Shutdown(fd, syscall.SHUT_WR) }

// recv reads without waiting; 0 bytes without an error are the end.
func recv(fd int, b []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)),
			syscall.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}

// transmit sends without waiting and returns how many bytes the socket took.
func transmit(fd int, b []byte) (int, error) {
	const flags = syscall.MSG_NOSIGNAL | syscall.MSG_DONTWAIT
	for sent := 0; ; {
		if sent == len(b) {
			return sent, nil
		}
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[sent])),
			uintptr(len(b)-sent), flags, 0, 0)
		switch errno {
		case 0:
			sent += int(n)
		case syscall.EINTR:
		case syscall.EAGAIN:
			return sent, nil
		default:
			return sent, errno
		}
	}
}
