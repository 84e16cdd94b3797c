-- +goose Up

-- Limits of the grid's operator, by stations' word; no station of the site begins an
-- update meanwhile.
CREATE TABLE grid_limits (
    station TEXT NOT NULL,
    what    TEXT NOT NULL,
    at      BIGINT NOT NULL,
    PRIMARY KEY (station, what)
);

-- +goose Down

DROP TABLE grid_limits;
