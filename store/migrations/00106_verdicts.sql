-- +goose Up

-- That a certificate's signature was found good: a MAC under a key that isn't in here.
CREATE TABLE certificate_verdicts (
    serial TEXT PRIMARY KEY REFERENCES certificates (serial) ON DELETE CASCADE,
    mac    BLOB NOT NULL
);

-- +goose Down

DROP TABLE certificate_verdicts;
