-- +goose Up

-- Firmware releases the operator may roll out, as JSON.
CREATE TABLE firmware_releases (
    id       TEXT PRIMARY KEY,
    position BIGINT NOT NULL UNIQUE,
    record   TEXT NOT NULL
);

-- Updates of stations, as JSON. A station has one that isn't over, at most.
CREATE TABLE firmware_jobs (
    number  BIGINT PRIMARY KEY,
    id      TEXT NOT NULL UNIQUE,
    station TEXT NOT NULL REFERENCES stations (station) ON DELETE CASCADE,
    over    BIGINT NOT NULL,
    record  TEXT NOT NULL
);
CREATE UNIQUE INDEX firmware_jobs_open ON firmware_jobs (station) WHERE over = 0;
CREATE INDEX firmware_jobs_station ON firmware_jobs (station, number);
INSERT INTO event_positions (name, position) VALUES ('firmware_jobs', 0);

-- The least that may be installed on a station's component. It outlives the
-- station's record: an identity that is enrolled again is as old as before.
CREATE TABLE firmware_floors (
    station   TEXT NOT NULL,
    component TEXT NOT NULL,
    sequence  BIGINT NOT NULL,
    epoch     BIGINT NOT NULL,
    PRIMARY KEY (station, component)
);

-- +goose Down

DROP TABLE firmware_floors;
DELETE FROM event_positions WHERE name = 'firmware_jobs';
DROP TABLE firmware_jobs;
DROP TABLE firmware_releases;
