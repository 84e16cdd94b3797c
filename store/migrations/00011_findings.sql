-- +goose Up

-- What was noticed added up to. A finding goes with its station; station is
-- NULL where it is about a source.
CREATE TABLE findings (
    position    BIGINT PRIMARY KEY, -- of the newest telling
    name        TEXT NOT NULL,
    criticality TEXT NOT NULL,
    station     TEXT REFERENCES stations (station) ON DELETE CASCADE,
    source      TEXT NOT NULL,
    count       BIGINT NOT NULL,
    again       INTEGER NOT NULL,
    first_at    BIGINT NOT NULL,
    last_at     BIGINT NOT NULL,
    reason      TEXT NOT NULL
);
CREATE INDEX findings_station ON findings (station, position);

-- What receivers still have to be told.
CREATE TABLE alerts (
    position  BIGINT PRIMARY KEY,
    receiver  TEXT NOT NULL,
    body      BYTEA NOT NULL,
    queued_at BIGINT NOT NULL,
    tries     INTEGER NOT NULL
);
CREATE INDEX alerts_receiver ON alerts (receiver, position);

-- How many alerts no receiver of that name was told, for want of room or
-- because it refused them.
CREATE TABLE alert_losses (
    receiver TEXT PRIMARY KEY,
    alerts   BIGINT NOT NULL
);

INSERT INTO event_positions (name, position) VALUES ('findings', 0), ('alerts', 0);

-- +goose Down

DELETE FROM event_positions WHERE name IN ('findings', 'alerts');
DROP TABLE alert_losses;
DROP TABLE alerts;
DROP TABLE findings;
