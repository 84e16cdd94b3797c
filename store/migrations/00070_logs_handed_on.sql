-- +goose Up

-- Where the back end wanted a log, sealed; NULL: it isn't to be handed on.
ALTER TABLE station_logs ADD COLUMN target BYTEA;
ALTER TABLE station_logs ADD COLUMN tries BIGINT NOT NULL DEFAULT 0;
ALTER TABLE station_logs ADD COLUMN try_at BIGINT;
ALTER TABLE station_logs ADD COLUMN handed_at BIGINT;
CREATE INDEX station_logs_hand_on ON station_logs (try_at) WHERE target IS NOT NULL;

-- +goose Down

DROP INDEX station_logs_hand_on;
ALTER TABLE station_logs DROP COLUMN handed_at;
ALTER TABLE station_logs DROP COLUMN try_at;
ALTER TABLE station_logs DROP COLUMN tries;
ALTER TABLE station_logs DROP COLUMN target;
