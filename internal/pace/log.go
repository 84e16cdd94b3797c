package pace

import (
	"log/slog"
	"net/http"
	"time"
)

// Log tells the operator what came of requests that anybody can make, in Lines and no more;
// faults, which are errors, have some of their own, so that no stranger mutes them.
// Its methods are safe for concurrent use.
type Log struct {
	to            *slog.Logger
	lines, faults *Lines
}

// NewLog writes to a log.
func NewLog(to *slog.Logger, clock func() time.Time) *Log {
	return &Log{to: to, lines: NewLines(clock), faults: NewLines(clock)}
}

// Tell adds a line with the address a request came from, and how many lines of its sort were
// left out before it; or leaves this one out.
func (l *Log) Tell(r *http.Request, level slog.Level, text string, attrs ...slog.Attr) {
	lines := l.lines
	if level >= slog.LevelError {
		lines = l.faults
	}
	if ok, unlogged := lines.Allow(); ok {
		attrs = append(attrs, slog.String("source", Source(r)), slog.Int64("unlogged", unlogged))
		l.to.LogAttrs(r.Context(), level, text, attrs...) //nolint:sloglint // a constant of the door's
	}
}
