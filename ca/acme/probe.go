package acme

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"bollard/internal/safehttp"
)

// certifyTimeout bounds an issue whether its requester waits for it or not.
const certifyTimeout = 30 * time.Second

// maxAnswer bounds what a name answers: a token and a thumbprint.
const maxAnswer = 1 << 10

// probeTimeout bounds one probe, lookupTimeout what of it is the resolver's: one that says
// nothing isn't taken for a name that doesn't.
const (
	probeTimeout  = 10 * time.Second
	lookupTimeout = 5 * time.Second
)

// ProberConfig of a Prober.
type ProberConfig struct {
	Hosts    []string       // allow-list, as Names.Allow
	Networks []netip.Prefix // private ones that names may lead to
	Resolver string         // address of a DNS server; "": the system's
	HTTPPort int            // 0: 80
	TLSPort  int            // 0: 443
}

// Prober asks names whether they answer a challenge. It connects to nothing but
// names of the list, where they may lead (package safehttp).
type Prober struct {
	cfg      ProberConfig
	resolver *net.Resolver
	patience time.Duration // with the resolver
	client   *safehttp.Client
}

// NewProber checks the configuration.
func NewProber(cfg ProberConfig) (*Prober, error) { return newProber(cfg, lookupTimeout) }

func newProber(cfg ProberConfig, patience time.Duration) (*Prober, error) {
	if cfg.HTTPPort == 0 {
		cfg.HTTPPort = 80
	}
	if cfg.TLSPort == 0 {
		cfg.TLSPort = 443
	}
	p := &Prober{cfg: cfg, resolver: net.DefaultResolver, patience: patience}
	if cfg.Resolver != "" {
		p.resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, cfg.Resolver)
		}}
	}
	var err error
	p.client, err = safehttp.New(safehttp.Config{
		Hosts: cfg.Hosts, Ports: []int{cfg.HTTPPort, cfg.TLSPort}, MaxBytes: maxAnswer, Timeout: probeTimeout, AllowPrivate: cfg.Networks, Resolver: rooted{p.resolver, patience},
	})
	if err != nil {
		return nil, fmt.Errorf("couldn't set up the probing of names: %w", err)
	}
	return p, nil
}

// rooted looks names up as they stand. The machine's search domains would make other
// names of them, whose holders would prove what isn't theirs.
type rooted struct {
	safehttp.Resolver
	patience time.Duration
}

// LookupNetIP is net.Resolver's.
func (r rooted) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, r.patience)
	defer cancel()
	return r.Resolver.LookupNetIP(ctx, network, strings.TrimSuffix(host, ".")+".")
}

// at is a name with a port in a URL, without the scheme's own.
func at(name string, port, own int) string {
	if port == own {
		return name
	}
	return net.JoinHostPort(name, strconv.Itoa(port))
}

// unreachable tells a client that its name didn't answer, and nothing of what did. Of a
// resolver's failure it says so: who has the name has nothing to do with that.
func unreachable(k kind, detail string, err error) error {
	if lookup, ok := errors.AsType[*net.DNSError](err); ok {
		if !lookup.IsNotFound {
			const failed = "the name couldn't be looked up"
			return &undecided{&Problem{Type: dnsFault, Detail: failed, Reason: failed + ": " + err.Error()}}
		}
		k = dnsFault
	}
	return &Problem{Type: k, Detail: detail, Reason: detail + ": " + err.Error()}
}

// listening connects again where nothing listens, twice and a second apart: there are
// clients that answer a challenge while their own server starts, the step CLI for one.
func listening[T any](ctx context.Context, connect func() (T, error)) (T, error) {
	for again := 2; ; again-- {
		answer, err := connect()
		if again == 0 || !errors.Is(err, syscall.ECONNREFUSED) {
			return answer, err
		}
		select {
		case <-ctx.Done():
			return answer, err
		case <-time.After(time.Second):
		}
	}
}

// http01 is RFC 8555 §8.3.
func (p *Prober) http01(ctx context.Context, a Attempt) error {
	answer, err := listening(ctx, func() (*safehttp.Response, error) {
		return p.client.Get(ctx, "http://"+at(a.Identifier.Value, p.cfg.HTTPPort, 80)+"/.well-known/acme-challenge/"+a.Token)
	})
	switch {
	case err != nil:
		return unreachable(connection, "the name doesn't answer over HTTP", err)
	case answer.Status != 200:
		return problem(unauthorized, "the name answers with status %d", answer.Status)
	case subtle.ConstantTimeCompare([]byte(strings.TrimRight(string(answer.Body), " \t\r\n")), []byte(a.KeyAuth)) != 1:
		return problem(incorrectResponse, "the name doesn't answer with the key authorization") // what it does say is nobody's business
	}
	return nil
}

// dns01 is RFC 8555 §8.4.
func (p *Prober) dns01(ctx context.Context, a Attempt) error {
	ctx, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	texts, err := p.resolver.LookupTXT(ctx, "_acme-challenge."+a.Identifier.Value+".")
	if err != nil {
		return unreachable(dnsFault, "there is no TXT record at _acme-challenge of the name", err)
	}
	sum := digest(a.KeyAuth)
	if !slices.Contains(texts, base64.RawURLEncoding.EncodeToString(sum[:])) {
		return problem(incorrectResponse, "no TXT record at _acme-challenge of the name has the digest of the key authorization")
	}
	return nil
}

// alpn is the protocol of tls-alpn-01, acmeIdentifier the extension that has the
// digest (RFC 8737 §3).
const alpn = "acme-tls/1"

func acmeIdentifier() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31} }

// tlsALPN01 is RFC 8737 §3.
func (p *Prober) tlsALPN01(ctx context.Context, a Attempt) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	raw, err := listening(ctx, func() (net.Conn, error) {
		return p.client.DialURL(ctx, "https://"+at(a.Identifier.Value, p.cfg.TLSPort, 443))
	})
	if err != nil {
		return unreachable(connection, "the name doesn't answer over TLS", err)
	}
	defer raw.Close()
	conn := tls.Client(raw, &tls.Config{
		ServerName: a.Identifier.Value, NextProtos: []string{alpn}, MinVersion: tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // the certificate is self-signed: its digest is what proves (RFC 8737 §3)
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		return unreachable(connection, "the name doesn't answer over TLS with "+alpn, err)
	}
	state := conn.ConnectionState()
	if state.NegotiatedProtocol != alpn || len(state.PeerCertificates) == 0 {
		return problem(unauthorized, "the name doesn't speak %s", alpn)
	}
	leaf := state.PeerCertificates[0]
	if len(leaf.DNSNames) != 1 || !strings.EqualFold(leaf.DNSNames[0], a.Identifier.Value) || len(leaf.IPAddresses)+len(leaf.URIs)+len(leaf.EmailAddresses) > 0 {
		return problem(unauthorized, "the certificate isn't for this one name")
	}
	sum := digest(a.KeyAuth)
	for _, e := range leaf.Extensions {
		if !e.Id.Equal(acmeIdentifier()) {
			continue
		}
		var value []byte
		rest, err := asn1.Unmarshal(e.Value, &value)
		if err == nil && len(rest) == 0 && e.Critical && subtle.ConstantTimeCompare(value, sum[:]) == 1 {
			return nil
		}
		return problem(incorrectResponse, "the certificate doesn't have the digest of the key authorization")
	}
	return problem(unauthorized, "the certificate has no acmeIdentifier")
}
