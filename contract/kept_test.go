package contract_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"
	"time"

	"bollard/ca"
	"bollard/contract"
	"bollard/iso15118/identifier"
	"bollard/iso15118/message"
	"bollard/iso15118/signature"
	"bollard/station/ev"
)

// neighbours are two providers of ISO 15118-2: near has a car, far a contract for it,
// and near trusts far's roots.
func neighbours(t *testing.T) (near, far *rig, c *car) {
	t.Helper()
	near, far = newRig(t, kindsOf(message.ISO2)...), newRig(t, ca.KindV2G, ca.KindMO, ca.KindCPS)
	far.trust(t, "oem", near.authority.Roots(ca.KindOEM)[0])
	c = near.car(t, message.ISO2)
	near.takeIn(t, c.chain)
	far.takeIn(t, c.chain)
	far.add(t)
	return near, far, c
}

func (r *rig) takeIn(t *testing.T, chain []*x509.Certificate) {
	t.Helper()
	if _, err := r.AddProvisioning(t.Context(), "operator", chain); err != nil {
		t.Fatal(err)
	}
}

// madeFor is what far answers a car of near.
func (r *rig) madeFor(t *testing.T, p message.Protocol, exi []byte) []byte {
	t.Helper()
	a, _ := r.ask(t, p, exi, false)
	if a.Code != "OK" {
		t.Fatalf("no contract data: %+v", a)
	}
	return a.EXI
}

func (r *rig) keep(t *testing.T, account identifier.EMAID, p message.Protocol, data []byte) error {
	t.Helper()
	_, err := r.Keep(t.Context(), "pool:far", account, pcid, p, data)
	return err
}

// Contract data that another provider made for a car is kept once its signature, chains
// and account hold, and given to the car, which takes it; an own contract comes first.
// Taken back, or no longer trusted, it isn't given.
func TestKept(t *testing.T) {
	t.Parallel()
	const p = message.ISO2
	near, far, c := neighbours(t)
	vehicle := &ev.Car{Protocol: p, Key: c.key, Chain: c.chain, Roots: x509.NewCertPool(), Clock: near.clock.now}
	vehicle.Roots.AddCert(far.authority.Roots(ca.KindV2G)[0])
	vehicle.Roots.AddCert(near.authority.Roots(ca.KindV2G)[0])
	exi, err := vehicle.Install()
	if err != nil {
		t.Fatal(err)
	}
	data, root := far.madeFor(t, p, exi), far.authority.Roots(ca.KindMO)[0]
	for _, trust := range []func(){func() { near.trustV2G(t, far, p) }, func() { near.trust(t, "mo", root) }} {
		if _, fault := errors.AsType[*contract.Fault](near.keep(t, emaid, p, data)); !fault {
			t.Fatal("kept without trust in both of its roots")
		}
		trust()
	}
	for range 2 { // the newer takes the place of the older
		if err := near.keep(t, emaid, p, data); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := near.KeptOf(t.Context(), pcid)
	if err != nil || len(kept) != 1 {
		t.Fatalf("%d are kept: %v", len(kept), err)
	}
	near.takes(t, vehicle, exi, emaid, 0)
	if kind, _ := near.newest(t); kind != "contract.delivered" {
		t.Errorf("on record: %s", kind)
	}
	const own = "DEABC123456789"
	if _, err := near.Add(t.Context(), "operator", own, pcid); err != nil {
		t.Fatal(err)
	}
	near.takes(t, vehicle, exi, own, 0)
	if _, err := near.Cancel(t.Context(), "operator", own, ""); err != nil {
		t.Fatal(err)
	}
	near.takes(t, vehicle, exi, emaid, 0)
	if _, err := near.authority.RemoveAnchor(t.Context(), "mo", hashOf(root.Raw), "operator"); err != nil {
		t.Fatal(err)
	}
	if a, _ := near.ask(t, p, exi, false); a.Code != "FAILED_NoCertificateAvailable" || a.Serial != "" {
		t.Errorf("given though its root isn't trusted any more: %+v", a)
	}
	near.trust(t, "mo", root)
	near.takes(t, vehicle, exi, emaid, 0)
	if _, err := near.Cancel(t.Context(), "operator", emaid, ""); err != nil {
		t.Fatal(err)
	}
	if a, _ := near.ask(t, p, exi, false); a.Code == "OK" {
		t.Error("given though it was taken back")
	}
	if _, err := near.Cancel(t.Context(), "operator", emaid, ""); !errors.Is(err, contract.ErrUnknown) {
		t.Errorf("taken back twice: %v", err)
	}
}

// takes has a car ask, and open what it is given.
func (r *rig) takes(t *testing.T, vehicle *ev.Car, exi []byte, account identifier.EMAID, remaining int) {
	t.Helper()
	a, _ := r.ask(t, vehicle.Protocol, exi, false)
	if a.Code != "OK" || a.EMAID.Bare() != account || a.Remaining != remaining {
		t.Fatalf("got %+v, want %s and %d to come", a, string(account), remaining)
	}
	if _, _, err := vehicle.Take(a.EXI, vehicle.Key); err != nil {
		t.Fatalf("the car doesn't take it: %v", err)
	}
}

// keptInTurn keeps two contracts of far's for a car of ISO 15118-20, which fetches one
// after the other.
func (r *rig) keptInTurn(t *testing.T, far *rig, vehicle *ev.Car, exi []byte) {
	t.Helper()
	const p, other = message.ISO20, identifier.EMAID("DEABC123456789")
	r.trust(t, "oem", far.authority.Roots(ca.KindOEM20)[0])
	r.trust(t, "mo", far.authority.Roots(ca.KindMO20)[0])
	if _, err := far.Add(t.Context(), "operator", other, pcid); err != nil {
		t.Fatal(err)
	}
	r.takeIn(t, vehicle.Chain)
	for _, account := range []identifier.EMAID{emaid, other} {
		if err := r.keep(t, account, p, far.madeFor(t, p, exi)); err != nil {
			t.Fatal(err)
		}
	}
	r.takes(t, vehicle, exi, emaid, 1)
	r.takes(t, vehicle, exi, other, 0)
}

// What a car wouldn't take, what isn't the account's, and a key that isn't sealed
// aren't kept; and nothing is given past its end.
func TestKeptIsVerified(t *testing.T) {
	t.Parallel()
	const p = message.ISO2
	near, far, c := neighbours(t)
	near.trustV2G(t, far, p)
	near.trust(t, "mo", far.authority.Roots(kindsOf(p)[1])[0])
	exi := sign(t, c.request(), c.key)
	data := far.madeFor(t, p, exi)
	read := func() *message.Response {
		a, err := message.DecodeResponse(p, data)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	fresh, clear := far.unsealed(t)
	for name, tt := range map[string]struct {
		emaid  identifier.EMAID
		change func(a *message.Response) *message.Response
	}{
		"as it came":          {emaid, func(a *message.Response) *message.Response { return a }},
		"another account's":   {"NLEXA987654321", func(a *message.Response) *message.Response { return a }},
		"unsigned":            {emaid, func(a *message.Response) *message.Response { a.Signature = nil; return a }},
		"a failure":           {emaid, func(a *message.Response) *message.Response { a.Code = "FAILED"; return a }},
		"an update":           {emaid, func(a *message.Response) *message.Response { a.Update = true; return a }},
		"signed by a station": {emaid, func(a *message.Response) *message.Response { far.signAsStation(t, a); return a }},
		"another's signature": {emaid, func(a *message.Response) *message.Response { a.Signature = fresh(nil).Signature; return a }},
		"sealed, signed anew": {emaid, func(*message.Response) *message.Response { return fresh(nil) }},
		"a key that is short": {emaid, func(*message.Response) *message.Response {
			return fresh(func(a *message.Response) { a.Key = a.Key[:47] })
		}},
		"a public key cut": {emaid, func(*message.Response) *message.Response {
			return fresh(func(a *message.Response) { a.Public = a.Public[:64] })
		}},
		"the key in clear": {emaid, func(*message.Response) *message.Response {
			return fresh(func(a *message.Response) { copy(a.Key[16:], clear) })
		}},
		"in clear, moved": {emaid, func(*message.Response) *message.Response {
			return fresh(func(a *message.Response) { copy(a.Key[3:], clear) })
		}},
		"of another's account": {emaid, func(*message.Response) *message.Response {
			return fresh(func(a *message.Response) { a.EMAID = "DEABC123456789" })
		}},
	} {
		text, err := tt.change(read()).Encode()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, err = near.Keep(t.Context(), "pool:far", tt.emaid, pcid, p, text)
		_, fault := errors.AsType[*contract.Fault](err)
		if good := name == "as it came" || name == "sealed, signed anew"; good && err != nil || !good && !fault {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := near.Keep(t.Context(), "pool:far", emaid, pcid, p, data[:len(data)-1]); err == nil {
		t.Error("cut data is kept")
	}
	kept, err := near.KeptOf(t.Context(), pcid)
	if err != nil || len(kept) != 1 {
		t.Fatalf("%d are kept: %v", len(kept), err)
	}
	near.clock.set(kept[0].Until)
	if a, _ := near.ask(t, p, exi, false); a.Code != "FAILED_NoCertificateAvailable" {
		t.Errorf("past its end: %+v", a)
	}
	if kept, err := near.KeptBy(t.Context(), emaid); err != nil || len(kept) != 0 {
		t.Errorf("shown past its end: %v, %v", kept, err)
	}
	if kept, err := near.AllKept(t.Context()); err != nil || len(kept) != 0 {
		t.Errorf("listed past its end: %v, %v", kept, err)
	}
}

// A car that gets another key can't open what was kept for the one before: taken into
// the pool, its new certificate ends it, and before that it isn't given either.
func TestKeptForAnotherKey(t *testing.T) {
	t.Parallel()
	const p = message.ISO2
	near, far, c := neighbours(t)
	near.trustV2G(t, far, p)
	near.trust(t, "mo", far.authority.Roots(kindsOf(p)[1])[0])
	if err := near.keep(t, emaid, p, far.madeFor(t, p, sign(t, c.request(), c.key))); err != nil {
		t.Fatal(err)
	}
	near.takeIn(t, c.chain) // once more the same
	if a, _ := near.ask(t, p, sign(t, c.request(), c.key), false); a.Code != "OK" {
		t.Fatalf("not given to its car: %+v", a)
	}
	other := near.car(t, p)
	known := contract.Provisioning{PCID: pcid, Protocol: p, Certificate: other.chain[0].Raw, SubCertificates: [][]byte{other.chain[1].Raw, other.chain[2].Raw}}
	if err := near.store.PutProvisioning(t.Context(), known); err != nil { // as far as a crash lets AddProvisioning get
		t.Fatal(err)
	}
	if a, _ := near.ask(t, p, sign(t, other.request(), other.key), false); a.Code != "FAILED_NoCertificateAvailable" {
		t.Errorf("given to a car that can't open it: %+v", a)
	}
	near.takeIn(t, other.chain)
	if kind, _ := near.newest(t); kind != "contract.discarded" {
		t.Errorf("on record: %s", kind)
	}
	if kept, err := near.AllKept(t.Context()); err != nil || len(kept) != 0 {
		t.Errorf("left behind: %d, %v", len(kept), err)
	}
}

// Data that went bad keeps its car from none of its other contracts: it is passed over, also
// by the car of ISO 15118-20 that fetches one after the other.
func TestKeptThatWentBad(t *testing.T) {
	t.Parallel()
	for _, p := range protocols {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			near := newRig(t, kindsOf(p)...)
			w := &world{revoked: map[string]bool{}}
			asked := 0
			var err error
			near.Service, err = contract.New(t.Context(), contract.Config{Store: near.store, Authority: near.authority, Revocation: w, Clock: near.clock.now,
				Pools: []contract.Outside{{Name: "elsewhere", Pool: poolFunc(func(context.Context, message.Protocol, []byte) ([][]byte, error) { asked++; return nil, nil })}}})
			if err != nil {
				t.Fatal(err)
			}
			c, serials := near.car(t, p), map[identifier.EMAID]string{}
			near.takeIn(t, c.chain)
			far := newRig(t, kindsOf(p)[:2]...)
			if err := far.authority.Create(t.Context(), kindsOf(p)[3], "operator"); err != nil {
				t.Fatal(err)
			}
			far.trust(t, "oem", near.authority.Roots(kindsOf(p)[2])[0])
			near.trustV2G(t, far, p)
			near.trust(t, "mo", far.authority.Roots(kindsOf(p)[1])[0])
			far.takeIn(t, c.chain)
			exi := sign(t, c.request(), c.key)
			accounts := []identifier.EMAID{"NLEXA000000001", "NLEXA000000002", "NLEXA000000003"}
			for _, account := range accounts {
				if _, err := far.Add(t.Context(), "operator", account, pcid); err != nil {
					t.Fatal(err)
				}
				a, err := far.Provision(t.Context(), contract.Request{Protocol: p, EXI: exi, Prioritized: []string{string(account)}, Actor: "operator"})
				if err != nil || a.EMAID.Bare() != account {
					t.Fatalf("%+v: %v", a, err)
				}
				if err := near.keep(t, account, p, a.EXI); err != nil {
					t.Fatal(err)
				}
				serials[account] = a.Serial
			}
			next := byte(0)
			sessions := func() []byte { // a new session
				r := c.request()
				next++
				r.Session = []byte{9, 9, 9, 9, 9, 9, 9, next}
				return sign(t, r, c.key)
			}
			fetch := func(exi []byte, want string, remaining int) {
				t.Helper()
				a, _ := near.ask(t, p, exi, false)
				if got := string(a.EMAID.Bare()); got != want || a.Remaining != remaining && p == message.ISO20 {
					t.Errorf("got %q and %d to come (%s), want %q and %d", got, a.Remaining, a.Reason, want, remaining)
				}
			}
			// 1. The second.
			w.revoked[serials[accounts[1]]] = true
			exi = sessions()
			fetch(exi, string(accounts[0]), 2)
			if p == message.ISO20 {
				fetch(exi, string(accounts[2]), 0)
			}
			// 2. The first as well.
			w.revoked[serials[accounts[0]]] = true
			fetch(sessions(), string(accounts[2]), 0)
			if asked != 0 {
				t.Errorf("asked elsewhere %d times", asked)
			}
			// 3. All: now others may have something.
			w.revoked[serials[accounts[2]]] = true
			exi = sessions()
			fetch(exi, "", 0)
			near.clock.set(near.clock.now().Add(time.Minute)) // nothing is remembered of the pool
			fetch(exi, "", 0)
			if asked != 2 {
				t.Errorf("asked elsewhere %d times", asked)
			}
		})
	}
}

// A car has room for so many, whoever brings them; what has ended makes room.
func TestKeptIsBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	put := func(n int) error {
		return r.store.PutKept(t.Context(), contract.Kept{ID: fmt.Sprint(n), EMAID: identifier.EMAID(fmt.Sprintf("NLEXA%09d", n)), PCID: pcid, Protocol: message.ISO2,
			Until: r.clock.now().Add(time.Hour), KeptAt: r.clock.now()})
	}
	for n := range contract.MaxPerCar {
		if err := put(n); err != nil {
			t.Fatal(err)
		}
	}
	if err := put(1000); !errors.Is(err, contract.ErrTooMany) {
		t.Errorf("one more: %v", err)
	}
	r.clock.set(r.clock.now().Add(time.Hour))
	if err := put(1000); err != nil {
		t.Errorf("after all have ended: %v", err)
	}
	if list, err := r.AllKept(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("%d are left: %v", len(list), err)
	}
}

// unsealed returns a maker of contract data signed by the own CPS, whose certificate's
// private key the test knows, 32 bytes.
func (r *rig) unsealed(t *testing.T) (func(change func(*message.Response)) *message.Response, []byte) {
	t.Helper()
	key := newKey(t, curveOf(message.ISO2))
	proven, err := ca.GeneratedKey(key)
	if err != nil {
		t.Fatal(err)
	}
	prepared, err := r.authority.Prepare(t.Context(), ca.Order{Profile: ca.ProfileContract, Key: proven, Subject: ca.Subject{CommonName: string(emaid.Full())}, Requester: "operator"})
	if err != nil {
		t.Fatal(err)
	}
	issued, err := r.authority.Issue(t.Context(), prepared)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return func(change func(*message.Response)) *message.Response {
		a := &message.Response{Protocol: message.ISO2, Header: message.Header{Session: session}, Code: "OK", EMAID: string(emaid.Full()),
			Key: bytes.Repeat([]byte{1}, 48), Public: bytes.Repeat([]byte{4}, 65), Contract: message.Chain{Certificate: issued.Certificate.Raw}}
		for _, sub := range issued.Chain {
			a.Contract.SubCertificates = append(a.Contract.SubCertificates, sub.Raw)
		}
		if change != nil {
			change(a)
		}
		a.SetIDs()
		signer, err := r.authority.CPSSigner(t.Context(), ca.KindCPS)
		if err != nil {
			t.Fatal(err)
		}
		a.CPS = message.Chain{Certificate: signer.Certificate.Raw}
		for _, sub := range signer.Chain {
			a.CPS.SubCertificates = append(a.CPS.SubCertificates, sub.Raw)
		}
		sig, err := signature.Sign(rand.Reader, signer.Key, a.Protocol.Set(), a.Signed()...)
		if err != nil {
			t.Fatal(err)
		}
		a.Signature = &sig
		return a
	}, raw
}

func hashOf(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}
