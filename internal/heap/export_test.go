package heap

// NewTuner returns what Tune asks at each look.
func NewTuner(room uint64) func(cycles, live uint64) int {
	t := tuner{room: room, percent: goDefault}
	return func(cycles, live uint64) int {
		percent, _ := t.look(cycles, live)
		return percent
	}
}
