//go:build !linux

package ws

import (
	"errors"
	"net"
	"sync/atomic"
)

const (
	evIn uint32 = 1 << iota
	evOut
	evErr
	evHup
	evEnd
)

// Loops carry streams. Without epoll there are none, and every session keeps
// its two goroutines.
type Loops struct {
	loops []*Loop
	next  atomic.Uint32
}

// NewLoops returns none.
func NewLoops() (*Loops, error) { return &Loops{}, nil }

// Close does nothing.
func (l *Loops) Close() {}

// Loop doesn't exist here.
type Loop struct {
	clock      clock
	paces      paces
	buf, plain []byte
	in         []byte
	records    records
	batch      batch
}

type batch struct{}

func (batch) join(*Stream) bool { return false }

func (l *Loop) enter(*Stream) {}
func (l *Loop) leave(*Stream) {}
func (l *Loop) again(*Stream) {}

var errNoLoop = errors.New("internal error: no event loop on this system")

func duplicate(*Conn) (int, bool)       { return -1, false }
func halfClose(int)                     {}
func closeFD(int)                       {}
func recv(int, []byte) (int, error)     { return 0, errNoLoop }
func transmit(int, []byte) (int, error) { return 0, errNoLoop }

// direct doesn't exist here either.
type direct struct{}

func newDirect(net.Conn) *direct { return nil }

func (*direct) read([]byte) (int, error)  { return 0, errNoLoop }
func (*direct) write([]byte) (int, error) { return 0, errNoLoop }
