package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"bollard/admin"
	"bollard/ocpp"
	"bollard/station"
	"bollard/station/csms"
)

// demoPatience bounds the whole story; it takes seconds.
const demoPatience = 2 * time.Minute

func (c *cli) demoCommand() *cobra.Command {
	once := false
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the whole job on loopback: a CSMS, Bollard, three stations, an impostor",
		Long: `Show the whole job on loopback, in a data directory of its own that is removed
at the end: a CSMS, Bollard before it, and three stations (OCPP 1.6J, 2.0.1,
2.1) that get certificates, charge, and are updated, a car that gets a contract
certificate through them; and what must not work. It ends with exit code 0 only if
every step held. Without --once it then goes on running and says where to connect a
station of your own, until SIGINT or SIGTERM.`,
		Args: cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			return c.demo(ctx, once)
		}),
	}
	cmd.Flags().BoolVar(&once, "once", false, "end by itself after the story")
	return cmd
}

func (c *cli) demo(ctx context.Context, once bool) error {
	dir, err := os.MkdirTemp("", "bollard-demo-")
	if err != nil {
		return fmt.Errorf("couldn't make a directory for the demo: %w", err)
	}
	d := &demo{
		// A cli of its own: the story uses the operator's door as commands do.
		cli:   &cli{stdin: c.stdin, stdout: io.Discard, stderr: c.stderr, data: filepath.Join(dir, "data")},
		dir:   dir,
		story: &story{out: c.stdout, json: c.json, start: time.Now()},
		log:   &tail{},
	}
	err = d.run(ctx, once)
	// Everything is stopped before its directory goes.
	d.close()
	if removed := os.RemoveAll(dir); err == nil && removed != nil {
		err = fmt.Errorf("couldn't remove the demo's directory: %w", removed)
	}
	var missed *missedStep
	if errors.As(err, &missed) {
		fmt.Fprintf(c.stderr, "the last lines of Bollard's log:\n%s", d.log.String())
		return admin.Failedf("please report it with the lines above", "%w", err)
	}
	return err
}

// demo is one run of the story: who plays in it and what must be undone.
type demo struct {
	cli   *cli
	dir   string // removed at the end
	story *story
	log   *tail // Bollard's

	back     *csms.Server
	url      string // of Bollard, without identity
	roots    string // PEM of Bollard's root
	stations []*player
	makers   makers             // of firmware
	stop     context.CancelFunc // ends everything below
	running  sync.WaitGroup
	failed   chan error // what serve ended with
}

// player is an enrolled station of the story.
type player struct {
	version  ocpp.Version
	identity string
	serial   string
	password string
	station  *station.Station
}

func (d *demo) run(ctx context.Context, once bool) error {
	ctx, d.stop = context.WithCancel(ctx)
	bounded, cancel := context.WithTimeoutCause(ctx, demoPatience, errors.New("the story takes too long"))
	defer cancel()
	for _, scene := range d.scenes() {
		if err := d.story.step(bounded, scene); err != nil {
			if ctx.Err() != nil {
				return admin.Failedf("", "the demo was interrupted")
			}
			return err
		}
	}
	d.story.end()
	if once {
		return nil
	}
	return d.stay(ctx)
}

// stay keeps Bollard and the CSMS running for a station of the user's own.
func (d *demo) stay(ctx context.Context) error {
	own, err := call[admin.Enrolment, admin.Enrolled](ctx, d.cli, "station.add",
		admin.Enrolment{Identity: "MY-STATION", Serial: "MY-SERIAL", Profile: 2})
	if err != nil {
		return err
	}
	root := filepath.Join(d.dir, "root.pem")
	if err := os.WriteFile(root, []byte(d.roots), 0o600); err != nil {
		return fmt.Errorf("couldn't write the root certificate: %w", err)
	}
	d.story.invite(invitation{
		URL: d.url + "/" + own.Identity, Identity: own.Identity, Serial: own.Serial, Password: own.Password, Root: root, Data: d.cli.data,
	})
	select {
	case <-ctx.Done():
		return nil
	case err := <-d.failed:
		return fmt.Errorf("the server ended: %w", err)
	}
}

// close ends stations, Bollard and the CSMS, in this order, and waits.
func (d *demo) close() {
	for _, p := range d.stations {
		if p.station != nil {
			p.station.Close()
		}
	}
	if d.stop != nil {
		d.stop()
	}
	d.running.Wait()
	if d.back != nil {
		d.back.Close()
	}
}

// tail keeps the end of a log.
type tail struct {
	mu   sync.Mutex
	text bytes.Buffer
}

const tailSize = 64 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text.Write(p)
	if extra := t.text.Len() - tailSize; extra > 0 {
		t.text.Next(extra)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}
