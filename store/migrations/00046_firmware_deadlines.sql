-- +goose Up

-- Until when a firmware update waits, in milliseconds; NULL: for as long as it takes.
-- Those that run are written anew when the server starts.
ALTER TABLE firmware_jobs ADD COLUMN deadline BIGINT;
CREATE INDEX firmware_jobs_deadline ON firmware_jobs (id, deadline) WHERE over = 0;

-- +goose Down

DROP INDEX firmware_jobs_deadline;
ALTER TABLE firmware_jobs DROP COLUMN deadline;
