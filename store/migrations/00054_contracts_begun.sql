-- +goose Up

-- Contracts with certificates that were begun and whose answers aren't kept.
ALTER TABLE contracts ADD COLUMN begun BIGINT NOT NULL DEFAULT 0;
CREATE INDEX contracts_begun ON contracts (position) WHERE begun = 1;

-- +goose Down

DROP INDEX contracts_begun;
ALTER TABLE contracts DROP COLUMN begun;
