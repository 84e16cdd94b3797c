package store

import (
	"fmt"
	"time"
)

// millis is a time as it is stored: Unix milliseconds, NULL for the zero time.
func millis(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMilli()
}

// instant scans what millis stored.
type instant struct{ into *time.Time }

// Scan implements sql.Scanner.
func (i instant) Scan(value any) error {
	switch v := value.(type) {
	case nil:
		*i.into = time.Time{}
	case int64:
		*i.into = time.UnixMilli(v).UTC()
	default:
		return fmt.Errorf("stored time is a %T", value)
	}
	return nil
}

// cut is a time as it comes back from the database.
func cut(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return time.UnixMilli(t.UnixMilli()).UTC()
}

// instant is what millis stored.
func (c *columns) instant() time.Time {
	if c.null() {
		return time.Time{}
	}
	return time.UnixMilli(c.number()).UTC()
}
