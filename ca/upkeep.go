package ca

import (
	"context"
	"time"
)

// renewCheck is how often it is looked at least whether a certificate is due, firstRetry
// how soon it is tried again after a failure; each further failure doubles that up to
// renewCheck: CAs of others count failures, and shut out who has too many.
const (
	renewCheck = time.Hour
	firstRetry = time.Minute
)

// KeepUp renews certificates until ctx ends. renew says how long until it is to be called
// again, an hour at most; failed is told of its errors, and when it is tried again.
func KeepUp(ctx context.Context, renew func(ctx context.Context) (next time.Duration, err error), failed func(err error, retry time.Duration)) {
	retry := firstRetry
	for {
		next, err := renew(ctx)
		wait := min(max(next, time.Second), renewCheck)
		if err != nil && ctx.Err() == nil {
			failed(err, retry)
			wait, retry = retry, min(2*retry, renewCheck)
		} else {
			retry = firstRetry
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}
