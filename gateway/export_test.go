package gateway

import (
	"context"
	"net"
	"sync"
	"time"

	"bollard/fleet"
)

// OnLoop tells that a loop moves a session's frames, not two pumps.
func OnLoop(s fleet.Session) bool {
	own, ok := s.(*session)
	return ok && own.looped()
}

// TaskContext is the context of a session's tasks, nil without any.
func TaskContext(s fleet.Session) context.Context {
	own, ok := s.(*session)
	if !ok {
		return nil
	}
	own.tasksMu.Lock()
	defer own.tasksMu.Unlock()
	if own.tasks == nil {
		return nil
	}
	return own.tasks.ctx
}

// Tidy is tidy with its clock, its view of the heap and its effect from outside.
var Tidy = tidy

// Heap is what it looks at, and LookAtHeap how.
type Heap = heap

var LookAtHeap = lookAtHeap

// WatchAfter is when an admission begins to look whether its station has hung up.
const WatchAfter = watchAfter

// ProxyHeader reads one PROXY header.
var ProxyHeader = proxyHeader

// What the log shows of a request.
var (
	ShownTarget = shownTarget
	ShownOffer  = shownOffer
)

// ReadsRequest reads the request of a connection.
func ReadsRequest(ctx context.Context, conn net.Conn, patience time.Duration) bool {
	d := &door{benches: sync.Pool{New: newBenches}}
	return d.visit(conn).read(ctx, patience)
}

// Influx meters connections.
func Influx(clock func() time.Time) (came func(), calm func() bool) {
	r := newInflux(clock)
	return r.came, r.calm
}
