package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bollard/detect"
	"bollard/internal/ws"
	"bollard/ocpp"
)

// lastTasks is the patience with what a replaced session still runs.
const lastTasks = 5 * time.Second

// open makes a session of a proven claim, alone for its identity: what was
// live is closed, then the back end is dialled, then the station gets its 101.
// Only then is the session live.
func (a *admission) open() *refusal {
	key := a.claim.Identity.Key()
	release, err := a.g.registry.turn(a.ctx, key)
	if err != nil {
		return a.later("crowd", "couldn't wait for the identity's turn", err)
	}
	defer release()

	if a.g.registry.restless(key) {
		a.g.metrics.flapping.Inc()
		a.notice(detect.Flapped, a.g.registry.live(key) != nil)
		a.book(a.ctx, "flapping")
		return a.later("flapping", fmt.Sprintf("%d sessions of this identity ended within %s in the last minute", maxBrief, briefly), nil)
	}
	backend := a.settings.choose(a.proven, a.claim.Identity)
	if backend == nil {
		return a.later("no-backend", "no back end matches this station; check backends in the configuration", nil)
	}
	versions, silent := a.versions(key)
	if len(versions) == 0 {
		a.decline()
		return nil
	}
	limits := a.settings.limits
	upstream, ref := a.upstream(a.ctx, key, backend, versions)
	if ref != nil {
		return ref
	}
	chosen := upstream.Subprotocol()
	if silent && chosen == "" {
		chosen = versions[0] // neither side names what both were configured for
	}
	version, ok := ocpp.ParseSubprotocol(chosen)
	if !ok {
		upstream.Close(ws.CloseNormal, "")
		a.decline()
		return nil
	}
	header := chosen
	if silent {
		header = "" // a station that offered none must be named none (RFC 6455 §4.2.2)
	}
	station, err := ws.Upgrade(a.w, a.r, header, limits.WS)
	if err != nil {
		upstream.Close(ws.CloseGoingAway, "")
		a.g.metrics.refusals.WithLabelValues("upgrade").Inc()
		a.g.log.Warn("connection lost before its 101", "station", key, "err", err)
		return nil
	}
	a.start(key, backend, version, station, upstream)
	return nil
}

// enrolled is the identity the back end is told: a station may spell its own in
// another case (identifierString, OCPP 2.0.1 part 2 §2.1), but at a back end
// that compares with case it would be somebody else.
func (a *admission) enrolled() ocpp.Identity {
	if a.proven.Station.Identity == a.claim.Identity.Name {
		return a.claim.Identity
	}
	if id, err := ocpp.ParseIdentity(a.proven.Station.Identity); err == nil && id.Key() == a.claim.Identity.Key() {
		return id
	}
	return a.claim.Identity
}

// upstream dials the back end once nothing of the identity is live any more.
func (a *admission) upstream(ctx context.Context, key string, b *backend, versions []string) (*ws.Conn, *refusal) {
	if a.proven.Adopting {
		return a.adopt(ctx, b, versions)
	}
	if ref := a.replace(ctx, key); ref != nil {
		return nil, ref
	}
	upstream, err := b.dial(ctx, a.enrolled(), versions, a.settings.limits.WS)
	if err != nil && ctx.Err() != nil {
		return nil, a.later("gone", fmt.Sprintf("the station gave up before back end %q answered", b.Name), err)
	}
	if err != nil {
		a.g.metrics.dialFailures.WithLabelValues(b.Name).Inc()
		return nil, a.later("backend-down", fmt.Sprintf("couldn't reach back end %q", b.Name), err)
	}
	return upstream, nil
}

// versions returns what the back end is offered: the station's subprotocols in
// its order, less those Bollard can't judge. silent says that the station named
// none of them and is configured with one.
func (a *admission) versions(key string) (names []string, silent bool) {
	for _, name := range a.claim.Offered {
		if _, ok := ocpp.ParseSubprotocol(name); ok {
			names = append(names, name)
		}
	}
	if len(names) > 0 {
		return names, false
	}
	if v, ok := a.g.cfg.DefaultVersion[key]; ok {
		return []string{v.Subprotocol()}, true
	}
	return nil, false
}

// decline finishes the handshake without a subprotocol and closes at once, as
// the standard wants it if there is none in common (OCPP 2.0.1 part 4 §3.1.2).
func (a *admission) decline() {
	a.g.metrics.refusals.WithLabelValues("subprotocol").Inc()
	a.g.log.Warn("connection closed: no common OCPP version", "station", a.claim.Identity.Key(),
		"source", a.peer.String(), "offered", shownOffer(a.claim.Offered))
	conn, err := ws.Upgrade(a.w, a.r, "", a.settings.limits.WS)
	if err != nil {
		return // answered by ws
	}
	conn.Close(ws.CloseProtocolError, "no common subprotocol")
}

// shownOffer lists subprotocols for the log, those of OCPP alone: clients put
// tokens there, too.
func shownOffer(offered []string) string {
	var list []string
	for _, name := range offered {
		if len(name) > 12 || !strings.HasPrefix(strings.ToLower(name), "ocpp") {
			name = "…"
		}
		list = append(list, name)
	}
	return fmt.Sprintf("%q", list)
}

// replace closes the live session of the identity, its upstream too, or says
// why it must not: the newest proven connection wins, but not by flapping, and
// on profile 1, where the proof is worth least, only against a dead one.
func (a *admission) replace(ctx context.Context, key string) *refusal {
	old := a.g.registry.occupant(key)
	if old == nil {
		return nil
	}
	if !old.ending.Load() {
		if a.proven.Profile == 1 {
			ping, cancel := context.WithTimeout(ctx, a.settings.limits.Alive)
			err := old.station.Ping(ping)
			cancel()
			if ctx.Err() != nil {
				return a.later("gone", "the station went away while its older connection was asked", ctx.Err())
			}
			if err == nil {
				a.notice(detect.RefusedLive, true)
				a.book(ctx, "alive")
				return a.later("alive", "an older connection of this identity is alive, and profile 1 may not displace it", nil)
			}
		}
		if !a.g.registry.takeover(key, a.settings.limits.TakeoversPerMin) {
			a.g.metrics.flapping.Inc()
			a.notice(detect.Flapped, true)
			a.book(ctx, "flapping")
			return a.later("flapping", "this identity replaced its session too often; are there two stations with it?", nil)
		}
		a.g.metrics.takeovers.Inc()
		a.notice(detect.Displaced, true)
		old.end(cause{class: "replaced", reason: "a newer proven connection of this identity from " + a.claim.Source.String(),
			down: ws.ClosePolicyViolation})
	}
	select {
	case <-old.cut.Opened(): // ws bounds this: every close ends in little more than a second
	case <-ctx.Done():
		return a.later("gone", "the station went away while its older connection was closed", ctx.Err())
	}
	patience := time.NewTimer(lastTasks)
	defer patience.Stop()
	select {
	case <-old.done.Opened():
	case <-patience.C: // its sockets are closed; what still runs can't reach anybody
	case <-ctx.Done():
	}
	return nil
}

// notice tells of a sign about the identity, and whether it has a live session.
func (a *admission) notice(kind detect.Kind, live bool) {
	a.g.cfg.Notice(detect.Sign{Kind: kind, Station: a.claim.Identity.Key(), Source: shownSource(sourceOfAddr(a.claim.Source)), Live: live})
}

// book has it kept that the identity was put off.
func (a *admission) book(ctx context.Context, why string) {
	if b, ok := a.g.cfg.Door.(Book); ok {
		b.PutOff(ctx, a.proven, why)
	}
}

// start makes the session live and its pumps run.
func (a *admission) start(key string, b *backend, v ocpp.Version, station, upstream *ws.Conn) {
	g := a.g
	s := &session{
		id: randomID(), key: key, admission: a.proven, version: v, backend: b,
		limits: &a.settings.limits, opened: time.Since(g.made), gateway: g,
		mediator: newMediator(v, g.interests, &a.settings.limits),
	}
	s.carry(station, upstream)
	s.pumps.Add(2) // before anybody can end the session
	err := g.registry.enlist(a.pending, s, func() {
		g.running.Add(1)
		g.metrics.live(v, s.admission.Profile).Inc()
	})
	if err != nil {
		code := ws.ClosePolicyViolation
		if errors.Is(err, errDraining) {
			code = ws.CloseGoingAway
		}
		g.metrics.refusals.WithLabelValues("ended-early").Inc()
		s.log().Warn("session ended before it began", "reason", err)
		s.upstream.Close(ws.CloseGoingAway, "")
		s.station.Close(code, "")
		return
	}
	g.failures.forget(s.key)
	g.log.Info("session opened", "station", s.key, "session", s.id, "version", v.String(), "profile", s.admission.Profile, "backend", b.Name,
		"listener", a.l.Name, "source", a.claim.Source.String(), "notes", slices.Clone(s.admission.Notes))
	s.guarded("opened", func() { g.cfg.Guard.Opened(s) })
	s.move()
}
