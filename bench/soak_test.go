package main

import (
	"strings"
	"testing"
)

// The back end of a soak sees what was lost or came out of order, and nothing
// else: a message repeated after its answer got lost is right.
func TestReceipts(t *testing.T) {
	t.Parallel()
	type arrival struct{ n, line int }
	for _, tt := range []struct {
		name     string
		arrivals []arrival
		wrong    string
		count    int64
	}{
		{"in order", []arrival{{0, 1}, {1, 1}, {2, 1}}, "", 3},
		{"repeated on the next line", []arrival{{0, 1}, {1, 1}, {1, 2}, {2, 2}}, "", 3},
		{"a dead line is late", []arrival{{0, 1}, {1, 2}, {2, 2}, {1, 1}, {3, 2}}, "", 4},
		{"a dead line is first", []arrival{{0, 1}, {1, 1}, {0, 2}}, "message 0 of station 7 came after message 1", 2},
		{"first one lost", []arrival{{1, 1}}, "message 1 of station 7 came after message -1", 0},
		{"one lost", []arrival{{0, 1}, {2, 1}}, "message 2 of station 7 came after message 0", 1},
		{"lost between lines", []arrival{{0, 1}, {2, 2}}, "message 2 of station 7 came after message 0", 1},
		{"out of order", []arrival{{0, 1}, {1, 1}, {2, 1}, {1, 1}}, "message 1 of station 7 came after message 2", 3},
		{"from a dead line and ahead", []arrival{{0, 2}, {2, 1}}, "message 2 of station 7 came after message 0", 1},
	} {
		r := &receipts{newest: map[int]receipt{}}
		for _, a := range tt.arrivals {
			r.take(7, a.n, a.line)
		}
		if s := r.stats(); s.Wrong != tt.wrong || s.Messages != tt.count {
			t.Errorf("%s: %+v", tt.name, s)
		}
	}
}

func TestJudgeOfASoak(t *testing.T) {
	t.Parallel()
	p := soakPlan{Stations: 10, Rate: 100}
	good := outcome{Count: 900, Seconds: 10, Broken: 3}
	same := held{descriptors: 20, goroutines: 30}
	memory := make([]int, 100)
	for i := range memory {
		memory[i] = 50_000 + i%7*1000
	}
	grown := append([]int{}, memory...)
	for i := range grown {
		grown[i] += i * 200
	}
	for _, tt := range []struct {
		name   string
		res    outcome
		stats  backendStats
		after  held
		memory []int
		want   string
	}{
		{"sound", good, backendStats{Messages: 1000}, same, memory, ""},
		{"lost", good, backendStats{Messages: 999}, same, memory, "1000 messages were answered, the back end has 999"},
		{"order", good, backendStats{Messages: 1000, Wrong: "message 1 came late"}, same, memory, "came late"},
		{"nothing tried", outcome{Count: 900, Seconds: 10}, backendStats{Messages: 1000}, same, memory, "no line broke"},
		{"too slow", outcome{Count: 190, Seconds: 20, Broken: 3}, backendStats{Messages: 290}, same, memory, "a tenth of the rate"},
		{"descriptor", good, backendStats{Messages: 1000}, held{21, 30}, memory, "1 descriptors"},
		{"goroutine", good, backendStats{Messages: 1000}, held{20, 32}, memory, "2 goroutines"},
		{"memory", good, backendStats{Messages: 1000}, same, grown, "memory isn't flat"},
		{"no memory", good, backendStats{Messages: 1000}, same, nil, "memory wasn't seen"},
	} {
		err := p.judge(tt.res, tt.stats, 1000, same, tt.after, tt.memory)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
