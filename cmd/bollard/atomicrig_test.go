package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"bollard/admin"
	"bollard/ca"
	"bollard/ca/acme"
	"bollard/ca/ceremony"
	"bollard/firmware/campaign"
	"bollard/internal/rollout"
	"bollard/iso15118/message"
	"bollard/keys"
	"bollard/station/ev"
	"bollard/store"
)

// startable gives a release a station of its own, in a group called id, and alice's
// approval to begin there.
func (f *faulty) startable(release, id string) string {
	f.t.Helper()
	f.call("station.add", admin.Enrolment{Identity: id, Serial: "SN-" + id, Profile: 2, Vendor: "ACME", Model: "Volt"}, nil)
	f.call("station.group", admin.StationGroup{Identity: id, Group: &id}, nil)
	plan := f.rollout(release, id)
	f.approve(admin.ApproveRelease{Release: release, Action: "firmware.start", Ring: "all", Plan: &plan, Reason: "x"})
	return release
}

func (f *faulty) rollout(release, group string) admin.ReleaseRollout {
	return admin.ReleaseRollout{Release: release, Group: group, Rings: []campaign.Ring{{Name: "all", Share: 1}}, Rules: rollout.Rules{Patience: time.Hour, PerMinute: 60}}
}

// approve asks for an approval, and gives alice's.
func (f *faulty) approve(in admin.ApproveRelease) {
	f.t.Helper()
	var m admin.Approval
	f.call("firmware.approve", in, &m)
	in.Signature = f.sign(m.Statement)
	f.call("firmware.approve", in, nil)
}

// contract is one that doesn't exist yet.
func (f *faulty) contract() admin.AddContract {
	f.n++
	return admin.AddContract{EMAID: fmt.Sprintf("NL-EXA-%09d", f.n), PCID: fmt.Sprintf("WP0TEST%010d", f.n)}
}

// tariff is a charging profile that the provider, who is there from then on, can sign.
func (f *faulty) tariff() admin.SignTariff {
	f.t.Helper()
	if len(f.app.authority.Roots(ca.KindMO)) == 0 {
		f.call("ca.create", admin.KindRef{Kind: string(ca.KindMO)}, nil)
	}
	return admin.SignTariff{Profile: []byte(`{"chargingSchedule":[{"salesTariff":{"id":1,"salesTariffEntry":[{"relativeTimeInterval":{"start":0}}]}}]}`)}
}

// stepProvisioner has a key of its own.
func stepProvisioner(name string) admin.StepProvisioner {
	return admin.StepProvisioner{Name: name, JWK: []byte(stepJWK), Names: []string{"*.servers.example"}}
}

// stepJWK is a public key whose private half is nowhere.
const stepJWK = `{"kty":"OKP","crv":"Ed25519","x":"WhuZYn7-o2vmT8ku2WmPqUJv3SPp5lmzZpTz-nZ0Ecw"}`

// acmeAccount is one in force.
func (f *faulty) acmeAccount(id string) string {
	f.t.Helper()
	if err := f.app.store.AddACMEAccount(f.t.Context(), acme.Account{ID: id, Door: "names", Thumbprint: id, State: acme.AccountValid}, time.Time{}); err != nil {
		f.t.Fatal(err)
	}
	return id
}

// offlineList is a list of the root that a further hierarchy is given, whose key is elsewhere.
func (f *faulty) offlineList() admin.ImportList {
	f.t.Helper()
	if f.offline != nil {
		return *f.offline
	}
	const kind = ca.KindAttestation
	dir := f.t.TempDir()
	db, err := store.Open(f.t.Context(), store.Config{Path: filepath.Join(dir, databaseName), Clock: time.Now})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = db.Close() })
	keeper, err := keys.New(keys.Config{Dir: dir})
	if err != nil {
		f.t.Fatal(err)
	}
	organisation, country := f.app.cfg.Organisation, f.app.cfg.Country
	root, err := ca.OpenOfflineRoot(f.t.Context(), ca.OfflineRootConfig{Name: "attestation-root-2", InitConfig: ca.InitConfig{
		Store: db, Keeper: keeper, Kind: kind, Organisation: organisation, Country: country, StatusURL: statusURL(f.app.cfg), Actor: "operator",
	}})
	if err != nil {
		f.t.Fatal(err)
	}
	f.call("ca.create", admin.KindRef{Kind: string(kind)}, nil)
	var asked admin.PEM
	f.call("ca.request", admin.RequestCA{Kind: string(kind), Level: 1}, &asked)
	sub, err := ca.ReadSubCA(kind, 1, organisation, country, []byte(asked.PEM))
	if err != nil {
		f.t.Fatal(err)
	}
	issued, err := root.Certify(f.t.Context(), sub, "ceremony:x")
	if err != nil {
		f.t.Fatal(err)
	}
	list, err := root.List(f.t.Context(), time.Hour)
	if err != nil {
		f.t.Fatal(err)
	}
	var chain []byte
	for _, cert := range []*x509.Certificate{issued.Certificate, root.Certificate()} {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	f.call("ca.rollover", admin.Rollover{Kind: string(kind), Step: "start", Chain: []admin.File{{Data: chain}}, List: admin.File{Data: list}}, nil)
	f.offline = &admin.ImportList{Kind: string(kind), List: list}
	return *f.offline
}

// ceremony is the transcript of one, whose root is trusted then.
func (f *faulty) ceremony() admin.Ceremony {
	f.t.Helper()
	dir := f.t.TempDir()
	script := filepath.Join(dir, "script.yaml")
	from, until := time.Now().Add(-time.Hour).Format(time.RFC3339), time.Now().Add(time.Hour).Format(time.RFC3339)
	text := fmt.Sprintf("ceremony: Root\nhierarchy: v2g\norganisation: O\nfrom: %q\nuntil: %q\nroles: [master, witness]\nkeys: 'softkms:'\n", from, until)
	s, err := ceremony.ParseScript(script, []byte(text))
	if err != nil {
		f.t.Fatal(err)
	}
	db, err := store.Open(f.t.Context(), store.Config{Path: filepath.Join(dir, databaseName), Clock: time.Now})
	if err != nil {
		f.t.Fatal(err)
	}
	keeper, err := keys.New(keys.Config{Dir: dir})
	if err != nil {
		f.t.Fatal(err)
	}
	at, err := os.OpenRoot(dir)
	if err != nil {
		f.t.Fatal(err)
	}
	made, err := ceremony.Run(f.t.Context(), ceremony.Config{Script: s, Inputs: at, Dir: at, Store: db, Keeper: keeper, Encrypted: true, Present: []string{"master", "witness"}, Actor: "operator", Clock: time.Now, Say: func(string) {}})
	if err = errors.Join(err, db.Close(), keeper.Close()); err != nil {
		f.t.Fatal(err)
	}
	root, err := at.ReadFile(filepath.Join(made.Folder, ceremony.RootFile))
	if err != nil {
		f.t.Fatal(err)
	}
	f.call("ca.trust.add", admin.AddTrust{Use: "v2g", PEM: root}, nil)
	transcript, err := at.ReadFile(filepath.Join(made.Folder, ceremony.TranscriptFile))
	if err = errors.Join(err, at.Close()); err != nil {
		f.t.Fatal(err)
	}
	return admin.Ceremony{Transcript: transcript}
}

// stranger is the request of a car whose maker nobody trusts.
func (f *faulty) stranger() []byte {
	f.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: f.contract().PCID}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		f.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		f.t.Fatal(err)
	}
	car := &ev.Car{Protocol: message.ISO2, Key: key, Chain: []*x509.Certificate{cert}, Roots: x509.NewCertPool(), Clock: time.Now}
	exi, err := car.Install()
	if err != nil {
		f.t.Fatal(err)
	}
	return exi
}

// certified is what a root of others makes of a hierarchy's sub-CA 2, which is asked for
// first; the root is trusted then.
func (f *faulty) certified(kind string) admin.ImportChain {
	f.t.Helper()
	var asked admin.PEM
	f.call("ca.request", admin.RequestCA{Kind: kind, Level: 2}, &asked)
	block, _ := pem.Decode([]byte(asked.PEM))
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		f.t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	now := time.Now()
	root := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "Outside " + now.String(), Organization: []string{"Outside"}},
		NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(30, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	ours := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano() + 1), RawSubject: request.RawSubject, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(5, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, SubjectKeyId: []byte("12345678"),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment}
	var chain []byte
	for _, c := range []struct {
		cert *x509.Certificate
		key  any
	}{{ours, request.PublicKey}, {root, key.Public()}} {
		der, err := x509.CreateCertificate(rand.Reader, c.cert, root, c.key, key)
		if err != nil {
			f.t.Fatal(err)
		}
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	_, rest := pem.Decode(chain)
	f.call("ca.trust.add", admin.AddTrust{Use: kind, PEM: rest}, nil)
	return admin.ImportChain{Kind: kind, PEM: chain}
}
