package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"bollard/internal/ws"
)

// Serve accepts on all listeners until ctx ends or one of them fails, then
// drains: no station gets in, the live ones are told to go away (1001), and what
// services have begun may finish within Limits.DrainTimeout. It may be called once.
func (g *Gateway) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	loops, err := ws.NewLoops()
	if err != nil {
		return fmt.Errorf("couldn't start the event loops: %w", err)
	}
	defer loops.Close()
	g.loops.Store(loops)
	lobby := newLobby(g.settings.Load().limits.HandshakesAtOnce)
	var doors sync.WaitGroup
	failures := make(chan error, len(g.cfg.Listeners))
	var connections []*crew
	for i := range g.cfg.Listeners {
		d := newDoor(g, &g.cfg.Listeners[i], lobby)
		connections = append(connections, d.connections)
		doors.Go(func() {
			defer cancel() // a gateway with a door missing is none
			failures <- d.run(ctx)
		})
	}
	doors.Go(func() { g.tidyUp(ctx) })
	<-ctx.Done()
	g.registry.drain()
	doors.Wait()
	g.drain()
	for _, c := range connections {
		c.wait()
	}
	for range g.cfg.Listeners {
		err = errors.Join(err, <-failures)
	}
	return err
}

// drain ends all sessions and waits for them, for admissions, and for what
// services still do; after the timeout their contexts end too.
func (g *Gateway) drain() {
	for _, s := range g.registry.all() {
		s.end(cause{class: "shutdown", reason: "the gateway is shutting down", down: ws.CloseGoingAway})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.registry.admitting.Wait()
		g.running.Wait()
	}()
	timer := time.NewTimer(g.settings.Load().limits.DrainTimeout)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		g.log.Warn("services did not finish in time; their work is cancelled")
	}
	g.stopWork()
	<-done
}
