-- +goose Up

-- What people were asked to approve, with their signatures, as JSON. used_at is
-- set once, in the transaction of what was approved.
CREATE TABLE approvals (
    nonce    TEXT PRIMARY KEY,
    position BIGINT NOT NULL UNIQUE,
    record   TEXT NOT NULL,
    used_at  BIGINT
);

-- +goose Down

DROP TABLE approvals;
