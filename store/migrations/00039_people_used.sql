-- +goose Up

-- When a person stood in the ledger last; of those from before nobody knows, so
-- their time begins with the newest entry.
ALTER TABLE people ADD COLUMN used_at BIGINT NOT NULL DEFAULT 0;
UPDATE people SET used_at = (SELECT COALESCE(MAX(at), 0) FROM ledger);

-- +goose Down

ALTER TABLE people DROP COLUMN used_at;
