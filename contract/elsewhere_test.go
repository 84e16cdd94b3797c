package contract_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"bollard/ca"
	"bollard/contract"
	"bollard/iso15118/identifier"
	"bollard/iso15118/message"
	"bollard/iso15118/signature"
	"bollard/ocpp"
	"bollard/station/ev"
)

// poolFunc is a pool whose answers a test makes.
type poolFunc func(ctx context.Context, p message.Protocol, exi []byte) ([][]byte, error)

func (f poolFunc) Ask(ctx context.Context, p message.Protocol, exi []byte) ([][]byte, error) {
	return f(ctx, p, exi)
}

// asPool lets a provider answer as others see it.
func (r *rig) asPool(isUpdate bool, change func(*message.Response)) poolFunc {
	return func(ctx context.Context, p message.Protocol, exi []byte) ([][]byte, error) {
		a, err := r.Provision(ctx, contract.Request{Protocol: p, EXI: exi, Update: isUpdate, Actor: "pool:near", Final: true})
		if err != nil || change == nil {
			return [][]byte{a.EXI}, err
		}
		out, err := message.DecodeResponse(p, a.EXI)
		if err != nil {
			return nil, err
		}
		change(out)
		changed, err := out.Encode()
		return [][]byte{changed}, err
	}
}

// withPools makes the service anew, with pools to ask.
func (r *rig) withPools(t *testing.T, pools ...contract.Outside) {
	t.Helper()
	var err error
	if r.Service, err = contract.New(t.Context(), contract.Config{Store: r.store, Authority: r.authority, Pools: pools, Clock: r.clock.now}); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) trustV2G(t *testing.T, far *rig, p message.Protocol) {
	t.Helper()
	root := far.authority.Roots(kindsOf(p)[0])[0]
	if _, err := r.authority.AddAnchor(t.Context(), "v2g", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}), "operator"); err != nil {
		t.Fatal(err)
	}
}

// newest is the newest ledger entry's kind and what became of the pools.
func (r *rig) newest(t *testing.T) (kind, pools string) {
	t.Helper()
	log := entries(t, r)
	last := log[len(log)-1]
	for _, value := range last.Data {
		if strings.Contains(value, string(emaid)) || strings.Contains(value, string(pcid)) {
			t.Errorf("%s names a person or a car", last.Kind)
		}
	}
	return last.Kind, last.Data["pools"]
}

// A car without a contract here gets that of a provider elsewhere, as it came, and
// takes it; an update as well.
func TestPoolAnswers(t *testing.T) {
	t.Parallel()
	for _, p := range protocols {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			far, near := newRig(t, kindsOf(p)...), newRig(t)
			c := far.car(t, p)
			far.add(t)
			var came []byte
			far.withPools(t) // whoever is asked by a pool asks none
			answer := far.asPool(false, nil)
			near.withPools(t, contract.Outside{Name: "far", Pool: poolFunc(func(ctx context.Context, p message.Protocol, exi []byte) ([][]byte, error) {
				list, err := answer(ctx, p, exi)
				came = list[0]
				return list, err
			})})
			vehicle := &ev.Car{Protocol: p, Key: c.key, Chain: c.chain, Roots: x509.NewCertPool(), Clock: near.clock.now}
			vehicle.Roots.AddCert(far.authority.Roots(kindsOf(p)[0])[0])
			exi, err := vehicle.Install()
			if err != nil {
				t.Fatal(err)
			}
			// 1. Nobody here trusts the root of who signs for it.
			if a, _ := near.ask(t, p, exi, false); a.Code == "OK" || !strings.Contains(a.Reason, "far=unfit") {
				t.Errorf("signed under a root nobody trusts: %+v", a)
			}
			near.trustV2G(t, far, p)
			// 2. Trusted.
			a, _ := near.ask(t, p, exi, false)
			if !bytes.Equal(a.EXI, came) {
				t.Error("the answer isn't as it came")
			}
			if kind, pools := near.newest(t); kind != "contract.delivered" || pools != "far=answered" {
				t.Errorf("on record: %s, %q", kind, pools)
			}
			got, _, err := vehicle.Take(a.EXI, c.key)
			if err != nil {
				t.Fatal(err)
			}
			// 3. One made in advance knows no session, the car does.
			near.withPools(t, contract.Outside{Name: "far", Pool: far.asPool(false, func(a *message.Response) { a.Session = make([]byte, 8) })})
			if a, _ := near.ask(t, p, exi, false); a.Code != "OK" {
				t.Errorf("without a session: %+v", a)
			} else if _, _, err := vehicle.Take(a.EXI, c.key); err != nil {
				t.Error(err)
			}
			if p == message.ISO20 {
				near.keptInTurn(t, far, vehicle, exi)
				return
			}
			near.withPools(t, contract.Outside{Name: "far", Pool: far.asPool(true, nil), Providers: []identifier.Provider{"NLEXA"}})
			if exi, err = vehicle.Update(got); err != nil {
				t.Fatal(err)
			}
			a, _ = near.ask(t, p, exi, true)
			if _, _, err := vehicle.Take(a.EXI, got.Key); err != nil {
				t.Errorf("update: %v", err)
			}
		})
	}
}

// What a pool says is judged before a car sees it, and one that lies, fails or hangs
// keeps none of the others, nor the answer.
func TestPoolsThatLieOrHang(t *testing.T) {
	t.Parallel()
	const p = message.ISO2
	far, near := newRig(t, kindsOf(p)...), newRig(t)
	near.trustV2G(t, far, p)
	c := far.car(t, p)
	far.add(t)
	exi := sign(t, c.request(), c.key)
	bytesOf := func(data ...[]byte) poolFunc {
		return func(context.Context, message.Protocol, []byte) ([][]byte, error) { return data, nil }
	}
	hang := poolFunc(func(ctx context.Context, _ message.Protocol, _ []byte) ([][]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	honest := far.asPool(false, nil)
	refusal, _ := far.ask(t, p, sign(t, far.carOf(t, p, "WP0TESTA00000002A3").request(), newKey(t, curveOf(p))), false)
	only := func(provider identifier.Provider) func(*contract.Outside) {
		return func(o *contract.Outside) { o.Providers = []identifier.Provider{provider} }
	}
	for name, tt := range map[string]struct {
		pools []poolFunc
		edit  func(*contract.Outside)
		code  string
		log   string
	}{
		"honest":                  {[]poolFunc{honest}, only("NLEXA"), "OK", "a=answered"},
		"no EXI":                  {[]poolFunc{bytesOf([]byte("no EXI"))}, nil, "FAILED_NoCertificateAvailable", "a=unfit"},
		"its own request":         {[]poolFunc{bytesOf(exi)}, nil, "FAILED_NoCertificateAvailable", "a=unfit"},
		"nothing":                 {[]poolFunc{bytesOf()}, nil, "FAILED_CertChainError", "a=nothing"},
		"an update's answer":      {[]poolFunc{far.asPool(false, func(a *message.Response) { a.Update = true })}, nil, "FAILED_NoCertificateAvailable", "a=unfit"},
		"unsigned":                {[]poolFunc{far.asPool(false, func(a *message.Response) { a.Signature = nil })}, nil, "FAILED_NoCertificateAvailable", "a=unfit"},
		"another key in it":       {[]poolFunc{far.asPool(false, func(a *message.Response) { a.Key[20] ^= 1 })}, nil, "FAILED_NoCertificateAvailable", "a=unfit"},
		"another account in it":   {[]poolFunc{far.asPool(false, func(a *message.Response) { a.EMAID = "DEABC123456789" })}, nil, "FAILED_NoCertificateAvailable", "a=unfit"},
		"signed by no CPS":        {[]poolFunc{far.asPool(false, func(a *message.Response) { a.CPS = a.Contract; a.CPS.ID = "" })}, nil, "FAILED_NoCertificateAvailable", "a=unfit"},
		"signed by a station":     {[]poolFunc{far.asPool(false, func(a *message.Response) { far.signAsStation(t, a) })}, nil, "FAILED_NoCertificateAvailable", "a=unfit"},
		"another provider's":      {[]poolFunc{honest}, only("DEABC"), "FAILED_NoCertificateAvailable", "a=unfit"},
		"it says no":              {[]poolFunc{bytesOf(refusal.EXI)}, nil, "FAILED_SignatureError", "a=nothing"},
		"a lie, then the truth":   {[]poolFunc{bytesOf([]byte("no EXI")), honest}, nil, "OK", "a=unfit b=answered"},
		"a fault, then the truth": {[]poolFunc{func(context.Context, message.Protocol, []byte) ([][]byte, error) { return nil, errors.New("no") }, honest}, nil, "OK", "a=failed b=answered"},
		"two answers":             {[]poolFunc{bytesOf([]byte("no EXI"), first(t, honest, exi))}, nil, "OK", "a=answered"},
		"a hanging one first":     {[]poolFunc{hang, bytesOf(first(t, honest, exi))}, nil, "OK", "a=late b=answered"},
		"all hang":                {[]poolFunc{hang, hang}, nil, "FAILED_NoCertificateAvailable", "a=late b=late"},
	} {
		var pools []contract.Outside
		for i, f := range tt.pools {
			o := contract.Outside{Name: string(rune('a' + i)), Pool: f}
			if tt.edit != nil {
				tt.edit(&o)
			}
			pools = append(pools, o)
		}
		near.withPools(t, pools...)
		left := func() time.Duration { return time.Minute }
		if strings.Contains(tt.log, "late") {
			left = func() time.Duration { return 3 * time.Second } // 500 ms of it are in reserve
		}
		begun := time.Now()
		a, err := near.Provision(t.Context(), contract.Request{Protocol: p, EXI: exi, Actor: "operator", Left: left})
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); strings.Contains(tt.log, "late") && took < 90*time.Millisecond {
			t.Errorf("%s: given up after %s", name, took)
		}
		if a.Code != tt.code {
			t.Errorf("%s: %s (%s)", name, a.Code, a.Reason)
		}
		kind, log := near.newest(t)
		if log != tt.log || (kind == "contract.delivered") != (tt.code == "OK") {
			t.Errorf("%s: on record as %s, %q", name, kind, log)
		}
		if out, err := message.DecodeResponse(p, a.EXI); err != nil || out.Code != tt.code || !bytes.Equal(out.Session, session) {
			t.Errorf("%s: the answer isn't one for the car: %v", name, err)
		}
	}
}

// signAsStation signs with a certificate of a charging station, under the V2G root.
func (r *rig) signAsStation(t *testing.T, a *message.Response) {
	t.Helper()
	key := newKey(t, curveOf(a.Protocol))
	proven, err := ca.GeneratedKey(key)
	if err != nil {
		t.Fatal(err)
	}
	prepared, err := r.authority.Prepare(t.Context(), ca.Order{Profile: ca.ProfileSECC, Key: proven, Subject: ca.Subject{CommonName: "DE*ABC*E*1"}, Station: "cs-1", Requester: "operator"})
	if err != nil {
		t.Fatal(err)
	}
	issued, err := r.authority.Issue(t.Context(), prepared)
	if err != nil {
		t.Fatal(err)
	}
	a.CPS = message.Chain{Certificate: issued.Certificate.Raw}
	for _, sub := range issued.Chain {
		a.CPS.SubCertificates = append(a.CPS.SubCertificates, sub.Raw)
	}
	sig, err := signature.Sign(rand.Reader, key, a.Protocol.Set(), a.Signed()...)
	if err != nil {
		t.Fatal(err)
	}
	a.Signature = &sig
}

func first(t *testing.T, f poolFunc, exi []byte) []byte {
	t.Helper()
	list, err := f(t.Context(), message.ISO2, exi)
	if err != nil {
		t.Fatal(err)
	}
	return list[0]
}

// Pools are asked for cars that have nothing here and signed what they ask, by the
// accounts they name and the roots they trust.
func TestWhichPool(t *testing.T) {
	t.Parallel()
	const p = message.ISO2
	far, near := newRig(t, kindsOf(p)...), newRig(t, kindsOf(p)...)
	near.trustV2G(t, far, p)
	hashOf := func(r *rig) (string, message.RootID) {
		root := r.authority.Roots(kindsOf(p)[0])[0]
		sum := sha256.Sum256(root.Raw)
		return hex.EncodeToString(sum[:]), message.RootID{Issuer: "b'" + root.Subject.String() + "'", Serial: root.SerialNumber}
	}
	farHash, farID := hashOf(far)
	nearHash, nearID := hashOf(near)
	stranger, own := far.car(t, p), near.carOf(t, p, "WP0TESTA00000003A3")
	if _, err := near.Add(t.Context(), "operator", emaid, "WP0TESTA00000003A3"); err != nil {
		t.Fatal(err)
	}
	left := near.carOf(t, p, "WP0TESTA00000004A3")
	if _, err := near.Add(t.Context(), "operator", "NLEXA123456780", "WP0TESTA00000004A3"); err != nil {
		t.Fatal(err)
	}
	if _, err := near.Cancel(t.Context(), "operator", "NLEXA123456780", ""); err != nil {
		t.Fatal(err)
	}
	var asked []string
	make3 := func(edit ...func(*contract.Outside)) {
		var list []contract.Outside
		for i, name := range []string{"a", "b", "c"} {
			o := contract.Outside{Name: name, Pool: poolFunc(func(context.Context, message.Protocol, []byte) ([][]byte, error) {
				asked = append(asked, name)
				return nil, nil
			})}
			if i < len(edit) && edit[i] != nil {
				edit[i](&o)
			}
			list = append(list, o)
		}
		near.withPools(t, list...)
	}
	providers := func(list ...identifier.Provider) func(*contract.Outside) {
		return func(o *contract.Outside) { o.Providers = list }
	}
	roots := func(list ...string) func(*contract.Outside) {
		return func(o *contract.Outside) { o.Roots = list }
	}
	signedBy := func(c *car, ids ...message.RootID) []byte {
		r := c.request()
		if len(ids) > 0 {
			r.Roots = ids
		}
		return sign(t, r, c.key)
	}
	for name, tt := range map[string]struct {
		pools  []func(*contract.Outside)
		exi    []byte
		named  []string
		update bool
		final  bool
		want   string
	}{
		"a stranger":                  {nil, signedBy(stranger), nil, false, false, "abc"},
		"a car of ours":               {nil, signedBy(own), nil, false, false, ""},
		"a stranger by our car's ID":  {nil, signedBy(far.carOf(t, p, "WP0TESTA00000003A3")), nil, false, false, ""},
		"its contract cancelled":      {nil, signedBy(left), nil, false, false, "abc"},
		"signed by another":           {nil, sign(t, stranger.request(), newKey(t, curveOf(p))), nil, false, false, ""},
		"unsigned":                    {nil, encode(t, stranger.request()), nil, false, false, ""},
		"asked by a pool":             {nil, signedBy(stranger), nil, false, true, ""},
		"a provider's account":        {[]func(*contract.Outside){providers("DEABC"), providers("FRXYZ", "NLOTH"), nil}, signedBy(stranger), []string{"nl-oth-123456789"}, false, false, "bc"},
		"no account":                  {[]func(*contract.Outside){providers("DEABC")}, signedBy(stranger), nil, false, false, "abc"},
		"nobody's account":            {[]func(*contract.Outside){providers("DEABC"), providers("DEABC"), providers("DEABC")}, signedBy(stranger), []string{"NLOTH123456789"}, false, false, ""},
		"a pool's root":               {[]func(*contract.Outside){roots(nearHash), roots(farHash), nil}, signedBy(stranger, farID), nil, false, false, "bc"},
		"another's":                   {[]func(*contract.Outside){roots(nearHash), roots(farHash), roots(farHash)}, signedBy(stranger, nearID), nil, false, false, "a"},
		"nobody's root":               {[]func(*contract.Outside){roots(nearHash), roots(farHash)}, signedBy(stranger), nil, false, false, "abc"},
		"a serial number by accident": {[]func(*contract.Outside){roots(nearHash)}, signedBy(stranger, message.RootID{Issuer: "CN=Else", Serial: new(big.Int).Set(nearID.Serial)}), nil, false, false, "abc"},
	} {
		asked = nil
		make3(tt.pools...)
		if _, err := near.Provision(t.Context(), contract.Request{Protocol: p, EXI: tt.exi, Prioritized: tt.named, Actor: "operator", Final: tt.final}); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(asked, ""); got != tt.want {
			t.Errorf("%s: asked %q, want %q", name, got, tt.want)
		}
		elsewhere, err := near.Elsewhere(t.Context(), &ocpp.Get15118EVCertificateRequest{SchemaVersion: p.Namespace(), Action: ocpp.EVCertificateInstall,
			EXIRequest: base64.StdEncoding.EncodeToString(tt.exi), Prioritized: tt.named})
		if want := name == "nobody's account"; err != nil || elsewhere != want {
			t.Errorf("%s: for the back end: %t, %v", name, elsewhere, err)
		}
	}
	// Without pools: whose car is nobody's is for the back end.
	near.withPools(t)
	for name, tt := range map[string]struct {
		exi  []byte
		want bool
	}{"a stranger": {signedBy(stranger), true}, "ours": {signedBy(own), false}, "cancelled": {signedBy(left), true}, "unreadable": {[]byte("x"), false}} {
		elsewhere, err := near.Elsewhere(t.Context(), &ocpp.Get15118EVCertificateRequest{SchemaVersion: p.Namespace(), Action: ocpp.EVCertificateInstall, EXIRequest: base64.StdEncoding.EncodeToString(tt.exi)})
		if err != nil || elsewhere != tt.want {
			t.Errorf("%s: for the back end: %t, %v", name, elsewhere, err)
		}
	}
}

// cpsFunc is a CPS whose answers a test makes.
type cpsFunc func(ctx context.Context, data *message.Response) ([]byte, error)

func (f cpsFunc) Sign(ctx context.Context, data *message.Response) ([]byte, error) {
	return f(ctx, data)
}

// The answer of an own contract is signed by a CPS elsewhere, whose root cars trust; what
// it gives back is what it was given, or a certificate that nobody has the key of is
// revoked.
func TestSignedElsewhere(t *testing.T) {
	t.Parallel()
	const p = message.ISO2
	far, near := newRig(t, ca.KindV2G, ca.KindCPS), newRig(t, ca.KindMO, ca.KindOEM)
	c := near.car(t, p)
	var edit func(*message.Response) error
	signs := cpsFunc(func(ctx context.Context, data *message.Response) ([]byte, error) {
		own := *data
		own.CPS, own.Signature = message.Chain{}, nil
		if edit != nil {
			if err := edit(&own); err != nil {
				return nil, err
			}
		}
		if err := far.SignFor(ctx, "pool:near", emaid, &own); err != nil {
			return nil, err
		}
		return own.Encode()
	})
	var err error
	if near.Service, err = contract.New(t.Context(), contract.Config{Store: near.store, Authority: near.authority, CPS: signs, Clock: near.clock.now}); err != nil {
		t.Fatal(err)
	}
	near.add(t)
	exi := sign(t, c.request(), c.key)
	ask := func() (contract.Answer, error) {
		return near.Provision(t.Context(), contract.Request{Protocol: p, EXI: exi, Actor: "operator"})
	}
	// 1. The other one doesn't know the provider's root, then this one not the CPS's.
	if a, err := ask(); err == nil {
		t.Errorf("signed for a provider nobody trusts: %+v", a)
	}
	root := near.authority.Roots(ca.KindMO)[0]
	if _, err := far.authority.AddAnchor(t.Context(), "mo", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}), "operator"); err != nil {
		t.Fatal(err)
	}
	if a, err := ask(); err == nil {
		t.Errorf("signed by a CPS nobody trusts: %+v", a)
	}
	near.trustV2G(t, far, p)
	// 2. What comes back is something else.
	for name, change := range map[string]func(*message.Response) error{
		"another key":     func(a *message.Response) error { a.Key = bytes.Clone(a.Key); a.Key[20] ^= 1; return nil },
		"another account": func(a *message.Response) error { a.EMAID = "NLEXA123456789"; return nil },
		"nothing":         func(*message.Response) error { return errors.New("no") },
	} {
		edit = change
		if a, err := ask(); err == nil {
			t.Errorf("%s: %+v", name, a)
		}
	}
	edit = nil
	near.noneInForceYet(t)
	// 3. As it should be: the car takes it, and gets it again.
	first, err := ask()
	if err != nil || first.Code != "OK" {
		t.Fatalf("%+v, %v", first, err)
	}
	vehicle := &ev.Car{Protocol: p, Key: c.key, Chain: c.chain, Roots: x509.NewCertPool(), Clock: near.clock.now}
	vehicle.Roots.AddCert(far.authority.Roots(ca.KindV2G)[0])
	if exi, err = vehicle.Install(); err != nil {
		t.Fatal(err)
	}
	again, err := ask()
	if err != nil || again.Serial != first.Serial {
		t.Errorf("a second certificate: %v", err)
	}
	if _, _, err := vehicle.Take(again.EXI, c.key); err != nil {
		t.Error(err)
	}
	if log := entries(t, far); log[len(log)-1].Kind != "contract.signed" {
		t.Errorf("on record: %s", log[len(log)-1].Kind)
	}
}

// noneInForceYet checks that no contract certificate is in force.
func (r *rig) noneInForceYet(t *testing.T) {
	t.Helper()
	list, err := r.store.Certificates(t.Context(), ca.Filter{Profile: ca.ProfileContract})
	if err != nil || len(list) == 0 {
		t.Fatal("none was issued", err)
	}
	for _, record := range list {
		if record.State == ca.StateIssued {
			t.Errorf("certificate %s, which nobody has the key of, is in force", record.Serial)
		}
	}
}
