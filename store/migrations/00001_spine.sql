-- The same file runs on SQLite and PostgreSQL: BIGINT, INTEGER, TEXT and BYTEA
-- only. Times are milliseconds since 1970 in UTC; NULL is "never".

-- +goose Up

-- newest is the latest time any record or ledger entry carries.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO meta (name, value) VALUES ('newest', 0);

CREATE TABLE ledger (
    seq     BIGINT PRIMARY KEY,
    at      BIGINT NOT NULL,
    kind    TEXT NOT NULL,
    subject TEXT NOT NULL,
    actor   TEXT NOT NULL,
    data    TEXT NOT NULL, -- JSON object, "" if there is none
    prev    BYTEA NOT NULL,
    hash    BYTEA NOT NULL
);

-- position is the order of recording: clocks step back, it doesn't.
CREATE TABLE certificates (
    serial     TEXT PRIMARY KEY,
    position   BIGINT NOT NULL UNIQUE,
    issuer     TEXT NOT NULL,
    profile    TEXT NOT NULL,
    station    TEXT NOT NULL,
    requester  TEXT NOT NULL,
    reference  TEXT NOT NULL,
    tbs_hash   TEXT NOT NULL,
    key_hash   TEXT NOT NULL,
    subject    TEXT NOT NULL,
    not_before BIGINT,
    not_after  BIGINT,
    created_at BIGINT,
    state      TEXT NOT NULL,
    der        BYTEA,
    issued_at  BIGINT,
    revoked_at BIGINT,
    reason     TEXT NOT NULL,
    external   INTEGER NOT NULL
);
CREATE INDEX certificates_station ON certificates (station, position) WHERE station <> '';
CREATE INDEX certificates_reference ON certificates (reference) WHERE reference <> '';
CREATE INDEX certificates_key ON certificates (key_hash);
CREATE INDEX certificates_expiry ON certificates (not_after);
-- What is issued is most of it and never looked up by its state.
CREATE INDEX certificates_state ON certificates (state, issuer) WHERE state <> 'issued';

CREATE TABLE crl_numbers (
    issuer TEXT PRIMARY KEY,
    number BIGINT NOT NULL
);

CREATE TABLE anchors (
    purpose  TEXT NOT NULL,
    hash     TEXT NOT NULL,
    subject  TEXT NOT NULL,
    der      BYTEA NOT NULL,
    added_at BIGINT,
    PRIMARY KEY (purpose, hash)
);

CREATE TABLE stations (
    station         TEXT PRIMARY KEY, -- lower-cased identity
    identity        TEXT NOT NULL,
    escaped         TEXT NOT NULL,
    serial          TEXT NOT NULL,
    aliases         TEXT NOT NULL, -- JSON list
    vendor          TEXT NOT NULL,
    model           TEXT NOT NULL,
    wanted_profile  INTEGER NOT NULL,
    floor_profile   INTEGER NOT NULL,
    seen_profile    INTEGER NOT NULL,
    password_kind   TEXT, -- NULL: no password
    password_salt   BYTEA,
    password_hash   BYTEA,
    password_set_at BIGINT,
    factory_hash    TEXT NOT NULL,
    leaf_serial     TEXT NOT NULL,
    warn            TEXT NOT NULL, -- JSON list
    allow_expired   BIGINT,
    renew_wanted    INTEGER NOT NULL,
    version         TEXT NOT NULL,
    created_at      BIGINT,
    seen_at         BIGINT,
    last_refusal    TEXT NOT NULL,
    refused_at      BIGINT,
    plan_note       TEXT NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX stations_escaped ON stations (escaped) WHERE escaped <> '';

-- Every serial number a station answers to, its own and its aliases: no two
-- stations share one, or one could come with the other's certificate.
CREATE TABLE station_serials (
    serial  TEXT PRIMARY KEY,
    station TEXT NOT NULL REFERENCES stations (station) ON DELETE CASCADE
);
CREATE INDEX station_serials_station ON station_serials (station);

-- No reference to stations: what was confirmed or refused stays known after
-- the station is removed.
CREATE TABLE orders (
    id         TEXT PRIMARY KEY,
    position   BIGINT NOT NULL UNIQUE,
    station    TEXT NOT NULL,
    csr        BYTEA,
    csr_hash   TEXT NOT NULL,
    type       TEXT NOT NULL,
    request_id BIGINT,
    wire       TEXT NOT NULL,
    state      TEXT NOT NULL,
    serial     TEXT NOT NULL,
    reason     TEXT NOT NULL,
    created_at BIGINT,
    updated_at BIGINT
);
CREATE INDEX orders_station ON orders (station, position);
CREATE INDEX orders_csr ON orders (csr_hash, station);

CREATE TABLE secrets (
    name       TEXT PRIMARY KEY,
    ciphertext BYTEA NOT NULL,
    set_at     BIGINT NOT NULL
);

-- +goose Down

DROP TABLE secrets;
DROP TABLE orders;
DROP TABLE station_serials;
DROP TABLE stations;
DROP TABLE anchors;
DROP TABLE crl_numbers;
DROP TABLE certificates;
DROP TABLE ledger;
DROP TABLE meta;
