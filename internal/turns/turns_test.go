package turns_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"bollard/internal/turns"
)

// So many of one key at once, whoever else waits; who gives up leaves the queue, and
// another key is nobody's concern.
func TestTake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := turns.New(2)
		take := func(ctx context.Context, key string) func() {
			release, err := all.Take(ctx, key)
			if err != nil {
				t.Fatal(err)
			}
			return release
		}
		first, second := take(t.Context(), "a"), take(t.Context(), "a")
		take(t.Context(), "b")()
		ctx, cancel := context.WithCancel(t.Context())
		gone, third := make(chan error, 1), make(chan func(), 1)
		go func() {
			_, err := all.Take(ctx, "a")
			gone <- err
		}()
		synctest.Wait()
		go func() { third <- take(t.Context(), "a") }()
		synctest.Wait()
		if len(third) != 0 || all.Queue("a") != 4 {
			t.Errorf("%d have or want the turn", all.Queue("a"))
		}
		cancel()
		if err := <-gone; !errors.Is(err, context.Canceled) || all.Queue("a") != 3 {
			t.Errorf("who gave up: %v; %d are left", err, all.Queue("a"))
		}
		first()
		(<-third)()
		second()
		if n := all.Queue("a") + all.Queue("b"); n != 0 {
			t.Errorf("%d are left", n)
		}
	})
}
