package syslog_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"bollard/internal/syslog"
)

const patience = time.Minute

var noon = time.Date(2026, 11, 25, 12, 0, 0, 123_456_789, time.FixedZone("", 3600))

func clock() time.Time { return noon }

// sender sends to a UDP socket whose datagrams receive returns.
func sender(t testing.TB) (s *syslog.Sender, receive func(testing.TB) string) {
	t.Helper()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err = syslog.New(syslog.Config{URL: "udp://" + socket.LocalAddr().String(), Hostname: "gate-1", Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(); _ = socket.Close() })
	return s, func(t testing.TB) string {
		t.Helper()
		b := make([]byte, 1<<16)
		_ = socket.SetReadDeadline(time.Now().Add(patience))
		n, _, err := socket.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
}

func TestRFC5424Form(t *testing.T) {
	t.Parallel()
	head := func(pri, id string) string {
		return "<" + pri + ">1 2026-11-25T11:00:00.123456Z gate-1 bollard " + strconv.Itoa(os.Getpid()) + " " + id + " "
	}
	for name, tt := range map[string]struct {
		message syslog.Message
		want    string
	}{
		"bare":        {syslog.Message{}, head("104", "-") + "-"},
		"severity":    {syslog.Message{Severity: syslog.Notice, ID: "alert.fired", Text: "shadowing"}, head("109", "alert.fired") + "- \xef\xbb\xbfshadowing"},
		"data":        {syslog.Message{Data: []syslog.Param{{"size", "12"}, {"root", "ab="}}}, head("104", "-") + `[bollard@32473 size="12" root="ab="]`},
		"own time":    {syslog.Message{Time: noon}, head("104", "-") + "-"},
		"§6.3.3":      {syslog.Message{Data: []syslog.Param{{"x", `a"b]c\d\n`}}}, head("104", "-") + `[bollard@32473 x="a\"b\]c\\d\\n"]`},
		"line break":  {syslog.Message{Text: "one\n<104>1 two\r\x00\x1b[2J"}, head("104", "-") + "- \xef\xbb\xbfone\ufffd<104>1 two\ufffd\ufffd\ufffd[2J"},
		"break value": {syslog.Message{Data: []syslog.Param{{"x", "a\nb"}}}, head("104", "-") + "[bollard@32473 x=\"a\ufffdb\"]"},
		"turned text": {syslog.Message{Text: "a\u202eb\u2028c\u0085d\u200be"}, head("104", "-") + "- \xef\xbb\xbfa\ufffdb\ufffdc\ufffdd\ufffde"},
		"not UTF-8":   {syslog.Message{Text: "ü\xff"}, head("104", "-") + "- \xef\xbb\xbfü\ufffd"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, receive := sender(t)
			if err := s.Send(t.Context(), tt.message); err != nil {
				t.Fatal(err)
			}
			if got := receive(t); got != tt.want {
				t.Errorf("sent %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestLongTextIsCutAtACharacter(t *testing.T) {
	t.Parallel()
	s, receive := sender(t)
	for _, first := range []string{"", "x"} {
		if err := s.Send(t.Context(), syslog.Message{Text: first + strings.Repeat("ü", 4000)}); err != nil {
			t.Fatal(err)
		}
		got := receive(t)
		if len(got) < 2047 || len(got) > 2048 || !strings.HasSuffix(got, "ü") || strings.Contains(got, "\ufffd") {
			t.Errorf("%d bytes, ending %q", len(got), got[len(got)-4:])
		}
	}
}

func TestWrongMessagesAreRefused(t *testing.T) {
	t.Parallel()
	s, _ := sender(t)
	for name, m := range map[string]syslog.Message{
		"severity":       {Severity: 8},
		"id with space":  {ID: "a b"},
		"long id":        {ID: strings.Repeat("a", 33)},
		"name with =":    {Data: []syslog.Param{{"a=b", ""}}},
		"name with ]":    {Data: []syslog.Param{{"a]", ""}}},
		"no name":        {Data: []syslog.Param{{"", ""}}},
		"too much data":  {Data: []syslog.Param{{"a", strings.Repeat("x", 2048)}}},
		"name not ASCII": {Data: []syslog.Param{{"ä", ""}}},
	} {
		if err := s.Send(t.Context(), m); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"tls://logs.example.com":       "tls://logs.example.com:6514",
		"udp://logs.example.com":       "udp://logs.example.com:514",
		"tcp://[::1]:601":              "tcp://[::1]:601",
		"http://logs.example.com":      "",
		"logs.example.com:514":         "",
		"tls://":                       "",
		"tls://a:b@logs.example.com":   "",
		"tls://logs.example.com/x":     "",
		"tcp://logs.example.com:514?x": "",
	} {
		s, err := syslog.New(syslog.Config{URL: url})
		if (err == nil) != (want != "") || err == nil && s.String() != want {
			t.Errorf("%s: %v, %v; want %q", url, s, err, want)
		}
	}
	for name, cfg := range map[string]syslog.Config{
		"facility": {URL: "udp://a", Facility: 24},
		"host":     {URL: "udp://a", Hostname: "two words"},
		"app":      {URL: "udp://a", AppName: strings.Repeat("a", 49)},
	} {
		if _, err := syslog.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// receiver accepts connections and hands out the frames of each (RFC 6587
// §3.4.1), until the other side ends it.
func receiver(t *testing.T, l net.Listener) (frames <-chan string, end func()) {
	t.Helper()
	out := make(chan string)
	conns := make(chan net.Conn, 8)
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns <- conn
			read(conn, out, quit)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		close(quit)
		for len(conns) > 0 {
			_ = (<-conns).Close()
		}
		<-done
	})
	return out, func() { _ = (<-conns).Close() }
}

func read(conn net.Conn, out chan<- string, quit <-chan struct{}) {
	r := bufio.NewReader(conn)
	send := func(frame string) {
		select {
		case out <- frame:
		case <-quit:
		}
	}
	for {
		digits, err := r.ReadString(' ')
		if err != nil {
			return
		}
		n, err := strconv.Atoi(strings.TrimSuffix(digits, " "))
		if err != nil {
			send("no length: " + digits)
			return
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			return
		}
		send(string(b))
	}
}

func next(t *testing.T, frames <-chan string) string {
	t.Helper()
	select {
	case f := <-frames:
		return f
	case <-time.After(patience):
		t.Fatal("no message arrived")
		return ""
	}
}

// certificate is a self-signed one for 127.0.0.1.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestFramesOverTLS(t *testing.T) {
	t.Parallel()
	own, pool := certificate(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	frames, _ := receiver(t, l)
	s, err := syslog.New(syslog.Config{URL: "tls://" + l.Addr().String(), RootCAs: pool, Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"first", "12 second", "third\n"} {
		if err := s.Send(t.Context(), syslog.Message{Text: text}); err != nil {
			t.Fatal(err)
		}
		if got, want := next(t, frames), "\xef\xbb\xbf"+strings.ReplaceAll(text, "\n", "\ufffd"); !strings.HasSuffix(got, want) {
			t.Errorf("%q arrived, want %q", got, want)
		}
	}
	s.Close() // the receiver takes one connection after the other
	stranger, err := syslog.New(syslog.Config{URL: "tls://" + l.Addr().String(), RootCAs: x509.NewCertPool(), Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	var unknown x509.UnknownAuthorityError
	if err := stranger.Send(t.Context(), syslog.Message{Text: "secret"}); !errors.As(err, &unknown) {
		t.Errorf("a receiver nobody vouches for: %v, want %T", err, unknown)
	}
}

// A receiver that demands a certificate says so only after the handshake seems
// done (TLS 1.3): the loss must be told.
func TestReceiverThatRefusesOurCertificateIsTold(t *testing.T) {
	t.Parallel()
	own, pool := certificate(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAnyClientCert})
	if err != nil {
		t.Fatal(err)
	}
	receiver(t, l)
	s, err := syslog.New(syslog.Config{URL: "tls://" + l.Addr().String(), RootCAs: pool, Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range 1000 {
		if err := s.Send(t.Context(), syslog.Message{Text: "lost"}); err != nil {
			return
		}
	}
	t.Error("a thousand messages seemed sent")
}

func TestNewConnectionAfterTheReceiverEndedIt(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	frames, end := receiver(t, l)
	s, err := syslog.New(syslog.Config{URL: "tcp://" + l.Addr().String(), Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Send(t.Context(), syslog.Message{Text: "first"}); err != nil {
		t.Fatal(err)
	}
	next(t, frames)
	end()
	// Until the end is noticed a message may still go into the old connection.
	deadline := time.After(patience)
	for {
		if err := s.Send(t.Context(), syslog.Message{Text: "again"}); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Logf("the old connection: %v", err)
		}
		select {
		case <-frames:
			return
		case <-deadline:
			t.Fatal("nothing arrived over a new connection")
		default:
		}
	}
}

func TestSendEndsWithItsContext(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts nothing, reads nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := syslog.New(syslog.Config{URL: "tls://" + l.Addr().String(), Clock: clock, Timeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), syslog.Message{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a silent receiver: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Send(ctx, syslog.Message{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that ended: %v", err)
	}
}
