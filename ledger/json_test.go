package ledger_test

import (
	"encoding/json"
	"testing"
	"time"

	"bollard/ledger"

	"pgregory.net/rapid"
)

func TestMarshalJSON(t *testing.T) {
	t.Parallel()
	e := ledger.Entry{
		Seq: 7, Time: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC),
		Event: ledger.Event{Kind: "certificate.revoked", Subject: "0a", Actor: "operator", Data: map[string]string{"reason": "superseded"}},
		Prev:  [32]byte{1}, Hash: [32]byte{0xab},
	}
	const zeros = "00000000000000000000000000000000000000000000000000000000000000"
	want := `{"seq":7,"time":"2026-11-23T12:00:00.000Z","kind":"certificate.revoked","subject":"0a","actor":"operator",` +
		`"data":{"reason":"superseded"},"prev":"01` + zeros + `","hash":"ab` + zeros + `"}`
	got, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// An export is verified without the database.
func TestExportedChainVerifies(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		list := chain(t, 1)
		raw, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		var read []ledger.Entry
		if err := json.Unmarshal(raw, &read); err != nil {
			t.Fatal(err)
		}
		sum, err := ledger.Verify(sequence(read))
		if err != nil || sum.LastHash != list[len(list)-1].Hash {
			t.Fatalf("%+v, %v", sum, err)
		}
	})
}

func FuzzUnmarshalJSON(f *testing.F) {
	good, err := json.Marshal(ledger.Next(ledger.Entry{}, noon, ledger.Event{Kind: "a.b", Actor: "x", Data: map[string]string{"k": "v"}}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	for _, seed := range []string{
		`{}`, `null`, `[]`, `{"seq":-1}`, `{"seq":1,"extra":2}`,
		`{"seq":1,"time":"2026-11-23T12:00:00Z","prev":"00","hash":"00"}`,
		`{"seq":1,"time":"2026-11-23T12:00:00.000Z","prev":"zz","hash":""}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var e ledger.Entry
		if e.UnmarshalJSON(raw) != nil {
			if e.Seq != 0 || e.Kind != "" {
				t.Error("a refused entry left something behind")
			}
			return
		}
		again, err := e.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var back ledger.Entry
		if err := back.UnmarshalJSON(again); err != nil {
			t.Fatalf("what was read can't be read again: %v", err)
		}
		if back.Digest() != e.Digest() || back.Hash != e.Hash {
			t.Error("an entry changed on its way through JSON")
		}
	})
}

func TestUnmarshalJSONRefusesWhatTheHashDoesNotCover(t *testing.T) {
	t.Parallel()
	good, err := ledger.Next(ledger.Entry{}, noon, ledger.Event{Kind: "a.b", Actor: "x"}).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var e ledger.Entry
	if err := e.UnmarshalJSON(good); err != nil {
		t.Fatal(err)
	}
	extra := append([]byte(`{"comment":"all fine",`), good[1:]...)
	if err := e.UnmarshalJSON(extra); err == nil {
		t.Error("an unknown fact was accepted")
	}
	if err := e.UnmarshalJSON(append(good, '1')); err == nil {
		t.Error("data after the entry was accepted")
	}
}
