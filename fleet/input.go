package fleet

import (
	"errors"
	"fmt"
)

// ErrInput marks what can't be so whatever is on record: a value that no station, group or
// secret can have. Asked again, it is refused again.
var ErrInput = errors.New("it can't be so")

// badInput is an error that is ErrInput and says only what format does.
func badInput(format string, args ...any) error {
	return inputError{fmt.Errorf(format, args...)}
}

type inputError struct{ error }

func (e inputError) Unwrap() error { return e.error }

// Is tells errors.Is what it is beside its cause.
func (inputError) Is(target error) bool { return target == ErrInput }
