package contract_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"testing"
	"time"

	"bollard/ca"
	"bollard/contract"
	"bollard/iso15118/message"
	"bollard/ledger"
	"bollard/store"
)

// tripStore is the real one with an accident once a contract is written, or before.
type tripStore struct {
	*store.Store
	after func(id string) error
	full  bool
}

func (s *tripStore) UpdateContract(ctx context.Context, id string, change func(*contract.Contract) ([]ledger.Event, error)) (contract.Contract, error) {
	if s.full {
		return contract.Contract{}, errDisk
	}
	c, err := s.Store.UpdateContract(ctx, id, change)
	if err == nil && s.after != nil {
		err = s.after(id)
	}
	return c, err
}

func (r *rig) trip(t *testing.T) *tripStore {
	t.Helper()
	s := &tripStore{Store: r.store}
	service, err := contract.New(t.Context(), contract.Config{Store: s, Authority: r.authority, Clock: r.clock.now})
	if err != nil {
		t.Fatal(err)
	}
	r.Service = service
	return s
}

var errDisk = errors.New("no space left on device")

// What was begun and never finished, and what fails for one contract, keeps none
// of the account's other certificates in force.
func TestCancelPastUnfinished(t *testing.T) {
	t.Parallel()
	r := newRig(t, kindsOf(message.ISO2)...)
	accident := r.trip(t)
	cars := []*car{r.car(t, message.ISO2), r.carOf(t, message.ISO2, "WP0TESTA00000002A3")}
	first := r.add(t)
	second, err := r.Add(t.Context(), "operator", emaid, "WP0TESTA00000002A3")
	if err != nil {
		t.Fatal(err)
	}
	accident.after = func(string) error { return errDisk }
	if _, err := r.Provision(t.Context(), contract.Request{Protocol: message.ISO2, EXI: sign(t, cars[0].request(), cars[0].key), Actor: "operator"}); !errors.Is(err, errDisk) {
		t.Fatalf("the accident didn't happen: %v", err)
	}
	accident.after = nil
	for _, c := range cars {
		if a, _ := r.ask(t, message.ISO2, sign(t, c.request(), c.key), false); a.Code != "OK" {
			t.Fatalf("got %+v", a)
		}
	}
	unfinished := func() int {
		list, err := r.store.Certificates(t.Context(), ca.Filter{Profile: ca.ProfileContract, State: ca.StateIntended})
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	if n := unfinished(); n != 1 {
		t.Fatalf("%d unfinished certificates", n)
	}
	// 1. One contract fails: the other is cancelled all the same.
	accident.after = func(id string) error {
		if id == first.ID {
			return errDisk
		}
		return nil
	}
	if _, err := r.Cancel(t.Context(), "operator", emaid, ""); !errors.Is(err, errDisk) {
		t.Errorf("cancelled with %v", err)
	}
	r.noneInForce(t, second.ID)
	// 2. An unfinished certificate is passed over.
	accident.after = nil
	if _, err := r.Cancel(t.Context(), "operator", emaid, ""); err != nil {
		t.Errorf("an unfinished certificate keeps the contract: %v", err)
	}
	r.noneInForce(t, first.ID)
	// 3. It is given up for good at the next start.
	if err := r.restart(t); err != nil || unfinished() != 0 {
		t.Errorf("%d unfinished certificates after a restart: %v", unfinished(), err)
	}
}

// A certificate that can't be revoked keeps no server from starting; its contract gets no
// other one until it is.
func TestStartsThoughARevocationFails(t *testing.T) {
	t.Parallel()
	r := newRig(t, kindsOf(message.ISO2)...)
	accident := r.trip(t)
	c, added := r.car(t, message.ISO2), r.add(t)
	request := contract.Request{Protocol: message.ISO2, EXI: sign(t, c.request(), c.key), Actor: "operator"}
	accident.after = func(string) error { accident.full = true; return errDisk }
	if _, err := r.Provision(t.Context(), request); !errors.Is(err, errDisk) {
		t.Fatalf("the accident didn't happen: %v", err)
	}
	begun := func() []string {
		t.Helper()
		list, err := r.store.ContractsBy(t.Context(), added.EMAID.Bare())
		if err != nil || len(list) != 1 {
			t.Fatalf("%d contracts: %v", len(list), err)
		}
		return list[0].Serials
	}
	before := len(begun())
	var err error
	if r.Service, err = contract.New(t.Context(), contract.Config{Store: accident, Authority: r.authority, Clock: r.clock.now}); err != nil {
		t.Fatalf("no start: %v", err)
	}
	if a, err := r.Provision(t.Context(), request); !errors.Is(err, errDisk) || a.EXI != nil || len(begun()) != before {
		t.Errorf("meanwhile: %+v, %v, %d certificates", a, err, len(begun()))
	}
	accident.after, accident.full = nil, false
	if a, _ := r.ask(t, message.ISO2, request.EXI, false); a.Code != "OK" {
		t.Errorf("afterwards: %+v", a)
	}
}

// restart makes the authority anew from its records.
func (r *rig) restart(t testing.TB) (err error) {
	t.Helper()
	r.authority, err = ca.New(t.Context(), ca.Config{Store: r.store, Keeper: r.keeper, Organisation: "Example CPO", Country: "NL", StatusURL: statusURL, Clock: r.clock.now})
	return err
}

// noneInForce checks that a contract is cancelled and so is all that was issued for it.
func (r *rig) noneInForce(t *testing.T, id string) {
	t.Helper()
	for _, c := range r.contracts(t) {
		if c.ID != id {
			continue
		}
		if c.State != contract.StateCancelled || len(c.Serials) == 0 {
			t.Errorf("contract of %s is %s with %d certificates", c.PCID, c.State, len(c.Serials))
		}
		for _, serial := range c.Serials {
			if rec, err := r.authority.Record(t.Context(), serial); err != nil || rec.State == ca.StateIssued {
				t.Errorf("certificate %s is %s: %v", serial, rec.State, err)
			}
		}
	}
}

// A certificate that was begun is finished though its station is gone meanwhile, and
// the car's next request finds it.
func TestFinishedWithoutItsRequester(t *testing.T) {
	t.Parallel()
	r := newRig(t, kindsOf(message.ISO2)...)
	accident := r.trip(t)
	c := r.car(t, message.ISO2)
	added := r.add(t)
	ctx, hangUp := context.WithCancel(t.Context())
	accident.after = func(string) error { hangUp(); return nil }
	exi := sign(t, c.request(), c.key)
	if _, err := r.Provision(ctx, contract.Request{Protocol: message.ISO2, EXI: exi, Actor: "operator"}); !errors.Is(err, context.Canceled) {
		t.Errorf("given to nobody: %v", err)
	}
	accident.after = nil
	b, ok := r.bundleOf(t, added, c)
	if !ok {
		t.Fatal("not finished")
	}
	if a, _ := r.ask(t, message.ISO2, exi, false); a.Serial != b.Serial {
		t.Errorf("made anew: %+v", a)
	}
	if _, err := r.Provision(ctx, contract.Request{Protocol: message.ISO2, EXI: exi, Actor: "operator"}); !errors.Is(err, context.Canceled) {
		t.Errorf("asked by nobody: %v", err)
	}
}

// An answer whose CPS certificate was revoked isn't given again, nor is one of an
// older version that doesn't say who signed it.
func TestRevokedCPS(t *testing.T) {
	t.Parallel()
	r := newRig(t, kindsOf(message.ISO2)...)
	c := r.car(t, message.ISO2)
	added := r.add(t)
	exi := sign(t, c.request(), c.key)
	first, a := r.ask(t, message.ISO2, exi, false)
	cps := certificates(t, a.CPS)[0]
	if _, err := r.authority.Revoke(t.Context(), ca.SerialOf(cps), "keyCompromise", "operator"); err != nil {
		t.Fatal(err)
	}
	second, b := r.ask(t, message.ISO2, exi, false)
	if second.Serial == first.Serial || string(certificates(t, b.CPS)[0].RawSubjectPublicKeyInfo) == string(cps.RawSubjectPublicKeyInfo) {
		t.Fatal("the revoked CPS answers on")
	}
	c.install(t, r, b)
	old, _ := r.bundleOf(t, added, c)
	old.CPS = ""
	if err := r.store.PutBundle(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	if third, _ := r.ask(t, message.ISO2, exi, false); third.Code != "OK" || third.Serial == second.Serial {
		t.Errorf("an answer that doesn't say who signed it was given: %+v", third)
	}
}

// bundleOf is the answer made for a car.
func (r *rig) bundleOf(t *testing.T, of contract.Contract, c *car) (contract.Bundle, bool) {
	t.Helper()
	sum := sha256.Sum256(c.chain[0].RawSubjectPublicKeyInfo)
	b, ok, err := r.store.Bundle(t.Context(), of.ID, c.p, hex.EncodeToString(sum[:]))
	if err != nil {
		t.Fatal(err)
	}
	return b, ok
}

// Who waits for another one's answer of the same contract goes when nobody waits for
// theirs any more.
func TestWaitingEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t, kindsOf(message.ISO2)...)
	unlock, err := r.Lock(t.Context(), "contract")
	if err != nil {
		t.Fatal(err)
	}
	waiting, hangUp := context.WithCancel(t.Context())
	second := make(chan error, 1)
	go func() {
		_, err := r.Lock(waiting, "contract")
		second <- err
	}()
	hangUp()
	select {
	case err := <-second:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it waits on")
	}
	unlock()
	if unlock, err = r.Lock(t.Context(), "contract"); err != nil {
		t.Fatal(err)
	}
	unlock()
}

// What somebody captured and sends again, in any order, costs no certificate: each
// request finds its own answer.
func TestSentAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, kindsOf(message.ISO2)...)
	c := r.car(t, message.ISO2)
	r.add(t)
	installation := sign(t, c.request(), c.key)
	first, a := r.ask(t, message.ISO2, installation, false)
	chain, key := c.install(t, r, a)
	change := sign(t, update(chain, string(emaid)), key)
	second, b := r.ask(t, message.ISO2, change, true)
	opener := &car{key: key, chain: chain, p: message.ISO2}
	chain2, key2 := opener.install(t, r, b)
	change2 := sign(t, update(chain2, string(emaid)), key2)
	third, _ := r.ask(t, message.ISO2, change2, true)
	if first.Serial == second.Serial || second.Serial == third.Serial || third.Code != "OK" {
		t.Fatalf("got %s, %s, %s", first.Serial, second.Serial, third.Serial)
	}
	for range 2 {
		for i, again := range []struct {
			exi      []byte
			isUpdate bool
			want     string
		}{{installation, false, first.Serial}, {change, true, second.Serial}, {change2, true, third.Serial}} {
			if got, _ := r.ask(t, message.ISO2, again.exi, again.isUpdate); got.Serial != again.want {
				t.Errorf("request %d got another certificate", i)
			}
		}
	}
}
