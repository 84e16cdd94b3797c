package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bollard/admin"
	"bollard/backup"
	"bollard/ca"
	"bollard/firmware/job"
	"bollard/fleet"
	"bollard/internal/smalldisk"
)

// A server starts on a disk without one free byte although a kill left a certificate
// unfinished and a firmware update open: it issues nothing, and gives up what was
// unfinished once there is room.
func TestStartOnAFullDisk(t *testing.T) { // promise 7
	t.Parallel()
	smalldisk.Run(t, "8m", startOnAFullDisk)
}

func startOnAFullDisk(t *testing.T, disk string) {
	// A mounted directory is told before anything is unpacked, or else at the end.
	if _, err := restore(t.Context(), "nothing", disk, nil, nil); err == nil || !strings.Contains(err.Error(), "is a mount point") {
		t.Errorf("restored onto a mount point: %v", err)
	}
	bound, staged := filepath.Join(disk, "bound"), filepath.Join(disk, "staged")
	if err := errors.Join(os.Mkdir(bound, 0o700), os.Mkdir(staged, 0o700), syscall.Mount(bound, bound, "", syscall.MS_BIND, "")); err != nil {
		t.Fatal(err)
	}
	if err := appear(staged, bound); err == nil || !strings.Contains(err.Error(), "is a mount point") {
		t.Errorf("restored onto a bind mount: %v", err)
	}
	if err := errors.Join(syscall.Unmount(bound, 0), os.Remove(bound), os.Remove(staged)); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(disk, "data")
	if err := initialise(t.Context(), initOptions{dataDir: dir, organisation: "Example CPO", country: "NL", listen: "127.0.0.1:0"}); err != nil {
		t.Fatal(err)
	}
	if err := startServer(t, dir).stop(); err != nil { // it has server certificates from here on
		t.Fatal(err)
	}
	const serial = "5eed5eed5eed5eed5eed5eed5eed5eed"
	cfg, err := loadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	a, err := openApp(t.Context(), dir, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	added := a.store.AddStations(t.Context(), []fleet.Station{{Identity: "CS-1", Serial: "SN-CS-1", WantedProfile: 3, FloorProfile: 3, CreatedAt: now}})
	_, failed := a.store.AddJob(t.Context(), job.Job{ID: "left", Station: "cs-1", State: job.Approved, CreatedAt: now})
	if err := errors.Join(added, failed,
		a.store.PutIntent(t.Context(), ca.Intent{Serial: serial, Issuer: "csms-issuing", Profile: ca.ProfileStation, Station: "cs-1", KeyHash: "k", CreatedAt: now}),
		a.Close(),
	); err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(t.TempDir(), "kept.age")
	if _, err := backup.Create(t.Context(), backup.CreateConfig{
		Dir: dir, Database: databaseName, Snapshot: filepath.Join(dir, databaseName), To: kept, Passphrase: []byte("canary-backup-passphrase"), WorkFactor: 10,
	}); err != nil {
		t.Fatal(err)
	}
	fill := filepath.Join(disk, "fill")
	f, err := os.Create(fill)
	for err == nil {
		_, err = f.Write(make([]byte, os.Getpagesize()))
	}
	if closed := f.Close(); closed != nil || !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err, closed)
	}

	// What can't be written isn't a damaged backup's fault.
	_, err = restore(t.Context(), kept, filepath.Join(disk, "again"), []byte("canary-backup-passphrase"), nil)
	if !errors.Is(err, syscall.ENOSPC) || errors.Is(err, backup.ErrDamaged) {
		t.Errorf("restored onto a full disk: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(disk, "again*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}

	r := startServer(t, dir)
	r.log.await(t, "nothing is issued until")
	issue := func() error {
		_, err := admin.Call[admin.Issue, admin.Issued](t.Context(), admin.NewClient(dir), "ca.issue", admin.Issue{Profile: ca.ProfileStation, Station: "CS-1", CSR: request(t, "CS-1")})
		return err
	}
	state := func() string {
		cert, err := admin.Call[admin.CertificateRef, admin.Certificate](t.Context(), admin.NewClient(dir), "cert.show", admin.CertificateRef{Serial: serial})
		if err != nil {
			t.Fatal(err)
		}
		return cert.State
	}
	if err := issue(); err == nil || !strings.Contains(err.Error(), "disk is full") {
		t.Errorf("issued on a full disk: %v", err)
	}
	if got := state(); got != string(ca.StateIntended) {
		t.Errorf("on a full disk it is %s", got)
	}
	if status, body := get(t, "http://"+r.at.Admin+"/healthz"); status != 200 {
		t.Errorf("healthz: %d %s", status, body)
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	if err := issue(); err != nil {
		t.Error(err)
	}
	if got := state(); got != string(ca.StateOrphaned) {
		t.Errorf("once there was room it is %s", got)
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
}
