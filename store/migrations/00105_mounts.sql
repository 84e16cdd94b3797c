-- +goose Up

-- Whether a key is in a PKI mount of a Vault that hasn't shown its certificate yet.
ALTER TABLE ca_requests ADD COLUMN waiting INTEGER NOT NULL DEFAULT 0;

-- Revoked and orphaned certificates of such mounts whose end the mount knows of.
CREATE TABLE ca_settled (
    serial TEXT PRIMARY KEY,
    at     BIGINT NOT NULL
);

-- +goose Down

DROP TABLE ca_settled;
ALTER TABLE ca_requests DROP COLUMN waiting;
