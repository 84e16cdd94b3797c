package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"bollard/ca"
	"bollard/ca/step"
	"bollard/ledger"
)

var (
	_ step.Store            = (*Store)(nil)
	_ step.ProvisionerStore = (*Store)(nil)
)

// AddStepProvisioner adds one; step.ErrProvisionerExists.
func (s *Store) AddStepProvisioner(ctx context.Context, p step.Provisioner, events ...ledger.Event) error {
	return s.write(ctx, func(t *tx) error {
		_, err := scanJSON[step.Provisioner](t.row("SELECT record FROM step_provisioners WHERE name = ?", p.Name))
		switch {
		case err == nil:
			return step.ErrProvisionerExists
		case !errors.Is(err, sql.ErrNoRows):
			return fmt.Errorf("couldn't look for a provisioner: %w", err)
		}
		if err := putJSON(t, "INSERT INTO step_provisioners (record, name, id) VALUES (?, ?, ?)", p, p.Name, p.ID); err != nil {
			return fmt.Errorf("couldn't store a provisioner: %w", err)
		}
		return t.record(events...)
	})
}

// RemoveStepProvisioner removes one; step.ErrUnknownProvisioner.
func (s *Store) RemoveStepProvisioner(ctx context.Context, name string, events func(step.Provisioner) []ledger.Event) (step.Provisioner, error) {
	var gone step.Provisioner
	err := s.write(ctx, func(t *tx) error {
		p, err := scanJSON[step.Provisioner](t.row("SELECT record FROM step_provisioners WHERE name = ?", name))
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return step.ErrUnknownProvisioner
		case err != nil:
			return fmt.Errorf("couldn't read a provisioner: %w", err)
		}
		if _, err := t.exec("DELETE FROM step_provisioners WHERE name = ?", name); err != nil {
			return fmt.Errorf("couldn't remove a provisioner: %w", err)
		}
		gone = p
		return t.record(events(p)...)
	})
	return gone, err
}

// StepProvisioner returns one; ok is false without one.
func (s *Store) StepProvisioner(ctx context.Context, name string) (step.Provisioner, bool, error) {
	return readOne[step.Provisioner](ctx, s, "a provisioner", "SELECT record FROM step_provisioners WHERE name = ?", name)
}

// StepProvisioners returns all of them, by name.
func (s *Store) StepProvisioners(ctx context.Context) ([]step.Provisioner, error) {
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT record FROM step_provisioners ORDER BY name")
	list, err := collect(rows, err, scanJSON[step.Provisioner])
	if err != nil {
		return nil, fmt.Errorf("couldn't read the provisioners: %w", explain(s.path, err))
	}
	return list, nil
}

// UseStepToken notes that a token was used; step.ErrTokenUsed, step.ErrUnknownProvisioner.
func (s *Store) UseStepToken(ctx context.Context, use step.Use) error {
	return s.write(ctx, func(t *tx) error { return t.useStepToken(use) })
}

func (t *tx) useStepToken(use step.Use) error {
	var there int
	err := t.row("SELECT 1 FROM step_provisioners WHERE id = ?", use.Provisioner).Scan(&there)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return step.ErrUnknownProvisioner
	case err != nil:
		return fmt.Errorf("couldn't look for a provisioner: %w", err)
	}
	if _, err := t.exec("DELETE FROM step_tokens WHERE until < ?", use.At.UnixMilli()); err != nil {
		return fmt.Errorf("couldn't forget tokens: %w", err)
	}
	added, err := t.exec("INSERT INTO step_tokens (token, until) VALUES (?, ?) ON CONFLICT (token) DO NOTHING", use.Token, use.Until.UnixMilli())
	switch {
	case err != nil:
		return fmt.Errorf("couldn't note the use of a token: %w", err)
	case added == 0:
		return step.ErrTokenUsed
	}
	return t.record(use.Event)
}

// StepRecorder returns what notes that in the transaction of a certificate's intent.
func (s *Store) StepRecorder(use step.Use) ca.Recorder { return stepRecorder{s, use} }

type stepRecorder struct {
	store *Store
	use   step.Use
}

// PutIntent is Store's with the use of the token.
func (r stepRecorder) PutIntent(ctx context.Context, intent ca.Intent, events ...ledger.Event) error {
	return r.store.write(ctx, func(t *tx) error {
		if err := t.useStepToken(r.use); err != nil {
			return err
		}
		return t.putIntent(intent, events...)
	})
}

// PutIssued is Store's.
func (r stepRecorder) PutIssued(ctx context.Context, serial string, der []byte, at time.Time, events ...ledger.Event) error {
	return r.store.PutIssued(ctx, serial, der, at, events...)
}

// StationKnownBy says whether a station is known by a name in any case: by its identity, a
// serial number or alias, or an SECC identifier, without whose separators it is the same.
func (s *Store) StationKnownBy(ctx context.Context, name string) (bool, error) {
	if taken, err := s.SECCTaken(ctx, name); err != nil || taken {
		return taken, err
	}
	db, err := s.reader()
	if err != nil {
		return false, err
	}
	var known bool
	err = db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM stations WHERE station = ?)
		OR EXISTS (SELECT 1 FROM station_serials WHERE lower(serial) = ?)`, strings.ToLower(name), strings.ToLower(name)).Scan(&known)
	if err != nil {
		return false, fmt.Errorf("couldn't look for a station by name: %w", explain(s.path, err))
	}
	return known, nil
}
