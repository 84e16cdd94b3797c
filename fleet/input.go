package fleet

import (
	"errors"
	"fmt"

	"bollard/internal/mark"
)

// ErrInput marks what can't be so whatever is on record: a value that no station, group or
// secret can have. Asked again, it is refused again.
var ErrInput = errors.New("it can't be so")

// badInput is an error that is ErrInput and says only what format does.
func badInput(format string, args ...any) error {
	return mark.As(fmt.Errorf(format, args...), ErrInput)
}
