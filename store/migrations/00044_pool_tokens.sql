-- +goose Up

-- Who may use the pool of contracts, as JSON; of secrets salted hashes.
CREATE TABLE pool_tokens (
    name   TEXT PRIMARY KEY,
    record TEXT NOT NULL
);

-- +goose Down

DROP TABLE pool_tokens;
