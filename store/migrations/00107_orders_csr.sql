-- +goose Up

-- A station has few orders, and other reads look through all of them, too. Each new one
-- went to another page of this index.
DROP INDEX orders_csr;

-- +goose Down

CREATE INDEX orders_csr ON orders (csr_hash, station);
