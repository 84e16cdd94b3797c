package safehttp_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bollard/internal/safehttp"
)

func TestGetAndPost(t *testing.T) {
	t.Parallel()
	cfg, url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/ocsp-response")
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "x"})
		if r.Header.Get("Accept-Encoding") != "" || r.Header.Get("Cookie") != "" || !r.Close {
			w.WriteHeader(http.StatusTeapot)
		}
		io.WriteString(w, r.Method+" "+r.Host+" "+r.URL.RequestURI()+" "+r.Header.Get("Content-Type")+" "+string(body))
	})
	c := newClient(t, cfg)
	host := strings.TrimPrefix(url, "http://")
	for range 2 { // twice: no cookie, no connection is kept
		got, err := c.Get(t.Context(), url+"/a%2Fb?c=d")
		if err != nil {
			t.Fatal(err)
		}
		if want := "GET " + host + " /a%2Fb?c=d  "; got.Status != 200 || string(got.Body) != want {
			t.Errorf("%d %q, want %q", got.Status, got.Body, want)
		}
	}
	got, err := c.Post(t.Context(), url, "application/ocsp-request", []byte("der"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "POST " + host + " / application/ocsp-request der"; string(got.Body) != want || got.Header.Get("Content-Type") != "application/ocsp-response" {
		t.Errorf("%q, want %q", got.Body, want)
	}
}

// Answers that aren't 200 are answers.
func TestStatus(t *testing.T) {
	t.Parallel()
	for _, status := range []int{204, 304, 404, 500} {
		cfg, url := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		got, err := newClient(t, cfg).Get(t.Context(), url)
		if err != nil || got.Status != status {
			t.Errorf("%d: %v, %v", status, got, err)
		}
	}
}

// A proxy in the environment would connect where it likes. This test changes
// the environment, so it runs alone.
func TestNoProxy(t *testing.T) {
	var proxied atomic.Bool
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { proxied.Store(true) }))
	defer proxy.Close()
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"} {
		t.Setenv(name, proxy.URL)
	}
	cfg, url := serve(t, func(http.ResponseWriter, *http.Request) {})
	if _, err := newClient(t, cfg).Get(t.Context(), url); err != nil || proxied.Load() {
		t.Errorf("%v, through the proxy: %v", err, proxied.Load())
	}
}

// A name that answers with a public address first and with loopback next: one
// look-up a request, and the connection goes to what was checked.
func TestRebinding(t *testing.T) {
	t.Parallel()
	r := &resolver{answers: map[string][][]netip.Addr{"rebind.example": {addrs("93.184.216.34"), addrs("127.0.0.1")}}}
	c := newClient(t, safehttp.Config{Hosts: []string{"*"}, Resolver: r})
	var d dialled
	c.SetDial(d.dial)
	_, err := c.Get(t.Context(), "http://rebind.example/")
	if got := rule(t, err); got != safehttp.RuleConnect {
		t.Fatalf("first: %q (%v)", got, err)
	}
	if asked := r.lookups(); len(asked) != 1 {
		t.Errorf("looked up %d times: %v", len(asked), asked)
	}
	if to := d.all(); len(to) != 1 || to[0] != netip.MustParseAddrPort("93.184.216.34:80") {
		t.Errorf("connected to %v", to)
	}
	_, err = c.Get(t.Context(), "http://rebind.example/")
	if got := rule(t, err); got != safehttp.RuleAddress || len(d.all()) != 1 {
		t.Errorf("second: %q (%v), connected to %v", got, err, d.all())
	}
}

// The socket refuses by itself, whatever the layers above let through.
func TestSocketRefuses(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	to := listener.Addr().(*net.TCPAddr).AddrPort()
	if conn, err := newClient(t, safehttp.Config{}).Dial(t.Context(), to); err == nil {
		conn.Close()
		t.Error("connected to loopback")
	}
	conn, err := newClient(t, safehttp.Config{AllowPrivate: loopback()}).Dial(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

// The second address is tried where the first doesn't answer.
func TestSecondAddress(t *testing.T) {
	t.Parallel()
	cfg, url := serve(t, func(http.ResponseWriter, *http.Request) {})
	cfg.Resolver = names(map[string][]string{"responder.example": {"127.0.0.9", "127.0.0.1"}})
	if _, err := newClient(t, cfg).Get(t.Context(), url); err != nil {
		t.Error(err)
	}
}

func TestTooManyAddresses(t *testing.T) {
	t.Parallel()
	var many []string
	for i := range 33 {
		many = append(many, "93.184.216."+strconv.Itoa(i))
	}
	var d dialled
	c := newClient(t, safehttp.Config{Hosts: []string{"*"}, Resolver: names(map[string][]string{"many.example": many, "some.example": many[:32]})})
	c.SetDial(d.dial)
	if _, err := c.Get(t.Context(), "http://many.example/"); rule(t, err) != safehttp.RuleResolve || len(d.all()) != 0 {
		t.Errorf("%v, connected to %v", err, d.all())
	}
	if _, err := c.Get(t.Context(), "http://some.example/"); rule(t, err) != safehttp.RuleConnect || len(d.all()) != 32 {
		t.Errorf("%v, connected to %v", err, d.all())
	}
}

func TestRedirects(t *testing.T) {
	t.Parallel()
	var targets atomic.Int64
	cfg, self := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/end" {
			targets.Add(1)
			io.WriteString(w, "end")
			return
		}
		location := r.URL.Query().Get("to")
		if r.URL.Path == "/again" {
			n, _ := strconv.Atoi(r.URL.Query().Get("n"))
			location = "/again?n=" + strconv.Itoa(n-1)
			if n == 0 {
				location = "/end"
			}
		}
		if location != "" {
			w.Header().Set("Location", location)
		}
		w.WriteHeader(http.StatusFound)
	})
	cfg.Hosts = []string{"*", "127.0.0.1", "169.254.169.254"}
	cfg.Resolver = names(map[string][]string{"responder.example": {"127.0.0.1"}, "other.example": {"127.0.0.1"}})
	cfg.Ports = append(cfg.Ports, 80)
	port := self[strings.LastIndex(self, ":"):]
	for _, tt := range []struct {
		name, path string
		redirects  int
		ok         bool
	}{
		{"not followed by default", "/?to=/end", 0, false},
		{"same place", "/?to=/end", 1, true},
		{"absolute", "/?to=" + self + "/end", 1, true},
		{"as many as allowed", "/again?n=2", 3, true},
		{"more than allowed", "/again?n=3", 3, false},
		{"for ever", "/again?n=1000", 5, false},
		{"metadata service", "/?to=http://169.254.169.254/latest/meta-data/", 5, false},
		{"another host", "/?to=http://other.example" + port + "/end", 5, false},
		{"the same server by address", "/?to=http://127.0.0.1" + port + "/end", 5, false},
		{"without scheme", "/?to=//other.example" + port + "/end", 5, false},
		{"another scheme", "/?to=file:///etc/passwd", 5, false},
		{"credentials", "/?to=http://user@responder.example" + port + "/end", 5, false},
		{"a port not listed", "/?to=http://responder.example:22/end", 5, false},
		{"relative to nothing", "/?to=end", 5, false},
		{"a fragment", "/?to=/end%23x", 5, false},
		{"nowhere", "/", 5, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := targets.Load()
			limited := cfg
			limited.Redirects = tt.redirects
			got, err := newClient(t, limited).Get(t.Context(), self+tt.path)
			if tt.ok {
				if err != nil || string(got.Body) != "end" {
					t.Errorf("%v, %v", got, err)
				}
				return
			}
			if rule(t, err) != safehttp.RuleRedirect || targets.Load() != before {
				t.Errorf("%v; reached the target: %v", err, targets.Load() != before)
			}
		})
	}
	cfg.Redirects = 5
	if _, err := newClient(t, cfg).Post(t.Context(), self+"/?to=/end", "text/plain", nil); rule(t, err) != safehttp.RuleRedirect {
		t.Errorf("POST: %v", err)
	}
}

// The place a redirect leads to is looked up anew, and judged anew.
func TestRebindingByRedirect(t *testing.T) {
	t.Parallel()
	cfg, url := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/next", http.StatusFound) })
	cfg.Redirects = 1
	cfg.Resolver = &resolver{answers: map[string][][]netip.Addr{"responder.example": {addrs("127.0.0.1"), addrs("169.254.169.254")}}}
	_, err := newClient(t, cfg).Get(t.Context(), url)
	if got := rule(t, err); got != safehttp.RuleAddress {
		t.Errorf("%q (%v)", got, err)
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	const limit = 1000
	for _, tt := range []struct {
		name    string
		length  bool // announced
		size    int
		allowed bool
	}{
		{"at the limit", true, limit, true},
		{"over it, announced", true, limit + 1, false},
		{"at the limit, chunked", false, limit, true},
		{"over it, chunked", false, limit + 1, false},
		{"without end", false, 1 << 30, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var sent atomic.Int64
			cfg, url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if tt.length {
					w.Header().Set("Content-Length", strconv.Itoa(tt.size))
				}
				chunk := bytes.Repeat([]byte("x"), 500)
				for left := tt.size; left > 0; left -= len(chunk) {
					if left < len(chunk) {
						chunk = chunk[:left]
					}
					if _, err := w.Write(chunk); err != nil {
						return
					}
					w.(http.Flusher).Flush()
					sent.Add(int64(len(chunk)))
				}
			})
			cfg.MaxBytes = limit
			got, err := newClient(t, cfg).Get(t.Context(), url)
			if tt.allowed {
				if err != nil || len(got.Body) != tt.size {
					t.Errorf("%v", err)
				}
				return
			}
			if got := rule(t, err); got != safehttp.RuleSize {
				t.Errorf("%q (%v)", got, err)
			}
			if sent.Load() > 64<<20 {
				t.Errorf("took %d bytes", sent.Load())
			}
		})
	}
}

// A small compressed answer that would be a large one isn't unpacked, nor
// handed on as if it were the answer.
func TestBomb(t *testing.T) {
	t.Parallel()
	var bomb bytes.Buffer
	zip := gzip.NewWriter(&bomb)
	zip.Write(make([]byte, 10<<20))
	zip.Close()
	for _, encoding := range []string{"gzip", "GZIP", "br", "identity, gzip"} {
		cfg, url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", encoding)
			w.Write(bomb.Bytes())
		})
		_, err := newClient(t, cfg).Get(t.Context(), url)
		if got := rule(t, err); got != safehttp.RuleEncoding {
			t.Errorf("%s: %q (%v)", encoding, got, err)
		}
	}
	cfg, url := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Encoding", "identity") })
	if _, err := newClient(t, cfg).Get(t.Context(), url); err != nil {
		t.Error(err)
	}
}

// raw serves every connection with one function.
func raw(t *testing.T, handle func(net.Conn)) (safehttp.Config, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.SetDeadline(time.Now().Add(2 * time.Minute))
			handle(conn)
			conn.Close()
		}
	}()
	t.Cleanup(func() { listener.Close(); <-done })
	number := listener.Addr().(*net.TCPAddr).Port
	return safehttp.Config{
		Hosts: []string{"responder.example"}, Ports: []int{number}, AllowPrivate: loopback(), Timeout: time.Minute,
		Resolver: names(map[string][]string{"responder.example": {"127.0.0.1"}}),
	}, "http://responder.example:" + strconv.Itoa(number)
}

// drip writes a byte now and then until the peer is gone.
func drip(conn net.Conn) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		<-tick.C
		if _, err := conn.Write([]byte("x")); err != nil {
			return
		}
	}
}

func TestTime(t *testing.T) {
	t.Parallel()
	silent := func(conn net.Conn) { io.Copy(io.Discard, conn) }
	for name, handle := range map[string]func(net.Conn){
		"no answer": silent,
		"dripping header": func(conn net.Conn) {
			conn.Read(make([]byte, 4096))
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nX: ")
			drip(conn)
		},
		"dripping body": func(conn net.Conn) {
			conn.Read(make([]byte, 4096))
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
			drip(conn)
		},
		"a body that stops": func(conn net.Conn) {
			conn.Read(make([]byte, 4096))
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\nabc")
			silent(conn)
		},
	} {
		for _, scheme := range []string{"http", "https"} {
			if scheme == "https" && name != "no answer" {
				continue // a handshake that never comes
			}
			t.Run(name+" over "+scheme, func(t *testing.T) {
				t.Parallel()
				cfg, url := raw(t, handle)
				cfg.Timeout = 300 * time.Millisecond
				began := time.Now()
				_, err := newClient(t, cfg).Get(t.Context(), scheme+strings.TrimPrefix(url, "http"))
				if got := rule(t, err); got != safehttp.RuleTime {
					t.Errorf("%q (%v)", got, err)
				}
				if took := time.Since(began); took > time.Minute {
					t.Errorf("took %s", took)
				}
			})
		}
	}
	t.Run("a resolver that hangs", func(t *testing.T) {
		t.Parallel()
		c := newClient(t, safehttp.Config{Hosts: []string{"*"}, Timeout: 50 * time.Millisecond, Resolver: hanging{}})
		if _, err := c.Get(t.Context(), "http://ok.example/"); rule(t, err) != safehttp.RuleTime {
			t.Errorf("%v", err)
		}
	})
	t.Run("the caller gives up", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cfg, url := raw(t, func(conn net.Conn) { cancel(); silent(conn) })
		if _, err := newClient(t, cfg).Get(ctx, url); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}

type hanging struct{}

func (hanging) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestBadAnswers(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"no HTTP":         "SSH-2.0-OpenSSH_9.2\r\n\x1b[31mred\r\n",
		"nothing":         "",
		"broken chunk":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"cut off":         "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
		"endless header":  "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 20<<10) + "\r\n\r\n",
		"other protocol":  "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
		"two lengths":     "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"negative length": "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, url := raw(t, func(conn net.Conn) {
				conn.Read(make([]byte, 4096))
				io.WriteString(conn, answer)
			})
			_, err := newClient(t, cfg).Get(t.Context(), url)
			if got := rule(t, err); got != safehttp.RuleHTTP {
				t.Errorf("%q (%v)", got, err)
			}
			if text := err.Error(); len(text) > 400 || strings.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
				t.Errorf("unfit for a log: %q", text)
			}
		})
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	start := func(t *testing.T, maxVersion uint16) (safehttp.Config, string) {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		server.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: maxVersion}
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.StartTLS()
		t.Cleanup(server.Close)
		cfg := reach(t, server)
		cfg.RootCAs = x509.NewCertPool()
		cfg.RootCAs.AddCert(server.Certificate())
		// The certificate is for example.com and 127.0.0.1.
		cfg.Hosts = []string{"example.com", "other.example", "127.0.0.1"}
		cfg.Resolver = names(map[string][]string{"example.com": {"127.0.0.1"}, "other.example": {"127.0.0.1"}})
		return cfg, ":" + strconv.Itoa(port(t, server)) + "/"
	}
	cfg, rest := start(t, 0)
	for _, tt := range []struct {
		name, host string
		change     func(*safehttp.Config)
		want       safehttp.Rule
	}{
		{"a trusted name", "example.com", nil, ""},
		{"a trusted address", "127.0.0.1", nil, ""},
		{"another's name", "other.example", nil, safehttp.RuleTLS},
		{"an unknown root", "example.com", func(c *safehttp.Config) { c.RootCAs = x509.NewCertPool() }, safehttp.RuleTLS},
		{"the system's roots", "example.com", func(c *safehttp.Config) { c.RootCAs = nil }, safehttp.RuleTLS},
		{"a year after its end", "example.com", func(c *safehttp.Config) {
			c.Clock = func() time.Time { return time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC) }
		}, safehttp.RuleTLS},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			changed := cfg
			if tt.change != nil {
				tt.change(&changed)
			}
			_, err := newClient(t, changed).Get(t.Context(), "https://"+tt.host+rest)
			if got := rule(t, err); got != tt.want {
				t.Errorf("%q (%v), want %q", got, err, tt.want)
			}
		})
	}
	t.Run("TLS 1.1", func(t *testing.T) {
		t.Parallel()
		old, rest := start(t, tls.VersionTLS11)
		_, err := newClient(t, old).Get(t.Context(), "https://example.com"+rest)
		if got := rule(t, err); got != safehttp.RuleTLS {
			t.Errorf("%q (%v)", got, err)
		}
	})
	t.Run("from https to http", func(t *testing.T) {
		t.Parallel()
		server := httptest.NewUnstartedServer(nil)
		server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://"+r.Host+"/", http.StatusFound)
		})
		server.StartTLS()
		t.Cleanup(server.Close)
		down := reach(t, server)
		down.Hosts, down.Resolver = cfg.Hosts, cfg.Resolver
		down.RootCAs = x509.NewCertPool()
		down.RootCAs.AddCert(server.Certificate())
		down.Redirects = 1
		_, err := newClient(t, down).Get(t.Context(), "https://example.com:"+strconv.Itoa(port(t, server))+"/")
		if rule(t, err) != safehttp.RuleRedirect || !strings.Contains(err.Error(), "from https to http") {
			t.Errorf("%v", err)
		}
	})
}

// A body that goes elsewhere is that of a 200 alone, whole, and within the bound.
func TestGetOnFromTheBeginning(t *testing.T) {
	t.Parallel()
	image := strings.Repeat("firmware", 1000)
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		max    int64
		want   safehttp.Rule
	}{
		"whole":    {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, image) }, 8000, ""},
		"too long": {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, image) }, 7999, safehttp.RuleSize},
		"longer than it says nothing": {func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			io.WriteString(w, image)
		}, 7999, safehttp.RuleSize},
		"a page that says no": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusNotFound) }, 8000, safehttp.RuleHTTP},
		"a part": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusPartialContent)
			io.WriteString(w, "fi")
		}, 8000, safehttp.RuleHTTP},
		"elsewhere": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", http.StatusFound) }, 8000, safehttp.RuleRedirect},
		"compressed": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, image)
		}, 8000, safehttp.RuleEncoding},
		"cut": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "8000")
			io.WriteString(w, image[:100])
		}, 8000, safehttp.RuleHTTP},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, url := serve(t, tt.answer)
			cfg.MaxBytes = tt.max
			var got bytes.Buffer
			if broken := rule(t, newClient(t, cfg).GetOn(t.Context(), url, safehttp.Mark{}, into(&got))); broken != tt.want || tt.want == "" && got.String() != image {
				t.Errorf("rule %q, want %q; %d bytes", broken, tt.want, got.Len())
			}
		})
	}
	cfg, url := serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, image) })
	full := errors.New("no room")
	if err := newClient(t, cfg).GetOn(t.Context(), url, safehttp.Mark{}, into(writerFunc(func([]byte) (int, error) { return 0, full }))); !errors.Is(err, full) {
		t.Errorf("a writer that takes no more: %v", err)
	}
}

func into(w io.Writer) safehttp.Begin {
	return func(safehttp.Mark, int64) (io.Writer, error) { return w, nil }
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
