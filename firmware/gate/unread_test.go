package gate_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"bollard/firmware/catalogue"
	"bollard/firmware/depot"
	"bollard/firmware/gate"
	"bollard/firmware/job"
	"bollard/firmware/release"
	"bollard/ledger"
	"bollard/ocpp"
)

// What a station ran counts: when it can't be read, nothing is sent.
func TestUnreadStationGetsNothing(t *testing.T) { // promise 10
	t.Parallel()
	d, err := depot.Open(depot.Config{Dir: t.TempDir() + "/depot"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	now := time.Unix(1780315200, 0).UTC()
	stock := &papers{list: []catalogue.Entry{{State: catalogue.Published, Release: &release.Release{
		ID: "1", Models: []release.Model{{Vendor: "V", Model: "M"}}, Component: "firmware", Version: "1.0.0", Sequence: 1, Signatures: []release.Signature{{Value: "s"}},
		NotBefore: now.Add(-time.Hour), Expires: now.Add(time.Hour),
	}}}}
	g, err := gate.New(t.Context(), gate.Config{
		Store: &shelf{floors: map[string]job.Floor{}}, Catalogue: stock, Depot: d, Door: &door{},
		Rule:   func(gate.Station) gate.Rule { return gate.Rule{Level: gate.Enforce} },
		Record: func(context.Context, ledger.Event) error { return nil }, Clock: func() time.Time { return now },
	})
	if err != nil {
		t.Fatal(err)
	}
	v := g.Request(t.Context(), &wire{}, gate.Station{Key: "cs-1", Vendor: "V", Model: "M", Unread: errors.New("disk")}, "UpdateFirmware",
		[]byte(`{"requestId":7,"firmware":{"location":"https://x/y","retrieveDateTime":"2026-01-01T00:00:00Z","signingCertificate":"c","signature":"s"}}`), false)
	if v.Later == nil {
		t.Fatalf("%+v", v)
	}
	if answer, ok := v.Later(t.Context()).Answer.(ocpp.GenericStatus); !ok || answer.Status != ocpp.StatusRejected || answer.StatusInfo == nil || answer.StatusInfo.ReasonCode != "GwFailure" {
		t.Errorf("%+v", answer)
	}
}

// What speaks against a release blocks it. What couldn't be read doesn't: it is Bollard's
// failure, uses up no exception, and the same request passes later.
func TestUnreadTrustIsNoRefusal(t *testing.T) { // promise 10
	t.Parallel()
	bad, unread := errors.New("signer is revoked"), fmt.Errorf("%w: disk", catalogue.ErrUnjudged)
	for name, tt := range map[string]struct {
		change func(p *papers)
		want   string
	}{
		"a bad chain":        {func(p *papers) { p.verify = bad }, "GwBadChain"},
		"an unread chain":    {func(p *papers) { p.verify = unread }, "GwFailure"},
		"no proof":           {func(p *papers) { p.proven = bad }, "GwNoProof"},
		"an unread proof":    {func(p *papers) { p.proven = unread }, "GwFailure"},
		"nothing against it": {func(*papers) {}, "Accepted"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.rule.Level = gate.Strict
			b.shelf.floors["firmware"] = job.Floor{Sequence: 5}
			b.papers.granted = map[string]bool{"firmware.downgrade 1.0.0 cs-1": true}
			store := &counting{shelf: &b.shelf}
			b.restart(func(c *gate.Config) { c.Store = store })
			tt.change(&b.papers)
			used := 0
			if tt.want == "Accepted" {
				used = 1
			}
			if got := b.ask("1.0.0"); !strings.Contains(got, tt.want) || len(store.used) != used {
				t.Fatalf("%s, used %v; want %s", got, store.used, tt.want)
			}
			b.papers.verify, b.papers.proven = nil, nil
			if got := b.ask("1.0.0"); used == 0 && (!strings.Contains(got, "Accepted") || len(store.used) != 1) {
				t.Errorf("then %s, used %v", got, store.used)
			}
		})
	}
}

// So it is with the signer whom a back end brings for an image of ours.
func TestUnreadSignerIsNoRefusal(t *testing.T) { // promise 10
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Unix(1<<33, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		against error
		want    string
	}{
		"nobody we know": {errors.New("signer is unknown"), "GwBadChain"},
		"unread":         {fmt.Errorf("%w: disk", catalogue.ErrUnjudged), "GwFailure"},
		"trusted":        {nil, "Accepted"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.ours, b.papers.trusted = b.papers.list[0].Release.SHA256, tt.against
			digest, err := hex.DecodeString(b.ours)
			if err != nil {
				t.Fatal(err)
			}
			signature, err := ecdsa.SignASN1(rand.Reader, key, digest)
			if err != nil {
				t.Fatal(err)
			}
			certificate := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
			if got := b.askSigned("https://fw.example/d/x", certificate, base64.StdEncoding.EncodeToString(signature)); !strings.Contains(got, tt.want) {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}
