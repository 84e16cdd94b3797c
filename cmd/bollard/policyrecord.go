package main

import (
	"bufio"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"bollard/policy"
)

// recordedNames are the two halves of a recording, the older first: when the
// newer one is full it becomes the older.
func recordedNames() [2]string { return [2]string{"recorded.old.jsonl", "recorded.jsonl"} }

// recorder writes judged messages, without personal data, to DIR/policy.
type recorder struct {
	folder string
	half   int64 // bytes
	log    *slog.Logger
	key    []byte // of the masks: they can be compared within one run only
	lines  chan []byte
	done   chan struct{}
	once   sync.Once
	lost   int // owned by Take's lock
	mu     sync.Mutex
}

// maxWaiting bounds the lines that wait for a slow disk; more are dropped, for
// no message waits for a recording.
const maxWaiting = 4096

func newRecorder(dir string, megabytes int, log *slog.Logger) (*recorder, error) {
	r := &recorder{folder: filepath.Join(dir, policyName), half: int64(megabytes) << 19, log: log,
		key: make([]byte, 32), lines: make(chan []byte, maxWaiting), done: make(chan struct{})}
	_, _ = rand.Read(r.key) // never fails (crypto/rand)
	if err := os.Mkdir(r.folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("couldn't make the folder of rules: %w", err)
	}
	f, err := r.open()
	if err != nil {
		return nil, err
	}
	go func() {
		defer close(r.done)
		if err := r.run(f); err != nil {
			log.Error("the recording of traffic ended", "err", err)
			for range r.lines { // nobody may wait
			}
		}
	}()
	return r, nil
}

func (r *recorder) open() (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(r.folder, recordedNames()[1]), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("couldn't record traffic: %w", err)
	}
	return f, nil
}

// mask stands for a text: the same for the same, in one run.
func (r *recorder) mask(text string) string {
	mac := hmac.New(sha256.New, r.key)
	_, _ = mac.Write([]byte(text)) // a hash takes everything
	return fmt.Sprintf("masked-%x", mac.Sum(nil)[:6])
}

// Take records one message, unless the disk can't keep up.
func (r *recorder) Take(in *policy.Input) {
	line, err := in.Record(r.mask)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case r.lines <- line:
	default:
		r.lost++
	}
}

// Close writes what waits. No Take may follow.
func (r *recorder) Close() {
	r.once.Do(func() { close(r.lines) })
	<-r.done
	if r.lost > 0 {
		r.log.Warn("messages are missing from the recording: the disk was too slow", "messages", r.lost)
	}
}

func (r *recorder) run(f *os.File) (err error) {
	size := int64(0)
	if info, err := f.Stat(); err == nil {
		size = info.Size()
	}
	out := bufio.NewWriterSize(f, 64<<10)
	defer func() { err = errors.Join(err, out.Flush(), f.Close()) }()
	flush := time.NewTicker(time.Second)
	defer flush.Stop()
	for {
		select {
		case <-flush.C:
			if err := out.Flush(); err != nil {
				return err
			}
		case line, more := <-r.lines:
			if !more {
				return nil
			}
			if size += int64(len(line)); size > r.half {
				if err := errors.Join(out.Flush(), f.Close(), os.Rename(filepath.Join(r.folder, recordedNames()[1]), filepath.Join(r.folder, recordedNames()[0]))); err != nil {
					return err
				}
				if f, err = r.open(); err != nil {
					return err
				}
				out.Reset(f)
				size = int64(len(line))
			}
			if _, err := out.Write(line); err != nil {
				return err
			}
		}
	}
}

// replayLines adds a recording to a replay. A last line that a crash cut is left out.
func replayLines(r *policy.Replay, name string, from io.Reader) error {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 8<<20)
	for n := 1; lines.Scan(); n++ {
		if err := r.Add(lines.Bytes()); err != nil {
			if !lines.Scan() && lines.Err() == nil {
				return nil
			}
			return fmt.Errorf("%s:%d is no line of a recording: %w", name, n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("couldn't read %s: %w", name, err)
	}
	return nil
}

// withAnchors completes inputs that come from a file.
func withAnchors(known map[string][]string) func(*policy.Input) {
	return func(in *policy.Input) {
		in.Anchors = func() map[string][]string { return known }
		if in.Now.IsZero() {
			in.Now = time.Now()
		}
	}
}
