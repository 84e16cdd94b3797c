package ledger

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// layout is RFC 3339 in UTC with the milliseconds always written.
const layout = "2006-01-02T15:04:05.000Z"

// line is an entry's form in an export: one JSON object, hashes in Base64.
type line struct {
	Seq     uint64            `json:"seq"`
	Time    string            `json:"time"`
	Kind    string            `json:"kind"`
	Subject string            `json:"subject"`
	Actor   string            `json:"actor"`
	Data    map[string]string `json:"data,omitempty"`
	Hashes  []tlog.Hash       `json:"hashes,omitempty"`
}

// MarshalJSON writes the entry for an export.
func (e Entry) MarshalJSON() ([]byte, error) {
	return json.Marshal(line{
		Seq: e.Seq, Time: e.Time.UTC().Format(layout),
		Kind: e.Kind, Subject: e.Subject, Actor: e.Actor, Data: e.Data, Hashes: e.Hashes,
	})
}

// UnmarshalJSON reads an exported entry again, so that an export can be
// verified without the database. It takes only what MarshalJSON writes, byte
// for byte: another spelling of the same would be a change nobody sees. It
// does not verify by itself.
func (e *Entry) UnmarshalJSON(raw []byte) error {
	var l line
	if err := json.Unmarshal(raw, &l); err != nil {
		return fmt.Errorf("couldn't read ledger entry: %w", err)
	}
	at, err := time.Parse(layout, l.Time)
	if err != nil {
		return fmt.Errorf("couldn't read time of ledger entry %d: %w", l.Seq, err)
	}
	read := Entry{
		Seq: l.Seq, Time: at.UTC(),
		Event:  Event{Kind: l.Kind, Subject: l.Subject, Actor: l.Actor, Data: l.Data},
		Hashes: l.Hashes,
	}
	again, err := read.MarshalJSON()
	if err != nil || !bytes.Equal(again, raw) {
		return fmt.Errorf("ledger entry %d isn't spelled as an export spells it: it was altered", l.Seq)
	}
	*e = read
	return nil
}
