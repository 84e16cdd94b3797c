package safehttp_test

import (
	"net/netip"
	"strings"
	"testing"

	"bollard/internal/safehttp"
)

// isPublic is the fuzzer's own opinion, by other means than the package's:
// the standard library's predicates and the bytes.
func isPublic(addr netip.Addr) bool {
	if !addr.IsGlobalUnicast() || addr.IsPrivate() || addr.IsLoopback() || addr.IsLinkLocalUnicast() || addr.Zone() != "" {
		return false
	}
	b := addr.AsSlice()
	if len(b) == 4 {
		switch {
		case b[0] == 0, b[0] >= 224, b[0] == 100 && b[1]&0xc0 == 64, b[0] == 198 && b[1]&0xfe == 18, b[0] == 192 && b[1] == 0 && b[2] == 0:
			return false
		}
		return true
	}
	if embedded, found := strings.CutPrefix(addr.StringExpanded(), "0064:ff9b:0000:0000:0000:0000:"); found {
		return len(embedded) == 9 && isPublic(netip.AddrFrom4([4]byte(b[12:])))
	}
	return b[0]>>5 == 1 && !(b[0] == 0x20 && b[1] == 0x02) && !(b[0] == 0x20 && b[1] == 0x01 && b[2] < 2)
}

// hostOf takes a URL apart by hand, as a careless program would, from either
// end; both must see the host that was looked up.
func hostOf(raw string) (first, last string) {
	_, rest, _ := strings.Cut(raw, "://")
	authority := rest
	if i := strings.IndexAny(rest, "/\\?#"); i >= 0 {
		authority = rest[:i]
	}
	trim := func(hostport string) string {
		if i := strings.LastIndexByte(hostport, ':'); i >= 0 && !strings.HasSuffix(hostport, "]") {
			hostport = hostport[:i]
		}
		return strings.ToLower(hostport)
	}
	return trim(authority), trim(authority[strings.LastIndexByte(authority, '@')+1:])
}

// Whatever the URL says and the resolver answers, only public addresses are
// dialled, of the host that every reading of the URL finds, on the URL's port.
func FuzzURL(f *testing.F) {
	for _, url := range []string{
		"http://ok.example/", "https://ok.example:8443/a?b", "http://[2606:2800:220:1::1]/", "http://93.184.216.34/", "http://127.0.0.1/",
		"http://[::ffff:127.0.0.1]/", "http://0x7f.1/", "http://a@b/", "http://ok.example\\@b/", "http://ok.example#@b", "-x", "file:///etc/passwd",
	} {
		f.Add(url, []byte{93, 184, 216, 34})
		f.Add(url, []byte{127, 0, 0, 1})
		f.Add(url, []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1})
		f.Add(url, []byte{0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, 169, 254, 169, 254})
	}
	f.Fuzz(func(t *testing.T, url string, answer []byte) {
		r := &anyName{}
		for size := 4; len(answer) >= size; answer = answer[size:] {
			if len(answer) >= 16 {
				size = 16
			}
			addr, _ := netip.AddrFromSlice(answer[:size])
			r.answer = append(r.answer, addr)
		}
		_, host := hostOf(url)
		hosts := []string{"*"}
		if addr, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil && addr.Zone() == "" && !addr.Is4In6() {
			hosts = append(hosts, addr.String())
		}
		ports := []int{80, 443, 8443}
		c := newClient(t, safehttp.Config{Hosts: hosts, Ports: ports, Resolver: r})
		var d dialled
		c.SetDial(d.dial)
		_, err := c.Get(t.Context(), url)
		if err == nil {
			t.Fatal("fetched from nobody")
		}
		if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < 0x20 || r > 0x7e }) {
			t.Fatalf("error unfit for a log: %q", err)
		}
		for _, to := range d.all() {
			if !isPublic(to.Addr()) {
				t.Fatalf("%q with %v: connected to %s", url, r.answer, to)
			}
			if p := to.Port(); p != 80 && p != 443 && p != 8443 {
				t.Fatalf("%q: connected to port %d", url, p)
			}
			first, last := hostOf(url)
			if first != last {
				t.Fatalf("%q has two hosts, %q and %q, and was fetched", url, first, last)
			}
			if len(r.asked) > 1 || len(r.asked) == 1 && r.asked[0] != first {
				t.Fatalf("%q: looked up %q", url, r.asked)
			}
			if len(r.asked) == 0 && netip.MustParseAddr(strings.Trim(first, "[]")) != to.Addr() {
				t.Fatalf("%q: connected to %s", url, to)
			}
		}
		if len(d.all()) > 0 && c.Check(url) != nil {
			t.Fatalf("%q: fetched, but Check says %v", url, c.Check(url))
		}
	})
}
