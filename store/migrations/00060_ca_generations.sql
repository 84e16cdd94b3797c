-- +goose Up

-- A CA that others certify gets a new key: one request a generation.
CREATE TABLE ca_requests_by_generation (
    kind       TEXT NOT NULL,
    generation BIGINT NOT NULL,
    profile    TEXT NOT NULL,
    key_uri    TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (kind, generation)
);
INSERT INTO ca_requests_by_generation (kind, generation, profile, key_uri, created_at)
    SELECT kind, 1, profile, key_uri, created_at FROM ca_requests;
DROP TABLE ca_requests;
ALTER TABLE ca_requests_by_generation RENAME TO ca_requests;

-- +goose Down

CREATE TABLE ca_requests_by_generation (
    kind       TEXT PRIMARY KEY,
    profile    TEXT NOT NULL,
    key_uri    TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
INSERT INTO ca_requests_by_generation (kind, profile, key_uri, created_at)
    SELECT kind, profile, key_uri, created_at FROM ca_requests WHERE generation = 1;
DROP TABLE ca_requests;
ALTER TABLE ca_requests_by_generation RENAME TO ca_requests;
