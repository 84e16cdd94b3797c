package store

import "sync"

// maxRecent bounds each table's rows in memory: as many as are admitted at once.
const maxRecent = 256

// recent keeps what was read lately of one table: a station's visit looks at the
// same few rows several times.
//
// One process has the database, and its writer goroutine has all writes. What a
// transaction touched is forgotten before its writes return, so a reader sees
// what it would see without.
type recent[V any] struct {
	mu   sync.Mutex
	age  uint64 // transactions that touched the table
	at   map[string]int
	rows []kept[V] // the next to go is at next, once there are maxRecent
	next int
}

// kept is a row in its place, which the next one takes again.
type kept[V any] struct {
	key string
	row V
}

// get returns a row, or else the age to give to put.
func (r *recent[V]) get(key string) (row V, age uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i, ok := r.at[key]
	if ok {
		row = r.rows[i].row
	}
	return row, r.age, ok
}

// put keeps a row that was read after get, unless the table was touched meanwhile.
func (r *recent[V]) put(key string, row V, age uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if age != r.age {
		return
	}
	if r.at == nil {
		r.at = make(map[string]int)
	}
	i, ok := r.at[key]
	switch {
	case ok:
	case len(r.rows) < maxRecent:
		i = len(r.rows)
		r.rows = append(r.rows, kept[V]{})
	default:
		i = r.next
		r.next = (i + 1) % maxRecent
		delete(r.at, r.rows[i].key)
	}
	r.at[key], r.rows[i] = i, kept[V]{key, row}
}

// epoch is the table's age.
func (r *recent[V]) epoch() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.age
}

func (r *recent[V]) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.age++
	clear(r.at)
	clear(r.rows)
	r.rows, r.next = r.rows[:0], 0
}

// forgetter is a recent of any kind.
type forgetter interface{ forget() }

// forgetters are what a table's rows are read for.
type forgetters []forgetter

func (f forgetters) forget() {
	for _, one := range f {
		one.forget()
	}
}

// tableOf returns the table a statement changes, "" if it changes none. It knows
// the spellings this package uses.
func tableOf(query string) string {
	verb, rest := word(query)
	switch verb {
	case "UPDATE":
	case "INSERT", "DELETE": // INTO, FROM
		_, rest = word(rest)
	default:
		return ""
	}
	table, _ := word(rest)
	return table
}

// word cuts the first word off. It makes no garbage: every statement is looked at.
func word(text string) (first, rest string) {
	begin := 0
	for begin < len(text) && text[begin] <= ' ' {
		begin++
	}
	end := begin
	for end < len(text) && text[end] > ' ' {
		end++
	}
	return text[begin:end], text[end:]
}
