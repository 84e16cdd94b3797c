-- +goose Up

-- Until when a station may come back on the lower profile it is wanted on, NULL
-- if it may not.
ALTER TABLE stations ADD COLUMN lower_until BIGINT;

-- +goose Down

ALTER TABLE stations DROP COLUMN lower_until;
