package ledger_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"bollard/ledger"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

func TestMarshalJSON(t *testing.T) {
	t.Parallel()
	e := ledger.Entry{
		Seq: 7, Time: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC),
		Event:  ledger.Event{Kind: "certificate.revoked", Subject: "0a", Actor: "operator", Data: map[string]string{"reason": "superseded"}},
		Hashes: []tlog.Hash{{1}},
	}
	want := `{"seq":7,"time":"2026-11-23T12:00:00.000Z","kind":"certificate.revoked","subject":"0a","actor":"operator",` +
		`"data":{"reason":"superseded"},"hashes":["AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]}`
	got, err := json.Marshal(e)
	must(t, err)
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestEntriesPassThroughJSON(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		list := newBook(t).random(t, 1).entries
		raw, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		var read []ledger.Entry
		if err := json.Unmarshal(raw, &read); err != nil {
			t.Fatal(err)
		}
		for i := range list {
			if len(list[i].Data) == 0 {
				list[i].Data = nil
			}
		}
		if diff := cmp.Diff(list, read); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzUnmarshalJSON(f *testing.F) {
	good, err := newBook(f).entries[0].MarshalJSON()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	for _, seed := range []string{
		`{}`, `null`, `[]`, `{"seq":-1}`, `{"seq":1,"extra":2}`,
		`{"seq":1,"time":"2026-11-23T12:00:00Z","hashes":null}`,
		`{"seq":1,"time":"2026-11-23T12:00:00.000Z","hashes":[""]}`,
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
		if again, err := e.MarshalJSON(); err != nil || !bytes.Equal(again, raw) {
			t.Errorf("%q was read as %q, %v", raw, again, err)
		}
	})
}
