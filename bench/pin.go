package main

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// onFirst starts a server under test on the first processor, which it has to
// itself as far as this benchmark goes.
func onFirst(start func() error) error { return pinned(func(i int) bool { return i == 0 }, start) }

// onOthers starts a helper on the other processors.
func onOthers(start func() error) error { return pinned(func(i int) bool { return i > 0 }, start) }

// pinned starts a process on some of the processors there are, counted from 0;
// on all of them if there is one only. A process inherits where the thread
// that starts it may run.
func pinned(which func(int) bool, start func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, some unix.CPUSet
	err := unix.SchedGetaffinity(0, &all)
	if err != nil {
		return fmt.Errorf("couldn't ask for the processors: %w", err)
	}
	if all.Count() < 2 {
		return start()
	}
	for cpu, i := 0, 0; i < all.Count(); cpu++ {
		if all.IsSet(cpu) {
			if which(i) {
				some.Set(cpu)
			}
			i++
		}
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
