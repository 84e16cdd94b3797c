package gateway_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"testing"

	"bollard/e2e/rawws"
	"bollard/gateway"
)

// A gateway with the secrets of the one before it goes on with its TLS sessions,
// and judges whom they bring as ever.
func TestTicketsOutliveAGateway(t *testing.T) {
	t.Parallel()
	secret := func(b byte) []byte { return bytes.Repeat([]byte{b}, gateway.TicketSecretSize) }
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		sessions := tls.NewLRUClientSessionCache(4)
		cert := testPKI().client("CS-1")
		// visit makes a handshake and takes the ticket.
		visit := func(r *rig) (resumed bool) {
			t.Helper()
			cfg := r.tlsConfig(cert)
			cfg.MaxVersion, cfg.ClientSessionCache = version, sessions
			conn := must(tls.Dial("tcp", r.addr, cfg))
			defer conn.Close()
			_ = conn.CloseWrite()
			_, _ = io.Copy(io.Discard, conn)
			return conn.ConnectionState().DidResume
		}
		started := func(listener string, secrets ...[]byte) *rig {
			t.Helper()
			r := newRig(t, func(cfg *gateway.Config, _ *rig) { cfg.Listeners[0].Name = listener })
			if err := r.UseTickets(secrets); err != nil {
				t.Fatal(err)
			}
			return r
		}
		first := started("tls", secret(1))
		if visit(first) || !visit(first) {
			t.Error("the first gateway doesn't resume its own session alone")
		}
		first.stop()
		second := started("tls", secret(2), secret(1))
		if !visit(second) {
			t.Error("a session doesn't go on after a restart")
		}
		if !visit(second) {
			t.Error("nor once it has a ticket of the newer secret")
		}
		second.stop()
		if visit(started("other", secret(2), secret(1))) {
			t.Error("a listener takes another's tickets")
		}

		third := started("tls", secret(2))
		visit(third)
		if err := third.UseTickets([][]byte{secret(3), secret(2)}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if !visit(third) {
				t.Error("a session ends when the secret is renewed")
			}
		}
		if err := third.UseTickets([][]byte{secret(4)}); err != nil {
			t.Fatal(err)
		}
		if visit(third) {
			t.Error("a ticket outlives its secret")
		}

		fourth := started("tls", secret(4))
		fourth.door.mu.Lock()
		fourth.door.revoked["CS-1"] = true
		fourth.door.mu.Unlock()
		cfg := fourth.tlsConfig(cert)
		cfg.MaxVersion, cfg.ClientSessionCache = version, sessions
		if !visit(fourth) {
			t.Fatal("not resumed")
		}
		_, err := fourth.dial(t, cfg, request("/ocpp/CS-1", func(q *rawws.Request) { q.User, q.Password = "", nil }))
		if status(err) != 401 {
			t.Errorf("%s: a revoked certificate in a ticket from before the restart: %v, want 401", tls.VersionName(version), err)
		}
	}
	if err := newRig(t, nil).UseTickets([][]byte{{1, 2, 3}}); err == nil {
		t.Error("took a secret of three bytes")
	}
}
