-- +goose Up

-- What local controllers offer is asked for with every update of a station.
CREATE INDEX firmware_jobs_published ON firmware_jobs (number) WHERE json_extract(record, '$.state') = 'published';

-- +goose Down

DROP INDEX firmware_jobs_published;
