package depot

import (
	"slices"
	"sync"
	"time"
)

// Span is what one download took of an image: the bytes from From to before To.
type Span struct {
	From, To int64
	At       time.Time // when it began
}

// Served is what was handed out for a job.
type Served struct {
	Bytes int64     // with what was sent more than once
	Whole bool      // every byte of the image, in one download or in several
	Last  time.Time // when the newest byte was; zero: none was
}

// toll counts what is handed out for one job.
type toll struct {
	clock func() time.Time

	mu    sync.Mutex
	spans []Span // in order, apart from each other
	bytes int64
	size  int64 // of the image; 0: nothing was sent yet
	last  time.Time
	over  bool // the job is: nothing more is handed out
}

// enter says whether more may be taken.
func (t *toll) enter(most int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.bytes < most || t.bytes == 0 // an empty image is one, too
}

// end lets nothing more be handed out, also of downloads that run.
func (t *toll) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
}

// pay notes bytes that are about to be handed out, unless the job is over.
func (t *toll) pay(from, to, size int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return false
	}
	t.bytes += to - from
	t.size, t.last = size, t.clock()
	// Those it touches become one with it.
	first := slices.IndexFunc(t.spans, func(s Span) bool { return s.To >= from })
	if first < 0 {
		t.spans = append(t.spans, Span{From: from, To: to})
		return true
	}
	end := first
	for end < len(t.spans) && t.spans[end].From <= to {
		from, to = min(from, t.spans[end].From), max(to, t.spans[end].To)
		end++
	}
	t.spans = slices.Replace(t.spans, first, end, Span{From: from, To: to})
	return true
}

// unpaid says whether nothing was handed out.
func (t *toll) unpaid() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.bytes == 0
}

func (t *toll) served() Served {
	t.mu.Lock()
	defer t.mu.Unlock()
	whole := len(t.spans) == 1 && t.spans[0].From == 0 && t.spans[0].To == t.size
	return Served{Bytes: t.bytes, Whole: whole, Last: t.last}
}
