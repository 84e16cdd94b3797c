-- +goose Up

-- What the TPM of a station quoted last, and when it showed that it runs what was
-- delivered, as JSON (firmware/quote.Record).
CREATE TABLE quotes (
    station TEXT PRIMARY KEY REFERENCES stations (station) ON DELETE CASCADE,
    record  TEXT NOT NULL
);

-- +goose Down

DROP TABLE quotes;
