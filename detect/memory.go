package detect

import (
	"container/list"
	"time"
)

// key of an episode.
type key struct{ rule, subject, detail string }

// episode is a run of signs of one rule about one subject.
type episode struct {
	key         key
	first, last time.Time
	count       int
	level       float64 // leaky count: what the rule's pace hasn't worn off yet
	next        int     // count at which the finding is told again
	told        int     // times
}

// add counts a sign and says whether the finding is to be told now.
func (e *episode) add(r *rule, now time.Time) bool {
	if gap := now.Sub(e.last); e.count > 0 && gap > 0 {
		if gap > r.within {
			*e = episode{key: e.key} // it was quiet for so long that this is a new episode
		} else {
			e.level = max(0, e.level-gap.Seconds()*float64(r.signs)/r.within.Seconds())
		}
	}
	if e.count == 0 {
		e.first = now
	}
	e.count++
	e.level++
	if now.After(e.last) {
		e.last = now
	}
	if e.told == 0 && e.level <= float64(r.signs-1) || e.told > 0 && e.count < e.next {
		return false
	}
	e.next = 2 * e.count
	e.told++
	return true
}

// memory holds a bounded number of episodes; the one untouched for longest goes.
type memory struct {
	most   int
	byKey  map[key]*list.Element
	recent *list.List // of *episode, most recently touched first
}

func newMemory(most int) *memory {
	return &memory{most: most, byKey: map[key]*list.Element{}, recent: list.New()}
}

func (m *memory) of(k key, now time.Time) *episode {
	if at, ok := m.byKey[k]; ok {
		m.recent.MoveToFront(at)
		return at.Value.(*episode)
	}
	if m.recent.Len() >= m.most {
		oldest := m.recent.Remove(m.recent.Back()).(*episode)
		delete(m.byKey, oldest.key)
	}
	e := &episode{key: k, last: now}
	m.byKey[k] = m.recent.PushFront(e)
	return e
}

func (m *memory) forget(subject string) {
	for at := m.recent.Front(); at != nil; {
		e, next := at.Value.(*episode), at.Next()
		if e.key.subject == subject {
			m.recent.Remove(at)
			delete(m.byKey, e.key)
		}
		at = next
	}
}
