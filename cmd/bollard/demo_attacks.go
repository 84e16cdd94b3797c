package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"

	"bollard/admin"
	"bollard/ledger"
	"bollard/station"
)

// tlsName names a TLS version, such as "TLS 1.3".
func tlsName(version uint16) string { return tls.VersionName(version) }

// impostor holds the certificate and key of one station and says it is another.
func (d *demo) impostor(ctx context.Context) ([]string, error) {
	thief, victim := d.stations[0], d.stations[1]
	stolen, ok := thief.station.Certificate()
	if !ok {
		return nil, errors.New("there is no certificate to steal")
	}
	cfg := d.config(victim)
	cfg.Profile, cfg.Certificate = 3, &stolen
	seen, err := d.refused(ctx, victim, cfg)
	return append([]string{fmt.Sprintf("the key of %s (CN=%s) at the door of %s", thief.identity, stolen.Leaf.Subject.CommonName, victim.identity)}, seen...), err
}

// stranger knows an identity and guesses its password.
func (d *demo) stranger(ctx context.Context) ([]string, error) {
	victim := d.stations[2]
	cfg := d.config(victim)
	cfg.Password = []byte("a guess, not a secret")
	return d.refused(ctx, victim, cfg)
}

// downgrade comes with the right password, which profile 3 has made worthless
// (A05.FR.09).
func (d *demo) downgrade(ctx context.Context) ([]string, error) {
	victim := d.stations[0]
	seen, err := d.refused(ctx, victim, d.config(victim))
	return append([]string{victim.identity + " with its own, right password on security profile 2"}, seen...), err
}

// refused connects as cfg says and expects the door to stay shut: nothing
// reaches the CSMS and the station's real session notices nothing.
func (d *demo) refused(ctx context.Context, victim *player, cfg station.Config) ([]string, error) {
	before := d.untouched(victim)
	impostor, err := station.New(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer impostor.Close()
	err = impostor.Connect(ctx)
	if err == nil {
		return nil, errors.New("it was let in")
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	// The reason must be Bollard's refusal, not a broken demo.
	if text := err.Error(); !strings.Contains(text, "answered 401") && !strings.Contains(text, "answered 403") && !strings.Contains(text, "remote error: tls") {
		return nil, fmt.Errorf("it failed for another reason: %w", err)
	}
	if after := d.untouched(victim); after != before {
		return nil, fmt.Errorf("it was noticed behind the door: before %+v, after %+v", before, after)
	}
	shown, err := call[admin.StationRef, admin.StationDetail](ctx, d.cli, "station.show", admin.StationRef{Identity: victim.identity})
	if err != nil {
		return nil, err
	}
	if shown.Station.LastRefusal == "" {
		return nil, errors.New("the operator is not told the reason")
	}
	return []string{
		"the operator reads: " + shown.Station.LastRefusal,
		fmt.Sprintf("0 bytes reached the CSMS, the session of %s lives on", victim.identity),
	}, nil
}

// untouched is what an attack must not change: what the CSMS has seen of
// everybody, and the victim's connection.
type untouched struct {
	frames, events, connections int
	connected                   bool
}

func (d *demo) untouched(p *player) untouched {
	s := p.station.State()
	return untouched{len(d.back.Frames("")), len(d.back.Events("")), s.Connections, s.Connected}
}

// otherName sends a CSR with another station's serial number as CN.
func (d *demo) otherName(ctx context.Context) ([]string, error) {
	p, other := d.stations[1], d.stations[2]
	err := p.refusedCSR(ctx, func(q *x509.CertificateRequest) { q.Subject.CommonName = other.serial })
	if err != nil {
		return nil, err
	}
	return []string{fmt.Sprintf("%s asked for CN=%s: SignCertificate Rejected, nothing issued", p.identity, other.serial)}, nil
}

// caTrue asks for a certificate that could issue others.
func (d *demo) caTrue(ctx context.Context) ([]string, error) {
	p := d.stations[2]
	err := p.refusedCSR(ctx, func(q *x509.CertificateRequest) {
		q.ExtraExtensions = append(q.ExtraExtensions, pkix.Extension{
			Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 0x03, 0x01, 0x01, 0xff}, // CA:TRUE (RFC 5280 §4.2.1.9)
		})
	})
	if err != nil {
		return nil, err
	}
	return []string{p.identity + " asked for CA:TRUE: SignCertificate Rejected, nothing issued"}, nil
}

// refusedCSR has the station send a changed CSR, which must be refused.
func (p *player) refusedCSR(ctx context.Context, change func(*x509.CertificateRequest)) error {
	before := p.station.State()
	p.station.Deviate(func(dev *station.Deviations) { dev.CSR = change })
	defer p.station.Deviate(func(dev *station.Deviations) { dev.CSR = nil })
	err := p.station.RequestCertificate(ctx)
	if err == nil {
		return fmt.Errorf("the CSR of %s was accepted", p.identity)
	}
	if !strings.Contains(err.Error(), "Rejected") {
		return fmt.Errorf("it failed for another reason: %w", err)
	}
	if after := p.station.State(); after.Certificate != before.Certificate {
		return fmt.Errorf("%s got certificate %s all the same", p.identity, after.Certificate)
	}
	return nil
}

// ledger verifies the chain and finds, for every certificate there is, the
// intent that was recorded before the signature.
func (d *demo) ledger(ctx context.Context) ([]string, error) {
	state, err := call[admin.VerifyLedger, admin.LedgerState](ctx, d.cli, "ledger.verify", admin.VerifyLedger{})
	if err != nil {
		return nil, err
	}
	intended, issued := map[string]uint64{}, map[string]uint64{}
	rises := 0
	err = d.cli.withOperations(ctx, func(ctx context.Context, v admin.Invoker) error {
		for from := uint64(1); ; {
			page, err := admin.Call[admin.PageLedger, admin.LedgerPage](ctx, v, "ledger.page", admin.PageLedger{From: from, Limit: admin.MaxLedgerPage})
			if err != nil || len(page.Entries) == 0 {
				return err
			}
			for _, e := range page.Entries {
				from = e.Seq + 1
				note(e, intended, issued, &rises)
			}
		}
	})
	if err != nil {
		return nil, err
	}
	all, err := call[admin.CertificateFilter, admin.Certificates](ctx, d.cli, "cert.list", admin.CertificateFilter{})
	if err != nil {
		return nil, err
	}
	for _, c := range all.Certificates {
		if c.External {
			continue
		}
		before, ok := intended[c.Serial]
		if after := issued[c.Serial]; !ok || after == 0 || before > after {
			return nil, fmt.Errorf("certificate %s has no record before its signature", c.Serial)
		}
		delete(issued, c.Serial)
	}
	if len(issued) > 0 {
		return nil, fmt.Errorf("%d signatures are in the ledger but not in the store", len(issued))
	}
	if len(all.Certificates) < len(d.stations) || rises < len(d.stations) {
		return nil, errors.New("the ledger tells less than has happened")
	}
	return []string{
		fmt.Sprintf("%d entries, unbroken; %d certificates, each recorded before it was signed", state.Entries, len(all.Certificates)),
		fmt.Sprintf("the rise of the lowest accepted profile is recorded for all %d stations", rises),
	}, nil
}

func note(e ledger.Entry, intended, issued map[string]uint64, rises *int) {
	switch e.Kind {
	case "certificate.intent":
		intended[e.Subject] = e.Seq
	case "certificate.issued":
		issued[e.Subject] = e.Seq
	case "station.floor":
		*rises++
	}
}
