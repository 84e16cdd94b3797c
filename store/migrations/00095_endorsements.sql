-- +goose Up

-- SHA-256 of the endorsement key of a station's TPM, '' where it has none or none is
-- known. One TPM is in one station.
ALTER TABLE stations ADD COLUMN ek TEXT NOT NULL DEFAULT '';
CREATE UNIQUE INDEX stations_ek ON stations (ek) WHERE ek <> '';

-- +goose Down

DROP INDEX stations_ek;
ALTER TABLE stations DROP COLUMN ek;
