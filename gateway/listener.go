package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"bollard/detect"
	"bollard/internal/ws"
)

// Listener is one front door.
type Listener struct {
	Name     string
	Net      net.Listener // already bound; TLS is added here
	Profiles []int        // accepted security profiles; 1 means plain ws and stands alone
	Allow    []string     // identities this listener is limited to; empty: all
	// Trust limits the station roots of this listener, as fleet.Claim.Trust has it.
	Trust []string
	// Certificate picks the server certificate; nil on a profile 1 listener.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// NewChain says that its certificates lead to the CSMS root that follows.
	NewChain bool
	// Legacy allows TLS 1.0/1.1 and TLS_RSA_WITH_AES_128_CBC_SHA (A00.FR.324 [1.6]).
	Legacy       bool
	RefuseOrigin bool // refuse handshakes that carry an Origin header
	// Proxies are balancers that say by PROXY protocol v2, and must say, whom a
	// connection comes from. Whoever else connects is taken for a station.
	Proxies []netip.Prefix
}

// plain says that the listener speaks ws, not wss.
func (l *Listener) plain() bool { return slices.Equal(l.Profiles, []int{1}) }

func (l *Listener) check() error {
	fail := func(text string) error { return fmt.Errorf("gateway: listener %q: %s", l.Name, text) }
	if l.Net == nil {
		return fail("it is not bound")
	}
	if len(l.Profiles) == 0 {
		return fail("it accepts no security profile; name 2, 3 or both, or 1 alone")
	}
	for _, p := range l.Profiles {
		if p < 1 || p > 3 {
			return fail(fmt.Sprintf("security profile %d does not exist", p))
		}
		if p == 1 && !l.plain() {
			return fail("security profile 1 has no TLS and must stand alone")
		}
	}
	switch {
	case l.plain() && (l.Certificate != nil || l.Legacy):
		return fail("security profile 1 has no TLS settings")
	case !l.plain() && l.Certificate == nil:
		return fail("it has no server certificate")
	case l.Legacy && len(l.Allow) == 0:
		return fail("old TLS is for named stations only; set allow")
	}
	return nil
}

// door runs one listener: accept, then TLS handshake, request and admission in a
// goroutine of the connection's own.
type door struct {
	gateway *Gateway
	*Listener
	tls     *tlsSettings // nil on profile 1
	lobby   *lobby
	header  time.Duration // in which a request must come
	benches sync.Pool     // of *benches

	connections *crew
	meeting     sync.WaitGroup // connections that have not sent a request yet
}

func newDoor(g *Gateway, l *Listener, lobby *lobby) *door {
	d := &door{gateway: g, Listener: l, lobby: lobby, header: g.settings.Load().limits.Header, connections: newCrew(), benches: sync.Pool{New: newBenches}}
	if !l.plain() {
		d.tls = newTLSSettings(l, g)
	}
	return d
}

// run accepts until ctx ends or the listener fails. When it returns, the admissions
// under way are in the registry; Serve waits for them.
func (d *door) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { _ = d.Net.Close() })
	err := d.accept(ctx)
	if ctx.Err() != nil {
		err = nil
	}
	cancel() // requests not read yet end here
	stop()
	_ = d.Net.Close()
	d.meeting.Wait()
	return err
}

// accept hands every connection to a goroutine. Running out of descriptors is
// waited out: the stations that are there must not suffer from those to come.
func (d *door) accept(ctx context.Context) error {
	pause := time.Duration(0)
	for {
		conn, err := d.Net.Accept()
		if err != nil {
			var temporary interface{ Temporary() bool }
			if ctx.Err() != nil || !errors.As(err, &temporary) || !temporary.Temporary() {
				return fmt.Errorf("listener %q: couldn't accept: %w", d.Name, err)
			}
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			d.gateway.log.Warn("couldn't accept a connection; check the limit of open files", "listener", d.Name, "err", err)
			timer := time.NewTimer(pause)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
			timer.Stop()
			continue
		}
		pause = 0
		d.gateway.metrics.accepted.Inc()
		d.gateway.influx.came()
		limits := d.gateway.settings.Load().limits
		d.meeting.Add(1)
		if d.behind(conn) {
			d.connections.do(ctx, func() { d.introduce(ctx, conn, limits) })
			continue
		}
		guest := d.enter(conn, limits.PerSource)
		d.connections.do(ctx, func() { d.receive(ctx, guest, limits.Handshake) })
	}
}

// enter takes a connection into the lobby.
func (d *door) enter(conn net.Conn, perSource int) *guest {
	guest, out := d.lobby.enter(ws.NewLine(conn), perSource)
	if out != nil {
		d.failed(classCrowd, out.RemoteAddr())
		_ = out.Conn.Close() // its own goroutine sees the end
	}
	return guest
}

// introduce takes in a connection through a balancer, once it said from whom.
func (d *door) introduce(ctx context.Context, conn net.Conn, limits Limits) {
	station, err := introduced(ctx, conn, limits.Handshake)
	if err != nil {
		if ctx.Err() == nil {
			d.misled(err, conn.RemoteAddr())
		}
		_ = conn.Close()
		d.meeting.Done()
		return
	}
	d.receive(ctx, d.enter(station, limits.PerSource), limits.Handshake)
}

// misled tells the operator of a balancer that doesn't say whom it brings.
func (d *door) misled(err error, from net.Addr) {
	d.gateway.metrics.handshakes.WithLabelValues(d.Name, classProxy).Inc()
	if ok, unlogged := d.gateway.strangers.Allow(); ok {
		d.gateway.log.Warn("connection from a proxy refused; have it send PROXY protocol v2, or take it out of proxy_protocol",
			"listener", d.Name, "source", from.String(), "err", err, "unlogged", unlogged)
	}
}

// receive sees to a connection.
func (d *door) receive(ctx context.Context, guest *guest, timeout time.Duration) {
	conn, state := d.shake(ctx, guest, timeout)
	if conn == nil {
		d.meeting.Done()
		return
	}
	v := d.visit(conn)
	defer d.leave(v)
	defer v.end()
	read := v.read(ctx, d.header)
	untrusted := guest.checkOut()
	if !read {
		d.meeting.Done()
		return
	}
	a := d.gateway.admission(v.begin(d.gateway.work, state), d.Listener, untrusted, v)
	d.meeting.Done()
	a.decide()
}

// shake does the TLS handshake, where there is TLS. Without a connection it failed.
func (d *door) shake(ctx context.Context, guest *guest, timeout time.Duration) (net.Conn, *tls.ConnectionState) {
	if d.tls == nil {
		return guest, nil
	}
	secure := tls.Server(guest, d.tls.base)
	guest.begin(ctx, time.Now().Add(timeout))
	err := secure.HandshakeContext(ctx)
	state := secure.ConnectionState()
	if err == nil {
		guest.untrusted = d.tls.judge(ctx, state, d.Trust)
	}
	guest.finish()
	if err != nil {
		if ctx.Err() == nil {
			d.failed(guest.classify(err), guest.RemoteAddr())
		}
		_ = guest.Close()
		return nil, nil
	}
	return secure, &state
}

// failed counts a connection that came to nothing, and tells the operator of
// the two kinds the standard makes security events (A00.FR.323 [1.6], A00.FR.408).
func (d *door) failed(class string, from net.Addr) {
	d.gateway.metrics.handshakes.WithLabelValues(d.Name, class).Inc()
	switch class {
	case classVersion, classSuite, classCertificate, classCrowd:
		if class != classCrowd {
			d.gateway.cfg.Notice(detect.Sign{Kind: detect.RefusedTLS, Source: shownSource(sourceOf(from)), Detail: class})
		}
		if ok, unlogged := d.gateway.strangers.Allow(); ok {
			d.gateway.log.Warn("TLS handshake failed", "event", securityEvent(class), "reason", class,
				"listener", d.Name, "source", from.String(), "unlogged", unlogged)
		}
	default:
		d.gateway.log.Debug("TLS handshake failed", "reason", class, "listener", d.Name, "source", from.String())
	}
}
