-- +goose Up

-- Security events as stations told them. The type and what follows it are the
-- stations' text, tech_info maybe with personal data: it goes when its station
-- is removed.
CREATE TABLE security_events (
    position    BIGINT PRIMARY KEY,
    station     TEXT NOT NULL REFERENCES stations (station) ON DELETE CASCADE,
    type        TEXT NOT NULL,
    sent_as     TEXT NOT NULL, -- "" where it is the type
    listed      INTEGER NOT NULL,
    critical    INTEGER NOT NULL,
    version     TEXT NOT NULL,
    sent_at     TEXT NOT NULL, -- as sent
    received_at BIGINT NOT NULL,
    tech_info   TEXT NOT NULL
);
CREATE INDEX security_events_station ON security_events (station, critical, position);

-- What back ends still have to be told.
CREATE TABLE outbox (
    position  BIGINT PRIMARY KEY,
    station   TEXT NOT NULL REFERENCES stations (station) ON DELETE CASCADE,
    action    TEXT NOT NULL,
    payload   BYTEA NOT NULL,
    queued_at BIGINT NOT NULL,
    tries     INTEGER NOT NULL
);
CREATE INDEX outbox_station ON outbox (station, position);
CREATE INDEX outbox_age ON outbox (queued_at);

-- position is the last one given: those of deleted rows are never used again,
-- or the order of what is left would be lost.
CREATE TABLE event_positions (
    name     TEXT PRIMARY KEY,
    position BIGINT NOT NULL
);
INSERT INTO event_positions (name, position) VALUES ('security_events', 0), ('outbox', 0);

-- How many rows of a station were given up, for want of room or time.
CREATE TABLE event_losses (
    station TEXT PRIMARY KEY REFERENCES stations (station) ON DELETE CASCADE,
    events  BIGINT NOT NULL,
    copies  BIGINT NOT NULL
);

-- What a back end answered it can't do, in one version.
CREATE TABLE backend_unable (
    backend TEXT NOT NULL,
    version TEXT NOT NULL,
    action  TEXT NOT NULL,
    since   BIGINT NOT NULL,
    PRIMARY KEY (backend, version, action)
);

-- +goose Down

DROP TABLE backend_unable;
DROP TABLE event_losses;
DROP TABLE event_positions;
DROP TABLE outbox;
DROP TABLE security_events;
