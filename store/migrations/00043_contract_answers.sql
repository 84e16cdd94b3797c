-- +goose Up

-- An answer is kept for each key it was sealed for: a request that is sent again finds
-- its own, also after others.
CREATE TABLE contract_answers (
    contract TEXT NOT NULL REFERENCES contracts (id) ON DELETE CASCADE,
    protocol BIGINT NOT NULL,
    receiver TEXT NOT NULL,
    record   TEXT NOT NULL,
    PRIMARY KEY (contract, protocol, receiver)
);
INSERT INTO contract_answers (contract, protocol, receiver, record)
    SELECT contract, protocol, json_extract(record, '$.Receiver'), record FROM contract_bundles;
DROP TABLE contract_bundles;

-- +goose Down

CREATE TABLE contract_bundles (
    contract TEXT NOT NULL REFERENCES contracts (id) ON DELETE CASCADE,
    protocol BIGINT NOT NULL,
    record   TEXT NOT NULL,
    PRIMARY KEY (contract, protocol)
);
DROP TABLE contract_answers;
