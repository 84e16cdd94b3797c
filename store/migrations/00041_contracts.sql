-- +goose Up

-- Contracts of an e-mobility provider, as JSON. bare is the eMAID without its
-- check character. An account has one active contract a car, at most.
CREATE TABLE contracts (
    position BIGINT PRIMARY KEY,
    id       TEXT NOT NULL UNIQUE,
    bare     TEXT NOT NULL,
    pcid     TEXT NOT NULL,
    active   BIGINT NOT NULL,
    record   TEXT NOT NULL
);
CREATE UNIQUE INDEX contracts_active ON contracts (bare, pcid) WHERE active = 1;
CREATE INDEX contracts_pcid ON contracts (pcid, position);
CREATE INDEX contracts_bare ON contracts (bare, position);

-- Provisioning certificates of cars, one an edition of ISO 15118, as JSON.
CREATE TABLE provisioning (
    pcid     TEXT NOT NULL,
    protocol BIGINT NOT NULL,
    record   TEXT NOT NULL,
    PRIMARY KEY (pcid, protocol)
);

-- Answers made for a contract and one key of its car, as JSON. The contract key in
-- them is sealed for that key.
CREATE TABLE contract_bundles (
    contract TEXT NOT NULL REFERENCES contracts (id) ON DELETE CASCADE,
    protocol BIGINT NOT NULL,
    record   TEXT NOT NULL,
    PRIMARY KEY (contract, protocol)
);

-- +goose Down

DROP TABLE contract_bundles;
DROP TABLE provisioning;
DROP TABLE contracts;
