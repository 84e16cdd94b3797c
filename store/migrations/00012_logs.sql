-- +goose Up

-- Security logs of stations: asked for, on their way, here. The files are
-- beside the database.
CREATE TABLE station_logs (
    position   BIGINT PRIMARY KEY,
    station    TEXT NOT NULL REFERENCES stations (station) ON DELETE CASCADE,
    request    BIGINT NOT NULL,
    state      TEXT NOT NULL,
    asked_at   BIGINT NOT NULL,
    note       TEXT NOT NULL,
    file       TEXT NOT NULL,
    size       BIGINT NOT NULL,
    sha256     TEXT NOT NULL,
    arrived_at BIGINT,
    UNIQUE (station, request)
);
CREATE INDEX station_logs_station ON station_logs (station, position);
CREATE INDEX station_logs_age ON station_logs (asked_at);
INSERT INTO event_positions (name, position) VALUES ('station_logs', 0);

-- +goose Down

DELETE FROM event_positions WHERE name = 'station_logs';
DROP TABLE station_logs;
