package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"bollard/fleet"
	"bollard/internal/ws"
)

// adopts says whether the back end of a station may tell by its own 101 that a
// password is the station's.
func (a *admission) adopts(adm fleet.Admission) bool {
	b := a.settings.choose(adm, a.claim.Identity)
	return b != nil && a.g.cfg.Clock().Before(b.AdoptUntil)
}

// adopt dials the back end with the password the station presented, the one
// case in which something of an unproven station's request goes on. Only the
// back end's 101 makes it proven, and only once the password is stored. It never
// displaces a live session: nothing is proven yet.
func (a *admission) adopt(ctx context.Context, b *backend, versions []string) (*ws.Conn, *refusal) {
	if a.g.registry.occupant(a.claim.Identity.Key()) != nil {
		return nil, a.later("alive", "a connection of this identity is alive, and an unproven password may not displace it", nil)
	}
	upstream, err := b.dialAs(ctx, a.enrolled(), a.claim.Basic.Password, versions, a.settings.limits.WS)
	if err != nil {
		told, ok := errors.AsType[*ws.DialError](err)
		if ctx.Err() != nil {
			return nil, a.later("gone", fmt.Sprintf("the station gave up before back end %q answered", b.Name), err)
		}
		if !ok || told.Status != http.StatusUnauthorized && told.Status != http.StatusForbidden {
			a.g.metrics.dialFailures.WithLabelValues(b.Name).Inc()
			return nil, a.later("backend-down", fmt.Sprintf("couldn't reach back end %q", b.Name), err)
		}
		if _, err = a.g.cfg.Door.Adopted(ctx, a.claim, a.proven, false); err == nil {
			err = errors.New("internal error: a refused password was adopted")
		}
		return nil, a.unproven(err)
	}
	if b.Keep != nil {
		if err := b.Keep(ctx, a.claim.Identity.Key(), a.claim.Basic.Password); err != nil {
			upstream.Close(ws.CloseGoingAway, "")
			return nil, a.later("door-failed", "couldn't keep the adopted password for the back end", err)
		}
	}
	proven, err := a.g.cfg.Door.Adopted(ctx, a.claim, a.proven, true)
	if err != nil {
		upstream.Close(ws.CloseGoingAway, "")
		return nil, a.unproven(err)
	}
	a.proven = proven
	return upstream, nil
}
