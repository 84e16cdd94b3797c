package alert

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"bollard/internal/redact"
	"bollard/internal/safehttp"
)

// SignatureHeader is the header of a webhook's signature, "t=SECONDS,v1=HEX":
// HMAC-SHA256 with the shared secret over SECONDS, a dot, and the body. The
// receiver compares in constant time and refuses an old time: that is what
// keeps a delivery from being replayed.
const SignatureHeader = "Bollard-Signature"

// minSecret is as much as the hash of HMAC-SHA256 makes sense of: 128 bits.
const minSecret = 16

// WebhookConfig of a Webhook.
type WebhookConfig struct {
	Name   string
	URL    string
	Secret redact.Secret // shared with the receiver
	// Networks are the private ones the receiver may be in, by the operator's
	// word; public addresses need none.
	Networks []netip.Prefix
	RootCAs  *x509.CertPool // nil: the system's
	Clock    func() time.Time
}

// Webhook posts alerts to a URL of the operator's choice.
type Webhook struct {
	cfg    WebhookConfig
	client *safehttp.Client
}

// NewWebhook checks the configuration. The URL is https, or http on loopback.
func NewWebhook(cfg WebhookConfig) (*Webhook, error) {
	if len(cfg.Secret) < minSecret {
		return nil, fmt.Errorf("the secret of webhook %q has fewer than %d characters: `openssl rand -hex 32` makes a good one", cfg.Name, minSecret)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	client, err := safehttp.One(cfg.URL, safehttp.Config{AllowPrivate: cfg.Networks, MaxBytes: 64 << 10, Timeout: sendPatience, Clock: cfg.Clock, RootCAs: cfg.RootCAs})
	if err != nil {
		return nil, fmt.Errorf("webhook %q: %w", cfg.Name, err)
	}
	return &Webhook{cfg: cfg, client: client}, nil
}

// Name is the receiver's.
func (w *Webhook) Name() string { return w.cfg.Name }

// Send posts the alert; any 2xx is an acceptance.
func (w *Webhook) Send(ctx context.Context, a Alert) error {
	header := http.Header{"Content-Type": {"application/json"}, SignatureHeader: {signature(w.cfg.Secret, w.cfg.Clock(), a.Body)}}
	answer, err := w.client.PostWith(ctx, w.cfg.URL, header, a.Body)
	if err != nil {
		return err
	}
	switch {
	case answer.Status >= 200 && answer.Status < 300:
		return nil
	case answer.Status >= 500 || answer.Status == http.StatusRequestTimeout || answer.Status == http.StatusTooEarly || answer.Status == http.StatusTooManyRequests:
		return fmt.Errorf("webhook %q answered with HTTP status %d", w.cfg.Name, answer.Status)
	}
	return fmt.Errorf("webhook %q answered with HTTP status %d: %w", w.cfg.Name, answer.Status, ErrRefused)
}

// signature signs a body at a time, as SignatureHeader has it.
func signature(secret []byte, at time.Time, body []byte) string {
	stamp := strconv.FormatInt(at.Unix(), 10)
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(stamp + "."))
	h.Write(body)
	return "t=" + stamp + ",v1=" + hex.EncodeToString(h.Sum(nil))
}
