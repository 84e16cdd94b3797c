package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"text/template"
	"time"
)

//go:embed nginx.conf.tmpl
var nginxConf string

//go:embed haproxy.cfg.tmpl
var haproxyConf string

// proxy is one program under test.
type proxy interface {
	name() string
	version(ctx context.Context) (string, error)
	// command starts it in front of the back end; it listens on listen.
	command(ctx context.Context, listen, backend string) (*exec.Cmd, error)
}

// confProxy is a proxy that one configuration file describes.
type confProxy struct {
	program, conf string
	files         *files
	args          func(conf string) []string
	versionArg    string
}

func nginx(f *files) proxy {
	return &confProxy{program: "nginx", conf: nginxConf, files: f, versionArg: "-v", args: func(conf string) []string {
		return []string{"-p", f.dir, "-e", "stderr", "-c", conf}
	}}
}

func haproxy(f *files) proxy {
	return &confProxy{program: "haproxy", conf: haproxyConf, files: f, versionArg: "-v", args: func(conf string) []string {
		return []string{"-db", "-q", "-f", conf}
	}}
}

func (p *confProxy) name() string { return p.program }

// path finds the program where Debian puts it, which need not be in PATH.
func (p *confProxy) path() (string, error) {
	path, err := exec.LookPath(p.program)
	if err == nil {
		return path, nil
	}
	path, err = exec.LookPath("/usr/sbin/" + p.program)
	if err != nil {
		return "", fmt.Errorf("%s is missing: apt-get install -y --no-install-recommends nginx-light haproxy", p.program)
	}
	return path, nil
}

func (p *confProxy) version(ctx context.Context) (string, error) {
	path, err := p.path()
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, path, p.versionArg).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("couldn't ask %s for its version: %w", p.program, err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line, nil
}

func (p *confProxy) command(ctx context.Context, listen, backend string) (*exec.Cmd, error) {
	path, err := p.path()
	if err != nil {
		return nil, err
	}
	tmpl, err := template.New(p.program).Parse(p.conf)
	if err != nil {
		return nil, err
	}
	var conf bytes.Buffer
	err = tmpl.Execute(&conf, map[string]string{
		"Dir": p.files.dir, "Listen": listen, "Backend": backend, "Server": p.files.server, "ClientCA": p.files.clientCA,
		"Tickets": p.files.tickets, "Secrets": p.files.secrets,
	})
	if err != nil {
		return nil, err
	}
	file := filepath.Join(p.files.dir, p.program+".conf")
	err = os.WriteFile(file, conf.Bytes(), 0o600)
	if err != nil {
		return nil, err
	}
	return exec.CommandContext(ctx, path, p.args(file)...), nil
}

// running is a started proxy.
type running struct {
	cmd    *exec.Cmd
	listen string
	stderr *bytes.Buffer
	done   chan error
}

// start runs a proxy and waits until it accepts connections.
func start(ctx context.Context, p proxy, backend string) (*running, error) {
	listen, err := freeAddress()
	if err != nil {
		return nil, err
	}
	cmd, err := p.command(ctx, listen, backend)
	if err != nil {
		return nil, err
	}
	r := &running{cmd: cmd, listen: listen, stderr: &bytes.Buffer{}, done: make(chan error, 1)}
	cmd.Stdout, cmd.Stderr = r.stderr, r.stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	err = onFirst(cmd.Start)
	if err != nil {
		return nil, fmt.Errorf("couldn't start %s: %w", p.name(), err)
	}
	go func() {
		r.done <- cmd.Wait()
		close(r.done) // stopping once more does no harm
	}()
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		select {
		case err = <-r.done:
			return nil, fmt.Errorf("%s ended at once: %w: %s", p.name(), err, r.stderr)
		case <-time.After(20 * time.Millisecond):
		}
		conn, err := net.DialTimeout("tcp", listen, time.Second)
		if err == nil {
			_ = conn.Close()
			return r, nil
		}
	}
	r.stop()
	return nil, fmt.Errorf("%s doesn't listen on %s: %s", p.name(), listen, r.stderr)
}

// stop ends the proxy; a slow one is killed.
func (r *running) stop() {
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-r.done:
	case <-time.After(15 * time.Second):
		_ = r.cmd.Process.Kill()
		<-r.done
	}
}

func (r *running) pid() int { return r.cmd.Process.Pid }

// freeAddress picks a loopback port nobody listens on right now.
func freeAddress() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("couldn't find a port: %w", err)
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}
