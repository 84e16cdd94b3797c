package admin

import (
	"context"

	"bollard/ca"
	"bollard/keys"
)

// MigrateKeys has the CAs below the roots get new keys elsewhere.
type MigrateKeys struct {
	To     string `json:"to"` // base URI
	DryRun bool   `json:"dry_run,omitempty"`
}

// Migrations is what was done, or would be, by hierarchy.
type Migrations struct {
	Migrations []ca.Migration `json:"migrations"`
}

func (o *operations) keysMigrate(ctx context.Context, in MigrateKeys) (Migrations, error) {
	if _, err := keys.Join(in.To, "probe.key"); err != nil {
		return Migrations{}, Usagef("give a base as in keys.uri, without object (docs/keys.md)", "--to: %w", err)
	}
	list, err := o.cfg.Authority.MigrateKeys(ctx, in.To, in.DryRun, Actor(ctx))
	return Migrations{Migrations: list}, err
}
