package ws

import "time"

// tempo says how a loop goes on after a turn: it waits for the runtime to wake it,
// asks its set again at once, or lets some more gather first.
//
// Waiting goes by way of the runtime and costs two more questions: the runtime
// asks its own set without waiting, then waiting. Under load somebody has become
// ready during the turn; where nobody has, asking is one question too many. So the
// loop asks as long as one question in four was worth it.
//
// Where the next message is always there a moment later, each would get a turn of
// its own, in which everything is as good as new to the processor. Then the loop
// lets some gather, as network cards do.
type tempo struct {
	gathers bool // before the next question

	turns int // since the last wait
	luck  int
	waits uint32

	since int64 // UnixNano
	seen  int   // streams that were ready since
	dense bool
}

const (
	prize    = 3   // of a question that was worth it; another costs 1
	mostLuck = 12  // so that a change is seen soon
	chance   = 128 // after so many waits one is asked all the same
	// fairness is how many turns may follow each other: only while the loop waits
	// does the runtime look for other connections that can go on.
	fairness = 16

	gatherTime = 50 * time.Microsecond
	// gatherGap is how close to each other streams become ready where some gather,
	// over a window.
	gatherGap = 35 * time.Microsecond
	window    = int64(time.Millisecond)
	// gathered is how many in a turn are enough to make the next one at once.
	gathered = 8
)

// again takes how many streams were ready in the turn that ends, which began then,
// and reports whether the set is to be asked again.
func (t *tempo) again(n int, now int64) bool {
	switch {
	case t.turns == 0:
	case n > 0:
		t.luck = min(t.luck+prize, mostLuck)
	default:
		t.luck = max(t.luck-1, 0)
	}
	t.seen += n
	if past := now - t.since; past >= window || past < 0 { // the clock may have been set back
		t.dense = int64(t.seen)*int64(gatherGap) >= past
		t.since, t.seen = now, 0
	}
	t.turns++
	if n > 0 && t.turns < fairness && (t.luck > 0 || t.waits%chance == 0) {
		t.gathers = t.dense && n < gathered
		return true
	}
	t.turns, t.gathers = 0, false
	t.waits++
	return false
}
