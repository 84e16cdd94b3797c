package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
)

// answer is what the driver answers to a query, row by row, without database/sql. It may
// be used for one after the other.
type answer struct {
	args []driver.NamedValue
	rows driver.Rows
	columns
}

// ask asks on a connection of the driver's and lets take read the answer. Nothing is held
// of it afterwards, above all no old state of the database, which would keep the
// write-ahead log from being moved into it.
func (a *answer) ask(ctx context.Context, conn any, query string, args []any, take func(*answer) error) (err error) {
	if a.args, err = bind(a.args[:0], args); err != nil {
		return err
	}
	defer func() {
		clear(a.args)
		clear(a.row)
		a.rows, a.columns = nil, columns{row: a.row[:0]}
	}()
	if a.rows, err = conn.(driver.QueryerContext).QueryContext(ctx, query, a.args); err != nil {
		return err
	}
	err = take(a)
	if closed := a.rows.Close(); err == nil {
		err = closed
	}
	return err
}

// bind appends the values of a statement's parameters.
func bind(values []driver.NamedValue, args []any) ([]driver.NamedValue, error) {
	for i, arg := range args {
		value, err := driver.DefaultParameterConverter.ConvertValue(arg)
		if err != nil {
			return values, err
		}
		values = append(values, driver.NamedValue{Ordinal: i + 1, Value: value})
	}
	return values, nil
}

// next goes on to the next row; io.EOF after the last.
func (a *answer) next() error {
	if n := len(a.rows.Columns()); n != len(a.row) {
		a.row = append(a.row[:0], make([]driver.Value, n)...)
	}
	a.at = 0
	return a.rows.Next(a.row)
}

// firstRow is the next row; sql.ErrNoRows.
func firstRow[T any](a *answer, scan func(*columns) T) (row T, err error) {
	switch err := a.next(); {
	case errors.Is(err, io.EOF):
		return row, sql.ErrNoRows
	case err != nil:
		return row, err
	}
	row = scan(&a.columns)
	return row, a.end()
}

// allRows are the rows that are left.
func allRows[T any](a *answer, scan func(*columns) T) ([]T, error) {
	list := []T{}
	for {
		row, err := firstRow(a, scan)
		if errors.Is(err, sql.ErrNoRows) {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		list = append(list, row)
	}
}

// columns are a row's values, of which a scan function takes one after the other. The
// first that isn't what it should be, or isn't there, is told at the end.
type columns struct {
	row []driver.Value
	at  int // of the next
	err error
}

func (c *columns) end() error {
	if c.err == nil && c.at != len(c.row) {
		c.err = fmt.Errorf("%d columns of %d were read", c.at, len(c.row))
	}
	return c.err
}

func (c *columns) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

func (c *columns) value() driver.Value {
	c.at++
	if c.at > len(c.row) {
		c.fail(fmt.Errorf("there are %d columns", len(c.row)))
		return nil
	}
	return c.row[c.at-1]
}

func (c *columns) wrong(value driver.Value) { c.fail(fmt.Errorf("column %d is a %T", c.at, value)) }

func (c *columns) text() string {
	value := c.value()
	text, ok := value.(string)
	if !ok {
		c.wrong(value)
	}
	return text
}

// blob may be NULL, which is nil, or text.
func (c *columns) blob() []byte {
	switch value := c.value().(type) {
	case []byte:
		return value
	case string:
		return []byte(value)
	case nil:
	default:
		c.wrong(value)
	}
	return nil
}

func (c *columns) number() int64 {
	value := c.value()
	number, ok := value.(int64)
	if !ok {
		c.wrong(value)
	}
	return number
}

// truth is what number stored.
func (c *columns) truth() bool { return c.number() != 0 }

// null says whether the next column is NULL, which is passed over then.
func (c *columns) null() bool {
	if c.at < len(c.row) && c.row[c.at] == nil {
		c.at++
		return true
	}
	return false
}
