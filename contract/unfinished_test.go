package contract_test

import (
	"context"
	"errors"
	"testing"

	"bollard/ca"
	"bollard/contract"
	"bollard/iso15118/message"
	"bollard/ledger"
	"bollard/store"
)

// tripStore is the real one with an accident once a contract is written.
type tripStore struct {
	*store.Store
	after func(id string) error
}

func (s *tripStore) UpdateContract(ctx context.Context, id string, change func(*contract.Contract) ([]ledger.Event, error)) (contract.Contract, error) {
	c, err := s.Store.UpdateContract(ctx, id, change)
	if err == nil && s.after != nil {
		err = s.after(id)
	}
	return c, err
}

func (r *rig) trip(t *testing.T) *tripStore {
	t.Helper()
	s := &tripStore{Store: r.store}
	service, err := contract.New(contract.Config{Store: s, Authority: r.authority, Clock: r.clock.now})
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

// restart makes the authority anew from its records.
func (r *rig) restart(t *testing.T) error {
	t.Helper()
	_, err := ca.New(t.Context(), ca.Config{Store: r.store, Keeper: r.keeper, Organisation: "Example CPO", Country: "NL", StatusURL: statusURL, Clock: r.clock.now})
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
	b, ok, err := r.store.Bundle(t.Context(), added.ID, message.ISO2)
	if err != nil || !ok {
		t.Fatalf("not finished: %t, %v", ok, err)
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
	old, _, err := r.store.Bundle(t.Context(), added.ID, message.ISO2)
	if err == nil {
		old.CPS = ""
		err = r.store.PutBundle(t.Context(), old)
	}
	if err != nil {
		t.Fatal(err)
	}
	if third, _ := r.ask(t, message.ISO2, exi, false); third.Code != "OK" || third.Serial == second.Serial {
		t.Errorf("an answer that doesn't say who signed it was given: %+v", third)
	}
}
