package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// processTree returns the process and its children, as nginx has them.
func processTree(root int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	tree := []int{root}
	for _, path := range stats {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue // it ended meanwhile
		}
		// The name in parentheses may hold anything; fields follow the last one.
		line := string(raw)
		fields := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
		if len(fields) > 1 && fields[1] == strconv.Itoa(root) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err == nil {
				tree = append(tree, pid)
			}
		}
	}
	return tree, nil
}

// cpuTime is user and system time of a process tree, from each process's CPU
// clock: what /proc/PID/stat counts, in nanoseconds instead of 10 ms ticks.
func cpuTime(root int) (time.Duration, error) {
	tree, err := processTree(root)
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, pid := range tree {
		const cpuClockSched = 2 // clock_getcpuclockid(3): ~pid<<3 | CPUCLOCK_SCHED
		var ts unix.Timespec
		err = unix.ClockGettime(int32(^pid<<3|cpuClockSched), &ts)
		if err != nil {
			return 0, fmt.Errorf("couldn't read the CPU clock of process %d: %w", pid, err)
		}
		sum += time.Duration(ts.Nano())
	}
	return sum, nil
}

// residentKB is the resident memory of a process tree.
func residentKB(root int) (int, error) {
	tree, err := processTree(root)
	if err != nil {
		return 0, err
	}
	sum := 0
	for _, pid := range tree {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return 0, fmt.Errorf("couldn't read the memory of process %d: %w", pid, err)
		}
		kb, err := statusKB(string(raw), "VmRSS:")
		if err != nil {
			return 0, fmt.Errorf("process %d: %w", pid, err)
		}
		sum += kb
	}
	return sum, nil
}

// statusKB reads one line of /proc/PID/status.
func statusKB(status, name string) (int, error) {
	for line := range strings.Lines(status) {
		value, ok := strings.CutPrefix(line, name)
		if !ok {
			continue
		}
		var kb int
		_, err := fmt.Sscanf(value, "%d kB", &kb)
		if err != nil {
			return 0, fmt.Errorf("couldn't read %s %w", name, err)
		}
		return kb, nil
	}
	return 0, fmt.Errorf("no %s: it has ended", name)
}

// ownCPU is this process's user and system time.
func ownCPU() time.Duration {
	var u unix.Rusage
	err := unix.Getrusage(unix.RUSAGE_SELF, &u)
	if err != nil {
		panic("internal error: getrusage: " + err.Error())
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// threadCPU is this thread's user and system time.
func threadCPU() time.Duration {
	var ts unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts)
	if err != nil {
		panic("internal error: clock_gettime: " + err.Error())
	}
	return time.Duration(ts.Nano())
}
