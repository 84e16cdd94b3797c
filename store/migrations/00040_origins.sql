-- +goose Up

-- What back ends' locations of firmware lead to, as JSON, by the SHA-256 of the
-- location.
CREATE TABLE firmware_origins (
    location   TEXT PRIMARY KEY,
    changed_at BIGINT NOT NULL,
    record     TEXT NOT NULL
);

-- The revision of a station's hardware, '' where nobody said.
ALTER TABLE stations ADD COLUMN hardware TEXT NOT NULL DEFAULT '';

-- A log a back end asked for, uploaded here, and its kind as the back end named it.
ALTER TABLE station_logs ADD COLUMN kind TEXT NOT NULL DEFAULT 'SecurityLog';
ALTER TABLE station_logs ADD COLUMN backend TEXT NOT NULL DEFAULT '';

-- +goose Down

ALTER TABLE station_logs DROP COLUMN backend;
ALTER TABLE station_logs DROP COLUMN kind;
ALTER TABLE stations DROP COLUMN hardware;
DROP TABLE firmware_origins;
