package gateway

import (
	"context"
	"runtime/debug"
	"time"
)

// Admitting a station leaves some 50 KB behind: handshake, request, stacks. The
// runtime would keep that for minutes once nothing happens any more, and after
// a reconnect storm that is most of the process.
const (
	tidyEvery = 2 * time.Second
	tidyFrom  = 200 // stations admitted since the last time
)

// tidy gives memory back to the system in the first quiet moment after many
// admissions, until ctx ends.
func tidy(ctx context.Context, tick <-chan time.Time, admitted func() int64, free func()) {
	done, last := int64(0), int64(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		now := admitted()
		if now == last && now-done >= tidyFrom {
			free()
			done = now
		}
		last = now
	}
}

// tidyUp runs tidy beside the doors.
func (g *Gateway) tidyUp(ctx context.Context) {
	ticker := time.NewTicker(tidyEvery)
	defer ticker.Stop()
	tidy(ctx, ticker.C, g.admitted.Load, debug.FreeOSMemory)
}
