-- +goose Up

-- How a station was let in last (JSON), when that became an entry of the ledger,
-- and how often it came the same way since.
ALTER TABLE stations ADD COLUMN admitted TEXT NOT NULL DEFAULT '';
ALTER TABLE stations ADD COLUMN admitted_at BIGINT;
ALTER TABLE stations ADD COLUMN admissions INTEGER NOT NULL DEFAULT 0;

-- +goose Down

ALTER TABLE stations DROP COLUMN admissions;
ALTER TABLE stations DROP COLUMN admitted_at;
ALTER TABLE stations DROP COLUMN admitted;
