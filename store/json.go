package store

import (
	"encoding/json"
	"fmt"
)

// scanJSON reads a record.
func scanJSON[T any](row scanner) (T, error) {
	var text []byte
	if err := row.Scan(&text); err != nil {
		var none T
		return none, err
	}
	return decode[T](text)
}

// jsonOf is scanJSON for an answer.
func jsonOf[T any](c *columns) T {
	value, err := decode[T](c.blob())
	if err != nil {
		c.fail(err)
	}
	return value
}

func decode[T any](text []byte) (value T, err error) {
	if err := json.Unmarshal(text, &value); err != nil {
		return value, fmt.Errorf("unreadable record: %w", err)
	}
	return value, nil
}
