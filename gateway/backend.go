package gateway

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"bollard/fleet"
	"bollard/internal/ws"
	"bollard/ocpp"
)

// Backend is one CSMS.
type Backend struct {
	Name     string
	URL      string // "/<identity>" is appended
	Match    Match
	Security fleet.SecurityMode
	// Auth: none, basic-shared, basic-per-station, mtls. The Basic user is
	// always the station's identity.
	Auth     string
	Password func(ctx context.Context, station string) ([]byte, error) // for the two basic kinds
	TLS      *tls.Config                                               // trust and client certificate; nil: system trust
	// CNOnly accepts a back-end certificate that has only a CN (A00.FR.510).
	CNOnly bool
	// AdoptUntil is when this back end's own 101 stops standing for the password
	// of a station that has none here; zero: it never does. The back end must
	// check the station's own password: auth none or basic-per-station.
	AdoptUntil time.Time
	// Keep, if set, stores an adopted password for the station's later sessions
	// (basic-per-station).
	Keep func(ctx context.Context, station string, password []byte) error
}

// Match selects the stations of a back end; empty fields match all. The first
// matching back end is taken.
type Match struct {
	Identity string // path.Match pattern, compared without case
	Vendor   string
	Model    string
	Profile  int
}

func (m Match) fits(a fleet.Admission, id ocpp.Identity) bool {
	if m.Identity != "" {
		if ok, err := path.Match(strings.ToLower(m.Identity), id.Key()); err != nil || !ok {
			return false
		}
	}
	return (m.Vendor == "" || strings.EqualFold(m.Vendor, a.Station.Vendor)) &&
		(m.Model == "" || strings.EqualFold(m.Model, a.Station.Model)) &&
		(m.Profile == 0 || m.Profile == a.Profile)
}

// backend is a checked Backend.
type backend struct {
	Backend
	base string // URL without a slash at its end
	tls  *tls.Config
}

// dialTimeout bounds name resolution, TCP, TLS and the WebSocket handshake.
const dialTimeout = 10 * time.Second

func compileBackends(list []Backend) ([]*backend, error) {
	if len(list) == 0 {
		return nil, errors.New("gateway: at least one back end is needed")
	}
	compiled := make([]*backend, len(list))
	for i, b := range list {
		b.Name = cmp.Or(b.Name, fmt.Sprintf("backends[%d]", i))
		b.Security = cmp.Or(b.Security, fleet.SecurityBollard)
		b.Auth = cmp.Or(b.Auth, "none")
		c, err := compileBackend(b)
		if err != nil {
			return nil, fmt.Errorf("gateway: back end %q: %w", b.Name, err)
		}
		compiled[i] = c
	}
	return compiled, nil
}

func compileBackend(b Backend) (*backend, error) {
	u, err := url.Parse(b.URL)
	switch {
	case err != nil:
		return nil, errors.New("the URL is malformed")
	case u.Scheme != "ws" && u.Scheme != "wss":
		return nil, fmt.Errorf("the URL must begin with ws:// or wss://, not %q", u.Scheme)
	case u.Host == "":
		return nil, errors.New("the URL names no host")
	case u.User != nil:
		return nil, errors.New("the URL holds credentials; use auth and a password file")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, errors.New("the URL has a query or fragment; the identity must be its last part")
	}
	if _, err := path.Match(b.Match.Identity, ""); err != nil {
		return nil, fmt.Errorf("the identity pattern %q is malformed", b.Match.Identity)
	}
	switch b.Auth {
	case "none":
	case "basic-shared", "basic-per-station":
		if b.Password == nil {
			return nil, fmt.Errorf("auth %s has no password", b.Auth)
		}
	case "mtls":
		if u.Scheme != "wss" || b.TLS == nil || len(b.TLS.Certificates) == 0 && b.TLS.GetClientCertificate == nil {
			return nil, errors.New("auth mtls needs a wss URL and a client certificate")
		}
	default:
		return nil, fmt.Errorf("auth %q is unknown; use none, basic-shared, basic-per-station or mtls", b.Auth)
	}
	if !b.AdoptUntil.IsZero() && b.Auth != "none" && b.Auth != "basic-per-station" {
		return nil, fmt.Errorf("adopt doesn't go with auth %s: such a back end's 101 says nothing about the station's password", b.Auth)
	}
	switch b.Security {
	case fleet.SecurityBollard, fleet.SecurityBackend, fleet.SecurityObserve:
	default:
		return nil, fmt.Errorf("security %q is unknown; use bollard, backend or observe", b.Security)
	}
	return &backend{Backend: b, base: strings.TrimRight(b.URL, "/"), tls: backendTLS(b, u.Hostname())}, nil
}

// choose returns the back end the station's record names, else the first that
// fits, nil without one. A name nobody has any more counts for nothing.
func (s *settings) choose(a fleet.Admission, id ocpp.Identity) *backend {
	for _, b := range s.backends {
		if a.Station.Backend != "" && b.Name == a.Station.Backend {
			return b
		}
	}
	for _, b := range s.backends {
		if b.Match.fits(a, id) {
			return b
		}
	}
	return nil
}

// dial opens the station's upstream: the back end's URL and the identity as the
// station spells it. Nothing of the station's own request goes along but its
// subprotocols, least of all its Authorization header.
func (b *backend) dial(ctx context.Context, id ocpp.Identity, subprotocols []string, limits ws.Limits) (*ws.Conn, error) {
	if b.Auth != "basic-shared" && b.Auth != "basic-per-station" {
		return b.dialAs(ctx, id, nil, subprotocols, limits)
	}
	password, err := b.Password(ctx, id.Key())
	if err != nil {
		return nil, fmt.Errorf("couldn't get the back end's password for this station: %w", err)
	}
	return b.dialAs(ctx, id, password, subprotocols, limits)
}

// dialAs dials with a password; nil: without an Authorization header.
func (b *backend) dialAs(ctx context.Context, id ocpp.Identity, password []byte, subprotocols []string, limits ws.Limits) (*ws.Conn, error) {
	var header http.Header
	if password != nil {
		user := append([]byte(id.Name+":"), password...)
		header = http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString(user)}}
	}
	return ws.Dial(ctx, ws.DialConfig{
		URL: b.base + "/" + id.Escaped, Subprotocols: subprotocols, Header: header,
		TLS: b.tls, Timeout: dialTimeout, Limits: limits,
	})
}
