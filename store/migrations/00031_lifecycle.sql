-- +goose Up

-- grouping is the label whose group's wants hold for the station, site where it
-- stands; backend is the one it is to have, seen_backend that of its newest session.
ALTER TABLE stations ADD COLUMN grouping TEXT NOT NULL DEFAULT '';
ALTER TABLE stations ADD COLUMN site TEXT NOT NULL DEFAULT '';
ALTER TABLE stations ADD COLUMN backend TEXT NOT NULL DEFAULT '';
ALTER TABLE stations ADD COLUMN seen_backend TEXT NOT NULL DEFAULT '';
-- When a station was reported lost or stolen, NULL if it wasn't, and why.
ALTER TABLE stations ADD COLUMN lost_at BIGINT;
ALTER TABLE stations ADD COLUMN lost_reason TEXT NOT NULL DEFAULT '';
-- SHA-256 of the public key a maker's certificate must have; '': any.
ALTER TABLE stations ADD COLUMN factory_key TEXT NOT NULL DEFAULT '';
CREATE INDEX stations_factory_key ON stations (factory_key) WHERE factory_key <> '';

-- Identities that were decommissioned: none comes back unnoticed.
CREATE TABLE retired_identities (
    station    TEXT PRIMARY KEY, -- lower-cased identity
    retired_at BIGINT NOT NULL
);

-- What is wanted of a group of stations, as JSON.
CREATE TABLE fleet_groups (
    name   TEXT PRIMARY KEY,
    record TEXT NOT NULL
);

-- One change over many members, in waves. detail is its owner's, header how far
-- it is, both JSON.
CREATE TABLE rollouts (
    id       TEXT PRIMARY KEY,
    position BIGINT NOT NULL UNIQUE,
    kind     TEXT NOT NULL,
    at       BIGINT NOT NULL,
    detail   TEXT NOT NULL,
    header   TEXT NOT NULL
);

-- No reference to stations: what became of a member stays known.
CREATE TABLE rollout_members (
    rollout TEXT NOT NULL REFERENCES rollouts (id) ON DELETE CASCADE,
    member  TEXT NOT NULL,
    site    TEXT NOT NULL,
    wave    INTEGER NOT NULL,
    slot    DOUBLE PRECISION NOT NULL, -- its place within the time of its wave
    state   TEXT NOT NULL,
    began   BIGINT, -- NULL: not yet
    at      BIGINT NOT NULL,
    note    TEXT NOT NULL,
    PRIMARY KEY (rollout, member)
);

-- +goose Down

DROP TABLE rollout_members;
DROP TABLE rollouts;
DROP TABLE fleet_groups;
DROP TABLE retired_identities;
DROP INDEX stations_factory_key;
ALTER TABLE stations DROP COLUMN factory_key;
ALTER TABLE stations DROP COLUMN lost_reason;
ALTER TABLE stations DROP COLUMN lost_at;
ALTER TABLE stations DROP COLUMN seen_backend;
ALTER TABLE stations DROP COLUMN backend;
ALTER TABLE stations DROP COLUMN site;
ALTER TABLE stations DROP COLUMN grouping;
