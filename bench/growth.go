package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/crypto/ocsp"

	"bollard/ca"
	"bollard/ca/status"
	"bollard/keys"
	"bollard/ledger"
	"bollard/store"
)

// sizeOrder is the one line of input of the process that measures a database.
type sizeOrder struct {
	Dir          string `json:"dir"`
	Certificates int    `json:"certificates"`
}

// revokedShare: one certificate of so many is revoked.
const revokedShare = 100

// fillers write at once, so that they share the disk's syncs.
const fillers = 128

// size is what a database of so many certificates costs.
type size struct {
	Certificates int     `json:"certificates"`
	Revoked      int     `json:"revoked"`
	Responses    int     `json:"responses"` // OCSP responses signed ahead
	Fill         float64 `json:"fill_s"`
	FileMB       float64 `json:"file_mb"`
	Open         float64 `json:"open_ms"`
	Serial       float64 `json:"serial_us"`  // one by serial number
	Newest       float64 `json:"newest_ms"`  // list of the newest hundred
	Station      float64 `json:"station_ms"` // list of one station
	Expiring     float64 `json:"expiring_ms"`
	List         float64 `json:"list_ms"` // whole list
	CRL          float64 `json:"crl_ms"`
	First        float64 `json:"ocsp_refresh_s"` // each active certificate signed for
	Again        float64 `json:"ocsp_idle_ms"`   // nothing is due
	ServingMB    float64 `json:"serving_mb"`     // live memory with all responses kept
	PeakMB       float64 `json:"peak_mb"`        // resident memory at most, the whole list in it
	Error        string  `json:"error,omitempty"`
}

// growth has every size measured in a process of its own, smallest first.
func growth(ctx context.Context, dir string, sizes []int, out io.Writer) ([]size, error) {
	var list []size
	for _, n := range sizes {
		child, err := spawn(ctx, "size")
		if err != nil {
			return nil, err
		}
		var one size
		below := filepath.Join(dir, fmt.Sprintf("size-%d", n))
		err = child.ask(sizeOrder{Dir: below, Certificates: n}, &one)
		child.end()
		if err == nil && one.Error != "" {
			err = errors.New(one.Error)
		}
		err = errors.Join(err, os.RemoveAll(below))
		if err != nil {
			return list, fmt.Errorf("database of %d certificates: %w", n, err)
		}
		fmt.Fprintf(out, "  database of %d certificates: filled in %.1f s, OCSP refresh %.1f s\n", n, one.Fill, one.First)
		list = append(list, one)
	}
	return list, nil
}

// serveSize is the process that measures one database.
func serveSize(stdin io.Reader, stdout io.Writer) error {
	var o sizeOrder
	err := json.NewDecoder(stdin).Decode(&o)
	if err != nil {
		return fmt.Errorf("couldn't read the order: %w", err)
	}
	s, err := measureSize(context.Background(), o)
	if err != nil {
		s.Error = err.Error()
	}
	return json.NewEncoder(stdout).Encode(s)
}

// filled is a database with an authority over it.
type filled struct {
	*ca.Authority
	store   *store.Store
	issuer  ca.StatusIssuer
	station string // of one certificate
	good    *x509.Certificate
	revoked string
}

func openFilled(ctx context.Context, dir string) (*filled, error) {
	keeper, err := keys.New(keys.Config{Dir: filepath.Join(dir, "keys")})
	if err != nil {
		return nil, err
	}
	f := &filled{}
	f.store, err = store.Open(ctx, store.Config{Path: filepath.Join(dir, "bollard.db")})
	if err != nil {
		return nil, err
	}
	const statusURL = "http://localhost:8080"
	err = ca.Init(ctx, ca.InitConfig{Store: f.store, Keeper: keeper, Organisation: organisation, Country: "NL", StatusURL: statusURL})
	if err != nil && !errors.Is(err, ca.ErrHierarchyExists) {
		return nil, errors.Join(err, f.store.Close())
	}
	f.Authority, err = ca.New(ctx, ca.Config{Store: f.store, Keeper: keeper, Organisation: organisation, Country: "NL", StatusURL: statusURL})
	if err != nil {
		return nil, errors.Join(err, f.store.Close())
	}
	for _, by := range f.StatusIssuers() {
		if !by.Root && by.Kind == ca.KindCSMS {
			f.issuer = by
		}
	}
	return f, nil
}

// issue makes one real certificate; the others have its bytes and a serial
// number of their own, since what is measured never reads them.
func (f *filled) issue(ctx context.Context) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	proven, err := ca.GeneratedKey(key)
	if err != nil {
		return err
	}
	f.station = "cs-real"
	prepared, err := f.Prepare(ctx, ca.Order{
		Profile: ca.ProfileStation, Key: proven, Subject: ca.Subject{CommonName: "SN-REAL"}, Station: f.station, Requester: "station:" + f.station,
	})
	if err != nil {
		return err
	}
	issued, err := f.Issue(ctx, prepared)
	if err != nil {
		return err
	}
	f.good = issued.Certificate
	return nil
}

// fill records n certificates in all, with the ledger entries a real issue has.
func (f *filled) fill(ctx context.Context, n int) error {
	err := f.issue(ctx)
	if err != nil {
		return err
	}
	model, err := f.store.Certificate(ctx, ca.SerialOf(f.good))
	if err != nil {
		return err
	}
	return each(1, n-1, fillers, func(_ context.Context, i int) error {
		now := time.Now().UTC()
		intent := model.Intent
		intent.Serial = fmt.Sprintf("4%031x", i)
		intent.KeyHash = fmt.Sprintf("%064x", i)
		intent.Station = fmt.Sprintf("cs-%07d", i)
		intent.Requester = "station:" + intent.Station
		intent.CreatedAt = now
		facts := map[string]string{"issuer": intent.Issuer, "profile": intent.Profile, "station": intent.Station, "tbs": intent.TBSHash, "key": intent.KeyHash}
		event := ledger.Event{Kind: "certificate.intent", Subject: intent.Serial, Actor: intent.Requester, Data: facts}
		err := f.store.PutIntent(ctx, intent, event)
		if err != nil {
			return err
		}
		event.Kind = "certificate.issued"
		err = f.store.PutIssued(ctx, intent.Serial, model.DER, now, event)
		if err != nil || i%revokedShare != 0 {
			return err
		}
		return f.store.SetRevoked(ctx, intent.Serial, "superseded", now, ledger.Event{Kind: "certificate.revoked", Subject: intent.Serial, Actor: "operator"})
	})
}

// measureSize fills a database, opens it again and takes the times. Wrong
// content is an error.
func measureSize(ctx context.Context, o sizeOrder) (size, error) {
	s := size{Certificates: o.Certificates, Revoked: (o.Certificates - 1) / revokedShare}
	err := os.MkdirAll(o.Dir, 0o700)
	if err != nil {
		return s, err
	}
	f, err := openFilled(ctx, o.Dir)
	if err != nil {
		return s, err
	}
	took, err := timed(func() error { return f.fill(ctx, o.Certificates) })
	s.Fill = took.Seconds()
	err = errors.Join(err, f.store.Close())
	if err != nil {
		return s, err
	}
	info, err := os.Stat(filepath.Join(o.Dir, "bollard.db"))
	if err != nil {
		return s, err
	}
	s.FileMB = float64(info.Size()) / (1 << 20)

	good, station := f.good, f.station
	took, err = timed(func() error { f, err = openFilled(ctx, o.Dir); return err })
	s.Open = milliseconds(took)
	if err != nil {
		return s, err
	}
	defer f.store.Close()
	f.good, f.station, f.revoked = good, station, fmt.Sprintf("4%031x", revokedShare)
	err = f.lists(ctx, &s)
	if err == nil {
		err = f.statuses(ctx, &s)
	}
	if err != nil {
		return s, err
	}
	s.PeakMB, err = peakMB()
	return s, err
}

// lists times what operators and the CRL read.
func (f *filled) lists(ctx context.Context, s *size) error {
	const lookUps = 200
	took, err := timed(func() error {
		for i := range lookUps {
			_, err := f.store.Certificate(ctx, fmt.Sprintf("4%031x", 1+i*(s.Certificates-1)/lookUps))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.Serial = milliseconds(took) * 1000 / lookUps
	for _, list := range []struct {
		into   *float64
		filter ca.Filter
		want   int
	}{
		{&s.Newest, ca.Filter{Profile: ca.ProfileStation, Limit: 100}, 100},
		{&s.Station, ca.Filter{Station: f.station}, 1},
		{&s.Expiring, ca.Filter{ExpiringBefore: time.Now().Add(24 * time.Hour)}, 0},
		{&s.List, ca.Filter{Profile: ca.ProfileStation}, s.Certificates},
	} {
		var records []ca.Record
		took, err = timed(func() error { records, err = f.store.Certificates(ctx, list.filter); return err })
		if err != nil {
			return err
		}
		if len(records) != list.want {
			return fmt.Errorf("%d records are listed for %+v, want %d", len(records), list.filter, list.want)
		}
		*list.into = milliseconds(took)
	}
	var der []byte
	took, err = timed(func() error { der, err = f.SignCRL(ctx, f.issuer.Name); return err })
	if err != nil {
		return err
	}
	s.CRL = milliseconds(took)
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		return err
	}
	if len(crl.RevokedCertificateEntries) != s.Revoked {
		return fmt.Errorf("the CRL has %d entries, want %d", len(crl.RevokedCertificateEntries), s.Revoked)
	}
	return crl.CheckSignatureFrom(f.issuer.Certificate)
}

// statuses times what the status server does by itself, and asks it.
func (f *filled) statuses(ctx context.Context, s *size) error {
	server, err := status.New(status.Config{Authority: f.Authority})
	if err != nil {
		return err
	}
	empty := liveMB()
	took, err := timed(func() error { return server.Refresh(ctx) })
	if err != nil {
		return err
	}
	s.First = took.Seconds()
	took, err = timed(func() error { return server.Refresh(ctx) })
	if err != nil {
		return err
	}
	s.Again = milliseconds(took)
	s.ServingMB = liveMB() - empty
	// SHA-1 and SHA-256, up to status.Config's default.
	s.Responses = min(2*(s.Certificates-s.Revoked), 500_000)
	for _, ask := range []struct {
		serial string
		want   int
	}{{ca.SerialOf(f.good), ocsp.Good}, {f.revoked, ocsp.Revoked}} {
		number, ok := new(big.Int).SetString(ask.serial, 16)
		if !ok {
			return fmt.Errorf("serial number %q", ask.serial)
		}
		der, err := ocsp.CreateRequest(&x509.Certificate{SerialNumber: number}, f.issuer.Certificate, nil)
		if err != nil {
			return err
		}
		body, _, err := server.Respond(ctx, der)
		if err != nil {
			return fmt.Errorf("OCSP of %s: %w", ask.serial, err)
		}
		said, err := ocsp.ParseResponse(body, f.issuer.Certificate)
		if err != nil || said.Status != ask.want || said.SerialNumber.Cmp(number) != 0 {
			return errors.Join(err, fmt.Errorf("OCSP of %s doesn't say %d", ask.serial, ask.want))
		}
	}
	return nil
}

func timed(f func() error) (time.Duration, error) {
	began := time.Now()
	err := f()
	return time.Since(began), err
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// liveMB is what the program holds, garbage not counted.
func liveMB() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}

// peakMB is the most resident memory this process had.
func peakMB() (float64, error) {
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	kb, err := statusKB(string(raw), "VmHWM:")
	return float64(kb) / 1024, err
}

// growthTable writes sizes as columns, and by what the last tenfold multiplied.
func growthTable(out io.Writer, list []size) {
	if len(list) == 0 {
		return
	}
	rows := []struct {
		name  string
		value func(size) float64
		form  string
	}{
		{"revoked", func(s size) float64 { return float64(s.Revoked) }, "%12.0f"},
		{"OCSP responses signed ahead", func(s size) float64 { return float64(s.Responses) }, "%12.0f"},
		{"file, MB", func(s size) float64 { return s.FileMB }, "%12.1f"},
		{"fill, s", func(s size) float64 { return s.Fill }, "%12.1f"},
		{"open, ms", func(s size) float64 { return s.Open }, "%12.1f"},
		{"one by serial number, µs", func(s size) float64 { return s.Serial }, "%12.0f"},
		{"list of one station, ms", func(s size) float64 { return s.Station }, "%12.2f"},
		{"list of the newest 100, ms", func(s size) float64 { return s.Newest }, "%12.1f"},
		{"list of what expires in a day, ms", func(s size) float64 { return s.Expiring }, "%12.2f"},
		{"whole list, ms", func(s size) float64 { return s.List }, "%12.1f"},
		{"CRL, ms", func(s size) float64 { return s.CRL }, "%12.1f"},
		{"OCSP refresh, all due, s", func(s size) float64 { return s.First }, "%12.2f"},
		{"OCSP refresh, none due, ms", func(s size) float64 { return s.Again }, "%12.1f"},
		{"live memory for OCSP and CRL, MB", func(s size) float64 { return s.ServingMB }, "%12.1f"},
		{"peak resident memory, MB", func(s size) float64 { return s.PeakMB }, "%12.0f"},
	}
	head := fmt.Sprintf("%-42s", "SQLite, certificates:")
	for _, s := range list {
		head += fmt.Sprintf("%12d", s.Certificates)
	}
	if len(list) > 1 {
		head += fmt.Sprintf("%12s", "last step")
	}
	fmt.Fprintln(out, head)
	for _, row := range rows {
		line := fmt.Sprintf("%-42s", row.name)
		for _, s := range list {
			line += fmt.Sprintf(row.form, row.value(s))
		}
		if n := len(list); n > 1 && row.value(list[n-2]) > 0 {
			line += fmt.Sprintf("%12s", fmt.Sprintf("x %.1f", row.value(list[n-1])/row.value(list[n-2])))
		}
		fmt.Fprintln(out, strings.TrimRight(line, " "))
	}
}
