package mark_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"bollard/internal/mark"
)

func TestAs(t *testing.T) {
	t.Parallel()
	usage, other := errors.New("usage"), errors.New("other")
	err := fmt.Errorf("of station: %w", mark.As(fmt.Errorf("read: %w", io.EOF), usage))
	if err.Error() != "of station: read: EOF" || !errors.Is(err, usage) || !errors.Is(err, io.EOF) || errors.Is(err, other) {
		t.Errorf("%v", err)
	}
	if mark.As(nil, usage) != nil {
		t.Error("nothing became an error")
	}
}
