package ws

import "time"

// tempo says how a loop goes on after a turn: it waits for the runtime to wake it,
// or it stays and waits for its set itself, and may let some more gather first.
//
// Waiting by way of the runtime costs three more questions and a round of the
// scheduler: the runtime asks its own set without waiting, then waiting, and
// the loop asks its own. Meanwhile the processor is free for others. Where the next
// message comes in a moment the loop stays, and its processor with it.
//
// Where the next message is always there even sooner, each would get a turn of
// its own, in which everything is as good as new to the processor. Then the loop
// lets some gather, as network cards do.
type tempo struct {
	stays   bool // for the next question
	gathers bool // before the next question
	leaves  bool // after it: others need the processor
	waited  bool // for this turn, staying

	since  int64 // by the loop's clock, as all here
	seen   int   // streams that were ready since
	lively bool
	dense  bool
	back   int64 // since when it hasn't waited by way of the runtime
	trusts int64 // from when it stays again, having done so in vain
}

const (
	// liveGap is how close to each other streams become ready where a loop stays,
	// over a window.
	liveGap = 150 * time.Microsecond
	window  = int64(time.Millisecond)
	// atMost is how long a loop stays: only while it waits by way of the runtime
	// are other connections looked for that can go on.
	atMost = int64(2 * time.Millisecond)
	// wary is how long a loop doesn't stay any more once nobody came: what comes in
	// bursts, and what waits for somebody in this process, would have it wait in vain
	// again and again.
	wary = int64(100 * time.Millisecond)
	// crowd is how much of the processor others take between two turns who aren't just
	// passing by: a step of a handshake takes more.
	crowd = int64(20 * time.Microsecond)
	// patience is when a loop that began to stay gives up waiting for a message that
	// doesn't come. It is longer than atMost, so that the timer for it rings for nobody
	// whom messages reach, and longer than the clock's tick: for less the kernel sets the
	// processor's own timer, which is as dear as a question.
	patience = 5 * time.Millisecond

	gatherTime = 50 * time.Microsecond
	// gatherGap is as liveGap, where some gather.
	gatherGap = 35 * time.Microsecond
	// gathered is how many in a turn are enough to make the next one at once.
	gathered = 8
)

// again takes how many streams were ready in the turn that ends, which began then,
// and reports whether the set is to be asked again.
func (t *tempo) again(n int, now int64) bool {
	t.seen += n
	if past := now - t.since; past >= window {
		t.lively = int64(t.seen)*int64(liveGap) >= past
		t.dense = int64(t.seen)*int64(gatherGap) >= past
		t.since, t.seen = now, 0
	}
	if !t.stays {
		t.back = now
	}
	if t.waited && n == 0 {
		t.trusts = now + wary
	}
	t.stays = t.lively && n > 0 && !t.leaves && now-t.back < atMost && now >= t.trusts
	t.leaves = false
	t.gathers = t.stays && t.dense && n < gathered
	return t.stays
}

// crowded says that others have the processor busy. Who works with them may be waiting
// for a connection, too, which a loop that stays would keep from being looked for.
func (t *tempo) crowded() { t.stays, t.gathers, t.leaves = false, false, true }
