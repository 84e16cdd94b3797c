package station

import "time"

// BackOff is the reconnect behaviour of OCPP 2.x (part 4 §5.3, variables
// RetryBackOffWaitMinimum, RetryBackOffRandomRange, RetryBackOffRepeatTimes).
// 1.6 has no such keys; the station uses the same there.
type BackOff struct {
	Minimum time.Duration // wait before the first try
	Random  time.Duration // a fresh random part up to this is added each time
	Repeats int           // the wait is doubled at most so often
}

// wait returns the pause before a try after so many failures in a row; random
// is in [0,1).
func (b BackOff) wait(failures int, random float64) time.Duration {
	w := b.Minimum
	for range min(failures, b.Repeats) {
		w *= 2
	}
	return w + time.Duration(random*float64(b.Random))
}
