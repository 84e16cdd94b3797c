package store

import (
	"encoding/json"
	"fmt"
	"time"

	"bollard/ca/acme"
	"bollard/firmware/catalogue"
	"bollard/internal/rollout"
	"bollard/ledger"
)

// Ended is what a restored backup doesn't go on with by itself.
type Ended struct {
	Rollouts int `json:"rollouts"` // of firmware and of settings, halted
	Secrets  int `json:"secrets"`  // one-time secrets and ACME tokens nobody had used, void
}

// whyHalted stands beside a rollout that a restored backup had running.
const whyHalted = "it ran when the backup was made that was restored: whether it was halted since isn't known"

// haltRunning halts every rollout that runs, and the firmware release it is of: it may
// have been halted since the backup, and what for is lost.
func (t *tx) haltRunning(at time.Time) (int, error) {
	rows, err := t.rows("SELECT id, kind, header, json_extract(detail, '$.release') FROM rollouts WHERE json_extract(header, '$.phase') = ?", string(rollout.Running))
	type running struct {
		id, kind string
		release  *string
		header   rollout.Header
	}
	list, err := collect(rows, err, func(row scanner) (r running, err error) {
		var header []byte
		if err := row.Scan(&r.id, &r.kind, &header, &r.release); err != nil {
			return r, err
		}
		return r, json.Unmarshal(header, &r.header)
	})
	if err != nil {
		return 0, fmt.Errorf("couldn't read the rollouts: %w", err)
	}
	for _, r := range list {
		r.header.Phase, r.header.Why = rollout.Halted, whyHalted
		text, err := json.Marshal(r.header)
		if err != nil {
			return 0, fmt.Errorf("couldn't encode rollout %s: %w", r.id, err)
		}
		if _, err := t.exec("UPDATE rollouts SET header = ? WHERE id = ?", string(text), r.id); err != nil {
			return 0, fmt.Errorf("couldn't halt rollout %s: %w", r.id, err)
		}
		data := map[string]string{"phase": string(rollout.Halted), "reason": whyHalted}
		event := ledger.Event{Kind: "fleet.rollout", Subject: r.id, Actor: "bollard", Data: data}
		if r.release != nil {
			data["rollout"] = r.id
			event.Kind, event.Subject = "firmware.rollout", *r.release
			if err := t.haltRelease(*r.release, at); err != nil {
				return 0, err
			}
		}
		if err := t.record(event); err != nil {
			return 0, err
		}
	}
	return len(list), nil
}

// haltRelease has nothing of a release begin, unless it is over.
func (t *tx) haltRelease(id string, at time.Time) error {
	e, err := scanJSON[catalogue.Entry](t.row("SELECT record FROM firmware_releases WHERE id = ?", id))
	if err != nil {
		return fmt.Errorf("couldn't read firmware release %s: %w", id, err)
	}
	if !e.State.Before(catalogue.Halted) {
		return nil
	}
	event, err := e.Move(catalogue.Halted, "bollard", whyHalted, at)
	if err != nil {
		return err
	}
	if err := t.putRelease(&e); err != nil {
		return err
	}
	return t.record(event)
}

// voidSecrets ends the one-time secrets for EST and the ACME tokens that nobody used
// before the backup: who used one since would use it twice.
func (t *tx) voidSecrets(at time.Time) (int, error) {
	rows, err := t.rows("SELECT station FROM registrations WHERE key_hash = '' AND expires_at > ? ORDER BY station", at.UnixMilli())
	stations, err := collect(rows, err, func(row scanner) (station string, err error) { return station, row.Scan(&station) })
	if err != nil {
		return 0, fmt.Errorf("couldn't read the one-time secrets: %w", err)
	}
	for _, station := range stations {
		if _, err := t.exec("DELETE FROM registrations WHERE station = ?", station); err != nil {
			return 0, fmt.Errorf("couldn't end the one-time secret of station %q: %w", station, err)
		}
		if err := t.record(ledger.Event{Kind: "station.enrol-secret-void", Subject: station, Actor: "bollard"}); err != nil {
			return 0, err
		}
	}
	rows, err = t.rows("SELECT record FROM acme_tokens ORDER BY id")
	tokens, err := collect(rows, err, scanJSON[acme.Token])
	if err != nil {
		return 0, fmt.Errorf("couldn't read the ACME tokens: %w", err)
	}
	ended := len(stations)
	for _, token := range tokens {
		if token.Sealed == nil || !at.Before(token.ExpiresAt) {
			continue
		}
		token.Sealed = nil
		if err := putJSON(t, "UPDATE acme_tokens SET record = ? WHERE id = ?", token, token.ID); err != nil {
			return 0, fmt.Errorf("couldn't void an ACME token: %w", err)
		}
		if err := t.record(ledger.Event{Kind: "acme.token-voided", Subject: token.ID, Actor: "bollard"}); err != nil {
			return 0, err
		}
		ended++
	}
	return ended, nil
}
