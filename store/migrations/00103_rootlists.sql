-- +goose Up

-- The newest revocation lists of roots whose keys are elsewhere.
CREATE TABLE ca_lists (
    issuer      TEXT PRIMARY KEY,
    list        BLOB NOT NULL,
    next_update BIGINT NOT NULL
);

-- +goose Down

DROP TABLE ca_lists;
