-- +goose Up

-- SHA-256 of the key that others are asked to certify, once it is made.
ALTER TABLE ca_requests ADD COLUMN key_hash TEXT NOT NULL DEFAULT '';

-- +goose Down

ALTER TABLE ca_requests DROP COLUMN key_hash;
