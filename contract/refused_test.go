package contract_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"bollard/contract"
	"bollard/iso15118/identifier"
	"bollard/iso15118/message"
	"bollard/ledger"
)

// What a client of the pool asks in vain on and on is on record at once and then
// counted, each kind by itself, none lost; a station's refusals are, one by one.
func TestVainRequestsOfAPoolsClient(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ask := func(actor, text string) {
		t.Helper()
		if a, err := r.Provision(t.Context(), contract.Request{Protocol: message.ISO2, EXI: []byte(text), Actor: actor, Final: true}); err != nil || a.Reason == "" {
			t.Fatalf("%+v, %v", a, err)
		}
	}
	counted := func(actor string) (records, count int) {
		t.Helper()
		for _, e := range entries(t, r) {
			if e.Kind == "contract.refused" && e.Actor == actor {
				n, err := strconv.Atoi(e.Data["count"])
				if err != nil {
					n = 1
				}
				records, count = records+1, count+n
			}
		}
		return records, count
	}
	const vain = 100
	for n := range vain {
		ask("pool:stations", fmt.Sprint(n))
	}
	ask("pool:others", "x")
	for n := range 5 {
		ask("station:cs-1", fmt.Sprint(n))
	}
	if records, _ := counted("pool:stations"); records != 1 {
		t.Errorf("%d records of %d vain requests", records, vain)
	}
	if records, _ := counted("pool:others"); records != 1 {
		t.Errorf("another client's: %d records", records)
	}
	if records, _ := counted("station:cs-1"); records != 5 {
		t.Errorf("a station's: %d records of 5", records)
	}
	r.Flush(t.Context(), false)
	if records, _ := counted("pool:stations"); records != 1 {
		t.Errorf("%d records before their time", records)
	}
	r.clock.set(r.clock.now().Add(time.Hour))
	r.Flush(t.Context(), false)
	ask("pool:stations", "again")
	r.Flush(t.Context(), true)
	if records, count := counted("pool:stations"); records > 3 || count != vain+1 {
		t.Errorf("%d requests are on record in %d entries, %d were made", count, records, vain+1)
	}
}

// A car's request reads its active contracts and the newest of those that ended, however
// many there were; leaving the pool it ends all of them.
func TestContractsOfACarAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	put := func(n int, state contract.State) {
		t.Helper()
		err := r.store.AddContract(t.Context(), contract.Contract{ID: fmt.Sprint(n), EMAID: identifier.EMAID(fmt.Sprintf("NLEXA%09d", n)), PCID: pcid, State: state, CreatedAt: r.clock.now()}, []ledger.Event(nil)...)
		if err != nil {
			t.Fatal(err)
		}
	}
	put(0, contract.StateActive) // the oldest
	const ended = contract.ReadPerCar + 10
	for n := range ended {
		put(n+1, contract.StateCancelled)
	}
	list, err := r.Of(t.Context(), pcid)
	if err != nil || len(list) != contract.ReadPerCar {
		t.Fatalf("%d are read: %v", len(list), err)
	}
	if list[0].ID != "0" || list[1].ID != "12" || list[len(list)-1].ID != fmt.Sprint(ended) {
		t.Errorf("from %s and %s to %s", list[0].ID, list[1].ID, list[len(list)-1].ID)
	}
	if err := r.RemoveProvisioning(t.Context(), "pool:maker", pcid); err != nil {
		t.Fatal(err)
	}
	if every, err := r.store.EveryContractOf(t.Context(), pcid); err != nil || len(every) != ended+1 || every[0].State != contract.StateCancelled {
		t.Errorf("%d, the first %s: %v", len(every), every[0].State, err)
	}
}
