-- +goose Up

-- The key behind a person's pseudonym in the ledger. Removing the row is
-- forgetting the person: nobody can tell any more whose pseudonym it was.
CREATE TABLE people (
    name TEXT PRIMARY KEY,
    key  BLOB NOT NULL
);

-- +goose Down

DROP TABLE people;
