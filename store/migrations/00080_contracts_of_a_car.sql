-- +goose Up

-- A car's contracts are read from the active ones down, so many of them.
DROP INDEX contracts_pcid;
CREATE INDEX contracts_car ON contracts (pcid, active, position);

-- +goose Down

DROP INDEX contracts_car;
CREATE INDEX contracts_pcid ON contracts (pcid, position);
