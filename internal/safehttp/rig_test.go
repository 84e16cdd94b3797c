package safehttp_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"testing"

	"bollard/internal/safehttp"
)

// resolver answers each look-up of a name with the next of its answers, the
// last one for ever.
type resolver struct {
	mu      sync.Mutex
	answers map[string][][]netip.Addr
	asked   []string
}

func (r *resolver) LookupNetIP(ctx context.Context, _, host string) ([]netip.Addr, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, host)
	answers, known := r.answers[host]
	if !known {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	if len(answers) > 1 {
		r.answers[host] = answers[1:]
	}
	return answers[0], nil
}

func (r *resolver) lookups() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.asked)
}

// anyName answers every name alike.
type anyName struct {
	answer []netip.Addr
	asked  []string
}

func (r *anyName) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	r.asked = append(r.asked, host)
	return r.answer, nil
}

func addrs(texts ...string) []netip.Addr {
	var list []netip.Addr
	for _, t := range texts {
		list = append(list, netip.MustParseAddr(t))
	}
	return list
}

// names is a resolver whose every name has always the same addresses.
func names(answers map[string][]string) *resolver {
	r := &resolver{answers: map[string][][]netip.Addr{}}
	for name, texts := range answers {
		r.answers[name] = [][]netip.Addr{addrs(texts...)}
	}
	return r
}

func newClient(t testing.TB, cfg safehttp.Config) *safehttp.Client {
	t.Helper()
	c, err := safehttp.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// dialled records the addresses a client connects to, and refuses them all.
type dialled struct {
	mu sync.Mutex
	to []netip.AddrPort
}

var errNobody = errors.New("nobody there")

func (d *dialled) dial(_ context.Context, to netip.AddrPort) (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.to = append(d.to, to)
	return nil, errNobody
}

func (d *dialled) all() []netip.AddrPort {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.to)
}

// loopback is the exception that lets tests reach their own servers.
func loopback() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }

// serve starts a server on loopback and returns a configuration that reaches
// it as responder.example.
func serve(t testing.TB, handler http.HandlerFunc) (safehttp.Config, string) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return reach(t, server), "http://responder.example:" + strconv.Itoa(port(t, server))
}

func reach(t testing.TB, server *httptest.Server) safehttp.Config {
	return safehttp.Config{
		Hosts:        []string{"responder.example"},
		Ports:        []int{port(t, server)},
		AllowPrivate: loopback(),
		Resolver:     names(map[string][]string{"responder.example": {"127.0.0.1"}}),
	}
}

func port(t testing.TB, server *httptest.Server) int {
	t.Helper()
	return server.Listener.Addr().(*net.TCPAddr).Port
}

// rule returns the rule an error names, "" for none.
func rule(t testing.TB, err error) safehttp.Rule {
	t.Helper()
	if err == nil {
		return ""
	}
	var refused *safehttp.Error
	if !errors.As(err, &refused) {
		t.Fatalf("not a *safehttp.Error: %v", err)
	}
	return refused.Rule
}
