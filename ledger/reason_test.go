package ledger_test

import (
	"errors"
	"strings"
	"testing"

	"bollard/ledger"
)

// What Reason lets through an event takes as a value.
func TestAReasonIsOneLine(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		text, want string
		refused    bool
	}{
		"plain":             {"modem swap", "modem swap", false},
		"space around it":   {" \tmodem swap\n", "modem swap", false},
		"the longest":       {strings.Repeat("é", 250), strings.Repeat("é", 250), false},
		"too long":          {strings.Repeat("é", 250) + "x", "", true},
		"none":              {"", "", true},
		"space alone":       {" \n", "", true},
		"two lines":         {"modem\nswap", "", true},
		"an escape":         {"\x1b[31mmodem", "", true},
		"bytes not of text": {"modem \xff", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := ledger.Reason(tt.text)
			if got != tt.want || errors.Is(err, ledger.ErrReason) != tt.refused {
				t.Fatalf("%q, %v", got, err)
			}
			if err := (ledger.Event{Kind: "a.b", Actor: "x", Data: map[string]string{"reason": got}}).Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}
