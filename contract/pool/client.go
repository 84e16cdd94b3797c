// Package pool is how providers of contract certificates reach each other over
// REST, in the shapes of the Open Plug & Charge Protocol 1.0 (OPCP, after
// VDE-AR-E 2802-100-1).
//
// It promises that what is asked of a pool of others is over when whoever asked
// waits no more, and costs a bounded number of bytes, connections and tries; and
// that nothing of a request, an answer or a secret is in its errors.
package pool

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"bollard/internal/curve448"
	"bollard/internal/redact"
	"bollard/internal/safehttp"
	"bollard/iso15118/message"
	"bollard/ocpp"
)

// ClientConfig says where a pool of others is, and who asks there.
type ClientConfig struct {
	URL      string // https://…, to which /v1/… is appended; http:// on this machine
	TokenURL string // where access tokens come from; "": URL with /oauth/token
	ID       string // the client's, and its secret (RFC 6749 §4.4)
	Secret   redact.Secret
	Audience string // told with them; "": URL
	// Networks are private ones the pool may be in, by the operator's word.
	Networks []netip.Prefix
	RootCAs  *x509.CertPool   // nil: the system's
	Clock    func() time.Time // nil: time.Now
}

const (
	// maxAsked bounds the questions under way at one pool: one that hangs holds so
	// many connections, and no more.
	maxAsked = 64
	// maxAnswer bounds an answer: eight of the longest that OCPP 2.1 carries.
	maxAnswer = 256 << 10
	// tries of one question, with pauses between that double.
	tries = 3
	pause = 100 * time.Millisecond
)

// Client asks one pool of others. It is safe for concurrent use.
type Client struct {
	cfg    ClientConfig
	api    *safehttp.Client
	tokens *safehttp.Client
	asked  chan struct{} // one place for each question under way
	fetch  chan struct{} // held while an access token is fetched

	mu    sync.Mutex // guards what follows
	token string
	until time.Time
}

// NewClient checks the configuration; nothing is dialled yet.
func NewClient(cfg ClientConfig) (*Client, error) {
	cfg.URL = strings.TrimSuffix(cfg.URL, "/")
	if cfg.TokenURL == "" {
		cfg.TokenURL = cfg.URL + tokenPath
	}
	if cfg.Audience == "" {
		cfg.Audience = cfg.URL
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.ID == "" || len(cfg.Secret) == 0 {
		return nil, errors.New("the pool's client has no ID or no secret")
	}
	c := &Client{cfg: cfg, asked: make(chan struct{}, maxAsked), fetch: make(chan struct{}, 1)}
	reach := safehttp.Config{AllowPrivate: cfg.Networks, MaxBytes: maxAnswer, Timeout: time.Minute, Clock: cfg.Clock, RootCAs: cfg.RootCAs}
	var err error
	if c.api, err = safehttp.One(cfg.URL, reach); err != nil {
		return nil, err
	}
	if c.tokens, err = safehttp.One(cfg.TokenURL, reach); err != nil {
		return nil, fmt.Errorf("token_url: %w", err)
	}
	return c, nil
}

// Ask hands a car's request on and returns what the pool answers: the EXI of each
// answer, in the pool's order; none if it has nothing for the car.
func (c *Client) Ask(ctx context.Context, p message.Protocol, exi []byte) ([][]byte, error) {
	answer, err := c.send(ctx, c.api.PostWith, signedDataPath, question{base64.StdEncoding.EncodeToString(exi), p.Namespace()})
	switch {
	case err != nil:
		return nil, err
	case answer.Status == http.StatusNotFound:
		// With the car's answer or without.
		list, err := readAnswers(answer.Body)
		switch {
		case err == nil:
			return list, nil
		case isProblem(answer.Body):
			return nil, nil // it says in words that there is nothing
		}
		return nil, fmt.Errorf("it answered with HTTP status 404, and not as a pool does; its url is the part before /v1: %w", err)
	case answer.Status != http.StatusOK:
		return nil, fmt.Errorf("it answered with HTTP status %d", answer.Status)
	}
	return readAnswers(answer.Body)
}

// Sign has the pool's CPS sign contract data of ISO 15118-2, which isn't kept there.
func (c *Client) Sign(ctx context.Context, data *message.Response) ([]byte, error) {
	if data.Protocol != message.ISO2 {
		return nil, errors.New("pools sign for ISO 15118-2 alone")
	}
	answer, err := c.send(ctx, c.api.PutWith, signPath, unsignedOf(data))
	switch {
	case err != nil:
		return nil, err
	case answer.Status != http.StatusOK && answer.Status != http.StatusCreated:
		return nil, fmt.Errorf("it answered with HTTP status %d", answer.Status)
	}
	return readSigned(answer.Body)
}

// Root is a root certificate that a pool lists, as it says of which kind it is: V2G, MO,
// OEM, or another. Nothing is known of it but that.
type Root struct {
	Type        string
	Certificate *x509.Certificate
}

// Roots returns the roots that a pool lists.
func (c *Client) Roots(ctx context.Context) ([]Root, error) {
	get := func(ctx context.Context, url string, header http.Header, _ []byte) (*safehttp.Response, error) {
		return c.api.GetWith(ctx, url, header)
	}
	answer, err := c.send(ctx, get, "/v1/root/rootCerts", nil)
	if err != nil {
		return nil, err
	}
	var body struct {
		Collection struct {
			Roots []rootCertificate `json:"rootCertificates"`
		} `json:"RootCertificateCollection"`
	}
	if answer.Status != http.StatusOK {
		return nil, fmt.Errorf("it answered with HTTP status %d", answer.Status)
	}
	if err := ocpp.DecodeStrict(answer.Body, &body); err != nil {
		return nil, errors.New("its list of root certificates can't be read")
	}
	var list []Root
	for i, one := range body.Collection.Roots {
		der, err := base64.StdEncoding.DecodeString(one.Certificate)
		if err != nil {
			return nil, fmt.Errorf("root certificate %d of its list isn't base64", i+1)
		}
		cert, err := curve448.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("root certificate %d of its list can't be read", i+1)
		}
		list = append(list, Root{strings.ToUpper(one.Type), cert})
	}
	return list, nil
}

// method is one of safehttp's.
type method func(ctx context.Context, url string, header http.Header, body []byte) (*safehttp.Response, error)

// send asks until there is an answer worth taking, or no time.
func (c *Client) send(ctx context.Context, by method, path string, body any) (*safehttp.Response, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("couldn't encode a question for a pool: %w", err)
	}
	select {
	case c.asked <- struct{}{}:
		defer func() { <-c.asked }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for n, wait := 1, pause; ; n, wait = n+1, 2*wait {
		answer, err := c.once(ctx, by, path, text)
		if n == tries || !again(answer, err) {
			return answer, bare(err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
	}
}

// again tells what may go better the next time.
func again(answer *safehttp.Response, err error) bool {
	if broken, ok := errors.AsType[*safehttp.Error](err); ok {
		return slices.Contains([]safehttp.Rule{safehttp.RuleConnect, safehttp.RuleHTTP, safehttp.RuleResolve}, broken.Rule)
	}
	if err != nil {
		return false
	}
	return answer.Status >= 500 || answer.Status == http.StatusTooManyRequests || answer.Status == http.StatusUnauthorized
}

// bare leaves out what a pool answered instead of HTTP: it may be what it was asked.
func bare(err error) error {
	if broken, ok := errors.AsType[*safehttp.Error](err); ok && broken.Rule == safehttp.RuleHTTP {
		return &safehttp.Error{Rule: broken.Rule, Where: broken.Where, Reason: broken.Reason}
	}
	return err
}

func (c *Client) once(ctx context.Context, by method, path string, body []byte) (*safehttp.Response, error) {
	token, err := c.bearer(ctx)
	if err != nil {
		return nil, err
	}
	header := http.Header{"Content-Type": {jsonType}, "Accept": {jsonType}, "Authorization": {"Bearer " + token}}
	answer, err := by(ctx, c.cfg.URL+path, header, body)
	if err == nil && answer.Status == http.StatusUnauthorized {
		c.drop(token) // it ended before its time
	}
	return answer, err
}
