package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"bollard/firmware/depot"
	"bollard/internal/ticket"
)

//go:embed nginx-depot.conf.tmpl
var nginxDepotConf string

// The load of the depot: a file that fits no cache of a processor, and stations that
// download it beside each other.
const (
	depotBytes = 64 << 20
	depotAside = 4
	depotRate  = "MiB of firmware over TLS 1.3 per CPU-s"
	depotWall  = "MiB of firmware over TLS 1.3 per second"
)

// depotName is the file nginx serves.
const depotName = "image.bin"

// depotProxy is the depot's door behind the TLS server that Bollard has for it, in a
// process of its own: everything on the way of a byte, and no updates beside it.
type depotProxy struct {
	dir   string
	files *files
}

func (depotProxy) name() string { return "bollard" }

func (depotProxy) version(context.Context) (string, error) { return "depot, " + runtime.Version(), nil }

func (d depotProxy) command(ctx context.Context, listen, _ string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "depot-server", listen, d.dir, d.files.server)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	return cmd, nil
}

// depotKeeper makes the capabilities of both sides.
func depotKeeper() (*ticket.Keeper, error) {
	return ticket.New(bytes.Repeat([]byte{1}, ticket.KeySize))
}

func newBenchDoor(dir, base string) (*depot.Door, error) {
	store, err := depot.Open(depot.Config{Dir: dir})
	if err != nil {
		return nil, err
	}
	keeper, err := depotKeeper()
	if err != nil {
		return nil, err
	}
	return depot.NewDoor(depot.DoorConfig{Depot: store, Base: base, Tickets: keeper, Uses: 1 << 20,
		Open: func(context.Context, depot.Grant) bool { return true }, Served: func(context.Context, depot.Grant, depot.Span) {}})
}

// serveDepot serves until it is killed.
func serveDepot(addr, dir, pair string) error {
	door, err := newBenchDoor(dir, "https://"+addr)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: door, ConnContext: depot.Gathers, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: time.Hour, IdleTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10,
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}, TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}}
	var listen net.ListenConfig
	l, err := listen.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return err
	}
	return server.ServeTLS(depot.Gather(l), pair, pair)
}

// measureDepot downloads one file from the depot and from nginx, in turn.
func measureDepot(ctx context.Context, rounds int, out string, stdout io.Writer) error {
	dir, err := os.MkdirTemp("", "bollard-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	err = os.Chmod(dir, 0o755) // nginx's worker is another user
	if err != nil {
		return err
	}
	own, err := newAuthority()
	if err != nil {
		return err
	}
	files, err := own.writeFiles(dir)
	if err != nil {
		return err
	}
	image := make([]byte, depotBytes)
	_, _ = rand.Read(image) // never fails
	web := filepath.Join(dir, "web")
	err = errors.Join(os.Mkdir(web, 0o755), os.WriteFile(filepath.Join(web, depotName), image, 0o644))
	if err != nil {
		return err
	}
	store, err := depot.Open(depot.Config{Dir: filepath.Join(dir, "depot")})
	if err != nil {
		return err
	}
	kept, err := store.Add(ctx, depot.Image{}, func(to io.Writer) error { _, err := to.Write(image); return err })
	if err != nil {
		return err
	}
	nginx := &confProxy{program: "nginx", conf: nginxDepotConf, files: files, versionArg: "-v", args: func(conf string) []string {
		return []string{"-p", files.dir, "-e", "stderr", "-c", conf}
	}}
	b := &bench{out: stdout, proxies: []proxy{depotProxy{filepath.Join(dir, "depot"), files}, nginx}}
	for round := 1; round <= rounds; round++ {
		for _, p := range b.proxies {
			err = b.download(ctx, p, round, web, kept.SHA256, files, image)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name(), err)
			}
		}
	}
	summaries, err := summarise(b.samples)
	versions := map[string]string{}
	for _, p := range b.proxies {
		v, e := p.version(ctx)
		err, versions[p.name()] = errors.Join(err, e), v
	}
	for _, s := range summaries {
		fmt.Fprintf(stdout, "%-42s bollard %.0f, nginx %.0f: %.2f × nginx\n", s.Measure, s.Median["bollard"], s.Median["nginx"], s.Ratio["nginx"])
	}
	return errors.Join(err, writeReport(stdout, out, "depot", map[string]any{"versions": versions, "summary": summaries, "samples": b.samples}))
}

// download measures one server in one round.
func (b *bench) download(ctx context.Context, p proxy, round int, web, digest string, f *files, image []byte) error {
	r, err := start(ctx, p, web)
	if err != nil {
		return err
	}
	defer r.stop()
	url := "https://" + r.listen + "/" + depotName
	if p.name() == "bollard" {
		door, err := newBenchDoor(filepath.Join(f.dir, "depot"), "https://"+r.listen)
		if err != nil {
			return err
		}
		if url, err = door.URL(depot.Grant{Station: "cs-1", Job: 1, SHA256: digest, Expires: time.Now().Add(time.Hour)}, depotName); err != nil {
			return err
		}
	}
	client, err := depotClient(f)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	all := func() error {
		var g errgroup.Group
		for range depotAside {
			g.Go(func() error { return compare(ctx, client, url, image) })
		}
		return g.Wait()
	}
	if err := all(); err != nil { // once for nothing: connections, caches
		return err
	}
	before, err := cpuTime(r.pid())
	if err != nil {
		return err
	}
	own, begun := ownCPU(), time.Now()
	if err := all(); err != nil {
		return err
	}
	took := time.Since(begun)
	after, err := cpuTime(r.pid())
	if err != nil {
		return err
	}
	const mib = depotAside * depotBytes >> 20
	load := (ownCPU() - own).Seconds() / took.Seconds()
	b.add(sample{Round: round, Proxy: p.name(), Measure: depotRate, Value: mib / (after - before).Seconds(), GeneratorCPU: load})
	b.add(sample{Round: round, Proxy: p.name(), Measure: depotWall, Value: mib / took.Seconds(), GeneratorCPU: load})
	return nil
}

func depotClient(f *files) (*http.Client, error) {
	raw, err := os.ReadFile(f.roots)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(raw) {
		return nil, errors.New("no certificate among the roots")
	}
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: depotAside, ReadBufferSize: 64 << 10,
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS13}}}, nil
}

// compare downloads once, and looks at every byte.
func compare(ctx context.Context, client *http.Client, url string, want []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	// Both take the client's first choice; another suite would measure the suite.
	if suite := answer.TLS.CipherSuite; answer.StatusCode != http.StatusOK || suite != tls.TLS_AES_128_GCM_SHA256 {
		return fmt.Errorf("status %d, %s", answer.StatusCode, tls.CipherSuiteName(suite))
	}
	buffer, at := make([]byte, 64<<10), 0
	for {
		n, err := answer.Body.Read(buffer)
		if at+n > len(want) || !bytes.Equal(buffer[:n], want[at:at+n]) {
			return fmt.Errorf("other bytes than the file's from %d on", at)
		}
		at += n
		if errors.Is(err, io.EOF) && at == len(want) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("it ended after %d bytes: %w", at, err)
		}
	}
}
