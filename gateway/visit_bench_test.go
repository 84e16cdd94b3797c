package gateway_test

import (
	"bufio"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/textproto"
	"sync"
	"syscall"
	"testing"

	"bollard/fleet"
	"bollard/gateway"
	"bollard/internal/ws"
)

// BenchmarkVisit is a session from the station's connection to its 101, with the back
// end's half, and its end when the station hangs up. A Door and a Guard that do nothing
// leave what is the gateway's.
func BenchmarkVisit(b *testing.B) {
	b.Run("plain", func(b *testing.B) { visits(b, nil) })
	p := testPKI()
	b.Run("tls", func(b *testing.B) {
		visits(b, &tls.Config{RootCAs: p.roots, ServerName: "localhost", MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.CurveP256}})
	})
}

func visits(b *testing.B, secure *tls.Config) {
	backend := shortBackend(b)
	r := newRig(b, func(cfg *gateway.Config, r *rig) {
		if secure == nil {
			plain(cfg, r)
		}
		cfg.Door, cfg.Guard, cfg.Log = welcome{r.door}, silent{r.guard}, slog.New(slog.DiscardHandler)
		cfg.Backends[0].URL = "ws://" + backend + "/base"
		cfg.Limits.WS = ws.Limits{}
	})
	in := bufio.NewReader(nil)
	b.ReportAllocs()
	before, n := processorTime(b), 0
	for b.Loop() {
		n++
		if err := visitOnce(r.addr, secure, in, n); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(processorTime(b)-before)/1000/float64(n), "cpu-µs/op")
}

func visitOnce(addr string, secure *tls.Config, in *bufio.Reader, n int) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if secure != nil {
		conn = tls.Client(conn, secure)
	}
	_, err = fmt.Fprintf(conn, "GET /ocpp/CS-%d HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: ocpp1.6\r\n\r\n", n)
	if err != nil {
		return err
	}
	in.Reset(conn)
	head := textproto.NewReader(in)
	line, err := head.ReadLine()
	if err == nil {
		_, err = head.ReadMIMEHeader()
	}
	if err != nil || line != "HTTP/1.1 101 Switching Protocols" {
		return fmt.Errorf("answered %q, %w", line, err)
	}
	return nil
}

// shortBackend answers 101 with as little as it can and reads until the end.
func shortBackend(b *testing.B) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				in := bufio.NewReaderSize(c, 1<<10)
				r, err := http.ReadRequest(in)
				if err != nil {
					return
				}
				sum := sha1.Sum([]byte(r.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
				_, _ = c.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol: ocpp1.6\r\nSec-WebSocket-Accept: " +
					base64.StdEncoding.EncodeToString(sum[:]) + "\r\n\r\n"))
				_, _ = io.Copy(io.Discard, in)
			})
		}
	})
	b.Cleanup(func() { l.Close(); all.Wait() })
	return l.Addr().String()
}

// welcome lets everybody in and remembers nobody.
type welcome struct{ *door }

func (welcome) Admit(_ context.Context, c fleet.Claim) (fleet.Admission, error) {
	return fleet.Admission{Station: fleet.Proven{Identity: c.Identity.Name}, Profile: c.Profiles[0]}, nil
}

// silent remembers nothing.
type silent struct{ *guard }

func (silent) Opened(fleet.Session) {}
func (silent) Closed(fleet.Session) {}

// processorTime is the process's, in nanoseconds.
func processorTime(b *testing.B) int64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return used.Utime.Nano() + used.Stime.Nano()
}
