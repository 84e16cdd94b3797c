-- +goose Up

-- The chained ledger becomes the leaves of a tree; migrate_chain.go moves the
-- entries and drops ledger_chain.
ALTER TABLE ledger RENAME TO ledger_chain;

-- hashes: the leaf's, then of each subtree that is complete with it, 32 bytes
-- each.
CREATE TABLE ledger (
    seq     BIGINT PRIMARY KEY,
    at      BIGINT NOT NULL,
    kind    TEXT NOT NULL,
    subject TEXT NOT NULL,
    actor   TEXT NOT NULL,
    data    TEXT NOT NULL, -- JSON object, "" if there is none
    hashes  BYTEA NOT NULL
);
CREATE INDEX ledger_epochs ON ledger (seq) WHERE kind = 'ledger.epoch';

CREATE TABLE ledger_checkpoints (
    origin TEXT NOT NULL,
    size   BIGINT NOT NULL,
    note   TEXT NOT NULL, -- c2sp.org/tlog-checkpoint, with all its signatures
    at     BIGINT NOT NULL,
    PRIMARY KEY (origin, size)
);

-- +goose Down

DROP TABLE ledger_checkpoints;
DROP TABLE ledger;
ALTER TABLE ledger_chain RENAME TO ledger;
