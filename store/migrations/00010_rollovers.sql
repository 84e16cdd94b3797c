-- +goose Up

-- How far the change of a hierarchy's root is: one row a hierarchy, its newest.
CREATE TABLE rollovers (
    kind       TEXT PRIMARY KEY,
    generation BIGINT NOT NULL,
    phase      TEXT NOT NULL,
    tag        TEXT NOT NULL,
    at         BIGINT NOT NULL
);

-- +goose Down

DROP TABLE rollovers;
