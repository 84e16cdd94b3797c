package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// bollardProxy is the product, used as an operator would: by its commands.
type bollardProxy struct {
	binary string
	data   string
	roots  []byte // PEM
}

// newBollard builds the binary unless one is given, and makes a data directory.
func newBollard(ctx context.Context, binary, dir string) (*bollardProxy, error) {
	if binary == "" {
		binary = filepath.Join(dir, "bollard")
		out, err := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", binary, "./cmd/bollard").CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("couldn't build bollard: %w: %s", err, out)
		}
	}
	p := &bollardProxy{binary: binary, data: filepath.Join(dir, "data")}
	_, err := p.run(ctx, "init", "--org", organisation, "--country", "NL", "--listen", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p.roots, err = p.run(ctx, "ca", "root", "csms")
	return p, err
}

// run carries out one command and returns its standard output.
func (p *bollardProxy) run(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, p.binary, append(args, "--data", p.data)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("bollard %s: %w: %s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return out, nil
}

// enlist imports stations on profile 2 and returns them with their passwords.
func (p *bollardProxy) enlist(ctx context.Context, n int, dir string) ([]credentials, error) {
	list := make([]credentials, n)
	var rows bytes.Buffer
	rows.WriteString("identity,serial,profile,vendor,model\n")
	for i := range list {
		list[i] = credentials{Identity: fmt.Sprintf("CS-%05d", i), Serial: fmt.Sprintf("SN-%05d", i)}
		fmt.Fprintf(&rows, "%s,%s,2,Bench,Bench\n", list[i].Identity, list[i].Serial)
	}
	file, passwords := filepath.Join(dir, "stations.csv"), filepath.Join(dir, "passwords.csv")
	err := os.WriteFile(file, rows.Bytes(), 0o600)
	if err != nil {
		return nil, err
	}
	_, err = p.run(ctx, "station", "import", file, "--passwords-out", passwords)
	if err != nil {
		return nil, err
	}
	byIdentity, err := readPasswords(passwords)
	if err != nil {
		return nil, err
	}
	for i := range list {
		list[i].Password = byIdentity[list[i].Identity]
		if list[i].Password == "" {
			return nil, fmt.Errorf("no password for station %s", list[i].Identity)
		}
	}
	return list, nil
}

// readPasswords reads what station import wrote: identity,password.
func readPasswords(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("couldn't read the passwords: %w", err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("couldn't read the passwords: %w", err)
	}
	byIdentity := map[string]string{}
	for _, row := range rows {
		if len(row) == 2 {
			byIdentity[row[0]] = row[1]
		}
	}
	return byIdentity, nil
}

func (p *bollardProxy) name() string { return "bollard" }

func (p *bollardProxy) version(ctx context.Context) (string, error) {
	out, err := p.run(ctx, "version")
	return strings.TrimSpace(string(out)), err
}

// command points the configuration at address and back end. Its own tests say
// what the other settings are: the defaults of init.
func (p *bollardProxy) command(ctx context.Context, listen, backend string) (*exec.Cmd, error) {
	err := p.configure(map[string]any{"ocpp": []any{map[string]any{"address": listen, "profiles": []int{2, 3}}}}, backend)
	if err != nil {
		return nil, err
	}
	return p.serve(ctx), nil
}

// configure writes bollard.yaml.
func (p *bollardProxy) configure(listen map[string]any, backend string) error {
	// A YAML parser takes JSON.
	conf, err := json.MarshalIndent(map[string]any{
		"organisation": organisation,
		"country":      "NL",
		"host":         "localhost",
		"listen":       listen,
		"backends":     []any{map[string]any{"url": "ws://" + backend + "/ocpp"}},
		"limits":       map[string]any{"per_source": 4096}, // every station has the same address here
		"log":          map[string]any{"level": "warn"},
	}, "", "  ")
	if err != nil {
		return err
	}
	return writePrivate(filepath.Join(p.data, "bollard.yaml"), conf)
}

func (p *bollardProxy) serve(ctx context.Context) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.binary, "serve", "--data", p.data)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	return cmd
}
