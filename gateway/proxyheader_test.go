package gateway_test

import (
	"bytes"
	"encoding/hex"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"bollard/gateway"
)

const proxyMagic = "0d0a0d0a000d0a515549540a" // \r\n\r\n\0\r\nQUIT\n

// Headers as bytes on the wire, written out by hand from proxy-protocol.txt §2.2.
func TestProxyHeader(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, header, want, refused string }{
		{"TCP over IPv4", proxyMagic + "21" + "11" + "000c" + "c0000207" + "7f000001" + "d431" + "20fb", "192.0.2.7:54321", ""},
		{"TCP over IPv6", proxyMagic + "21" + "21" + "0024" + "20010db8000000000000000000000007" + strings.Repeat("00", 15) + "01" + "d431" + "20fb", "[2001:db8::7]:54321", ""},
		{"IPv4 in IPv6", proxyMagic + "21" + "21" + "0024" + strings.Repeat("00", 10) + "ffffc0000207" + strings.Repeat("00", 16) + "d431" + "20fb", "192.0.2.7:54321", ""},
		{"TLVs after it", proxyMagic + "21" + "11" + "0010" + "c0000207" + "7f000001" + "d431" + "20fb" + "04000100", "192.0.2.7:54321", ""},
		{"a health check", proxyMagic + "20" + "00" + "0000", "none", ""},
		{"a health check with addresses", proxyMagic + "20" + "11" + "000c" + "c0000207" + "7f000001" + "d431" + "20fb", "none", ""},
		{"a Unix socket", proxyMagic + "21" + "31" + "00d8" + strings.Repeat("2f", 216), "none", ""},
		{"version 1", hex.EncodeToString([]byte("PROXY TCP4 192.0.2.7 127.0.0.1 54321 8443\r\n")), "", "no PROXY header of version 2"},
		{"TLS", "160301020001000100" + strings.Repeat("00", 9), "", "no PROXY header of version 2"},
		{"version 3", proxyMagic + "31" + "11" + "000c" + "c0000207" + "7f000001" + "d431" + "20fb", "", "unknown version or command 0x31"},
		{"unknown command", proxyMagic + "22" + "11" + "000c" + "c0000207" + "7f000001" + "d431" + "20fb", "", "unknown version or command 0x22"},
		{"addresses too short", proxyMagic + "21" + "11" + "000b" + "c0000207" + "7f000001" + "d431" + "20", "", "11 bytes of addresses, want 12"},
		{"IPv4 addresses for IPv6", proxyMagic + "21" + "21" + "000c" + "c0000207" + "7f000001" + "d431" + "20fb", "", "12 bytes of addresses, want 36"},
		{"too long", proxyMagic + "21" + "11" + "ffff" + strings.Repeat("00", 0xffff), "", "at most 2048"},
		{"cut in the signature", proxyMagic[:10], "", "no whole PROXY header"},
		{"cut in the addresses", proxyMagic + "21" + "11" + "000c" + "c0000207", "", "no whole PROXY header"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			sent, err := hex.DecodeString(tt.header)
			if err != nil {
				t.Fatal(err)
			}
			r := bytes.NewReader(append(sent, "and TLS"...))
			if tt.refused != "" && strings.HasPrefix(tt.name, "cut") {
				r = bytes.NewReader(sent)
			}
			from, err := gateway.ProxyHeader(r)
			if tt.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tt.refused) {
					t.Fatalf("got %v, %v, want an error with %q", from, err, tt.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := from.String(); from.IsValid() && got != tt.want || !from.IsValid() && tt.want != "none" {
				t.Errorf("from %s, want %s", got, tt.want)
			}
			if r.Len() != len("and TLS") {
				t.Errorf("%d bytes are left, want those of TLS", r.Len())
			}
		})
	}
}

// FuzzProxyHeader wants no byte read that isn't the header's, and no address
// that the header doesn't hold.
func FuzzProxyHeader(f *testing.F) {
	for _, seed := range []string{"21" + "11" + "000c" + "c0000207" + "7f000001" + "d431" + "20fb", "20" + "00" + "0000", "21" + "21" + "ffff"} {
		data, err := hex.DecodeString(proxyMagic + seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		from, err := gateway.ProxyHeader(r)
		if err != nil {
			return
		}
		read := data[:len(data)-r.Len()]
		if len(read) != 16+int(read[14])<<8+int(read[15]) {
			t.Fatalf("%d bytes read of a header that says %d", len(read), int(read[14])<<8+int(read[15]))
		}
		if from.IsValid() && !bytes.Contains(read[16:], from.Addr().AsSlice()) {
			t.Fatalf("%s isn't in the header", from)
		}
	})
}

// via dials through a balancer that says the station is at from.
func (r *rig) via(t *testing.T, header []byte, id string) (*link, error) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", r.addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write(header); err != nil {
		t.Fatal(err)
	}
	return r.over(conn, r.tlsConfig(), request("/ocpp/"+id, nil))
}

func proxiedFrom(ip [4]byte) []byte {
	head, _ := hex.DecodeString(proxyMagic + "21" + "11" + "000c")
	return append(append(head, ip[:]...), 127, 0, 0, 1, 0xd4, 0x31, 0x20, 0xfb)
}

// The source a named balancer gives is the one that is judged and counted; the
// session works on it as on a direct connection.
func TestNamedProxySaysWhoConnects(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(cfg *gateway.Config, _ *rig) {
		cfg.Listeners[0].Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		cfg.Limits.PerSource = 1
	})
	// Somebody who only holds the door open pushes out nobody of another source.
	held, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if _, err := held.Write(proxiedFrom([4]byte{198, 51, 100, 1})); err != nil {
		t.Fatal(err)
	}
	s, err := r.via(t, proxiedFrom([4]byte{192, 0, 2, 7}), "CS-1")
	if err != nil {
		t.Fatal(err)
	}
	b := r.csms.next(t)
	t.Cleanup(func() { b.conn.Close() })
	s.send(t, `[2,"1","Heartbeat",{}]`)
	b.want(t, `[2,"1","Heartbeat",{}]`)
	r.door.mu.Lock()
	got := r.door.claims[0].Source
	r.door.mu.Unlock()
	if got != netip.MustParseAddr("192.0.2.7") {
		t.Errorf("judged as %s", got)
	}
	if n := r.metric(t, "handshake_failures_total", "class=too-many-open"); n != 0 {
		t.Errorf("%v connections pushed out: sources aren't told apart", n)
	}
}

// A balancer that doesn't say whom it brings is refused, and nobody else is
// believed.
func TestProxyHeaderOfStrangersIsRefused(t *testing.T) {
	t.Parallel()
	named := newRig(t, func(cfg *gateway.Config, _ *rig) {
		cfg.Listeners[0].Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	})
	if _, err := named.via(t, nil, "CS-1"); err == nil {
		t.Error("a balancer without a header got in")
	}
	if n := named.metric(t, "handshake_failures_total", "class=proxy-header"); n != 1 {
		t.Errorf("%v counted, want 1", n)
	}
	for name, proxies := range map[string][]netip.Prefix{"nobody": nil, "others": {netip.MustParsePrefix("10.0.0.0/8")}} {
		r := newRig(t, func(cfg *gateway.Config, _ *rig) { cfg.Listeners[0].Proxies = proxies })
		if _, err := r.via(t, proxiedFrom([4]byte{192, 0, 2, 7}), "CS-1"); err == nil {
			t.Errorf("%s is named: a station's own header was taken", name)
		}
		if _, err := r.via(t, nil, "CS-1"); err != nil {
			t.Errorf("%s is named: a station without header: %v", name, err)
		}
		r.csms.next(t).conn.Close()
	}
}

// A header that never ends holds its connection no longer than a handshake may
// take, and holds up no stop.
func TestProxyHeaderThatNeverEnds(t *testing.T) {
	t.Parallel()
	for name, handshake := range map[string]time.Duration{"in time": 50 * time.Millisecond, "at the end": time.Hour} {
		r := newRig(t, func(cfg *gateway.Config, _ *rig) {
			cfg.Listeners[0].Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
			cfg.Limits.Handshake = handshake
		})
		conn, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		if handshake > time.Minute {
			eventually(t, "accepted", func() bool { return r.metric(t, "connections_total") == 1 })
			r.stop()
		}
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := conn.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
			t.Errorf("%s: the connection stays: %v", name, err)
		}
	}
}
