-- +goose Up

-- Stations that installed what they didn't verify, until somebody has looked at
-- them. As the floors it outlives the station's record, and its updates.
CREATE TABLE firmware_quarantine (
    station TEXT PRIMARY KEY
);
INSERT INTO firmware_quarantine (station)
    SELECT DISTINCT station FROM firmware_jobs
    WHERE json_extract(record, '$.state') = 'quarantined' AND json_extract(record, '$.cleared_at') IS NULL;

-- +goose Down

DROP TABLE firmware_quarantine;
