package ws_test

import (
	"sync"
	"testing"

	"bollard/internal/ws"
)

// Whoever waits gets through, whether they came before the opening, at the same
// moment or after it.
func TestLatchOpensForEverybody(t *testing.T) {
	t.Parallel()
	for range 100 {
		var l ws.Latch
		select {
		case <-l.Opened():
			t.Fatal("open from the start")
		default:
		}
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() { <-l.Opened() })
			all.Go(l.Open)
		}
		all.Wait()
		<-l.Opened()
	}
}
