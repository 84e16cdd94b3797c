package station

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"bollard/tpm/device"
)

// TPMKey is a key that the station's TPM makes, on P-256; a request with it brings
// evidence of that once the attestation key has a certificate.
const TPMKey KeyType = "tpm"

// measuredRegister is one of those of applications, which can be reset while the TPM runs
// (TCG PC Client Platform TPM Profile §4.6.2): a real station's boot measures into
// others, which only a power cycle resets.
const measuredRegister = 23

// Measured is what the TPM of a station shows that booted an image: the register's
// number, its value, and the digest of the one event of its log.
func Measured(image []byte) (register int, value, event string) {
	digest := sha256.Sum256(image)
	extended := sha256.Sum256(append(make([]byte, sha256.Size), digest[:]...))
	return measuredRegister, hex.EncodeToString(extended[:]), hex.EncodeToString(digest[:])
}

// measure has the TPM know what boots, as the boot loader of a real station does.
func (s *Station) measure() error {
	if s.cfg.TPM == nil {
		return nil
	}
	s.mu.Lock()
	digest := s.image
	if s.dev.Tampered {
		digest = sha256.Sum256(digest[:])
	}
	s.measured = digest
	s.mu.Unlock()
	return errors.Join(s.cfg.TPM.Reset(measuredRegister), s.cfg.TPM.ExtendDigest(measuredRegister, digest))
}

// A quoteError is an answer other than 200.
type quoteError struct {
	status int
	text   string
}

func (e *quoteError) Error() string { return fmt.Sprintf("%d: %s", e.status, e.text) }

// Quote shows by the TPM what was measured, once its attestation key has a certificate,
// and returns when the next quote is wanted, 0 after the next boot.
func (s *Station) Quote(ctx context.Context) (next time.Duration, err error) {
	outcome := ""
	defer func() {
		if err != nil {
			outcome = err.Error()
		}
		s.update(func() { s.state.Quotes, s.state.Quoted = s.state.Quotes+1, outcome })
	}()
	if err := s.certifyTPM(ctx); err != nil {
		return 0, err
	}
	var asked struct {
		Nonce     []byte `json:"nonce"`
		Registers []int  `json:"registers"`
	}
	if err := s.pki(ctx, "nonce", struct{}{}, &asked); err != nil {
		return 0, err
	}
	if len(asked.Registers) == 0 {
		asked.Registers = []int{measuredRegister}
	}
	q, err := s.cfg.TPM.Quote(asked.Nonce, asked.Registers...)
	if err != nil {
		return 0, err
	}
	registers := map[int][]byte{}
	for i, v := range q.Registers {
		registers[i] = v
	}
	s.mu.Lock()
	log := device.EventLog(device.Event{Register: measuredRegister, Digest: s.measured, Data: []byte(s.firmware)})
	s.mu.Unlock()
	var answer struct {
		Outcome string `json:"outcome"`
		Next    int    `json:"next"`
	}
	err = s.pki(ctx, "quote", object{"quoted": q.Statement, "signature": q.Signature, "registers": registers, "log": log}, &answer)
	outcome = answer.Outcome
	return time.Duration(answer.Next) * time.Second, err
}

// certifyTPM has the attestation key certified, once.
func (s *Station) certifyTPM(ctx context.Context) error {
	s.mu.Lock()
	done := len(s.attested) > 0
	s.mu.Unlock()
	if done {
		return nil
	}
	public, err := s.cfg.TPM.EK()
	if err != nil {
		return err
	}
	ek, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return fmt.Errorf("couldn't encode the endorsement key: %w", err)
	}
	ak, err := s.cfg.TPM.AK()
	if err != nil {
		return err
	}
	var challenge struct {
		Credential []byte `json:"credential"`
		Secret     []byte `json:"secret"`
	}
	if err := s.pki(ctx, "attest", object{"ek": ek, "params": object{"public": ak}}, &challenge); err != nil {
		return err
	}
	secret, err := s.cfg.TPM.Activate(challenge.Credential, challenge.Secret)
	if err != nil {
		return err
	}
	var answer struct {
		Chain [][]byte `json:"chain"`
	}
	if err := s.pki(ctx, "secret", object{"secret": secret}, &answer); err != nil {
		return err
	}
	var chain []*x509.Certificate
	for _, der := range answer.Chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("couldn't read the attestation key's certificate: %w", err)
		}
		chain = append(chain, cert)
	}
	s.update(func() { s.attested = chain })
	return nil
}

// pki makes a request of the attestation door, as the station that the one-time secret or
// the client certificate shows it to be.
func (s *Station) pki(ctx context.Context, operation string, body, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, s.cfg.CallTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(limited, http.MethodPost, strings.TrimSuffix(s.cfg.PKI, "/")+"/attestation/"+operation, bytes.NewReader(text))
	if err != nil {
		return err
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.trust.pool(csmsRoot), ServerName: s.cfg.ServerName, Time: s.cfg.Clock}
	s.mu.Lock()
	secret := s.cfg.EnrolSecret
	s.mu.Unlock()
	if len(secret) > 0 {
		request.SetBasicAuth(s.cfg.Identity, string(secret))
	} else if own, ok := s.Certificate(); ok {
		cfg.Certificates = []tls.Certificate{own}
	}
	answer, err := (&http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}).RoundTrip(request) // follows no redirects
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return &quoteError{answer.StatusCode, strings.TrimSpace(string(got))}
	}
	return json.Unmarshal(got, into)
}

// keepShowing quotes after each boot and whenever the next quote is wanted, until ctx
// ends. What couldn't be asked is asked again, what was refused isn't.
func (s *Station) keepShowing(ctx context.Context) {
	again := time.NewTimer(0)
	if !again.Stop() {
		<-again.C
	}
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.booted:
		case <-again.C:
		}
		next, err := s.Quote(ctx)
		if err != nil {
			s.cfg.Log.Info("couldn't show what it runs", "station", s.cfg.Identity, "err", err)
			if refused, ok := errors.AsType[*quoteError](err); !ok || refused.status >= http.StatusInternalServerError || refused.status == http.StatusTooManyRequests {
				next = s.backOff().Minimum
			}
		}
		again.Stop()
		if next > 0 {
			again.Reset(next)
		}
	}
}

// newKey makes a key for a request, in the TPM where that is its kind.
func (s *Station) newKey(kind KeyType) (crypto.Signer, error) {
	if kind == TPMKey {
		return s.cfg.TPM.NewKey()
	}
	return NewKey(kind)
}

// evidence is a request with evidence that the TPM made its key; nil if there is none.
func (s *Station) evidence(key crypto.Signer, subject pkix.Name) ([]byte, error) {
	made, ok := key.(*device.Key)
	s.mu.Lock()
	chain := s.attested
	s.mu.Unlock()
	if !ok || len(chain) == 0 {
		return nil, nil
	}
	return made.Request(subject, chain...)
}
