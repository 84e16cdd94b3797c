-- +goose Up

-- What goes with a firmware release and is kept as long as it: its bill of materials,
-- provenance, and the proof of its log.
CREATE TABLE firmware_papers (
    release TEXT NOT NULL REFERENCES firmware_releases (id),
    name    TEXT NOT NULL,
    content BYTEA NOT NULL,
    PRIMARY KEY (release, name)
);

-- The newest metadata seen of each manufacturer, as JSON: nothing older counts.
CREATE TABLE firmware_makers (
    name   TEXT PRIMARY KEY,
    record TEXT NOT NULL
);

-- +goose Down

DROP TABLE firmware_makers;
DROP TABLE firmware_papers;
