-- +goose Up

-- Who signs one-time tokens of step, as JSON, and the tokens that were used, by the
-- SHA-256 of issuer and identifier.
CREATE TABLE step_provisioners (
    name   TEXT PRIMARY KEY,
    id     TEXT NOT NULL UNIQUE,
    record TEXT NOT NULL
);

CREATE TABLE step_tokens (
    token TEXT PRIMARY KEY,
    until BIGINT NOT NULL
);

CREATE INDEX step_tokens_until ON step_tokens (until);

-- +goose Down

DROP TABLE step_tokens;
DROP TABLE step_provisioners;
