-- +goose Up

-- ACME: what makes an account (the MAC key sealed), accounts, orders, each as JSON.
CREATE TABLE acme_tokens (
    id     TEXT PRIMARY KEY,
    record TEXT NOT NULL
);

CREATE TABLE acme_accounts (
    id         TEXT PRIMARY KEY,
    door       TEXT NOT NULL,
    thumbprint TEXT NOT NULL,
    token      TEXT NOT NULL,
    issued     INTEGER NOT NULL,
    created_at BIGINT NOT NULL,
    record     TEXT NOT NULL,
    UNIQUE (door, thumbprint)
);

CREATE TABLE acme_orders (
    id         TEXT PRIMARY KEY,
    account    TEXT NOT NULL,
    serial     TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    record     TEXT NOT NULL
);

CREATE INDEX acme_orders_account ON acme_orders (account, expires_at);
CREATE INDEX acme_orders_serial ON acme_orders (serial);
CREATE INDEX acme_orders_expires ON acme_orders (expires_at);

-- +goose Down

DROP TABLE acme_orders;
DROP TABLE acme_accounts;
DROP TABLE acme_tokens;
