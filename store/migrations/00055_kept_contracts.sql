-- +goose Up

-- Contract data that other providers made for cars, as JSON: sealed, signed, and the
-- car's as it came. bare is the eMAID without its check character; until is when a car
-- would refuse it.
CREATE TABLE kept_contracts (
    position BIGINT PRIMARY KEY,
    id       TEXT NOT NULL UNIQUE,
    bare     TEXT NOT NULL,
    pcid     TEXT NOT NULL,
    protocol BIGINT NOT NULL,
    until    BIGINT NOT NULL,
    record   TEXT NOT NULL,
    UNIQUE (pcid, bare, protocol)
);
CREATE INDEX kept_contracts_bare ON kept_contracts (bare, position);

-- +goose Down

DROP TABLE kept_contracts;
