package safehttp

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// maxHeader bounds the header of an answer.
const maxHeader = 16 << 10

// Response is a whole answer, of any status but a redirect that isn't followed.
type Response struct {
	Status int
	Header http.Header
	Body   []byte // at most Config.MaxBytes
}

// Get fetches a URL. The error is an *Error, or ctx's if that ended.
func (c *Client) Get(ctx context.Context, rawURL string) (*Response, error) {
	return c.fetch(ctx, http.MethodGet, rawURL, nil, content{}, nil)
}

// GetWith is Get with a header of the caller's.
func (c *Client) GetWith(ctx context.Context, rawURL string, header http.Header) (*Response, error) {
	return c.fetch(ctx, http.MethodGet, rawURL, header, content{}, nil)
}

// Post sends a body. Errors are Get's.
func (c *Client) Post(ctx context.Context, rawURL, contentType string, body []byte) (*Response, error) {
	return c.PostWith(ctx, rawURL, http.Header{"Content-Type": {contentType}}, body)
}

// PostWith is Post with a header of the caller's, such as a signature.
func (c *Client) PostWith(ctx context.Context, rawURL string, header http.Header, body []byte) (*Response, error) {
	return c.fetch(ctx, http.MethodPost, rawURL, header, whole(body), nil)
}

// PutWith is PostWith by PUT.
func (c *Client) PutWith(ctx context.Context, rawURL string, header http.Header, body []byte) (*Response, error) {
	return c.fetch(ctx, http.MethodPut, rawURL, header, whole(body), nil)
}

// Send is PutWith of a body that is read as it goes, by PUT or POST. It is read at most
// once: an error may come after a part of it went.
func (c *Client) Send(ctx context.Context, method, rawURL string, header http.Header, body io.Reader, size int64) (*Response, error) {
	return c.fetch(ctx, method, rawURL, header, content{body, size}, nil)
}

// content is a body as it goes out.
type content struct {
	from io.Reader
	size int64
}

func whole(body []byte) content { return content{bytes.NewReader(body), int64(len(body))} }

// sink takes an answer that isn't a redirect.
type sink func(t *target, answer *http.Response) error

// fetch reads the body of the answer, or gives it to a sink.
func (c *Client) fetch(ctx context.Context, method, raw string, header http.Header, body content, into sink) (*Response, error) {
	t, err := c.parse(raw)
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	response, err := c.hop(limited, t, method, header, body, into)
	switch {
	case err == nil:
		return response, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case expired(limited):
		return nil, refuse(RuleTime, t.where(), "it took longer than "+c.cfg.Timeout.String())
	}
	return nil, err
}

// expired also when a socket noticed the deadline before the context did.
func expired(ctx context.Context) bool {
	deadline, set := ctx.Deadline()
	return ctx.Err() != nil || set && !time.Now().Before(deadline)
}

// hop follows as many redirects as are allowed. Every further place is
// checked, looked up and pinned as the first.
func (c *Client) hop(ctx context.Context, t *target, method string, header http.Header, body content, into sink) (*Response, error) {
	for hops := 0; ; hops++ {
		response, location, err := c.once(ctx, t, method, header, body, into)
		switch {
		case err != nil:
			return nil, err
		case location == "":
			return response, nil
		case method != http.MethodGet || hops >= c.cfg.Redirects:
			return nil, refuse(RuleRedirect, t.where(), "the answer is a redirect, which isn't followed")
		}
		if t, err = c.follow(t, location); err != nil {
			return nil, err
		}
	}
}

// follow checks where a redirect leads.
func (c *Client) follow(from *target, location string) (*target, error) {
	if strings.HasPrefix(location, "/") && !strings.HasPrefix(location, "//") {
		location = from.url.Scheme + "://" + from.url.Host + location
	}
	to, err := c.parse(location)
	var broken *Error
	switch {
	case errors.As(err, &broken):
		return nil, refuse(RuleRedirect, from.where(), "the redirect breaks rule "+string(broken.Rule)+": "+broken.Reason)
	case to.host() != from.host():
		return nil, refuse(RuleRedirect, from.where(), "the redirect leads to another host")
	case from.url.Scheme == "https" && to.url.Scheme != "https":
		return nil, refuse(RuleRedirect, from.where(), "the redirect leads from https to http")
	}
	return to, nil
}

// once makes one request over a connection of its own to an address that was
// checked. For a redirect it returns the location only.
func (c *Client) once(ctx context.Context, t *target, method string, header http.Header, body content, into sink) (*Response, string, error) {
	pinned, err := c.resolve(ctx, t)
	if err != nil {
		return nil, "", err
	}
	request, err := http.NewRequestWithContext(ctx, method, t.url.String(), http.NoBody)
	if err != nil {
		return nil, "", refuse(RuleForm, t.where(), "it isn't a readable URL")
	}
	if body.size > 0 {
		request.Body, request.ContentLength = io.NopCloser(body.from), body.size
	}
	request.Header = header.Clone()
	if request.Header == nil {
		request.Header = http.Header{}
	}
	request.Header.Set("User-Agent", "bollard")
	// A RoundTripper alone: no cookies, no redirects, no URL in its errors.
	transport := &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return c.connect(ctx, t, pinned)
		},
		DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
			return c.connectTLS(ctx, t, pinned)
		},
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
	}
	defer transport.CloseIdleConnections()
	answer, err := transport.RoundTrip(request)
	if err != nil {
		var failed *Error
		if errors.As(err, &failed) {
			return nil, "", failed
		}
		return nil, "", &Error{Rule: RuleHTTP, Where: t.where(), Reason: "the answer isn't readable", Err: err}
	}
	defer answer.Body.Close()
	switch {
	case answer.StatusCode < 200:
		return nil, "", refuse(RuleHTTP, t.where(), "the answer switches to another protocol")
	case answer.StatusCode >= 300 && answer.StatusCode < 400 && answer.StatusCode != http.StatusNotModified:
		location := answer.Header.Get("Location")
		if location == "" {
			return nil, "", refuse(RuleRedirect, t.where(), "the redirect leads nowhere")
		}
		return nil, location, nil
	}
	if into != nil {
		return nil, "", into(t, answer)
	}
	response, err := c.read(t, answer)
	return response, "", err
}

// fits refuses an answer by its head.
func (c *Client) fits(t *target, answer *http.Response) error {
	if encoding := answer.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return refuse(RuleEncoding, t.where(), "the answer is compressed, though that wasn't asked for")
	}
	if answer.ContentLength > c.cfg.MaxBytes {
		return refuse(RuleSize, t.where(), "the answer is too large")
	}
	return nil
}

// read takes the body as it is, and no more than allowed.
func (c *Client) read(t *target, answer *http.Response) (*Response, error) {
	if err := c.fits(t, answer); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, c.cfg.MaxBytes+1))
	switch {
	case err != nil:
		return nil, &Error{Rule: RuleHTTP, Where: t.where(), Reason: "the answer broke off", Err: err}
	case int64(len(body)) > c.cfg.MaxBytes:
		return nil, refuse(RuleSize, t.where(), "the answer is too large")
	}
	return &Response{Status: answer.StatusCode, Header: answer.Header, Body: body}, nil
}

// connect tries the checked addresses in the resolver's order.
func (c *Client) connect(ctx context.Context, t *target, pinned []netip.AddrPort) (net.Conn, error) {
	var all error
	for _, to := range pinned {
		conn, err := c.dial(ctx, to)
		if err == nil {
			return conn, nil
		}
		all = errors.Join(all, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, &Error{Rule: RuleConnect, Where: t.where(), Reason: "nobody answers", Err: all}
}

func (c *Client) connectTLS(ctx context.Context, t *target, pinned []netip.AddrPort) (net.Conn, error) {
	plain, err := c.connect(ctx, t, pinned)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(plain, &tls.Config{
		MinVersion: tls.VersionTLS12,
		RootCAs:    c.cfg.RootCAs,
		ServerName: t.host(),
		Time:       c.cfg.Clock,
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		plain.Close()
		return nil, &Error{Rule: RuleTLS, Where: t.where(), Reason: "no trusted TLS connection comes about", Err: err}
	}
	return conn, nil
}

// DialURL connects to the place a URL names and speaks nothing: for protocols other than
// HTTP, by the same rules. The error is an *Error, or ctx's if that ended.
func (c *Client) DialURL(ctx context.Context, rawURL string) (net.Conn, error) {
	t, err := c.parse(rawURL)
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	pinned, err := c.resolve(limited, t)
	if err == nil {
		var conn net.Conn
		if conn, err = c.connect(limited, t, pinned); err == nil {
			return conn, nil
		}
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case expired(limited):
		return nil, refuse(RuleTime, t.where(), "it took longer than "+c.cfg.Timeout.String())
	}
	return nil, err
}
