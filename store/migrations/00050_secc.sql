-- +goose Up

-- What cars may know a station by, as JSON. As with serial numbers, one belongs to
-- one station; secc is in lower case.
ALTER TABLE stations ADD COLUMN seccs TEXT NOT NULL DEFAULT 'null';
CREATE TABLE station_seccs (
    secc    TEXT PRIMARY KEY,
    station TEXT NOT NULL REFERENCES stations (station) ON DELETE CASCADE
);
CREATE INDEX station_seccs_station ON station_seccs (station);

-- Whose certificate toward cars an order is for, '' for one of the station's own,
-- and the SHA-256 of the root it is to lead to.
ALTER TABLE orders ADD COLUMN secc TEXT NOT NULL DEFAULT '';
ALTER TABLE orders ADD COLUMN root TEXT NOT NULL DEFAULT '';

-- +goose Down

ALTER TABLE orders DROP COLUMN root;
ALTER TABLE orders DROP COLUMN secc;
DROP TABLE station_seccs;
ALTER TABLE stations DROP COLUMN seccs;
