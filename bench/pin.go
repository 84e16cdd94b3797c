package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// onFirst starts a server under test on the first processor, which it has to
// itself as far as this benchmark goes.
func onFirst(start func() error) error { return pinned(func(i int) bool { return i == 0 }, start) }

// onOthers starts a helper on the other processors.
func onOthers(start func() error) error { return pinned(func(i int) bool { return i > 0 }, start) }

// aside has this process leave the first processor to the server under test
// while do runs, which starts no other process.
func aside(do func() error) error {
	all, others, err := processors(func(i int) bool { return i > 0 })
	if err != nil {
		return err
	}
	err = everyThread(&others)
	if err != nil {
		return errors.Join(err, everyThread(&all))
	}
	return errors.Join(do(), everyThread(&all))
}

// everyThread has this process's threads run on some processors. One that
// begins later runs where the thread does that makes it.
func everyThread(on *unix.CPUSet) error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("couldn't list the threads: %w", err)
	}
	for _, t := range threads {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			return fmt.Errorf("couldn't read the number of a thread: %w", err)
		}
		err = unix.SchedSetaffinity(tid, on)
		if err != nil && !errors.Is(err, unix.ESRCH) { // it has ended
			return fmt.Errorf("couldn't pin thread %d: %w", tid, err)
		}
	}
	return nil
}

// pinned starts a process on some of the processors there are, counted from 0;
// on all of them if there is one only. A process inherits where the thread
// that starts it may run.
func pinned(which func(int) bool, start func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	all, some, err := processors(which)
	if err != nil {
		return err
	}
	err = unix.SchedSetaffinity(0, &some)
	if err != nil {
		return fmt.Errorf("couldn't pin to a processor: %w", err)
	}
	started := start()
	err = unix.SchedSetaffinity(0, &all)
	if err != nil {
		return fmt.Errorf("couldn't undo pinning: %w", err)
	}
	return started
}

// processors returns those that this thread may run on and some of them,
// counted from 0; all of them if there is one only.
func processors(which func(int) bool) (all, some unix.CPUSet, err error) {
	err = unix.SchedGetaffinity(0, &all)
	if err != nil {
		return all, some, fmt.Errorf("couldn't ask for the processors: %w", err)
	}
	if all.Count() < 2 {
		return all, all, nil
	}
	for cpu, i := 0, 0; i < all.Count(); cpu++ {
		if all.IsSet(cpu) {
			if which(i) {
				some.Set(cpu)
			}
			i++
		}
	}
	return all, some, nil
}
