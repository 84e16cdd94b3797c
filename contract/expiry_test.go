package contract_test

import (
	"testing"
	"time"

	"bollard/iso15118/message"
)

// A contract whose certificate ends and whose car hasn't come for the next one is told
// of, until the car has; one that ends with its certificate, or is cancelled, never is.
func TestExpiring(t *testing.T) {
	t.Parallel()
	r := newRig(t, kindsOf(message.ISO2)...)
	added := r.add(t)
	c, short, cancelled := r.car(t, message.ISO2), r.carOf(t, message.ISO2, "WP0TESTA00000002A3"), r.carOf(t, message.ISO2, "WP0TESTA00000003A3")
	first, _ := r.ask(t, message.ISO2, sign(t, c.request(), c.key), false)
	record, err := r.authority.Record(t.Context(), first.Serial)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.AddUntil(t.Context(), "operator", emaid, "WP0TESTA00000002A3", record.NotAfter); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Add(t.Context(), "operator", emaid, "WP0TESTA00000003A3"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Add(t.Context(), "operator", emaid, "WP0TESTA00000004A3"); err != nil { // its car never came
		t.Fatal(err)
	}
	r.ask(t, message.ISO2, sign(t, short.request(), short.key), false)
	r.ask(t, message.ISO2, sign(t, cancelled.request(), cancelled.key), false)
	if _, err := r.Cancel(t.Context(), "operator", emaid, "WP0TESTA00000003A3"); err != nil {
		t.Fatal(err)
	}
	const early = 21 * 24 * time.Hour
	told := func() (ids []string) {
		t.Helper()
		list, err := r.Expiring(t.Context(), r.clock.now().Add(early))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range list {
			ids = append(ids, c.ID)
		}
		return ids
	}
	r.clock.set(record.NotAfter.Add(-early))
	if got := told(); len(got) != 0 {
		t.Errorf("told before: %v", got)
	}
	r.clock.set(record.NotAfter.Add(-early + time.Second))
	if got := told(); len(got) != 1 || got[0] != added.ID {
		t.Errorf("told: %v, not %s alone", got, added.ID)
	}
	second, _ := r.ask(t, message.ISO2, sign(t, c.request(), c.key), false)
	if second.Code != "OK" || second.Serial == first.Serial {
		t.Fatalf("the car got %+v", second)
	}
	if got := told(); len(got) != 0 {
		t.Errorf("told though the car has the next: %v", got)
	}
}

// An update that fails for good tells the car not to come again with the certificate;
// what may be mended doesn't, and an installation has no such word (ISO 15118-2,
// RetryCounter).
func TestRetryCounter(t *testing.T) {
	t.Parallel()
	r := newRig(t, kindsOf(message.ISO2)...)
	c := r.car(t, message.ISO2)
	r.add(t)
	_, answer := r.ask(t, message.ISO2, sign(t, c.request(), c.key), false)
	chain, key := c.install(t, r, answer)
	if answer.Retry != nil {
		t.Error("a good answer says when to try again")
	}
	if a, out := r.ask(t, message.ISO2, sign(t, update(chain, string(emaid)), newKey(t, curveOf(message.ISO2))), true); a.Code != "FAILED_SignatureError" || out.Retry != nil {
		t.Errorf("a bad signature: %+v, %v", a, out.Retry)
	}
	if _, err := r.Cancel(t.Context(), "operator", emaid, ""); err != nil {
		t.Fatal(err)
	}
	if a, out := r.ask(t, message.ISO2, sign(t, update(chain, string(emaid)), key), true); a.Code != "FAILED_ContractCanceled" || out.Retry == nil || *out.Retry != -1 {
		t.Errorf("a cancelled contract: %+v, %v", a, out.Retry)
	}
	if a, out := r.ask(t, message.ISO2, sign(t, c.request(), c.key), false); a.Code != "FAILED_ContractCanceled" || out.Retry != nil {
		t.Errorf("an installation: %+v, %v", a, out.Retry)
	}
}
