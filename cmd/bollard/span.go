package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bollard/admin"
)

// span reads a duration that may be in days, which Go's can't be: 90d, 12h; "" and 0
// are none.
func span(text string) (*time.Duration, error) {
	d := time.Duration(0)
	if number, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseFloat(number, 64)
		if !(err == nil && n >= 0 && n <= 36500) { // nor NaN
			return nil, fmt.Errorf("%.20q is no duration such as 90d or 12h", text)
		}
		d = time.Duration(n * 24 * float64(time.Hour))
	} else if text != "" && text != "0" {
		var err error
		if d, err = time.ParseDuration(text); err != nil || d < 0 {
			return nil, fmt.Errorf("%.20q is no duration such as 90d or 12h", text)
		}
	}
	return &d, nil
}

// filterSpan reads the span of a filter: "" is none, and none else.
func filterSpan(text string) (time.Duration, error) {
	d, err := span(text)
	if err == nil && *d == 0 && text != "" {
		err = fmt.Errorf("%.20q is no duration", text)
	}
	if err != nil {
		return 0, admin.Usagef("give one such as 30d or 12h", "%w", err)
	}
	return *d, nil
}

// spanVar defines a flag whose value may be in days.
func spanVar(cmd *cobra.Command, d *time.Duration, name string, value time.Duration, usage string) {
	*d = value
	cmd.Flags().Var((*spanFlag)(d), name, usage)
}

type spanFlag time.Duration

func (s *spanFlag) Set(text string) error {
	d, err := span(text)
	if err == nil {
		*s = spanFlag(*d)
	}
	return err
}

func (s *spanFlag) Type() string { return "duration" }

// String is as short as it was written; none is "", which help leaves out.
func (s *spanFlag) String() string {
	const day = 24 * time.Hour
	switch d := time.Duration(*s); {
	case d == 0:
		return ""
	case d%day == 0 && d > day:
		return strconv.Itoa(int(d/day)) + "d"
	case d%time.Hour == 0:
		return strconv.Itoa(int(d/time.Hour)) + "h"
	default:
		return d.String()
	}
}
