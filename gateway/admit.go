package gateway

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"bollard/fleet"
	"bollard/ocpp"
)

// webSocketVersion is the one of RFC 6455 §4.1.
const webSocketVersion = "13"

const classHandshake = "handshake"

// refusal is why a connection gets no session.
type refusal struct {
	status     int
	class      string // metric label
	reason     string // for the operator
	retryAfter time.Duration
	err        error
	logged     bool // by the Door
}

// admission is one request on its way to a session.
type admission struct {
	g        *Gateway
	l        *Listener
	ctx      context.Context // ends with the request and with the gateway
	peer     net.Addr
	w        http.ResponseWriter
	r        *http.Request
	settings *settings
	claim    fleet.Claim
	proven   fleet.Admission
	pending  *pending
}

// admission books a request; no router sees its path. Whoever books decides.
func (g *Gateway) admission(ctx context.Context, l *Listener, untrusted string, v *visit) *admission {
	return &admission{claim: fleet.Claim{Untrusted: untrusted}, g: g, l: l, ctx: ctx, peer: v.conn.RemoteAddr(), w: v, r: v.request,
		settings: g.settings.Load(), pending: g.registry.expect()}
}

// decide makes a session of the request, or refuses it.
func (a *admission) decide() {
	if a.pending == nil {
		a.refuse(a.later("shutdown", "the gateway is shutting down", nil))
		return
	}
	defer a.g.registry.forget(a.pending)
	defer a.recovered()

	ref := a.read()
	if ref == nil {
		ref = a.prove()
	}
	if ref == nil {
		ref = a.open()
	}
	if ref != nil {
		a.refuse(ref)
	}
}

// recovered survives a panic; the connection is closed without an answer.
func (a *admission) recovered() {
	if p := recover(); p != nil {
		a.g.metrics.panics.Inc()
		a.g.log.Error("panic while admitting a station", "err", fmt.Sprint(p), "stack", string(debug.Stack()))
	}
}

// read judges the request and collects the claim. It looks at the request line
// as it came: decoded or cleaned paths have deceived others.
func (a *admission) read() *refusal {
	bad := func(class, reason string) *refusal {
		return &refusal{status: http.StatusBadRequest, class: class, reason: reason}
	}
	id, err := ocpp.ParsePath(a.r.RequestURI, a.g.cfg.Path)
	switch {
	case a.r.Method != http.MethodGet:
		return &refusal{status: http.StatusMethodNotAllowed, class: "method", reason: "method is not GET"}
	case a.r.ContentLength != 0 || len(a.r.TransferEncoding) > 0:
		return bad("body", "request has a body")
	case err != nil:
		return &refusal{status: http.StatusBadRequest, class: "path", reason: err.Error(),
			err: fmt.Errorf("request target %s", strconv.QuoteToASCII(shownTarget(a.r.RequestURI)))}
	}
	a.claim.Identity = id
	switch {
	case !a.r.ProtoAtLeast(1, 1), !hasToken(a.r.Header, "Connection", "upgrade"), !hasToken(a.r.Header, "Upgrade", "websocket"),
		!slices.Equal(a.r.Header.Values("Sec-Websocket-Version"), []string{webSocketVersion}), !nonce(a.r.Header.Values("Sec-Websocket-Key")):
		return bad(classHandshake, "request is no WebSocket handshake (RFC 6455 §4.2.1)")
	case a.l.RefuseOrigin && len(a.r.Header.Values("Origin")) > 0:
		return &refusal{status: http.StatusForbidden, class: "origin", reason: "request has an Origin header"}
	case len(a.r.Header.Values("Authorization")) > 1:
		return bad("authorization", "request has more than one Authorization header")
	}
	if a.claim.Source = addrOf(a.peer); !a.claim.Source.IsValid() {
		return bad("address", "connection has no IP address")
	}
	a.claim.Listener, a.claim.Profiles = a.l.Name, a.l.Profiles
	a.claim.Allow, a.claim.Trust = a.l.Allow, a.l.Trust
	a.claim.NewChain = a.l.NewChain
	a.claim.Offered = offered(a.r.Header)
	a.claim.Adopts = a.adopts
	if a.r.TLS != nil {
		a.claim.TLS, a.claim.TLS13 = true, a.r.TLS.Version == tls.VersionTLS13
		if slices.Contains(a.l.Profiles, 3) {
			a.claim.Certificates = a.r.TLS.PeerCertificates
		}
	}
	// BasicAuth splits at the first colon and keeps any bytes, as OCPP-J 1.6
	// §6.2.2 needs.
	if user, password, ok := a.r.BasicAuth(); ok {
		a.claim.Basic = &fleet.Basic{User: user, Password: []byte(password)}
	}
	return nil
}

// shownTarget is as much of a request target as tells what is wrong with it:
// what follows the identity may be a token or a password.
func shownTarget(target string) string {
	if i := strings.IndexAny(target, "?#;"); i >= 0 {
		target = target[:i] + "…"
	}
	if parts := strings.SplitN(target, "/", 4); len(parts) == 4 {
		parts[3] = "…"
		target = strings.Join(parts, "/")
	}
	return capped(target)
}

// prove asks the Door.
func (a *admission) prove() *refusal {
	proven, err := a.g.cfg.Door.Admit(a.ctx, a.claim)
	if err == nil {
		a.proven = proven
		return nil
	}
	return a.unproven(err)
}

// unproven turns the Door's error into a refusal.
func (a *admission) unproven(err error) *refusal {
	if told, ok := errors.AsType[*fleet.Refusal](err); ok {
		status := told.Status
		if status < 400 || status > 599 {
			status = http.StatusServiceUnavailable
		}
		// What the Door refuses it logs, once a minute for each station; that it
		// had no time to judge is not a refusal.
		return &refusal{status: status, class: "admission", reason: told.Reason, retryAfter: told.RetryAfter, logged: status < 500}
	}
	return a.later("door-failed", "couldn't judge the claim", err)
}

// later is a 503: nothing is wrong with the station.
func (a *admission) later(class, reason string, err error) *refusal {
	return &refusal{status: http.StatusServiceUnavailable, class: class, reason: reason, err: err,
		retryAfter: a.settings.limits.RetryAfter}
}

// refuse answers with a status and its text, nothing else, and tells the operator the rest.
func (a *admission) refuse(ref *refusal) {
	a.g.metrics.refusals.WithLabelValues(ref.class).Inc()
	proven := a.proven.Profile != 0
	if proven {
		a.g.failures.note(a.claim.Identity.Key(), ref.text(), a.g.cfg.Clock())
	}
	if !ref.logged {
		a.complain(ref, proven)
	}
	h := a.w.Header()
	if ref.status == http.StatusUnauthorized && (slices.Contains(a.l.Profiles, 1) || slices.Contains(a.l.Profiles, 2)) {
		h.Set("WWW-Authenticate", `Basic realm="ocpp"`)
	}
	if ref.status == http.StatusMethodNotAllowed {
		h.Set("Allow", http.MethodGet)
	}
	if ref.class == classHandshake { // RFC 6455 §4.2.2, §4.4: what is understood here
		h.Set("Sec-WebSocket-Version", webSocketVersion)
	}
	if ref.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((ref.retryAfter+time.Second-1)/time.Second)))
	}
	http.Error(a.w, http.StatusText(ref.status), ref.status)
}

// complain logs a refusal. Neither a stranger nor a fleet without its back end
// may fill the log.
func (a *admission) complain(ref *refusal, proven bool) {
	peers := a.g.strangers
	if proven {
		peers = a.g.proven
	}
	ok, unlogged := peers.Allow()
	if !ok {
		return
	}
	args := []any{"station", a.claim.Identity.Key(), "listener", a.l.Name,
		"source", a.peer.String(), "status", ref.status, "class", ref.class, "reason", ref.reason, "unlogged", unlogged}
	if ref.err != nil {
		args = append(args, "err", ref.err)
	}
	a.g.log.Warn("connection refused", args...)
}

// text is the whole reason for an operator.
func (ref *refusal) text() string {
	if ref.err == nil {
		return ref.reason
	}
	return capped(ref.reason + ": " + ref.err.Error())
}

// hasToken looks for a token in a comma-separated header, without case.
func hasToken(h http.Header, name, token string) bool {
	for _, line := range h.Values(name) {
		for part := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}

// nonce wants one Sec-WebSocket-Key of 16 bytes (RFC 6455 §4.2.1): a later no
// would have cost the station its live session.
func nonce(keys []string) bool {
	if len(keys) != 1 {
		return false
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(keys[0]))
	return err == nil && len(key) == 16
}

// offered returns the station's subprotocols in its order of preference, at
// most 16.
func offered(h http.Header) []string {
	var list []string
	for _, line := range h.Values("Sec-Websocket-Protocol") {
		for part := range strings.SplitSeq(line, ",") {
			if name := strings.TrimSpace(part); name != "" && len(list) < 16 && !slices.Contains(list, name) {
				list = append(list, name)
			}
		}
	}
	return list
}
