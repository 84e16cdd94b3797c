package depot

import (
	"sync"
	"time"

	"bollard/internal/extent"
)

// Span is what was taken of an image since the last one that was told: by Requests
// downloads, Bytes with what was sent more than once, from From to before To.
type Span struct {
	From, To int64
	Bytes    int64
	Requests int
	At       time.Time // when it began
}

// Served is what was handed out for a job.
type Served struct {
	Bytes int64     // with what was sent more than once
	Whole bool      // every byte of the image, in one download or in several
	Last  time.Time // when the newest byte was; zero: none was
}

const (
	// smallest is what a request, or a read of one that is open, may bring on the average,
	// and spare how many may bring less: who asks for single bytes is turned away.
	smallest = 4 << 10
	spare    = 32
	// maxGaps bounds the pieces of an image that a station has with gaps between them.
	maxGaps = 1000
	// tellEvery is between two records of what small downloads took.
	tellEvery = time.Minute
	// tellPart of the image at once is told without waiting.
	tellPart = 8
)

// toll counts what is handed out for one job.
type toll struct {
	clock func() time.Time
	grant Grant
	uses  int // how many times over the image may be taken

	mu       sync.Mutex
	here     extent.Set // at the station
	bytes    int64
	requests int64
	size     int64 // of the image; 0: nothing was sent yet
	last     time.Time
	over     bool // the job is: nothing more is handed out
	untold   Span
	told     time.Time
}

// enter counts a request and says whether more may be taken.
func (t *toll) enter(size int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.requests++
	return (t.bytes < size*int64(t.uses) || t.bytes == 0) && // an empty image is one, too
		t.requests <= int64(t.uses)*(spare+size/smallest) && t.here.Parts() < maxGaps
}

// end lets nothing more be handed out, also of downloads that run, and returns what
// wasn't told yet.
func (t *toll) end() Span {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	return t.tell(true)
}

// pay notes bytes that are about to be handed out, unless the job is over or the image
// was taken often enough: what runs is bounded as what begins.
func (t *toll) pay(from, to, size int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over || t.here.Parts() > maxGaps || t.bytes+to-from > size*int64(t.uses) {
		return false
	}
	t.bytes += to - from
	t.size, t.last = size, t.clock()
	t.here.Add(from, to)
	return true
}

// took notes what one download took, and returns what is to be told now, if
// anything: the first at once, and what is a good part of the image; what small ones
// took is told together.
func (t *toll) took(s Span) Span {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.untold.Requests == 0 {
		t.untold = s
	} else {
		u := &t.untold
		u.From, u.To, u.Bytes, u.Requests = min(u.From, s.From), max(u.To, s.To), u.Bytes+s.Bytes, u.Requests+s.Requests
	}
	return t.tell(t.over || t.untold.Bytes >= t.size/tellPart)
}

// due is what is to be told meanwhile.
func (t *toll) due(all bool) Span {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tell(all)
}

// tell hands out what wasn't told, if it is time. The caller holds mu.
func (t *toll) tell(now bool) Span {
	if t.untold.Requests == 0 {
		return Span{}
	}
	at := t.clock()
	if !now && !t.told.IsZero() && at.Sub(t.told) < tellEvery {
		return Span{}
	}
	s := t.untold
	t.untold, t.told = Span{}, at
	return s
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
	return Served{Bytes: t.bytes, Whole: t.bytes > 0 && t.here.Whole(t.size), Last: t.last}
}
