-- +goose Up

-- Whose the running transactions are. The id is there as a digest only. No
-- reference to stations: the batch that writes it comes after the message.
CREATE TABLE running_transactions (
    digest  BLOB NOT NULL,
    station TEXT NOT NULL, -- lower-cased identity
    since   BIGINT NOT NULL,
    PRIMARY KEY (digest, station)
);
CREATE INDEX running_transactions_since ON running_transactions (since);

-- +goose Down

DROP TABLE running_transactions;
