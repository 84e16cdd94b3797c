package ws

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// System calls, operations, flags and layout of io_uring(7); all architectures
// that Go knows but MIPS have these numbers.
const (
	sysRingSetup = 425
	sysRingEnter = 426

	ringSubmitAll  = 1 << 7 // IORING_SETUP_SUBMIT_ALL: an operation that fails doesn't keep back the next
	ringSingleMap  = 1 << 0 // IORING_FEAT_SINGLE_MMAP
	ringGetEvents  = 1 << 0 // IORING_ENTER_GETEVENTS
	ringEntriesMap = 0x10000000

	ringSend = 26
	ringRecv = 27

	ringEntry  = 64 // bytes of a submission
	ringResult = 16 // bytes of a completion
)

// ringSize is how many operations a ring carries out at once.
const ringSize = 32

// ringOffsets is where the kernel has put what it shares.
type ringOffsets struct {
	Head, Tail, Mask, Entries, A, B, C, D uint32
	_                                     uint64
}

// ringParams is struct io_uring_params.
type ringParams struct {
	Entries, Results, Flags, CPU, Idle, Features, Workers uint32
	_                                                     [3]uint32
	SQ                                                    ringOffsets // A: flags, B: dropped, C: array
	CQ                                                    ringOffsets // A: overflow, B: completions
}

// ring carries out many reads or sends by one system call: each of them costs
// more than the bytes of a message, the more so where the kernel has page tables
// of its own or is a guest. No operation waits, so that none is ever under way
// when do returns, and nobody else sees the ring.
type ring struct {
	fd           int
	shared       []byte // both queues
	entries      []byte
	sqTail       *uint32
	cqHead       *uint32
	cqTail       *uint32
	completions  []byte
	sqMask, mask uint32

	n       uint32
	results [ringSize]int32
}

// newRing fails where the kernel is older than 5.18, or is told to have no rings.
func newRing() (*ring, error) {
	p := ringParams{Flags: ringSubmitAll}
	fd, _, errno := syscall.RawSyscall(sysRingSetup, ringSize, uintptr(unsafe.Pointer(&p)), 0)
	if errno != 0 {
		return nil, fmt.Errorf("couldn't make a ring: %w", errno)
	}
	r := &ring{fd: int(fd)}
	err := r.share(&p)
	if err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (r *ring) share(p *ringParams) error {
	if p.Features&ringSingleMap == 0 {
		return errors.New("couldn't map a ring: the kernel is too old")
	}
	const access, kind = syscall.PROT_READ | syscall.PROT_WRITE, syscall.MAP_SHARED | syscall.MAP_POPULATE
	size := max(p.SQ.C+4*p.Entries, p.CQ.B+ringResult*p.Results)
	var err error
	if r.shared, err = syscall.Mmap(r.fd, 0, int(size), access, kind); err == nil {
		r.entries, err = syscall.Mmap(r.fd, ringEntriesMap, int(ringEntry*p.Entries), access, kind)
	}
	if err != nil {
		return fmt.Errorf("couldn't map a ring: %w", err)
	}
	word := func(offset uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.shared[offset])) }
	r.sqTail, r.cqHead, r.cqTail = word(p.SQ.Tail), word(p.CQ.Head), word(p.CQ.Tail)
	r.sqMask, r.mask = *word(p.SQ.Mask), *word(p.CQ.Mask)
	r.completions = r.shared[p.CQ.B:][:ringResult*p.Results]
	for i := range p.Entries { // an entry has the number of its place
		*word(p.SQ.C + 4*i) = i
	}
	return nil
}

func (r *ring) close() {
	if r.shared != nil {
		_ = syscall.Munmap(r.shared)
	}
	if r.entries != nil {
		_ = syscall.Munmap(r.entries)
	}
	closeFD(r.fd)
}

// add books one more operation, at most ringSize. Its result has the number of
// those before it.
func (r *ring) add(op byte, fd int, b []byte, flags uint32) {
	at := (atomic.LoadUint32(r.sqTail) + r.n) & r.sqMask
	e := r.entries[ringEntry*at:][:ringEntry]
	clear(e)
	e[0] = op
	binary.NativeEndian.PutUint32(e[4:], uint32(fd))
	binary.NativeEndian.PutUint64(e[16:], uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))))
	binary.NativeEndian.PutUint32(e[24:], uint32(len(b)))
	binary.NativeEndian.PutUint32(e[28:], flags|syscall.MSG_DONTWAIT) // what can't be done at once is EAGAIN
	binary.NativeEndian.PutUint64(e[32:], uint64(r.n))
	r.n++
}

// notDone is the result of an operation that the kernel didn't take.
const notDone = -int32(syscall.ENOBUFS)

// do carries out what was added.
func (r *ring) do() {
	n := r.n
	if r.n = 0; n == 0 {
		return
	}
	for i := range n {
		r.results[i] = notDone
	}
	tail := atomic.LoadUint32(r.sqTail)
	atomic.StoreUint32(r.sqTail, tail+n)
	taken := uint32(0)
	for taken < n {
		k, _, errno := syscall.RawSyscall6(sysRingEnter, uintptr(r.fd), uintptr(n-taken), 0, 0, 0, 0)
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 || k == 0 {
			atomic.StoreUint32(r.sqTail, tail+taken)
			break
		}
		taken += uint32(k)
	}
	for taken > 0 {
		head, end := *r.cqHead, atomic.LoadUint32(r.cqTail)
		if head == end { // can't be: nothing here waits
			_, _, errno := syscall.RawSyscall6(sysRingEnter, uintptr(r.fd), 0, 1, ringGetEvents, 0, 0)
			if errno != 0 && errno != syscall.EINTR { // what was received is lost: nothing can go on
				panic(fmt.Sprintf("internal error: a ring says nothing of %d operations: %v", taken, errno))
			}
			continue
		}
		for ; head != end; head++ {
			c := r.completions[ringResult*(head&r.mask):][:ringResult]
			r.results[binary.NativeEndian.Uint64(c)] = int32(binary.NativeEndian.Uint32(c[8:]))
			taken--
		}
		atomic.StoreUint32(r.cqHead, head)
	}
}
