package contract_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"bollard/ca"
	"bollard/contract"
	"bollard/iso15118/identifier"
	"bollard/iso15118/message"
	"bollard/iso15118/signature"
	"bollard/keys"
	"bollard/store"
)

const (
	emaid = identifier.EMAID("NLEXA123456789")
	pcid  = identifier.PCID("WP0TESTA00000001A3")
)

// rig is a provider with all hierarchies of its own, over the real database.
type rig struct {
	*contract.Service
	authority *ca.Authority
	store     *store.Store
	keeper    *keys.Keeper
	clock     *testClock
}

// testClock is set by the test; the store reads it too.
type testClock struct{ ns atomic.Int64 }

func (c *testClock) now() time.Time { return time.Unix(0, c.ns.Load()).UTC() }

func (c *testClock) set(t time.Time) { c.ns.Store(t.UnixNano()) }

func newRig(t testing.TB, kinds ...ca.Kind) *rig {
	t.Helper()
	return rigIn(t, t.TempDir(), kinds...)
}

// rigIn is newRig in a directory; one there is already is opened, as by a process
// that starts.
func rigIn(t testing.TB, dir string, kinds ...ca.Kind) *rig {
	t.Helper()
	r := &rig{clock: &testClock{}}
	r.clock.set(time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC))
	clock := r.clock.now
	_, missing := os.Stat(filepath.Join(dir, "bollard.db"))
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(dir, "bollard.db"), Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	keeper, err := keys.New(keys.Config{Dir: filepath.Join(dir, "keys")})
	if err != nil {
		t.Fatal(err)
	}
	if missing != nil {
		if err := ca.Init(t.Context(), ca.InitConfig{Store: db, Keeper: keeper, Kind: ca.KindCSMS, Organisation: "Example CPO", Country: "NL", StatusURL: statusURL, Clock: clock}); err != nil {
			t.Fatal(err)
		}
	}
	r.store, r.keeper = db, keeper
	if err := r.restart(t); err != nil {
		t.Fatal(err)
	}
	for _, kind := range kinds {
		if err := r.authority.Create(t.Context(), kind, "operator"); err != nil {
			t.Fatal(err)
		}
	}
	if r.Service, err = contract.New(t.Context(), contract.Config{Store: db, Authority: r.authority, Clock: clock}); err != nil {
		t.Fatal(err)
	}
	return r
}

const statusURL = "http://status.example.com:8080"

func kindsOf(p message.Protocol) []ca.Kind {
	if p == message.ISO20 {
		return []ca.Kind{ca.KindV2G20, ca.KindMO20, ca.KindOEM20, ca.KindCPS20}
	}
	return []ca.Kind{ca.KindV2G, ca.KindMO, ca.KindOEM, ca.KindCPS}
}

func curveOf(p message.Protocol) elliptic.Curve {
	if p == message.ISO20 {
		return elliptic.P521()
	}
	return elliptic.P256()
}

// car is one with a provisioning certificate of our own OEM hierarchy.
type car struct {
	key   *ecdsa.PrivateKey
	chain []*x509.Certificate
	p     message.Protocol
}

func (r *rig) car(t testing.TB, p message.Protocol) *car {
	t.Helper()
	return r.carOf(t, p, pcid)
}

func (r *rig) carOf(t testing.TB, p message.Protocol, pcid identifier.PCID) *car {
	t.Helper()
	c := &car{key: newKey(t, curveOf(p)), p: p}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "car"}}, c.key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := ca.ParseCSR(der)
	if err != nil {
		t.Fatal(err)
	}
	profile := ca.ProfileProvisioning
	if p == message.ISO20 {
		profile = ca.ProfileProvisioning20
	}
	prepared, err := r.authority.Prepare(t.Context(), ca.Order{Profile: profile, Key: csr.Key, Subject: ca.Subject{CommonName: string(pcid)}, Requester: "operator"})
	if err != nil {
		t.Fatal(err)
	}
	issued, err := r.authority.Issue(t.Context(), prepared)
	if err != nil {
		t.Fatal(err)
	}
	c.chain = append([]*x509.Certificate{issued.Certificate}, issued.Chain...)
	return c
}

func newKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

var session = []byte{1, 2, 3, 4, 5, 6, 7, 8}

// request is the car's for an installation, unsigned.
func (c *car) request() *message.Request {
	r := &message.Request{
		Protocol: c.p, Header: message.Header{Session: session, Time: 1}, ID: "id1",
		Chain: message.Chain{Certificate: c.chain[0].Raw}, Roots: []message.RootID{{Issuer: "CN=V2G", Serial: big.NewInt(1)}},
	}
	if c.p == message.ISO20 {
		r.ID, r.Chain.ID, r.MaximumChains = "", "id1", 3
		for _, sub := range c.chain[1:] {
			r.Chain.SubCertificates = append(r.Chain.SubCertificates, sub.Raw)
		}
	}
	return r
}

// update is the car's request with an old contract.
func update(old []*x509.Certificate, account string) *message.Request {
	r := &message.Request{
		Protocol: message.ISO2, Update: true, Header: message.Header{Session: session}, ID: "id1", EMAID: account,
		Chain: message.Chain{ID: "id2", Certificate: old[0].Raw}, Roots: []message.RootID{{Issuer: "CN=V2G", Serial: big.NewInt(1)}},
	}
	for _, sub := range old[1:] {
		r.Chain.SubCertificates = append(r.Chain.SubCertificates, sub.Raw)
	}
	return r
}

// sign signs and encodes a request.
func sign(t testing.TB, r *message.Request, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	sig, err := signature.Sign(rand.Reader, key, r.Protocol.Set(), r.Signed()...)
	if err != nil {
		t.Fatal(err)
	}
	r.Signature = &sig
	return encode(t, r)
}

func encode(t testing.TB, r *message.Request) []byte {
	t.Helper()
	data, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (r *rig) ask(t testing.TB, p message.Protocol, exi []byte, isUpdate bool) (contract.Answer, *message.Response) {
	t.Helper()
	a, err := r.Provision(t.Context(), contract.Request{Protocol: p, EXI: exi, Update: isUpdate, Actor: "operator"})
	if err != nil {
		t.Fatal(err)
	}
	if len(a.EXI) == 0 {
		return a, nil
	}
	out, err := message.DecodeResponse(p, a.EXI)
	if err != nil {
		t.Fatalf("the answer isn't well-formed: %v", err)
	}
	if a.Code != out.Code {
		t.Errorf("code %s, the answer says %s", a.Code, out.Code)
	}
	return a, out
}

func (r *rig) add(t testing.TB) contract.Contract {
	t.Helper()
	c, err := r.Add(t.Context(), "operator", emaid, pcid)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
