package gateway_test

import (
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"

	"bollard/gateway"
)

// BenchmarkHandshake is a connection of TLS 1.3 from its acceptance to its close, with
// the station's half, which is the same for both servers: crypto/tls alone, with the
// same suites and chain, tells what is the gateway's.
func BenchmarkHandshake(b *testing.B) {
	b.ReportAllocs()
	for _, server := range []struct {
		name  string
		start func(*testing.B) string
	}{{"gateway", shakingGateway}, {"bare", shakingBare}} {
		for _, resume := range []bool{false, true} {
			name := server.name + "/full"
			if resume {
				name = server.name + "/resumed"
			}
			b.Run(name, func(b *testing.B) { shakes(b, server.start(b), resume) })
		}
	}
}

func shakes(b *testing.B, addr string, resume bool) {
	p := testPKI()
	cfg := &tls.Config{RootCAs: p.roots, ServerName: "localhost", MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.CurveP256},
		Certificates: []tls.Certificate{p.client("CS-1")}}
	cfg.Certificates[0].Certificate = append(cfg.Certificates[0].Certificate, p.ca.Raw)
	if resume {
		cfg.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		shakeOnce(b, addr, cfg)
	}
	b.ReportAllocs()
	for b.Loop() {
		if got := shakeOnce(b, addr, cfg); got != resume {
			b.Fatalf("resumed: %v, want %v", got, resume)
		}
	}
}

func shakeOnce(b *testing.B, addr string, cfg *tls.Config) (resumed bool) {
	bare, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer bare.Close()
	conn := tls.Client(bare, cfg)
	if err := conn.Handshake(); err != nil {
		b.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		b.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); err != nil {
		b.Fatal(err)
	}
	return conn.ConnectionState().DidResume
}

func shakingGateway(b *testing.B) string {
	r := newRig(b, func(cfg *gateway.Config, _ *rig) { cfg.Log = slog.New(slog.DiscardHandler) })
	return r.addr
}

func shakingBare(b *testing.B) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	cfg := &tls.Config{GetCertificate: serverCertificate, ClientAuth: tls.RequestClientCert, ClientCAs: testPKI().roots, NextProtos: []string{"http/1.1"}}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				secure := tls.Server(conn, cfg)
				defer secure.Close()
				_, _ = io.Copy(io.Discard, secure)
			})
		}
	})
	b.Cleanup(func() { l.Close(); all.Wait() })
	return l.Addr().String()
}
