// Package endpoint is the way to a service that is trusted with credentials.
//
// It promises that they go over TLS to who was named, or nowhere but this machine, that
// no redirect takes them further, and that no answer is taken beyond its bound.
package endpoint

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Check refuses addresses that credentials mustn't go to. What is whose address it is,
// for people.
func Check(what, address string) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		return errors.New("the address of " + what + " must be https://HOST:PORT")
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && (u.Hostname() == "127.0.0.1" || u.Hostname() == "::1" || u.Hostname() == "localhost"):
		return nil
	}
	return errors.New("the address of " + what + " must be https: credentials go there (http on this machine alone)")
}

// maxAnswer bounds what the service, or who is at its address, may send as one answer: a
// signature or a key is some kilobytes.
const maxAnswer = 1 << 20

// Config of a client.
type Config struct {
	Roots  *x509.CertPool   // nil: the system's
	Client *tls.Certificate // to show to the service, or nil
	Calls  int              // at the same time
	Answer int64            // most bytes of an answer; 0: 1 MiB
}

// New returns a client of HTTP for one service. It follows no redirects, and has no
// timeout of its own: the contexts of its callers have.
func New(cfg Config) *http.Client {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, IdleConnTimeout: 90 * time.Second,
		MaxIdleConns: cfg.Calls, MaxIdleConnsPerHost: cfg.Calls,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.Roots},
	}
	if cfg.Client != nil {
		transport.TLSClientConfig.Certificates = []tls.Certificate{*cfg.Client}
	}
	return &http.Client{
		Transport:     bounded{transport, cmp.Or(cfg.Answer, maxAnswer)},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// bounded cuts off what is longer.
type bounded struct {
	*http.Transport
	most int64
}

// RoundTrip is http.RoundTripper's.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := b.Transport.RoundTrip(r)
	if err == nil {
		answer.Body = http.MaxBytesReader(nil, answer.Body, b.most)
	}
	return answer, err
}
