// Package subscriber keeps a server certificate that a CA of others gives over ACME
// (RFC 8555): a public CA's, or a company's.
//
// It promises that a certificate is shown for no other key, name or purpose than was
// asked for, that one is asked for again in time, and that the one at hand stays in use
// until it ends, whatever happens to the next.
package subscriber

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"

	"bollard/ca"
	"bollard/keys"
)

// Prefix is the path that the CA asks for proofs below (RFC 8555 §8.3).
const Prefix = "/.well-known/acme-challenge/"

// patience for one order: CAs take a minute to look from several places.
const patience = 5 * time.Minute

// Config of a Subscriber.
type Config struct {
	Directory string       // URL of the CA's directory
	Name      string       // that the certificate is for: a DNS name
	Contact   string       // URL such as mailto:ops@example.com; "": none
	Binding   *Binding     // RFC 8555 §7.3.4; nil: none
	Client    *http.Client // toward the CA; nil: http.DefaultClient
	Keeper    *keys.Keeper
	Dir       string           // absolute, for keys and certificates; made if it isn't there
	Algorithm []keys.Algorithm // of the certificates' keys: P256, RSA2048 or both
	// Taken is told of each certificate before it is shown, and keeps it from that with
	// an error.
	Taken func(ctx context.Context, leaf *x509.Certificate) error
	// Changed, if set, runs after another certificate has come into use.
	Changed func()
	Clock   func() time.Time
	Log     *slog.Logger
}

// Binding ties the ACME account to one that the CA has of its customer.
type Binding struct {
	KeyID string
	MAC   []byte // the key of the HMAC
}

// Subscriber keeps one certificate for each algorithm. It is safe for concurrent use.
type Subscriber struct {
	cfg     Config
	current []atomic.Pointer[tls.Certificate] // as cfg.Algorithm

	mu     sync.Mutex
	proofs map[string]string // by path, while the CA looks
	fault  error             // of the last order, until one succeeds
}

// New loads the certificates that are there. It asks for none: Run does.
func New(ctx context.Context, cfg Config) (*Subscriber, error) {
	if cfg.Keeper == nil || cfg.Clock == nil || cfg.Log == nil || cfg.Taken == nil || len(cfg.Algorithm) == 0 || !filepath.IsAbs(cfg.Dir) {
		return nil, errors.New("internal error: subscriber.Config needs Keeper, Clock, Log, Taken, Algorithm and an absolute Dir")
	}
	if cfg.Client == nil {
		cfg.Client = http.DefaultClient
	}
	if cfg.Changed == nil {
		cfg.Changed = func() {}
	}
	s := &Subscriber{cfg: cfg, current: make([]atomic.Pointer[tls.Certificate], len(cfg.Algorithm)), proofs: map[string]string{}}
	for i := range cfg.Algorithm {
		have, err := s.load(ctx, i)
		if err != nil {
			return nil, err
		}
		s.current[i].Store(have)
	}
	return s, nil
}

// Certificate of an algorithm; nil: there is none yet.
func (s *Subscriber) Certificate(algorithm keys.Algorithm) *tls.Certificate {
	for i, a := range s.cfg.Algorithm {
		if a == algorithm {
			return s.current[i].Load()
		}
	}
	return nil
}

// Fault is why the last order brought nothing; nil: it did.
func (s *Subscriber) Fault() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fault
}

// ServeHTTP shows the proofs of orders under way. Anybody may ask for them.
func (s *Subscriber) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	proof, ok := s.proofs[r.URL.Path]
	s.mu.Unlock()
	switch {
	case !ok:
		http.Error(w, "no such file", http.StatusNotFound)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "use GET", http.StatusMethodNotAllowed)
	default:
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write([]byte(proof)) // who doesn't take it asks again
	}
}

// Run asks for certificates that are missing or due, until ctx ends. Trouble is
// logged and tried again; what is shown stays.
func (s *Subscriber) Run(ctx context.Context) error {
	ca.KeepUp(ctx, func(ctx context.Context) (time.Duration, error) {
		err := s.renew(ctx)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.fault = err
		return time.Hour, err // soon enough, too, for one that ends
	}, func(err error, retry time.Duration) {
		s.cfg.Log.Error("the server certificate of an outside CA isn't renewed; what there is stays in use", "err", err, "retry", retry)
	})
	return nil
}

// renew asks for every certificate that is missing or due.
func (s *Subscriber) renew(ctx context.Context) error {
	var errs []error
	for i, algorithm := range s.cfg.Algorithm {
		if have := s.current[i].Load(); have != nil && s.cfg.Clock().Before(due(have.Leaf)) {
			continue
		}
		next, err := s.obtain(ctx, algorithm)
		if have := s.current[i].Load(); err != nil && have != nil && !s.cfg.Clock().Before(have.Leaf.NotAfter) {
			s.current[i].Store(nil) // an own one is better than one that ended
			s.cfg.Changed()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", algorithm, err))
			continue
		}
		s.current[i].Store(next)
		s.cfg.Log.Info("the front door shows a certificate of an outside CA", "name", s.cfg.Name, "issuer", next.Leaf.Issuer.String(), "not_after", next.Leaf.NotAfter)
		s.cfg.Changed()
		s.tidy(ctx, algorithm, next)
	}
	return errors.Join(errs...)
}

// due is when a third of its life is left, and 30 days at most.
func due(leaf *x509.Certificate) time.Time {
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	return leaf.NotAfter.Add(-min(life/3, 30*24*time.Hour))
}

// obtain asks for a certificate for a new key, and stores both.
func (s *Subscriber) obtain(ctx context.Context, algorithm keys.Algorithm) (*tls.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	account, err := s.account(ctx)
	if err != nil {
		return nil, err
	}
	name, key, err := s.newKey(ctx, algorithm)
	if err != nil {
		return nil, err
	}
	got, err := s.order(ctx, account, key)
	if err == nil {
		err = s.store(name, got)
	}
	if err != nil {
		return nil, errors.Join(err, s.cfg.Keeper.Discard(context.WithoutCancel(ctx), s.uri(name+keyExt)))
	}
	return got, nil
}

// order has the CA see the name, and takes its certificate.
func (s *Subscriber) order(ctx context.Context, c *acme.Client, key crypto.Signer) (*tls.Certificate, error) {
	order, err := c.AuthorizeOrder(ctx, acme.DomainIDs(s.cfg.Name))
	if err != nil {
		return nil, fmt.Errorf("the CA takes no order for %s: %w", s.cfg.Name, err)
	}
	for _, url := range order.AuthzURLs {
		if err := s.authorize(ctx, c, url); err != nil {
			return nil, fmt.Errorf("the CA doesn't believe that %s is ours: %w", s.cfg.Name, err)
		}
	}
	request, err := x509.CreateCertificateRequest(nil, &x509.CertificateRequest{DNSNames: []string{s.cfg.Name}}, key)
	if err != nil {
		return nil, err
	}
	chain, _, err := c.CreateOrderCert(ctx, order.FinalizeURL, request, true)
	if err != nil {
		return nil, fmt.Errorf("the CA gives no certificate for %s: %w", s.cfg.Name, err)
	}
	got, err := s.check(chain, key)
	if err != nil {
		return nil, fmt.Errorf("the CA's certificate isn't used: %w", err)
	}
	return got, s.cfg.Taken(ctx, got.Leaf)
}

// authorize proves one name by a file (http-01, RFC 8555 §8.3).
func (s *Subscriber) authorize(ctx context.Context, c *acme.Client, url string) error {
	z, err := c.GetAuthorization(ctx, url)
	if err != nil || z.Status == acme.StatusValid {
		return err
	}
	for _, challenge := range z.Challenges {
		if challenge.Type != "http-01" {
			continue
		}
		proof, err := c.HTTP01ChallengeResponse(challenge.Token)
		if err != nil {
			return err
		}
		path := Prefix + challenge.Token
		s.mu.Lock()
		s.proofs[path] = proof
		s.mu.Unlock()
		defer func() {
			s.mu.Lock()
			delete(s.proofs, path)
			s.mu.Unlock()
		}()
		if _, err := c.Accept(ctx, challenge); err != nil {
			return err
		}
		_, err = c.WaitAuthorization(ctx, url)
		return err
	}
	return errors.New("it doesn't offer http-01, the one proof that is spoken here")
}
