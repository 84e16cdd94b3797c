package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// soakPlan is the size of a soak.
type soakPlan struct {
	Bollard  string
	Stations int
	Rate     int // messages per second of all stations
	Long     time.Duration
}

// held is what a server holds.
type held struct{ descriptors, goroutines int }

// soak lets a fleet talk through Bollard for long, with lines that break at
// random on both sides, and judges: no message lost, none out of order, no
// memory gained, no goroutine or descriptor left over.
func soak(ctx context.Context, p soakPlan, stdout io.Writer) error {
	dir, err := os.MkdirTemp("", "bollard-soak-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{dir: dir, out: io.Discard, silent: true, plan: plan{
		Proxies: []string{"bollard"}, Bollard: p.Bollard, Stations: p.Stations, Idle: []int{p.Stations}, Enrol: p.Stations, Parallel: 16, EnrolAhead: 16,
	}}
	defer b.end()
	err = b.prepare(ctx)
	if err != nil {
		return err
	}
	back, err := spawn(ctx, "unsteady")
	if err != nil {
		return err
	}
	defer back.end()
	var stats backendStats
	err = back.read(&stats)
	if err != nil {
		return err
	}
	watch, err := freeAddress()
	if err != nil {
		return err
	}
	r, err := start(ctx, watchedBollard{b.bollard, watch}, stats.Address)
	if err != nil {
		return err
	}
	defer r.stop()

	// Caches and pools fill first; what is held after that is what is held.
	talk := order{Do: "soak", Address: r.listen, Count: p.Stations, Rate: p.Rate, Seconds: 5}
	warm, err := b.gen.order(talk)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, r.stderr)
	}
	before, err := rest(ctx, r.pid(), watch, held{})
	if err != nil {
		return err
	}
	talk.Seconds = p.Long.Seconds()
	memory, stop := watchMemory(ctx, r.pid())
	res, err := b.gen.order(talk)
	stop()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, r.stderr)
	}
	after, err := rest(ctx, r.pid(), watch, before)
	if err != nil {
		return err
	}
	err = back.ask("", &stats)
	if err != nil {
		return err
	}
	series := <-memory
	early, late := flatness(series)
	fmt.Fprintf(stdout, "soak: %.0f s, %d stations, %d messages answered (%.0f/s), %d lines broken; resident %d KB early, %d KB late; descriptors %d before, %d after; goroutines %d, %d\n",
		res.Seconds, p.Stations, res.Count, float64(res.Count)/res.Seconds, res.Broken, early, late, before.descriptors, after.descriptors, before.goroutines, after.goroutines)
	return p.judge(res, stats, warm.Count+res.Count, before, after, series)
}

// judge finds everything that is wrong with a soak.
func (p soakPlan) judge(res outcome, stats backendStats, answered int, before, after held, memory []int) error {
	early, late := flatness(memory)
	return errors.Join(
		failIf(stats.Wrong != "", "the back end: %s", stats.Wrong),
		failIf(stats.Messages != int64(answered), "%d messages were answered, the back end has %d", answered, stats.Messages),
		failIf(res.Broken == 0, "no line broke: nothing was tried"),
		failIf(float64(res.Count) < float64(p.Rate)*res.Seconds/10, "%d messages in %.0f s aren't a tenth of the rate: the machine is too busy for a soak", res.Count, res.Seconds),
		failIf(early == 0, "the memory wasn't seen: a soak lasts ten seconds or more"),
		failIf(late > early+early/10+4<<10, "memory isn't flat: %d KB early, %d KB late", early, late),
		failIf(after.descriptors > before.descriptors, "%d descriptors are left over", after.descriptors-before.descriptors),
		failIf(after.goroutines > before.goroutines, "%d goroutines are left over", after.goroutines-before.goroutines))
}

func failIf(wrong bool, format string, args ...any) error {
	if !wrong {
		return nil
	}
	return fmt.Errorf(format, args...)
}

// watchedBollard serves its metrics too.
type watchedBollard struct {
	*bollardProxy
	admin string
}

func (w watchedBollard) command(ctx context.Context, listen, backend string) (*exec.Cmd, error) {
	front := map[string]any{"address": listen, "profiles": []int{2, 3}}
	err := w.configure(map[string]any{"ocpp": []any{front}, "admin": w.admin}, backend)
	if err != nil {
		return nil, err
	}
	return w.serve(ctx), nil
}

// rest waits until a server holds no more than it did (zero: until that
// changes no more), and returns what it holds.
func rest(ctx context.Context, pid int, admin string, most held) (held, error) {
	var now, last held
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		var err error
		now, err = holds(ctx, pid, admin)
		if err != nil {
			return now, err
		}
		if most != (held{}) && now.descriptors <= most.descriptors && now.goroutines <= most.goroutines || most == (held{}) && now == last {
			return now, nil
		}
		last = now
		select {
		case <-ctx.Done():
			return now, context.Cause(ctx)
		case <-time.After(3 * time.Second):
		}
	}
	return now, nil // the judge says how much too much it is
}

func holds(ctx context.Context, pid int, admin string) (held, error) {
	var h held
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/metrics", nil)
	if err != nil {
		return h, err
	}
	// A connection that stays would be among what is counted.
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return h, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return h, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "go_goroutines "); ok {
			h.goroutines, err = strconv.Atoi(strings.TrimSpace(value))
		}
	}
	if err != nil || h.goroutines == 0 {
		return h, fmt.Errorf("no go_goroutines in the metrics: %w", err)
	}
	list, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "fd"))
	h.descriptors = len(list)
	return h, err
}

// watchMemory reads the resident memory every second until stop.
func watchMemory(ctx context.Context, pid int) (series <-chan []int, stop func()) {
	ctx, stop = context.WithCancel(ctx)
	out := make(chan []int, 1)
	go func() {
		var list []int
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				out <- list
				return
			case <-tick.C:
				if kb, err := residentKB(pid); err == nil {
					list = append(list, kb)
				}
			}
		}
	}()
	return out, stop
}

// flatness compares the second fifth of a run with the last: medians in KB.
func flatness(series []int) (early, late int) {
	fifth := len(series) / 5
	if fifth == 0 {
		return 0, 0
	}
	middle := func(part []int) int {
		part = slices.Sorted(slices.Values(part))
		return part[len(part)/2]
	}
	return middle(series[fifth : 2*fifth]), middle(series[len(series)-fifth:])
}
