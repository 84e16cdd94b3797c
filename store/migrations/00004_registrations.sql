-- +goose Up

-- A station's one-time secret for its first certificate over EST. key_hash is
-- the key it was used for; '' if it wasn't yet.
CREATE TABLE registrations (
    station    TEXT PRIMARY KEY REFERENCES stations (station) ON DELETE CASCADE,
    salt       BYTEA NOT NULL,
    hash       BYTEA NOT NULL,
    created_at BIGINT,
    expires_at BIGINT,
    key_hash   TEXT NOT NULL
);

-- Who a pinned maker's certificate belongs to.
CREATE INDEX stations_factory ON stations (factory_hash) WHERE factory_hash <> '';

-- +goose Down

DROP INDEX stations_factory;
DROP TABLE registrations;
