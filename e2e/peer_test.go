package e2e_test

import (
	"bufio"
	"encoding/json"
	"io"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// peerConfig is the first line a peer reads; see peers/ocppgo.
type peerConfig struct {
	Role       string `json:"role"`
	Version    string `json:"version"`
	Endpoint   string `json:"endpoint,omitempty"`
	Identity   string `json:"identity,omitempty"`
	Serial     string `json:"serial,omitempty"`
	Password   string `json:"password,omitempty"`
	CA         string `json:"ca,omitempty"`
	Cert       string `json:"cert,omitempty"`
	Key        string `json:"key,omitempty"`
	ServerName string `json:"server_name,omitempty"`
}

type peerEvent struct {
	Event    string `json:"event"`
	Address  string `json:"address"`
	Identity string `json:"identity"`
	Frame    string `json:"frame"`
	Detail   string `json:"detail"`
}

// peer is a library peer in a process of its own.
type peer struct {
	t     *testing.T
	name  string
	stdin io.WriteCloser

	mu     sync.Mutex
	events []peerEvent
	ended  bool
}

// startPeer runs a peer of kind "go" (ocpp-go) or "js" (ocpp-rpc).
func startPeer(t *testing.T, kind string, cfg peerConfig) *peer {
	t.Helper()
	cmd := exec.Command(ocppgoBinary)
	if kind == "js" {
		cmd = exec.Command("node", rpcPeer)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr := &syncBuffer{}
	cmd.Stderr = stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	err = cmd.Start()
	if err != nil {
		t.Fatalf("couldn't start the %s peer: %v", kind, err)
	}
	p := &peer{t: t, name: kind + " " + cfg.Role + " " + cfg.Version, stdin: stdin}
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewScanner(stdout)
		lines.Buffer(nil, 4<<20)
		for lines.Scan() {
			var e peerEvent
			err := json.Unmarshal(lines.Bytes(), &e)
			if err != nil {
				e = peerEvent{Event: "error", Detail: "unreadable output: " + lines.Text()}
			}
			p.mu.Lock()
			p.events = append(p.events, e)
			p.mu.Unlock()
		}
		p.mu.Lock()
		p.ended = true
		p.mu.Unlock()
	}()
	t.Cleanup(func() {
		_ = stdin.Close()
		select {
		case <-read:
		case <-time.After(5 * time.Second):
			_ = cmd.Process.Kill()
			<-read
		}
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %s", p.name, stderr)
		}
	})
	p.send(cfg)
	return p
}

func (p *peer) send(line any) {
	p.t.Helper()
	raw, err := json.Marshal(line)
	if err != nil {
		p.t.Fatal(err)
	}
	_, err = p.stdin.Write(append(raw, '\n'))
	if err != nil {
		p.t.Fatalf("%s: couldn't send %s: %v", p.name, raw, err)
	}
}

// await waits for an event of the kind and identity ("": any) from index from
// on, and returns it with the index behind it. An error event fails the test.
func (p *peer) await(kind, identity string, from int) (peerEvent, int) {
	p.t.Helper()
	var found peerEvent
	next := 0
	eventually(p.t, p.name+" tells "+kind+" "+identity, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for i := from; i < len(p.events); i++ {
			e := p.events[i]
			if e.Event == "error" && (identity == "" || e.Identity == "" || e.Identity == identity) {
				p.t.Fatalf("%s: %s", p.name, e.Detail)
			}
			if e.Event == kind && (identity == "" || e.Identity == identity) {
				found, next = e, i+1
				return true
			}
		}
		if p.ended {
			p.t.Fatalf("%s ended before it told %s", p.name, kind)
		}
		return false
	})
	return found, next
}

// order gives a command and waits until it is done.
func (p *peer) order(do, identity string) {
	p.t.Helper()
	p.mu.Lock()
	from := len(p.events)
	p.mu.Unlock()
	p.send(map[string]string{"do": do, "identity": identity})
	p.await("done", identity, from)
}

// frames returns the messages of one direction, of one identity ("": all).
func (p *peer) frames(direction, identity string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, e := range p.events {
		if e.Event == direction && (identity == "" || e.Identity == identity) {
			out = append(out, e.Frame)
		}
	}
	return out
}
