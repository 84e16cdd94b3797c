package ledger

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// layout is RFC 3339 in UTC with the milliseconds always written.
const layout = "2006-01-02T15:04:05.000Z"

// line is an entry's form in an export: one JSON object, hashes in hex.
type line struct {
	Seq     uint64            `json:"seq"`
	Time    string            `json:"time"`
	Kind    string            `json:"kind"`
	Subject string            `json:"subject"`
	Actor   string            `json:"actor"`
	Data    map[string]string `json:"data,omitempty"`
	Prev    string            `json:"prev"`
	Hash    string            `json:"hash"`
}

// MarshalJSON writes the entry for an export.
func (e Entry) MarshalJSON() ([]byte, error) {
	return json.Marshal(line{
		Seq: e.Seq, Time: e.Time.UTC().Format(layout),
		Kind: e.Kind, Subject: e.Subject, Actor: e.Actor, Data: e.Data,
		Prev: hex.EncodeToString(e.Prev[:]), Hash: hex.EncodeToString(e.Hash[:]),
	})
}

// UnmarshalJSON reads an exported entry again, so that an export can be
// verified without the database. It does not verify by itself.
func (e *Entry) UnmarshalJSON(raw []byte) error {
	var l line
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields() // an unknown fact would not be covered by the hash
	if err := dec.Decode(&l); err != nil {
		return fmt.Errorf("couldn't read ledger entry: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("couldn't read ledger entry %d: data after its end", l.Seq)
	}
	at, err := time.Parse(layout, l.Time)
	if err != nil {
		return fmt.Errorf("couldn't read time of ledger entry %d: %w", l.Seq, err)
	}
	read := Entry{
		Seq: l.Seq, Time: at.UTC(),
		Event: Event{Kind: l.Kind, Subject: l.Subject, Actor: l.Actor, Data: l.Data},
	}
	if err := fromHex(&read.Prev, l.Prev); err != nil {
		return fmt.Errorf("couldn't read prev of ledger entry %d: %w", l.Seq, err)
	}
	if err := fromHex(&read.Hash, l.Hash); err != nil {
		return fmt.Errorf("couldn't read hash of ledger entry %d: %w", l.Seq, err)
	}
	*e = read
	return nil
}

func fromHex(into *[32]byte, s string) error {
	b, err := hex.DecodeString(s)
	if err != nil {
		return err
	}
	if len(b) != len(into) {
		return fmt.Errorf("%d bytes instead of %d", len(b), len(into))
	}
	copy(into[:], b)
	return nil
}
