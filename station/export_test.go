package station

import "time"

// Wait shows the back-off to tests.
func (b BackOff) Wait(failures int, random float64) time.Duration { return b.wait(failures, random) }
