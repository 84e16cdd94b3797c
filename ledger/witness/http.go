package witness

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/netip"
	"time"

	"bollard/internal/safehttp"
	"bollard/ledger"
)

// HTTPConfig says where a place is that is reached over HTTP.
type HTTPConfig struct {
	Name string
	URL  string // https://…, or http:// on this machine
	// Networks are private ones the place may be in, by the operator's word.
	Networks []netip.Prefix
	RootCAs  *x509.CertPool // nil: the system's
	Clock    func() time.Time
}

func (cfg HTTPConfig) client() (*safehttp.Client, error) {
	return safehttp.One(cfg.URL, safehttp.Config{AllowPrivate: cfg.Networks, MaxBytes: 64 << 10, Timeout: patience, Clock: cfg.Clock, RootCAs: cfg.RootCAs})
}

// Webhook posts checkpoints as they are: they carry their own signature.
type Webhook struct {
	cfg    HTTPConfig
	client *safehttp.Client
}

// NewWebhook checks the configuration.
func NewWebhook(cfg HTTPConfig) (*Webhook, error) {
	client, err := cfg.client()
	if err != nil {
		return nil, err
	}
	return &Webhook{cfg, client}, nil
}

// Name implements Place.
func (w *Webhook) Name() string { return w.cfg.Name }

// Keep implements Place; any 2xx is a receipt.
func (w *Webhook) Keep(ctx context.Context, n ledger.Note) (ledger.Note, error) {
	answer, err := w.client.Post(ctx, w.cfg.URL, "text/plain; charset=utf-8", []byte(n.Signed))
	if err == nil && (answer.Status < 200 || answer.Status > 299) {
		err = fmt.Errorf("it answered with HTTP status %d", answer.Status)
	}
	return n, err
}
