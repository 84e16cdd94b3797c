-- +goose Up

-- pending is the password a station was asked to change to, as JSON; '' if there
-- is none. Beside the one in force, so that both change in one transaction.
ALTER TABLE stations ADD COLUMN pending TEXT NOT NULL DEFAULT '';
ALTER TABLE stations ADD COLUMN rotate_wanted INTEGER NOT NULL DEFAULT 0;

-- What a station is being brought to and how far it has come, as JSON.
CREATE TABLE plans (
    station TEXT PRIMARY KEY REFERENCES stations (station) ON DELETE CASCADE,
    plan    TEXT NOT NULL
);

-- +goose Down

DROP TABLE plans;
ALTER TABLE stations DROP COLUMN rotate_wanted;
ALTER TABLE stations DROP COLUMN pending;
