// Package mark gives an error a second meaning without another word: errors.Is finds the
// mark, its text stays as it was.
package mark

// As returns err as one that is mark, too; nil stays nil.
func As(err, mark error) error {
	if err == nil {
		return nil
	}
	return marked{err, mark}
}

type marked struct {
	error
	mark error
}

// Unwrap returns the cause alone, whose text is the whole text.
func (m marked) Unwrap() error { return m.error }

func (m marked) Is(target error) bool { return target == m.mark }
