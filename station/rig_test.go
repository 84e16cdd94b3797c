package station_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"bollard/ocpp"
	"bollard/station"
	"bollard/station/csms"
)

const (
	identity     = "CS-1"
	serial       = "SN-0001"
	organisation = "Example CPO"
)

var (
	password = []byte("ABCDEFGHJKMNPQRSTVWX") // 20 printable bytes: fits 1.6 and 2.x
	versions = []ocpp.Version{ocpp.V16, ocpp.V201, ocpp.V21}
)

type object = map[string]any

// authority is a root and one issuing CA below it.
type authority struct {
	t        *testing.T
	root     *x509.Certificate
	rootKey  crypto.Signer
	between  *x509.Certificate
	midKey   crypto.Signer
	mu       sync.Mutex
	lastSeen int64
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, rootKey: newKey(t), midKey: newKey(t)}
	template := func(name string) *x509.Certificate {
		return &x509.Certificate{
			Subject:  pkix.Name{CommonName: name, Organization: []string{organisation}},
			IsCA:     true,
			KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true,
		}
	}
	a.root = a.make(template("Test root"), nil, a.rootKey, a.rootKey.Public())
	a.between = a.make(template("Test issuing CA"), a.root, a.rootKey, a.midKey.Public())
	return a
}

func (a *authority) make(c, parent *x509.Certificate, by crypto.Signer, key crypto.PublicKey) *x509.Certificate {
	a.t.Helper()
	a.mu.Lock()
	a.lastSeen++
	c.SerialNumber = big.NewInt(a.lastSeen<<32 + time.Now().UnixNano()&0xffffffff)
	a.mu.Unlock()
	if c.NotBefore.IsZero() {
		c.NotBefore = time.Now().Add(-time.Hour)
	}
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(24 * time.Hour)
	}
	if parent == nil {
		parent = c
	}
	return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, c, parent, key, by))))
}

// must is for what can't fail in a test.
func must[T any](v T, err error) T {
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return v
}

// server issues a server certificate.
func (a *authority) server(change func(*x509.Certificate)) tls.Certificate {
	key := newKey(a.t)
	c := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "127.0.0.1"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature,
	}
	if change != nil {
		change(c)
	}
	leaf := a.make(c, a.between, a.midKey, key.Public())
	return tls.Certificate{Certificate: [][]byte{leaf.Raw, a.between.Raw}, PrivateKey: key}
}

// station issues a station certificate for a key.
func (a *authority) station(key crypto.PublicKey, change func(*x509.Certificate)) *x509.Certificate {
	c := &x509.Certificate{
		Subject:  pkix.Name{CommonName: serial, Organization: []string{organisation}},
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if change != nil {
		change(c)
	}
	return a.make(c, a.between, a.midKey, key)
}

func chainPEM(certs ...*x509.Certificate) string {
	var b bytes.Buffer
	for _, c := range certs {
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	return b.String()
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.root)
	return p
}

// csr is a SignCertificate the CSMS has seen.
type csr struct {
	request   *x509.CertificateRequest
	raw       string
	requestID *int
}

// rig is a CSMS with certificates of its own and one station.
type rig struct {
	t       *testing.T
	ctx     context.Context
	ca      *authority
	csms    *csms.Server
	station *station.Station
	version ocpp.Version
	csrs    chan csr

	mu      sync.Mutex
	admit   func(csms.Hello) int
	secrets [][]byte
}

type rigOptions struct {
	server  func(*x509.Certificate)
	tls     func(*tls.Config)
	plain   bool // no TLS
	station func(*station.Config, *rig)
	manual  bool // no Run
}

func newRig(t *testing.T, version ocpp.Version, o rigOptions) *rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	r := &rig{t: t, ctx: ctx, ca: newAuthority(t), version: version, csrs: make(chan csr, 16), secrets: [][]byte{password}}
	cfg := csms.Config{Admit: r.judge}
	if !o.plain {
		cfg.TLS = &tls.Config{
			MinVersion:   tls.VersionTLS12,
			Certificates: []tls.Certificate{r.ca.server(o.server)},
			ClientAuth:   tls.VerifyClientCertIfGiven, ClientCAs: r.ca.pool(),
		}
		if o.tls != nil {
			o.tls(cfg.TLS)
		}
	}
	r.csms = must(csms.New(ctx, cfg))
	t.Cleanup(r.csms.Close)
	r.csms.Handle("SignCertificate", r.takeCSR)

	sc := station.Config{
		Identity: identity, Serial: serial, Version: version, URL: r.csms.URL(), Profile: 2,
		Password: password, Organisation: organisation, Roots: []*x509.Certificate{r.ca.root},
		BackOff:     station.BackOff{Minimum: 5 * time.Millisecond, Random: 5 * time.Millisecond, Repeats: 2},
		CallTimeout: time.Minute,
	}
	if o.station != nil {
		o.station(&sc, r)
	}
	var err error
	r.station, err = station.New(ctx, sc)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(func() { r.station.Close(); running.Wait() })
	if !o.manual {
		running.Go(func() { _ = r.station.Run(ctx) })
	}
	return r
}

// judge lets a station in by certificate or password, as profiles 3 and 2 do.
func (r *rig) judge(h csms.Hello) int {
	r.mu.Lock()
	admit, secrets := r.admit, r.secrets
	r.mu.Unlock()
	if admit != nil {
		if code := admit(h); code != 0 {
			return code
		}
	}
	if h.Peer != nil {
		return 0
	}
	for _, secret := range secrets {
		if h.Basic && h.User == h.Identity && bytes.Equal(h.Password, secret) {
			return 0
		}
	}
	return http.StatusUnauthorized
}

func (r *rig) setAdmit(f func(csms.Hello) int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.admit = f
}

func (r *rig) setSecrets(list ...[]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.secrets = list
}

func (r *rig) takeCSR(_ context.Context, q csms.Request) (any, error) {
	var m struct {
		CSR       string `json:"csr"`
		RequestID *int   `json:"requestId"`
	}
	if err := json.Unmarshal(q.Payload, &m); err != nil {
		return nil, err
	}
	der, err := hex.DecodeString(m.CSR)
	if err != nil {
		block, _ := pem.Decode([]byte(m.CSR))
		if block == nil {
			return nil, fmt.Errorf("no CSR in %s", q.Payload)
		}
		der = block.Bytes
	}
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, err
	}
	if err := request.CheckSignature(); err != nil {
		return nil, err
	}
	r.csrs <- csr{request, m.CSR, m.RequestID}
	return object{"status": "Accepted"}, nil
}

func (r *rig) await(what string, ok func(station.State) bool) {
	r.t.Helper()
	if err := r.station.Await(r.ctx, ok); err != nil {
		r.t.Fatalf("waiting until %s: %v", what, err)
	}
}

func (r *rig) ready() {
	r.t.Helper()
	r.await("registered", func(s station.State) bool { return s.Connected && s.Registration == "Accepted" })
}

func (r *rig) call(action string, payload any) json.RawMessage {
	r.t.Helper()
	if err := r.csms.AwaitStation(r.ctx, identity, true); err != nil {
		r.t.Fatal(err)
	}
	raw, err := r.csms.Call(r.ctx, identity, action, payload)
	if err != nil {
		r.t.Fatalf("%s: %v", action, err)
	}
	return raw
}

func (r *rig) wantStatus(action string, payload any, want string) {
	r.t.Helper()
	if got := field(r.t, r.call(action, payload), "status"); got != want {
		r.t.Errorf("%s answered %s, want %s", action, got, want)
	}
}

// trigger asks for a CSR and waits for it.
func (r *rig) trigger() csr {
	r.t.Helper()
	if r.version == ocpp.V16 {
		r.wantStatus("ExtendedTriggerMessage", object{"requestedMessage": "SignChargePointCertificate"}, "Accepted")
	} else {
		r.wantStatus("TriggerMessage", object{"requestedMessage": "SignChargingStationCertificate"}, "Accepted")
	}
	return r.nextCSR()
}

func (r *rig) nextCSR() csr {
	r.t.Helper()
	select {
	case c := <-r.csrs:
		return c
	case <-r.ctx.Done():
		r.t.Fatal("no CSR came")
		return csr{}
	}
}

// deliver sends a chain for a CSR.
func (r *rig) deliver(c csr, chain string) json.RawMessage {
	r.t.Helper()
	payload := object{"certificateChain": chain}
	if r.version != ocpp.V16 {
		payload["certificateType"] = "ChargingStationCertificate"
	}
	if c.requestID != nil {
		payload["requestId"] = *c.requestID
	}
	return r.call("CertificateSigned", payload)
}

// certify takes the station through A02 and returns its new certificate.
func (r *rig) certify() *x509.Certificate {
	r.t.Helper()
	c := r.trigger()
	leaf := r.ca.station(c.request.PublicKey, nil)
	if got := field(r.t, r.deliver(c, chainPEM(leaf, r.ca.between)), "status"); got != "Accepted" {
		r.t.Fatalf("CertificateSigned answered %s", got)
	}
	return leaf
}

// raise asks for security profile 3 in the version's own way (A05).
func (r *rig) raise(address string) {
	r.t.Helper()
	if r.version == ocpp.V16 {
		r.wantStatus("ChangeConfiguration", object{"key": "SecurityProfile", "value": "3"}, "Accepted")
		return
	}
	r.wantStatus("SetNetworkProfile", networkProfile(2, 3, address), "Accepted")
	if got := r.setVariable("OCPPCommCtrlr", "NetworkConfigurationPriority", "2,1"); got != "RebootRequired" {
		r.t.Errorf("NetworkConfigurationPriority answered %s", got)
	}
	r.wantStatus("Reset", object{"type": "OnIdle"}, "Accepted")
}

func networkProfile(slot, profile int, address string) object {
	return object{"configurationSlot": slot, "connectionData": object{
		"ocppVersion": "OCPP20", "ocppTransport": "JSON", "ocppCsmsUrl": address,
		"messageTimeout": 30, "securityProfile": profile, "ocppInterface": "Wired0",
	}}
}

func (r *rig) setVariable(component, name, value string) string {
	r.t.Helper()
	raw := r.call("SetVariables", object{"setVariableData": []object{{
		"component": object{"name": component}, "variable": object{"name": name}, "attributeValue": value,
	}}})
	var m struct {
		Result []struct {
			Status string `json:"attributeStatus"`
		} `json:"setVariableResult"`
	}
	if err := json.Unmarshal(raw, &m); err != nil || len(m.Result) != 1 {
		r.t.Fatalf("SetVariables answered %s: %v", raw, err)
	}
	return m.Result[0].Status
}

func (r *rig) getVariable(component, name string) (status, value string) {
	r.t.Helper()
	raw := r.call("GetVariables", object{"getVariableData": []object{{
		"component": object{"name": component}, "variable": object{"name": name},
	}}})
	var m struct {
		Result []struct {
			Status string `json:"attributeStatus"`
			Value  string `json:"attributeValue"`
		} `json:"getVariableResult"`
	}
	if err := json.Unmarshal(raw, &m); err != nil || len(m.Result) != 1 {
		r.t.Fatalf("GetVariables answered %s: %v", raw, err)
	}
	return m.Result[0].Status, m.Result[0].Value
}

// awaitEvent waits until the CSMS has got a security event.
func (r *rig) awaitEvent(kind string) {
	r.t.Helper()
	r.poll("security event "+kind, func() bool {
		for _, frame := range r.csms.Seen(identity, ocpp.FromStation) {
			head, err := ocpp.ParseHead(frame)
			if err == nil && head.Action == "SecurityEventNotification" && field(r.t, json.RawMessage(head.Payload), "type") == kind {
				return true
			}
		}
		return false
	})
}

func hexSerial(c *x509.Certificate) string { return fmt.Sprintf("%x", c.SerialNumber) }

// takeWrapped is takeCSR for SignCertificate inside DataTransfer.
func (r *rig) takeWrapped(ctx context.Context, q csms.Request) (any, error) {
	var m struct {
		Data string `json:"data"`
	}
	if err := json.Unmarshal(q.Payload, &m); err != nil {
		return nil, err
	}
	q.Payload = json.RawMessage(m.Data)
	answer, err := r.takeCSR(ctx, q)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(answer)
	return object{"status": "Accepted", "data": string(data)}, err
}

// count is how many CALLs of an action the CSMS has got.
func (r *rig) count(action string) int {
	n := 0
	for _, frame := range r.csms.Seen(identity, ocpp.FromStation) {
		if head, err := ocpp.ParseHead(frame); err == nil && head.Action == action {
			n++
		}
	}
	return n
}

func (r *rig) awaitCount(action string, want int) {
	r.t.Helper()
	r.poll(action, func() bool { return r.count(action) >= want })
}

func (r *rig) awaitText(text string) {
	r.t.Helper()
	r.poll(text, func() bool {
		for _, frame := range r.csms.Seen(identity, ocpp.FromStation) {
			if bytes.Contains(frame, []byte(text)) {
				return true
			}
		}
		return false
	})
}

// poll looks at the CSMS's record until ok.
func (r *rig) poll(what string, ok func() bool) {
	r.t.Helper()
	for !ok() {
		select {
		case <-r.ctx.Done():
			r.t.Fatalf("%s never came", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// transaction is the id of the first transaction of a 2.x station.
func (r *rig) transaction() string {
	r.t.Helper()
	for _, frame := range r.csms.Seen(identity, ocpp.FromStation) {
		head, err := ocpp.ParseHead(frame)
		if err != nil || head.Action != "TransactionEvent" {
			continue
		}
		var m struct {
			Info struct {
				ID string `json:"transactionId"`
			} `json:"transactionInfo"`
		}
		if err := json.Unmarshal(head.Payload, &m); err != nil {
			r.t.Fatal(err)
		}
		return m.Info.ID
	}
	r.t.Fatal("no transaction has started")
	return ""
}
