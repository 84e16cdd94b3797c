package ws

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// direct reads and writes a connection with raw system calls that the scheduler
// doesn't see, and waits in the runtime's poller as ever. What the scheduler sees
// wakes its monitor thread each time the process had nothing to do: a tenth of
// what a handshake costs.
type direct struct {
	conn    net.Conn // for its addresses, in errors
	raw     syscall.RawConn
	in, out half
}

// half is one direction, whose calls go one after the other.
type half struct {
	mu   sync.Mutex
	p    []byte // to be filled, or sent
	n    int    // bytes of it that were
	err  error
	step func(fd uintptr) (done bool) // made once
}

// newDirect returns nil if the connection is no socket of this process.
func newDirect(c net.Conn) *direct {
	sys, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sys.SyscallConn()
	if err != nil {
		return nil
	}
	d := &direct{conn: c, raw: raw}
	d.in.step, d.out.step = d.in.read, d.out.write
	return d
}

func (h *half) read(fd uintptr) bool {
	h.n, h.err = recv(int(fd), h.p)
	return !errors.Is(h.err, syscall.EAGAIN)
}

func (h *half) write(fd uintptr) bool {
	n, err := transmit(int(fd), h.p[h.n:])
	h.n, h.err = h.n+n, err
	return err != nil || h.n == len(h.p)
}

func (d *direct) read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := d.carry(&d.in, p, d.raw.Read, "read")
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

func (d *direct) write(p []byte) (int, error) {
	return d.carry(&d.out, p, d.raw.Write, "write")
}

func (d *direct) carry(h *half, p []byte, wait func(func(uintptr) bool) error, op string) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.p, h.n, h.err = p, 0, nil
	defer func() { h.p = nil }()
	if err := wait(h.step); err != nil {
		return h.n, err // a deadline, or closed
	}
	if h.err != nil {
		return h.n, &net.OpError{Op: op, Net: "tcp", Source: d.conn.LocalAddr(), Addr: d.conn.RemoteAddr(), Err: os.NewSyscallError(op, h.err)}
	}
	return h.n, nil
}
