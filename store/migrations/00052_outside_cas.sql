-- +goose Up

-- The key that others are asked to certify as a hierarchy's topmost CA here.
CREATE TABLE ca_requests (
    kind       TEXT PRIMARY KEY,
    profile    TEXT NOT NULL,
    key_uri    TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

-- Chains that others made for CAs of ours: ours first, the root last, as DER one
-- after the other. hash is the SHA-256 of them all.
CREATE TABLE ca_chains (
    hash     TEXT PRIMARY KEY,
    position BIGINT NOT NULL UNIQUE,
    kind     TEXT NOT NULL,
    chain    BYTEA NOT NULL,
    added_at BIGINT NOT NULL
);

-- +goose Down

DROP TABLE ca_chains;
DROP TABLE ca_requests;
