package safehttp_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"bollard/internal/safehttp"
)

// The table of threat E4: what a URL from the wire may look like, and where
// its name may lead. No row marked with a rule reaches the dialler.
func TestURLs(t *testing.T) {
	t.Parallel()
	long := "http://ok.example/" + strings.Repeat("a", 2000)
	dns := map[string][]string{
		"ok.example": {"93.184.216.34"}, "six.example": {"2606:2800:220:1::1"}, "both.example": {"93.184.216.34", "2606:2800:220:1::1"},
		"a.wild.example": {"93.184.216.34"}, "a.b.wild.example": {"93.184.216.34"}, "wild.example": {"93.184.216.34"}, "evilwild.example": {"93.184.216.34"},
		"other.example": {"93.184.216.34"}, "localhost": {"127.0.0.1"}, "xn--bcher-kva.example": {"93.184.216.34"},
		"none.example": {}, "mixed.example": {"93.184.216.34", "10.0.0.1"}, "mixed6.example": {"93.184.216.34", "fd00::1"},
		"mapped.example": {"::ffff:93.184.216.34"}, "mapped-loop.example": {"::ffff:127.0.0.1"},
		"loop.example": {"127.0.0.1"}, "loop2.example": {"127.255.255.254"}, "loop6.example": {"::1"}, "any.example": {"0.0.0.0"}, "any6.example": {"::"}, "zero.example": {"0.1.2.3"},
		"ten.example": {"10.1.2.3"}, "b172.example": {"172.31.255.255"}, "c192.example": {"192.168.1.1"}, "cgnat.example": {"100.127.0.1"},
		"link.example": {"169.254.1.1"}, "metadata.example": {"169.254.169.254"}, "alibaba.example": {"100.100.100.200"}, "azure.example": {"168.63.129.16"}, "aws6.example": {"fd00:ec2::254"}, "oracle.example": {"192.0.0.192"},
		"doc.example": {"203.0.113.9"}, "doc1.example": {"192.0.2.1"}, "doc2.example": {"198.51.100.1"}, "doc3.example": {"3fff::1"}, "bench.example": {"198.18.0.1"}, "multi.example": {"239.1.1.1"}, "class-e.example": {"250.1.1.1"}, "broadcast.example": {"255.255.255.255"}, "relay.example": {"192.88.99.1"},
		"link6.example": {"fe80::1"}, "zone.example": {"fe80::1%eth0"}, "ula.example": {"fc00::1"}, "site.example": {"fec0::1"}, "multi6.example": {"ff02::1"}, "doc6.example": {"2001:db8::1"}, "teredo.example": {"2001:0:1::1"},
		"nat64.example": {"64:ff9b::5db8:d822"}, "nat64-loop.example": {"64:ff9b::7f00:1"}, "nat64-ten.example": {"64:ff9b::a00:1"}, "nat64-local.example": {"64:ff9b:1::1"},
		"sixtofour.example": {"2002:7f00:1::1"}, "sixtofour-public.example": {"2002:5db8:d822::1"}, "compat.example": {"::127.0.0.1"}, "discard.example": {"100::1"},
	}
	hosts := []string{"*.wild.example", "ok.example", "93.184.216.34", "2606:2800:220:1::1", "127.0.0.1", "::1", "localhost", "xn--bcher-kva.example"}
	for name := range dns {
		if strings.HasSuffix(name, ".example") && !strings.HasSuffix(name, "wild.example") && name != "other.example" {
			hosts = append(hosts, name)
		}
	}
	const ok = safehttp.Rule("")
	rows := []struct {
		url  string
		want safehttp.Rule
	}{
		// What is meant to work.
		{"http://ok.example/", ok},
		{"http://ok.example", ok},
		{"HTTP://OK.EXAMPLE/a?b=c%20d", ok},
		{"https://ok.example:443/ocsp", ok},
		{"http://ok.example:8080/", ok},
		{"http://six.example/", ok},
		{"http://both.example/", ok},
		{"http://93.184.216.34/", ok},
		{"http://[2606:2800:220:1::1]/", ok},
		{"http://[2606:2800:0220:0001:0::1]:80/", ok},
		{"http://a.wild.example/", ok},
		{"http://a.b.wild.example/", ok},
		{"http://xn--bcher-kva.example/", ok},
		{"http://mapped.example/", ok},
		{"http://nat64.example/", ok},
		// Form.
		{"", safehttp.RuleForm},
		{long, safehttp.RuleForm},
		{"-oProxyCommand=id", safehttp.RuleForm},
		{"--config=/etc/passwd", safehttp.RuleForm},
		{"-http://ok.example/", safehttp.RuleForm},
		{" http://ok.example/", safehttp.RuleForm},
		{"http://ok.example/ ", safehttp.RuleForm},
		{"http://ok.example/\r\nHost: evil", safehttp.RuleForm},
		{"http://ok.example/a\tb", safehttp.RuleForm},
		{"http://ok.example/\x00", safehttp.RuleForm},
		{"http://ok.example/\x7f", safehttp.RuleForm},
		{"http://ok.example/%0d%0aX:y", safehttp.RuleForm},
		{"http://ok.example/%0A", safehttp.RuleForm},
		{"http://ok.example/%00", safehttp.RuleForm},
		{"http://ok.example/%zz", safehttp.RuleForm},
		{"http:\\\\ok.example\\", safehttp.RuleForm},
		{"http://ok.example\\@evil.example/", safehttp.RuleForm},
		{"http:ok.example", safehttp.RuleForm},
		{"http:/ok.example/", safehttp.RuleForm},
		{"//ok.example/", safehttp.RuleForm},
		{"/ocsp", safehttp.RuleForm},
		{"ok.example", safehttp.RuleForm},
		{"http://b\u00fccher.example/", safehttp.RuleForm},
		{"http://\u24de\u24da.example/", safehttp.RuleForm}, // NFKC: ok.example
		{"http://ok\u3002example/", safehttp.RuleForm},      // an ideographic full stop
		{"http://\uff11\uff12\uff17.0.0.1/", safehttp.RuleForm},
		{"http://ok.exam\u00adple/", safehttp.RuleForm},
		{"http://ok.example/\xff", safehttp.RuleForm},
		{"http://{ok}.example/", safehttp.RuleForm},
		// Scheme.
		{"ftp://ok.example/", safehttp.RuleScheme},
		{"gopher://127.0.0.1:6379/_INFO", safehttp.RuleScheme},
		{"file:///etc/passwd", safehttp.RuleScheme},
		{"dict://ok.example/", safehttp.RuleScheme},
		{"ldap://ok.example/", safehttp.RuleScheme},
		{"javascript://ok.example/", safehttp.RuleScheme},
		{"://ok.example/", safehttp.RuleScheme},
		{"jar:http://ok.example/", safehttp.RuleScheme},
		{"url:http://ok.example/", safehttp.RuleScheme},
		// Credentials and fragments.
		{"http://user@ok.example/", safehttp.RuleUser},
		{"http://user:secret@ok.example/", safehttp.RuleUser},
		{"http://ok.example@127.0.0.1/", safehttp.RuleUser},
		{"http://127.0.0.1@ok.example/", safehttp.RuleUser},
		{"http://@ok.example/", safehttp.RuleUser},
		{"http://a@b@ok.example/", safehttp.RuleUser},
		{"http://ok.example#@127.0.0.1/", safehttp.RuleFragment},
		{"http://ok.example/#x", safehttp.RuleFragment},
		{"http://ok.example/?a#", safehttp.RuleFragment},
		// Hosts that aren't names, and numbers that some parsers take for addresses.
		{"http:///ocsp", safehttp.RuleHost},
		{"http://", safehttp.RuleHost},
		{"http://:80/", safehttp.RuleHost},
		{"http://ok.example./", safehttp.RuleHost},
		{"http://.ok.example/", safehttp.RuleHost},
		{"http://ok..example/", safehttp.RuleHost},
		{"http://-ok.example/", safehttp.RuleHost},
		{"http://ok-.example/", safehttp.RuleHost},
		{"http://o_k.example/", safehttp.RuleHost},
		{"http://o!k.example/", safehttp.RuleHost},
		{"http://o%6b.example/", safehttp.RuleHost},
		{"http://ok.example%2f@evil/", safehttp.RuleUser},
		{"http://" + strings.Repeat("a", 64) + ".example/", safehttp.RuleHost},
		{"http://" + strings.Repeat("abc.", 63) + "example/", safehttp.RuleHost},
		{"http://2130706433/", safehttp.RuleHost},
		{"http://0x7f000001/", safehttp.RuleHost},
		{"http://0x7f.0.0.1/", safehttp.RuleHost},
		{"http://0177.0.0.1/", safehttp.RuleHost},
		{"http://017700000001/", safehttp.RuleHost},
		{"http://127.1/", safehttp.RuleHost},
		{"http://127.0.1/", safehttp.RuleHost},
		{"http://127.0.0.1./", safehttp.RuleHost},
		{"http://127.0.0.01/", safehttp.RuleHost},
		{"http://127.0.0.0x1/", safehttp.RuleHost},
		{"http://1.2.3.4.5/", safehttp.RuleHost},
		{"http://256.0.0.1/", safehttp.RuleHost},
		{"http://ok.example.0x1/", safehttp.RuleHost},
		{"http://[::ffff:127.0.0.1]/", safehttp.RuleHost},
		{"http://[::ffff:7f00:1]/", safehttp.RuleHost},
		{"http://[fe80::1%25eth0]/", safehttp.RuleHost},
		{"http://[127.0.0.1]/", safehttp.RuleForm},
		{"http://[ok.example]/", safehttp.RuleForm},
		{"http://[::1/", safehttp.RuleForm},
		{"http://::1/", safehttp.RuleForm},
		{"http://ok.example:80:80/", safehttp.RuleForm},
		// Ports.
		{"http://ok.example:22/", safehttp.RulePort},
		{"http://ok.example:6379/", safehttp.RulePort},
		{"http://ok.example:0/", safehttp.RulePort},
		{"http://ok.example:080/", safehttp.RulePort},
		{"http://ok.example:65536/", safehttp.RulePort},
		{"http://ok.example:99999999999999999999/", safehttp.RulePort},
		{"http://ok.example:/", safehttp.RulePort},
		{"http://ok.example:-1/", safehttp.RuleForm},
		{"http://ok.example:+80/", safehttp.RuleForm},
		{"http://ok.example:http/", safehttp.RuleForm},
		// The allow-list.
		{"http://other.example/", safehttp.RuleAllow},
		{"http://wild.example/", safehttp.RuleAllow},
		{"http://evilwild.example/", safehttp.RuleAllow},
		{"http://ok.example.evil.example/", safehttp.RuleAllow},
		{"http://93.184.216.35/", safehttp.RuleAllow},
		{"http://10.0.0.1/", safehttp.RuleAllow},
		{"http://[::2]/", safehttp.RuleAllow},
		// Names without addresses.
		{"http://none.example/", safehttp.RuleResolve},
		{"http://absent.wild.example/", safehttp.RuleResolve},
		// Addresses, listed as literals or behind names.
		{"http://127.0.0.1/", safehttp.RuleAddress},
		{"http://[::1]/", safehttp.RuleAddress},
		{"http://[0:0:0:0:0:0:0:1]/", safehttp.RuleAddress},
		{"http://localhost/", safehttp.RuleAddress},
	}
	public := map[string]bool{"ok.example": true, "six.example": true, "both.example": true, "mapped.example": true, "nat64.example": true, "xn--bcher-kva.example": true, "none.example": true}
	for name := range dns {
		if strings.HasSuffix(name, ".example") && !strings.HasSuffix(name, "wild.example") && name != "other.example" && !public[name] {
			rows = append(rows, struct {
				url  string
				want safehttp.Rule
			}{"https://" + name + "/", safehttp.RuleAddress})
		}
	}
	if len(rows) < 100 {
		t.Fatalf("only %d rows", len(rows))
	}
	for _, tt := range rows {
		t.Run(tt.url, func(t *testing.T) {
			t.Parallel()
			var d dialled
			c := newClient(t, safehttp.Config{Hosts: hosts, Ports: []int{80, 443, 8080}, Resolver: names(dns)})
			c.SetDial(d.dial)
			_, err := c.Get(t.Context(), tt.url)
			want := tt.want
			if want == ok {
				want = safehttp.RuleConnect
			}
			if got := rule(t, err); got != want {
				t.Errorf("got %q (%v), want %q", got, err, want)
			}
			if tried := d.all(); (len(tried) > 0) != (tt.want == ok) {
				t.Errorf("connected to %v", tried)
			}
			// Check knows what needs no look-up.
			checked := rule(t, c.Check(tt.url))
			literal := strings.Contains(tt.url, "127.0.0.1") || strings.Contains(tt.url, "[")
			if needsLookup := tt.want == ok || tt.want == safehttp.RuleResolve || tt.want == safehttp.RuleAddress && !literal; needsLookup && checked != ok || !needsLookup && checked != tt.want {
				t.Errorf("Check says %q", checked)
			}
		})
	}
}

func TestAllowList(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		hosts []string
		url   string
		want  safehttp.Rule
	}{
		{"nothing listed", nil, "http://ok.example/", safehttp.RuleAllow},
		{"any name", []string{"*"}, "http://ok.example/", ""},
		{"any name isn't any address", []string{"*"}, "http://93.184.216.34/", safehttp.RuleAllow},
		{"any name isn't a local one", []string{"*"}, "http://intranet/", safehttp.RuleAllow},
		{"a local one, listed", []string{"intranet"}, "http://intranet/", ""},
		{"case", []string{"OK.Example"}, "http://oK.exampLE/", ""},
		{"address in another form", []string{"2606:2800:0220:0:0:0:0:1"}, "http://[2606:2800:220::1]/", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := rule(t, newClient(t, safehttp.Config{Hosts: tt.hosts}).Check(tt.url)); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestPortsByDefault(t *testing.T) {
	t.Parallel()
	c := newClient(t, safehttp.Config{Hosts: []string{"*"}})
	for url, want := range map[string]safehttp.Rule{
		"http://ok.example:80/": "", "https://ok.example:443/": "",
		"http://ok.example:443/": safehttp.RulePort, "https://ok.example:80/": safehttp.RulePort, "http://ok.example:8080/": safehttp.RulePort,
	} {
		if got := rule(t, c.Check(url)); got != want {
			t.Errorf("%s: %q, want %q", url, got, want)
		}
	}
	only := newClient(t, safehttp.Config{Hosts: []string{"*"}, Schemes: []string{"https"}})
	if got := rule(t, only.Check("http://ok.example/")); got != safehttp.RuleScheme {
		t.Errorf("http where only https is allowed: %q", got)
	}
}

// Exceptions are for their range alone, and never for what is no host's.
func TestAllowPrivate(t *testing.T) {
	t.Parallel()
	dns := map[string][]string{
		"in.example": {"10.1.0.7"}, "out.example": {"10.2.0.7"}, "mapped.example": {"::ffff:10.1.0.7"}, "half.example": {"10.1.0.7", "10.2.0.7"},
		"any.example": {"0.0.0.0"}, "any6.example": {"::"}, "multi.example": {"224.0.0.1"}, "multi6.example": {"ff02::1"}, "all.example": {"255.255.255.255"},
		"nat64.example": {"64:ff9b::a01:7"},
	}
	for _, tt := range []struct {
		host, prefix string
		want         safehttp.Rule
	}{
		{"in.example", "10.1.0.0/16", safehttp.RuleConnect},
		{"mapped.example", "10.1.0.0/16", safehttp.RuleConnect},
		{"out.example", "10.1.0.0/16", safehttp.RuleAddress},
		{"half.example", "10.1.0.0/16", safehttp.RuleAddress},
		{"nat64.example", "10.1.0.0/16", safehttp.RuleAddress},
		{"any.example", "0.0.0.0/0", safehttp.RuleAddress},
		{"any6.example", "::/0", safehttp.RuleAddress},
		{"multi.example", "0.0.0.0/0", safehttp.RuleAddress},
		{"multi6.example", "::/0", safehttp.RuleAddress},
		{"all.example", "0.0.0.0/0", safehttp.RuleAddress},
	} {
		t.Run(tt.host+" with "+tt.prefix, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, safehttp.Config{Hosts: []string{"*"}, AllowPrivate: []netip.Prefix{netip.MustParsePrefix(tt.prefix)}, Resolver: names(dns)})
			c.SetDial(new(dialled).dial)
			_, err := c.Get(t.Context(), "http://"+tt.host+"/")
			if got := rule(t, err); got != tt.want {
				t.Errorf("got %q (%v), want %q", got, err, tt.want)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for want, cfg := range map[string]safehttp.Config{
		"scheme":    {Schemes: []string{"ftp"}},
		"host":      {Hosts: []string{"http://ok.example"}},
		`"*.`:       {Hosts: []string{"*."}},
		`"a.*`:      {Hosts: []string{"a.*.example"}},
		`"*.10`:     {Hosts: []string{"*.10.0.0.1"}},
		"port":      {Ports: []int{0}},
		"port 65":   {Ports: []int{65536}},
		"range":     {AllowPrivate: []netip.Prefix{{}}},
		"byte":      {MaxBytes: -1},
		"time":      {Timeout: -1},
		"redirects": {Redirects: 6},
	} {
		if _, err := safehttp.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", cfg, err, want)
		}
	}
}

// What a URL holds besides its host stays out of errors and logs.
func TestNoSecretsInErrors(t *testing.T) {
	t.Parallel()
	c := newClient(t, safehttp.Config{Hosts: []string{"ok.example", "loop.example", "absent.example"}, Resolver: names(map[string][]string{"ok.example": {"93.184.216.34"}, "loop.example": {"127.0.0.1"}})})
	c.SetDial(new(dialled).dial)
	for _, url := range []string{
		"http://hunter2:hunter2@ok.example/", "http://ok.example/hunter2?sig=hunter2", "http://ok.example/#hunter2", "hunter2://ok.example/",
		"http://ok.example:hunter2/", "http://loop.example/hunter2", "http://absent.example/hunter2", "http://other.example/hunter2", "hunter2", "http://ok.example/hunter2 ",
		"http://ok.example:9/hunter2", "http://hunter2@[::1/",
	} {
		_, err := c.Get(t.Context(), url)
		if rule(t, err) == "" || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v", err)
		}
	}
}

// A cause may quote a peer: it is cut and made printable.
func TestCauseIsFitForLogs(t *testing.T) {
	t.Parallel()
	c := newClient(t, safehttp.Config{Hosts: []string{"*"}, Resolver: hostile{}})
	_, err := c.Get(t.Context(), "http://ok.example/")
	if got := rule(t, err); got != safehttp.RuleResolve {
		t.Fatalf("%q (%v)", got, err)
	}
	if text := err.Error(); len(text) > 400 || strings.ContainsAny(text, "\x1b\n\u202e") {
		t.Errorf("%q", text)
	}
}

type hostile struct{}

func (hostile) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return nil, errors.New("\x1b[31m\n\u202e" + strings.Repeat("x", 1000))
}

// A client of one place reaches no other, and none without TLS but this machine.
func TestOne(t *testing.T) {
	t.Parallel()
	for url, ok := range map[string]bool{
		"https://pool.example.com": true, "https://pool.example.com:8444/base": true, "http://127.0.0.1:8080": true, "http://[::1]:8080/a": true,
		"http://pool.example.com": false, "http://10.0.0.1": false, "http://localhost": false, "ftp://127.0.0.1": false, "pool.example.com": false, "": false,
		"https://a:b@pool.example.com": false, "https://pool.example.com#a": false, "https://": false,
	} {
		c, err := safehttp.One(url, safehttp.Config{AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}, Hosts: []string{"*"}, Ports: []int{1}})
		if (err == nil) != ok {
			t.Errorf("%q: %v", url, err)
		}
		for _, other := range []string{"https://other.example.com/", "https://pool.example.com:9/", "http://pool.example.com/", "http://127.0.0.1:1/"} {
			if c != nil && err == nil && c.Check(other) == nil {
				t.Errorf("a client of %q may reach %s", url, other)
			}
		}
	}
}
