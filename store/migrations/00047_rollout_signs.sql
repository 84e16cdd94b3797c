-- +goose Up

-- What a member showed while a wave soaked, as JSON; '': nothing.
ALTER TABLE rollout_members ADD COLUMN signs TEXT NOT NULL DEFAULT '';

-- Rollouts that are over may have members at work still.
CREATE INDEX rollout_members_begun ON rollout_members (rollout) WHERE state = 'begun';

-- +goose Down

DROP INDEX rollout_members_begun;
ALTER TABLE rollout_members DROP COLUMN signs;
