package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bollard/ca"
	"bollard/ca/subscriber"
	"bollard/internal/config"
	"bollard/keys"
	"bollard/ledger"
)

// outsideName is the folder of what server_certificate.acme has brought.
const outsideName = "server-acme"

// openOutside lets a CA of others certify the front door, if one is to.
func (s *server) openOutside(ctx context.Context) error {
	cfg := s.cfg.Server.ACME
	if cfg.Directory == "" {
		return nil
	}
	roots, err := trusted(s.dir, cfg.Trust)
	if err != nil {
		return configFault(s.dir, "server_certificate.acme", err)
	}
	binding, err := readBinding(s.dir, cfg)
	if err != nil {
		return configFault(s.dir, "server_certificate.acme.mac_file", err)
	}
	dir, err := filepath.Abs(filepath.Join(s.dir, outsideName))
	if err != nil {
		return err
	}
	s.outside, err = subscriber.New(ctx, subscriber.Config{
		Directory: cfg.Directory, Name: s.cfg.Host, Contact: cfg.Contact, Binding: binding,
		Client: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		}},
		Keeper: s.keeper, Dir: dir, Algorithm: outsideAlgorithms(cfg),
		Taken: func(ctx context.Context, leaf *x509.Certificate) error {
			return s.store.Record(ctx, ledger.Event{Kind: "server.certificate", Subject: s.cfg.Host, Actor: "bollard", Data: map[string]string{
				"serial": ca.SerialOf(leaf), "issuer": leaf.Issuer.String(), "until": leaf.NotAfter.UTC().Format(time.RFC3339), "directory": cfg.Directory,
			}})
		},
		Changed: func() {
			s.certificates.files.Store(s.outsideFiles())
			s.gateway.Reconsider() // stations may have to be brought to another root
		},
		Clock: s.clock, Log: s.log,
	})
	if err != nil {
		return err
	}
	s.metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "bollard_server_certificate_fault", Help: "1 if the CA of server_certificate.acme gave no certificate the last time.",
	}, func() float64 {
		if s.outside.Fault() != nil {
			return 1
		}
		return 0
	}))
	return nil
}

// outsideAlgorithms are those of the keys that are to be certified.
func outsideAlgorithms(cfg config.Outside) (list []keys.Algorithm) {
	algorithms := map[string]keys.Algorithm{"ecdsa": keys.P256, "rsa": keys.RSA2048}
	for _, kind := range cfg.Keys {
		list = append(list, algorithms[kind])
	}
	if len(list) == 0 {
		return []keys.Algorithm{keys.P256}
	}
	return list
}

// readBinding reads the account binding; nil: there is none.
func readBinding(dir string, cfg config.Outside) (*subscriber.Binding, error) {
	if cfg.MAC == "" {
		return nil, nil
	}
	text, err := os.ReadFile(within(dir, cfg.MAC))
	if err != nil {
		return nil, err
	}
	mac, err := base64.RawURLEncoding.DecodeString(string(bytes.TrimRight(bytes.TrimSpace(text), "=")))
	if err == nil && len(mac) == 0 {
		err = errors.New("it is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("%s holds no key in base64url: %w", cfg.MAC, err)
	}
	return &subscriber.Binding{KeyID: cfg.KeyID, MAC: mac}, nil
}

// outsideFiles are the outside CA's certificates in the place of files.
func (s *server) outsideFiles() *certificateFiles {
	return &certificateFiles{ecdsa: s.outside.Certificate(keys.P256), rsa: s.outside.Certificate(keys.RSA2048)}
}

// frontFiles are what the front doors show beside the own CA's certificates.
func (s *server) frontFiles(cfg config.ServerCert) (*certificateFiles, error) {
	if s.outside != nil {
		return s.outsideFiles(), nil
	}
	return readCertificateFiles(s.dir, cfg)
}
