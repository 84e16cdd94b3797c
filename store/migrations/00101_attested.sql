-- +goose Up

-- Serial number of the attestation key's certificate by which a certificate's key was
-- attested, '' where none did.
ALTER TABLE certificates ADD COLUMN attested TEXT NOT NULL DEFAULT '';

-- +goose Down

ALTER TABLE certificates DROP COLUMN attested;
