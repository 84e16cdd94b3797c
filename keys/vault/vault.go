// Package vault signs with keys of the transit engine of a HashiCorp Vault, and asks a
// PKI mount of one for certificates.
//
// It promises: what a key signed was signed by the one that was asked for, verified before
// it is given out (what a mount issues is for its caller to judge); no call takes longer
// than its context; and neither token nor credential is ever in an error.
package vault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"

	"bollard/internal/endpoint"
)

// Errors callers branch on. What is none of them comes from a Vault that is sealed,
// away or slow: it is worth trying again, and the login with it.
var (
	ErrNotFound = errors.New("no such key in Vault")
	// ErrDenied: the login is good, and its policy refuses this.
	ErrDenied = errors.New("the policy in Vault refuses this to the login")
	// ErrLogin: the credentials are wrong, used up or forbidden.
	ErrLogin = errors.New("the login is refused by Vault")
	// ErrToken: the token has ended or was revoked; a new login is needed.
	ErrToken = errors.New("the token of Vault is no longer good")
	// ErrUnfit: this key is never to be used, or can't sign what is asked.
	ErrUnfit = errors.New("the key in Vault isn't fit")
)

// Config of a Client.
type Config struct {
	Address   string // https://HOST:PORT; http only on this machine
	Namespace string
	Mount     string // of the transit engine, or of PKI
	Roots     *x509.CertPool
	Login     Login
	// Client is the certificate to log in with, or nil.
	Client *tls.Certificate
	Calls  int           // at the same time
	Limit  time.Duration // of one exchange of the renewal, which no caller waits for
	Answer int64         // most bytes of an answer; 0: maxAnswer
	Log    *slog.Logger
}

// Method is a way to log in.
type Method string

// The ways to log in.
const (
	MethodToken      Method = "token"
	MethodAppRole    Method = "approle"
	MethodKubernetes Method = "kubernetes"
	MethodCert       Method = "cert"
)

// Login is who one is.
type Login struct {
	Method Method
	Mount  string // of the auth method; "": its own name
	Role   string // of Kubernetes and, if several fit, of cert
	ID     string // role_id of AppRole
	Secret string // token, secret_id or JWT
}

// Client is one login. It is safe for concurrent use.
type Client struct {
	api    *api.Client
	cfg    Config
	cancel context.CancelFunc
	renews sync.WaitGroup
}

// Open logs in, and keeps the login's token from ending until Close.
func Open(ctx context.Context, cfg Config) (*Client, error) {
	if err := CheckAddress(cfg.Address); err != nil {
		return nil, err
	}
	// Redirects are the library's matter: from a standby to the active node, never to http.
	web := endpoint.New(endpoint.Config{Roots: cfg.Roots, Client: cfg.Client, Calls: cfg.Calls, Answer: cfg.Answer})
	// Nothing is tried again here: the caller's deadline is for all of it.
	inner, err := api.NewClient(&api.Config{Address: cfg.Address, HttpClient: web, MaxRetries: 0})
	if err != nil {
		return nil, fmt.Errorf("couldn't set up the client of Vault: %w", err)
	}
	// The environment's VAULT_TOKEN and VAULT_NAMESPACE are somebody else's.
	inner.ClearToken()
	inner.ClearNamespace()
	if cfg.Namespace != "" {
		inner.SetNamespace(cfg.Namespace)
	}
	base, cancel := context.WithCancel(context.Background())
	c := &Client{api: inner, cfg: cfg, cancel: cancel}
	lease, renewable, err := c.logIn(ctx)
	if err != nil {
		cancel()
		web.CloseIdleConnections()
		return nil, err
	}
	if renewable && lease > 0 {
		c.renews.Go(func() { c.keep(base, lease) })
	}
	return c, nil
}

// Close ends the renewal. The token is left to its end.
func (c *Client) Close() error {
	c.cancel()
	c.renews.Wait()
	c.api.CloneConfig().HttpClient.CloseIdleConnections()
	return nil
}

// CheckAddress refuses addresses that credentials mustn't go to.
func CheckAddress(address string) error { return endpoint.Check("Vault", address) }

// fault makes one of this package's errors of the library's. The latter carry Vault's
// own words and the URL, but neither headers nor bodies of requests.
func (c *Client) fault(ctx context.Context, err error) error {
	var said *api.ResponseError
	if !errors.As(err, &said) {
		return err
	}
	words := fmt.Errorf("status %d: %s", said.StatusCode, strings.Join(said.Errors, "; "))
	switch said.StatusCode {
	case http.StatusNotFound:
		return fmt.Errorf("%w (%w)", ErrNotFound, words)
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return fmt.Errorf("%w: %w", ErrUnfit, words)
	case http.StatusForbidden:
		// A token that ended and a policy that refuses look alike: whose token is good
		// may look itself up, which the policy "default" allows.
		_, err := c.api.Auth().Token().LookupSelfWithContext(ctx)
		switch {
		case err == nil:
			return fmt.Errorf("%w (%w)", ErrDenied, words)
		case errors.As(err, &said) && said.StatusCode == http.StatusForbidden:
			return fmt.Errorf("%w (%w)", ErrToken, words)
		}
	}
	return words
}

// number reads a field of an answer.
func number(data map[string]any, field string) (int64, bool) {
	n, ok := data[field].(json.Number)
	if !ok {
		return 0, false
	}
	value, err := n.Int64()
	return value, err == nil
}
