package station

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"bollard/internal/ws"
	"bollard/ocpp"
)

// errServer wraps every reason why the station turned the server away.
var errServer = errors.New("server certificate refused")

// suites are the TLS 1.2 suites a station offers: the two pairs of OCPP
// (A00.FR.317 ff.) and ECDHE_RSA, which real stations add.
var suites = [...]uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
}

// Connect makes one round over the known ways to the CSMS and stays on the
// first that works; it does nothing while connected. The error joins what went
// wrong with each. It does not boot: see Boot and Run.
func (s *Station) Connect(ctx context.Context) error {
	s.connecting.Lock()
	defer s.connecting.Unlock()
	if s.live() != nil {
		return nil
	}
	if s.ctx.Err() != nil {
		return errors.New("the station is closed")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)() //nolint:contextcheck // joins the station's life to the caller's
	var errs []error
	plan := s.plan()
	for i, e := range plan {
		attempts := 1
		if i < len(plan)-1 {
			attempts = s.attempts() // B10.FR.03
		}
		for try := range attempts {
			if try > 0 && !s.pause(ctx, s.backOff().Minimum) {
				break
			}
			err := s.reach(ctx, e)
			if err == nil {
				return nil
			}
			errs = append(errs, fmt.Errorf("security profile %d at slot %d: %w", e.Profile, e.Slot, err))
			if refused(err) || errors.Is(err, errServer) {
				break // trying again won't make the credentials better
			}
		}
	}
	err := errors.Join(errs...)
	s.update(func() { s.state.LastError = err.Error() })
	return err
}

// reach tries one endpoint, on profile 3 with each credential in turn: what
// the new certificate can't reach, the old one may (A02.FR.28).
func (s *Station) reach(ctx context.Context, e endpoint) error {
	if e.Profile < 3 {
		l, err := s.dial(ctx, e, nil)
		if err != nil {
			return err
		}
		s.opened(l, e)
		return nil
	}
	candidates := s.keys.candidates()
	if len(candidates) == 0 {
		return errors.New("no station certificate is installed")
	}
	var errs []error
	for i := range candidates {
		l, err := s.dial(ctx, e, &candidates[i])
		if err != nil {
			errs = append(errs, err)
			if !refused(err) {
				break
			}
			continue
		}
		discarded, err := s.keys.proved(candidates[i].Leaf)
		if err != nil {
			l.conn.Close(ws.CloseInternalError, "")
			return err
		}
		if discarded && e.Slot > 0 && l.version != ocpp.V16 {
			s.queueEvent("DiscardedRenewedClientCertificate") // A02.FR.29
		}
		s.opened(l, e)
		return nil
	}
	return errors.Join(errs...)
}

// dial opens one connection.
func (s *Station) dial(ctx context.Context, e endpoint, cert *tls.Certificate) (*link, error) {
	dev := s.deviations()
	s.mu.Lock()
	version, password, ping := s.state.Version, s.set.password, s.set.ping
	number := s.state.Connections + 1
	s.mu.Unlock()
	if e.Password != nil {
		password = e.Password
	}

	segment := url.PathEscape(s.cfg.Identity)
	if dev.Escaped != "" {
		segment = dev.Escaped
	}
	offered := []string{version.Subprotocol()}
	if dev.Subprotocols != nil {
		offered = dev.Subprotocols
	}
	if len(offered) == 1 && offered[0] == "" {
		offered = nil
	}
	header := http.Header{}
	if e.Profile < 3 || dev.BasicToo {
		user := s.cfg.Identity
		if dev.BasicUser != "" {
			user = dev.BasicUser
		}
		if dev.HexPassword {
			password = []byte(strings.ToUpper(hex.EncodeToString(password)))
		}
		token := append([]byte(user+":"), password...)
		header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString(token))
	}

	l := newLink(s, number)
	target, err := url.Parse(e.URL)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the CSMS URL: %w", err)
	}
	if !schemeFits(target.Scheme, e.Profile) {
		return nil, fmt.Errorf("security profile %d does not go with URL scheme %q", e.Profile, target.Scheme)
	}
	conn, err := ws.Dial(ctx, ws.DialConfig{
		URL:          strings.TrimSuffix(e.URL, "/") + "/" + segment,
		Subprotocols: offered,
		Header:       header,
		TLS:          s.tlsConfig(target.Hostname(), cert, l),
		Timeout:      s.cfg.DialTimeout,
		Limits:       ws.Limits{MaxMessage: 4 << 20, PingInterval: ping, Compression: s.cfg.Compression},
	})
	if err != nil {
		s.noticeTLS(err)
		return nil, err
	}
	l.conn = conn
	l.version = version
	if offered != nil {
		negotiated, ok := ocpp.ParseSubprotocol(conn.Subprotocol())
		if !ok {
			// OCPP-J 1.6 §3.1.2, 2.1 part 4 §3.1.2: the server knows none of ours.
			conn.Close(ws.CloseNormal, "")
			return nil, errors.New("no common OCPP version")
		}
		l.version = negotiated
	}
	return l, nil
}

func (s *Station) tlsConfig(host string, cert *tls.Certificate, l *link) *tls.Config {
	name := s.cfg.ServerName
	if name == "" {
		name = host
	}
	minimum := s.cfg.MinTLS
	if minimum == 0 {
		minimum = tls.VersionTLS12
	}
	offer := s.cfg.CipherSuites
	if offer == nil {
		offer = suites[:]
	}
	return &tls.Config{
		MinVersion:   minimum,
		MaxVersion:   s.cfg.MaxTLS,
		CipherSuites: offer,
		ServerName:   name,
		// crypto/tls refuses certificates with a CN only, which OCPP asks for
		// (A00.FR.510), and accepts wildcards, which it forbids: checkServer
		// verifies every connection instead.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			l.tls = &cs
			return s.checkServer(cs, name)
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if cert == nil {
				return &tls.Certificate{}, nil
			}
			l.presented = cert.Leaf
			return cert, nil
		},
	}
}

// checkServer verifies the server's chain to the installed CSMS roots and its
// name: a SAN entry, or the CN where there is none; no wildcards (A00.FR.308,
// .309, .412 and errata 2025-02).
func (s *Station) checkServer(cs tls.ConnectionState, name string) error {
	leaf := cs.PeerCertificates[0]
	between := x509.NewCertPool()
	for _, c := range cs.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots:         s.trust.pool(csmsRoot),
		Intermediates: between,
		CurrentTime:   s.now(),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err == nil && !namedFor(leaf, name) {
		err = fmt.Errorf("it is not for %q", name)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errServer, err)
	}
	return nil
}

func namedFor(leaf *x509.Certificate, name string) bool {
	if ip := net.ParseIP(name); ip != nil {
		for _, own := range leaf.IPAddresses {
			if own.Equal(ip) {
				return true
			}
		}
	}
	for _, own := range leaf.DNSNames {
		if strings.EqualFold(own, name) {
			return true
		}
	}
	return len(leaf.DNSNames)+len(leaf.IPAddresses) == 0 && strings.EqualFold(leaf.Subject.CommonName, name)
}

// noticeTLS queues the security event that a failed handshake calls for
// (A00.FR.309, .316, .419); it is sent on the next good connection.
func (s *Station) noticeTLS(err error) {
	v2 := s.State().Version != ocpp.V16
	switch text := err.Error(); {
	case errors.Is(err, errServer) || strings.Contains(text, errServer.Error()):
		if v2 {
			s.queueEvent("InvalidCsmsCertificate")
		} else {
			s.queueEvent("InvalidCentralSystemCertificate")
		}
	case strings.Contains(text, "protocol version"):
		s.queueEvent("InvalidTLSVersion")
	case strings.Contains(text, "handshake failure"):
		s.queueEvent("InvalidTLSCipherSuite")
	}
}

// refused says that the CSMS turned the credentials away, not that it could
// not be reached.
func refused(err error) bool {
	var d *ws.DialError
	if errors.As(err, &d) && (d.Status == http.StatusUnauthorized || d.Status == http.StatusForbidden || d.Status == http.StatusNotFound) {
		return true
	}
	return strings.Contains(err.Error(), "remote error: tls")
}

// pause waits unless the context or the station ends first.
func (s *Station) pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-s.ctx.Done():
	}
	return false
}
