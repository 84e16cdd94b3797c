package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"bollard/admin"
	"bollard/ca"
	"bollard/iso15118/message"
	"bollard/ocpp"
	"bollard/station"
	"bollard/station/ev"
)

// The car of the story and its driver's account.
const (
	demoPCID  = "WP0DEMA00000001A3"
	demoEMAID = "DE-EXA-C12345678"
)

// car builds one: born with a key that the own OEM hierarchy certifies, and with
// the V2G root in its trust store.
func (d *demo) car(ctx context.Context) (*ev.Car, error) {
	for _, kind := range []string{"v2g", "mo", "oem", "cps"} {
		if _, err := call[admin.KindRef, admin.PEM](ctx, d.cli, "ca.create", admin.KindRef{Kind: kind}); err != nil {
			return nil, err
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, err
	}
	born, err := call[admin.Issue, admin.Issued](ctx, d.cli, "ca.issue", admin.Issue{Profile: ca.ProfileProvisioning, Name: demoPCID, CSR: csr})
	if err != nil {
		return nil, err
	}
	root, err := call[admin.KindRef, admin.PEM](ctx, d.cli, "ca.root", admin.KindRef{Kind: "v2g"})
	if err != nil {
		return nil, err
	}
	car := &ev.Car{Protocol: message.ISO2, Key: key, Roots: x509.NewCertPool(), Clock: time.Now}
	if !car.Roots.AppendCertsFromPEM([]byte(root.PEM)) {
		return nil, errors.New("the V2G root can't be read")
	}
	car.Chain, err = station.ParseCertificates([]byte(born.PEM))
	return car, err
}

// plugAndCharge: a car gets its contract certificate through each station, and is
// let charge with it until the contract is revoked.
func (d *demo) plugAndCharge(ctx context.Context) ([]string, error) {
	car, err := d.car(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := call[admin.AddContract, admin.Contract](ctx, d.cli, "contract.add", admin.AddContract{EMAID: demoEMAID, PCID: demoPCID}); err != nil {
		return nil, err
	}
	var seen []string
	var got *ev.Contract
	for _, p := range d.stations {
		exi, err := car.Install()
		if err != nil {
			return seen, err
		}
		answer, err := p.station.EVCertificate(ctx, car.Protocol.Namespace(), ocpp.EVCertificateInstall, exi)
		if err != nil {
			return seen, err
		}
		if got, _, err = car.Take(answer, car.Key); err != nil {
			return seen, err
		}
		seen = append(seen, fmt.Sprintf("%s: an answer of %d bytes, signed under the V2G root; its key opens with the car's", p.identity, len(answer)))
	}
	for _, step := range []struct{ what, token, chain string }{
		{"the contract authorises", "Accepted", "Accepted"},
		{"revoked, it doesn't", "Blocked", "ContractCancelled"},
	} {
		if step.chain != "Accepted" {
			if _, err := call[admin.ContractRef, admin.Contracts](ctx, d.cli, "contract.revoke", admin.ContractRef{EMAID: demoEMAID}); err != nil {
				return seen, err
			}
		}
		answer, err := d.authorise(ctx, got)
		if err != nil {
			return seen, err
		}
		if answer.IDTokenInfo.Status != step.token || answer.CertificateStatus != step.chain {
			return seen, fmt.Errorf("%s was answered %s, %s", step.what, answer.IDTokenInfo.Status, answer.CertificateStatus)
		}
		seen = append(seen, fmt.Sprintf("%s: %s, %s", step.what, step.token, step.chain))
	}
	return seen, nil
}

// authorise asks through the station of 2.0.1 with the contract's chain.
func (d *demo) authorise(ctx context.Context, c *ev.Contract) (answer ocpp.AuthorizeResponse, err error) {
	var chain []byte
	for _, cert := range c.Chain {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	raw, err := d.stations[1].station.Call(ctx, ocpp.ActionAuthorize, ocpp.AuthorizeRequest{
		IDToken: ocpp.IDToken{IDToken: c.EMAID, Type: "eMAID"}, Certificate: string(chain),
	})
	if err != nil {
		return answer, err
	}
	return answer, json.Unmarshal(raw, &answer)
}
