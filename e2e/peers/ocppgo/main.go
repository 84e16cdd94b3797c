// Command ocppgo is a peer for the end-to-end tests: a station or a back end
// built on the ocpp-go library, in a process of its own.
//
// The first line of standard input is a JSON Config; each further line is a
// Command. What happens is told as one JSON Event a line on standard output,
// every OCPP message as the exact text that travelled. End of input ends it.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Config says which peer to be.
type Config struct {
	Role       string `json:"role"`     // station or backend
	Version    string `json:"version"`  // 1.6 or 2.0.1
	Endpoint   string `json:"endpoint"` // station: URL without the identity
	Identity   string `json:"identity"`
	Serial     string `json:"serial"`
	Password   string `json:"password"`
	CA         string `json:"ca"` // PEM files
	Cert       string `json:"cert"`
	Key        string `json:"key"`
	ServerName string `json:"server_name"`
}

// Command is one order of the test.
type Command struct {
	Do       string `json:"do"`       // session (station) or commands (back end)
	Identity string `json:"identity"` // back end: the station to command
}

// Event is one line of output.
type Event struct {
	Event    string `json:"event"` // listening, open, closed, in, out, done, error
	Address  string `json:"address,omitempty"`
	Identity string `json:"identity,omitempty"`
	Frame    string `json:"frame,omitempty"`
	Detail   string `json:"detail,omitempty"`
}

// teller writes events; its lock also keeps the order of messages told the
// order in which the library was given them.
type teller struct {
	mu  sync.Mutex
	out *json.Encoder
}

func (t *teller) tell(e Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_ = t.out.Encode(e)
}

// peer is a station or a back end.
type peer interface {
	// do carries out one command.
	do(c Command) error
	stop()
}

// answerTimeout bounds every wait for the other side.
const answerTimeout = 20 * time.Second

func main() {
	err := run(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "ocppgo:", err)
		os.Exit(1)
	}
}

func run(stdin io.Reader, stdout io.Writer) error {
	enc := json.NewEncoder(stdout)
	enc.SetEscapeHTML(false)
	t := &teller{out: enc}
	lines := bufio.NewScanner(stdin)
	if !lines.Scan() {
		return errors.New("no configuration on standard input")
	}
	var cfg Config
	err := json.Unmarshal(lines.Bytes(), &cfg)
	if err != nil {
		return fmt.Errorf("couldn't read the configuration: %w", err)
	}
	p, err := open(cfg, t)
	if err != nil {
		t.tell(Event{Event: "error", Detail: err.Error()})
		return err
	}
	defer p.stop()
	for lines.Scan() {
		var c Command
		err = json.Unmarshal(lines.Bytes(), &c)
		if err != nil {
			return fmt.Errorf("couldn't read a command: %w", err)
		}
		err = p.do(c)
		if err != nil {
			t.tell(Event{Event: "error", Identity: c.Identity, Detail: err.Error()})
			continue
		}
		t.tell(Event{Event: "done", Identity: c.Identity, Detail: c.Do})
	}
	return nil
}

func open(cfg Config, t *teller) (peer, error) {
	switch cfg.Role + " " + cfg.Version {
	case "station 1.6":
		return openStation16(cfg, t)
	case "station 2.0.1":
		return openStation201(cfg, t)
	case "backend 1.6":
		return openBackend16(t)
	case "backend 2.0.1":
		return openBackend201(t)
	}
	return nil, fmt.Errorf("no such peer: role %q, version %q", cfg.Role, cfg.Version)
}

// waiter turns the library's callbacks into one answer that is waited for.
type waiter chan error

func newWaiter() waiter { return make(waiter, 1) }

func (w waiter) wait(what string) error {
	select {
	case err := <-w:
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	case <-time.After(answerTimeout):
		return fmt.Errorf("%s: no answer within %s", what, answerTimeout)
	}
}

// accepted is an error unless the status is Accepted.
func accepted(status string) error {
	if status != "Accepted" {
		return fmt.Errorf("status is %q, want Accepted", status)
	}
	return nil
}
